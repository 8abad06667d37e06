"""Volatility that forgets: exponentially weighted variance, and losses rescaled from the volatility of their day to today's.

Zero mean, one decay for all; the first estimate is the mean square of the burn-in, whose days give no scenario.
"""

from __future__ import annotations

import math

import numpy as np

from exporter.market import Floats

FORGOTTEN = 0.01
"""Weight of all days before the burn-in in the first estimate that is used."""


def burn_in_days(decay: float) -> int:
    """Days after which the weight of everything before them is 1 %: 74 at 0.94, 151 at 0.97.

    Source: J.P. Morgan/Reuters, RiskMetrics Technical Document (1996), table 5.7.
    """
    return math.floor(math.log(FORGOTTEN) / math.log(decay))


def ewma_deviations(losses: Floats, decay: float) -> Floats:
    """(T - b + 1,) standard deviation as forecast for each day after the first b = `burn_in_days`, and last for tomorrow.

    Args:
        losses: (T,) oldest first, T > b.
        decay: 0 < decay < 1; 0.94 for daily data.

    Source: RiskMetrics Technical Document (1996), section 5.2: variance tomorrow = decay x variance + (1 - decay) x loss^2.
    """
    burn = burn_in_days(decay)
    scale = float(np.abs(losses).max()) or 1.0
    squares = (losses / scale) ** 2
    variance = float(squares[:burn].mean())
    forecasts = np.empty(losses.size - burn + 1)
    forecasts[0] = variance
    for at, square in enumerate(squares[burn:].tolist(), start=1):
        variance = decay * variance + (1.0 - decay) * square
        forecasts[at] = variance
    deviations: Floats = np.sqrt(forecasts) * scale
    return deviations


def filtered_losses(losses: Floats, deviations: Floats) -> Floats:
    """(T - b,) losses of the days after the burn-in as they would be at tomorrow's volatility; positive is a loss.

    Args:
        losses: (T,) oldest first.
        deviations: from `ewma_deviations` of them, all > 0.

    Source: G. Barone-Adesi, K. Giannopoulos, L. Vosper, VaR without correlations for portfolios of derivative securities,
    Journal of Futures Markets 19 (1999), 583; J. Hull, A. White, Incorporating volatility updating into the historical
    simulation method for value-at-risk, Journal of Risk 1 (1998), 5.
    """
    recent = losses[losses.size - deviations.size + 1 :]
    with np.errstate(all="ignore"):
        filtered: Floats = recent / deviations[:-1] * deviations[-1]
    return filtered
