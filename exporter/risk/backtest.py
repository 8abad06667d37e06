"""Were the forecasts of value at risk right? Tests of the number and the order of exceptions, and of expected shortfall.

An exception is a day whose loss was greater than the VaR forecast for it. Every p-value is small where the forecasts were
wrong. Refuses nothing: a state that never occurs contributes 0 log 0 = 0 to a likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exporter.market import Floats

Zone = Literal["green", "yellow", "red"]
YELLOW, RED = 0.95, 0.9999
"""Cumulative probability at which a zone begins. Source: Basel Committee, Supervisory framework for the use of "backtesting"
(1996), table 2."""


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """A likelihood ratio statistic, >= 0, and its p-value."""

    statistic: float
    pvalue: float


def kupiec(exceptions: int, days: int, expected_ratio: float) -> LikelihoodRatio:
    """Unconditional coverage: is the share of exceptions the expected one? Chi-square, 1 degree of freedom.

    Args:
        exceptions: 0 <= exceptions <= days.
        days: > 0.
        expected_ratio: 1 - confidence, e.g. 0.01.

    Source: P. Kupiec, Techniques for verifying the accuracy of risk measurement models, Journal of Derivatives 3 (1995), 73.
    """
    expected = _bernoulli(exceptions, days, expected_ratio)
    return _ratio(2.0 * (_bernoulli(exceptions, days, exceptions / days) - expected), 1)


def time_until_first_failure(day: int, expected_ratio: float) -> LikelihoodRatio:
    """Did the first exception come on a likely day? `day` counts from 1. Chi-square, 1 degree of freedom. Source: Kupiec."""
    seen, expected = _bernoulli(1, day, 1.0 / day), _bernoulli(1, day, expected_ratio)
    return _ratio(2.0 * (seen - expected), 1)


def transitions(exceptions: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """How often a day without (0) or with (1) an exception was followed by one without or with: n00, n01, n10, n11."""
    before, after = exceptions[:-1], exceptions[1:]
    return (
        int((~before & ~after).sum()),
        int((~before & after).sum()),
        int((before & ~after).sum()),
        int((before & after).sum()),
    )


def christoffersen(n00: int, n01: int, n10: int, n11: int) -> LikelihoodRatio:
    """Independence: is an exception as likely after an exception as after a quiet day? Chi-square, 1 degree of freedom.

    Source: P. Christoffersen, Evaluating interval forecasts, International Economic Review 39 (1998), 841.
    """
    after_quiet, after_exception, days = n00 + n01, n10 + n11, n00 + n01 + n10 + n11
    if not days:
        return LikelihoodRatio(0.0, 1.0)
    apart = _bernoulli(n01, after_quiet, _share(n01, after_quiet)) + _bernoulli(
        n11, after_exception, _share(n11, after_exception)
    )
    return _ratio(2.0 * (apart - _bernoulli(n01 + n11, days, (n01 + n11) / days)), 1)


def conditional_coverage(coverage: LikelihoodRatio, independence: LikelihoodRatio) -> LikelihoodRatio:
    """Both at once: the sum of the two statistics. Chi-square, 2 degrees of freedom. Source: Christoffersen."""
    return _ratio(coverage.statistic + independence.statistic, 2)


def binomial_pvalue(exceptions: int, days: int, expected_ratio: float) -> float:
    """Exact probability of so many exceptions or more, were the forecasts right; one-sided: too few are no danger."""
    from scipy.special import bdtrc  # a tenth of a second, and only where there is something to test

    return 1.0 if exceptions == 0 else float(bdtrc(exceptions - 1, days, expected_ratio))


def cumulative_probability(exceptions: int, days: int, expected_ratio: float) -> float:
    """Exact probability of so many exceptions or fewer, were the forecasts right."""
    from scipy.special import bdtr

    return float(bdtr(exceptions, days, expected_ratio))


def traffic_light(exceptions: int, days: int, expected_ratio: float) -> Zone:
    """The supervisors' zone: red where so many are all but impossible, yellow where they are unlikely.

    Source: as of `YELLOW`; at 250 days and 99 % green is 0 to 4, yellow 5 to 9, red 10 and more.
    """
    cumulative = cumulative_probability(exceptions, days, expected_ratio)
    return "red" if cumulative >= RED else "yellow" if cumulative >= YELLOW else "green"


def acerbi_szekely_z2(losses: Floats, var: Floats, shortfall: Floats, tail_ratio: float) -> float:
    """Backtest of expected shortfall: about 0 where forecasts were right, negative where losses were worse; below about -0.7
    happens once in twenty at 250 days and 97.5 %.

    Args:
        losses: (T,) realised, positive is a loss.
        var: (T,) forecast for each day.
        shortfall: (T,) forecast for each day, > 0.
        tail_ratio: 1 - confidence, e.g. 0.025.

    Source: C. Acerbi, B. Szekely, Backtesting expected shortfall, Risk (December 2014), test 2.
    """
    beyond = losses > var
    with np.errstate(all="ignore"):
        return 1.0 - float((losses[beyond] / shortfall[beyond]).sum()) / (losses.size * tail_ratio)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _bernoulli(hits: int, trials: int, probability: float) -> float:
    """Log likelihood of so many hits in so many trials, 0 log 0 = 0."""
    return _times_log(hits, probability) + _times_log(trials - hits, 1.0 - probability)


def _times_log(count: int, probability: float) -> float:
    if not count:
        return 0.0
    return count * math.log(probability) if probability > 0.0 else -math.inf


def _ratio(statistic: float, degrees: Literal[1, 2]) -> LikelihoodRatio:
    value = max(0.0, statistic)  # rounding may leave -1e-15
    pvalue = math.erfc(math.sqrt(value / 2.0)) if degrees == 1 else math.exp(-value / 2.0)
    return LikelihoodRatio(value, pvalue)
