"""Value at risk of a skewed, heavy-tailed loss: the normal quantile bent by the Cornish-Fisher polynomial, where that is valid.

The polynomial's two parameters are not the skewness and kurtosis of the law it makes; they are solved for here, so that the
law has the moments of the sample. Refuses samples whose moments no monotone polynomial has: its "quantiles" would not be any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from exporter.market import Floats
from exporter.risk.normal import STANDARD

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(8)
"""Gauss-Hermite: exact for the fourth power of a cubic."""
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
STEPS = 60
CLOSE = 1e-10
"""Difference of moments at which the parameters are found."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A Cornish-Fisher law: parameters of the polynomial, and the standard deviation of what it makes of a standard normal."""

    skew: float
    kurtosis: float
    deviation: float


def sample_shape(losses: Floats) -> tuple[float, float]:
    """Skewness and excess kurtosis of (T,) losses, population moments; NaN without variance."""
    scale = float(np.abs(losses).max())
    if scale == 0.0 or not math.isfinite(scale):
        return math.nan, math.nan
    centred = losses / scale - (losses / scale).mean()
    variance = float((centred**2).mean())
    if variance <= 1e-24:
        return math.nan, math.nan
    return float((centred**3).mean()) / variance**1.5, float((centred**4).mean()) / variance**2 - 3.0


def bend(quantile: float, skew: float, kurtosis: float) -> float:
    """The Cornish-Fisher polynomial at a standard normal quantile.

    Source: P. Zangari, A VaR methodology for portfolios that include options, RiskMetrics Monitor (1996).
    """
    return float(_bend(np.array(quantile), skew, kurtosis))


def _bend(z: Floats, skew: float, kurtosis: float) -> Floats:
    bent: Floats = z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
    return bent


def is_monotone(skew: float, kurtosis: float) -> bool:
    """Whether the polynomial rises everywhere, so that it maps quantiles to quantiles.

    Source: D. Maillard, A user's guide to the Cornish Fisher expansion (2012), the domain of validity.
    """
    curvature = kurtosis / 8 - skew**2 / 6
    return curvature >= 0.0 and skew**2 / 9 - 4 * curvature * (1 - kurtosis / 8 + 5 * skew**2 / 36) <= 0.0


def shape_with(skew: float, kurtosis: float) -> Shape | None:
    """The monotone law of this skewness and excess kurtosis, None where there is none.

    Newton's method from the moments themselves, on the exact moments of the polynomial.
    """
    at = np.array([skew, kurtosis])
    wanted = np.array([skew, kurtosis])
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            off = _moments(*at)[1:] - wanted
            if not np.isfinite(off).all():
                return None
            if np.abs(off).max() < CLOSE * max(1.0, abs(kurtosis)):
                found = Shape(float(at[0]), float(at[1]), math.sqrt(_moments(*at)[0]))
                return found if is_monotone(found.skew, found.kurtosis) else None
            step = np.linalg.lstsq(_slopes(at), off, rcond=None)[0]
            # A long way out the moments are steep: small steps do not jump over the solution.
            at = at - step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
    return None


def _moments(skew: float, kurtosis: float) -> Floats:
    """Variance, skewness and excess kurtosis of the law with these parameters; its mean is 0."""
    values = _bend(_NODES, skew, kurtosis)
    second, third, fourth = (float(_WEIGHTS @ values**power) for power in (2, 3, 4))
    return np.array([second, third / second**1.5, fourth / second**2 - 3.0])


def _slopes(at: Floats) -> Floats:
    columns = []
    for index in (0, 1):
        width = 1e-6 * max(1.0, abs(float(at[index])))
        more, less = at.copy(), at.copy()
        more[index] += width
        less[index] -= width
        columns.append((_moments(*more)[1:] - _moments(*less)[1:]) / (2 * width))
    return np.array(columns).T


def cornish_fisher_var(mean: float, deviation: float, shape: Shape, confidence: float) -> float:
    """Value at risk of a loss of this mean, standard deviation and shape; positive is a loss."""
    return mean + deviation * bend(STANDARD.inv_cdf(confidence), shape.skew, shape.kurtosis) / shape.deviation


def cornish_fisher_expected_shortfall(mean: float, deviation: float, shape: Shape, confidence: float) -> float:
    """Mean loss beyond `cornish_fisher_var`: the polynomial integrated over the normal tail.

    Source: K. Boudt, B. Peterson, C. Croux, Estimation and decomposition of downside risk for portfolios with non-normal
    returns, Journal of Risk 11 (2008), for the approach; the integral of a Hermite polynomial is the one below it.
    """
    z = STANDARD.inv_cdf(confidence)
    bent = 1 + z * shape.skew / 6 + (z**2 - 1) * shape.kurtosis / 24 - (2 * z**2 - 1) * shape.skew**2 / 36
    return mean + deviation * STANDARD.pdf(z) / (1.0 - confidence) * bent / shape.deviation
