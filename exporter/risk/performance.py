"""How a series of returns performed: Sharpe, Sortino, drawdown, win rate, profit factor, and how sure its Sharpe ratio is.

Simple returns per period, oldest first; nothing is annualised but volatility, and that by the root of the periods only. What
has no value is a `Gap`: a series that never moved has no Sharpe ratio, not an infinite one.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from exporter.market import Floats
from exporter.reading import Gap

NOISE = 1e-12
"""Share of the largest return below which a mean or a deviation is rounding, not a number."""
_STANDARD = NormalDist()
_EULER = 0.5772156649015329


def mean_return(returns: Floats) -> float:
    """Arithmetic mean per period, ratio; exactly 0 where only rounding is left."""
    scale = float(np.abs(returns).max())
    mean = float((returns / scale).mean()) if scale > 0.0 else 0.0
    return mean * scale if abs(mean) > NOISE else 0.0


def volatility(returns: Floats, periods_per_year: float = 252.0) -> float | Gap:
    """Standard deviation (ddof 1) times the root of the periods in a year, ratio; 0 for a series that never moved."""
    if returns.size < 2:
        return Gap.SHORT_SAMPLE
    scale = float(np.abs(returns).max())
    return float((returns / scale).std(ddof=1)) * scale * math.sqrt(periods_per_year) if scale > 0.0 else 0.0


def sharpe(returns: Floats) -> float | Gap:
    """Mean over standard deviation (ddof 1) per period, not annualised, over a riskless rate of zero.

    Source: W. F. Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21 (1994), 49.
    """
    scale = float(np.abs(returns).max(initial=0.0))
    if scale == 0.0 or returns.size < 2:
        return Gap.ZERO_VARIANCE
    scaled = returns / scale
    deviation = float(scaled.std(ddof=1))
    return float(scaled.mean()) / deviation if deviation > NOISE else Gap.ZERO_VARIANCE


def sortino(returns: Floats, minimum_acceptable: float = 0.0) -> float | Gap:
    """Mean excess over the minimum acceptable return, over the downside deviation: root of the mean of min(excess, 0)^2 over
    all periods.

    Source: F. Sortino, R. van der Meer, Downside risk, Journal of Portfolio Management 17 (1991), 27.
    """
    excess = returns - minimum_acceptable
    scale = float(np.abs(excess).max(initial=0.0))
    if scale == 0.0:
        return Gap.ZERO_VARIANCE
    scaled = excess / scale
    downside = math.sqrt(float(np.square(np.minimum(scaled, 0.0)).mean()))
    return float(scaled.mean()) / downside if downside > NOISE else Gap.ZERO_VARIANCE


def wealth(returns: Floats) -> Floats:
    """(T + 1,) value of one unit invested before the first return: a loss on the first day is a drawdown too."""
    with np.errstate(all="ignore"):
        path: Floats = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    return path


def drawdowns(path: Floats) -> Floats:
    """(T + 1,) loss since the highest value so far, ratio of it, 0 at a new high; positive is a loss."""
    with np.errstate(all="ignore"):
        falls: Floats = 1.0 - path / np.maximum.accumulate(path)
    return falls


def drawdown_duration(path: Floats) -> int:
    """Periods since the highest value so far; 0 at a new high. One still open counts to the end."""
    return int(path.size - 1 - np.flatnonzero(path >= np.maximum.accumulate(path))[-1])


def win_rate(returns: Floats) -> float | Gap:
    """Gains over periods that were not zero, 0 to 1."""
    decided = int(np.count_nonzero(returns))
    return int(np.count_nonzero(returns > 0.0)) / decided if decided else Gap.ZERO_VARIANCE


def profit_factor(returns: Floats) -> float | Gap:
    """Sum of gains over sum of losses; undefined without a loss, never infinite.

    Source: C. Bacon, Practical Portfolio Performance Measurement and Attribution (2008), gain-loss ratios.
    """
    losses = float(-returns[returns < 0.0].sum())
    return float(returns[returns > 0.0].sum()) / losses if losses > 0.0 else Gap.BASELINE_ZERO


def probabilistic_sharpe(ratio: float, benchmark: float, size: int, skewness: float, kurtosis: float) -> float | Gap:
    """Probability that the true Sharpe ratio is above a benchmark, 0 to 1.

    Args:
        ratio: observed, per period.
        benchmark: per period.
        size: returns observed, > 1.
        skewness: of the returns.
        kurtosis: of the returns, raw: 3 for the normal law.

    Source: D. Bailey, M. Lopez de Prado, The Sharpe ratio efficient frontier, Journal of Risk 15 (2012), 3.
    """
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    if size < 2 or not variance > 0.0 or not math.isfinite(variance):
        return Gap.NOT_FINITE
    return _STANDARD.cdf((ratio - benchmark) * math.sqrt((size - 1) / variance))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Sharpe ratio, per period, the best of so many worthless strategies is expected to show.

    Args:
        trials: strategies tried, > 1.
        variance: of their Sharpe ratios, per period.

    Source: D. Bailey, M. Lopez de Prado, The deflated Sharpe ratio, Journal of Portfolio Management 40 (2014), 94: compare
    with it by `probabilistic_sharpe`.
    """
    best, next_best = _STANDARD.inv_cdf(1.0 - 1.0 / trials), _STANDARD.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - _EULER) * best + _EULER * next_best)
