"""Drift: do a strategy's live returns still follow its backtest? Kolmogorov-Smirnov test, relative differences, sample sizes.

Live and backtest must be returns over the same period length. Refuses samples shorter than `risk.minimum_sample`; a Sharpe
ratio without variance and a difference to a baseline of zero are `Undefined`, never infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from exporter.analytic import Result
from exporter.desk import DeskState
from exporter.market import Floats
from exporter.reading import Family, Gap, Undefined
from exporter.risk.performance import mean_return, sharpe, win_rate
from exporter.snapshot import StrategyReturns

PVALUE = Family(
    "desk_drift_pvalue",
    "Probability of a difference this large if live and backtest were one distribution, 0 to 1",
    ("strategy", "series", "test"),
)
ADJUSTED_PVALUE = Family(
    "desk_drift_adjusted_pvalue",
    "The p-value adjusted for the number of strategies tested (Benjamini-Yekutieli false discovery rate), 0 to 1",
    ("strategy", "series", "test"),
)
STATISTIC = Family(
    "desk_drift_statistic",
    "Largest distance between the distribution functions of live and backtest, 0 to 1",
    ("strategy", "series", "test"),
)
RATIO = Family(
    "desk_drift_ratio",
    "Amount of live minus backtest over the amount of backtest, for the metric per period: sharpe, win_rate or mean_return",
    ("strategy", "metric"),
)
SAMPLE_SIZE = Family("desk_drift_sample_size", "Returns in the sample", ("strategy", "series", "sample"))
METRICS = (PVALUE, ADJUSTED_PVALUE, STATISTIC, RATIO, SAMPLE_SIZE)
NAME = "drift"
SERIES = "returns"
TEST = "ks"
EXACT_UP_TO = 10_000
"""Sample size to which the p-value is exact, as in scipy."""


def compute(state: DeskState) -> Iterator[Result]:
    """Test, differences and sample sizes of every strategy any source has returns of."""
    records = state.gather("returns")
    if isinstance(records, Gap):
        yield Undefined(NAME, records, "")
        return
    tested: dict[str, float] = {}
    for strategy, (live, backtest) in _pairs(records).items():
        yield SAMPLE_SIZE.sample(strategy, SERIES, "live", value=float(live.size))
        yield SAMPLE_SIZE.sample(strategy, SERIES, "backtest", value=float(backtest.size))
        gap = _untestable(live, backtest, state.config.risk.minimum_sample)
        if gap is not None:
            yield Undefined(NAME, gap, strategy)
            continue
        statistic, tested[strategy] = two_sample_ks(live, backtest)
        yield STATISTIC.sample(strategy, SERIES, TEST, value=statistic)
        yield PVALUE.sample(strategy, SERIES, TEST, value=tested[strategy])
        yield from _ratios(strategy, live, backtest)
    adjusted = benjamini_yekutieli(np.array(list(tested.values())))
    for strategy, pvalue in zip(tested, adjusted.tolist(), strict=True):
        yield ADJUSTED_PVALUE.sample(strategy, SERIES, TEST, value=pvalue)


def two_sample_ks(one: Floats, other: Floats) -> tuple[float, float]:
    """Two-sided Kolmogorov-Smirnov test.

    Args:
        one: (n,) finite, n >= 1.
        other: (m,) finite, m >= 1.

    Returns:
        Statistic D, the largest distance of the empirical distribution functions, 0 to 1, and its p-value: exact while the
        larger sample has at most 10,000 values (ties make it too large, never too small), by the distribution of the
        one-sample statistic with n = round(nm / (n + m)) beyond, as `scipy.stats.ks_2samp` does.

    Source: J. L. Hodges, The significance probability of the Smirnov two-sample test, Arkiv for Matematik 3 (1958), 469.
    """
    few, many = (one, other) if one.size <= other.size else (other, one)
    steps = _ks_steps(np.sort(few), np.sort(many))
    return steps / math.lcm(few.size, many.size), ks_pvalue(steps, few.size, many.size)


def _ks_steps(few: Floats, many: Floats) -> int:
    """Largest distance of the two distribution functions in units of 1/lcm(n, m); both sorted.

    The distance is largest at a value of the smaller sample or just before one: in between only the other function moves.
    """
    divisor = math.gcd(few.size, many.size)
    distances = [
        few.searchsorted(few, side) * (many.size // divisor) - many.searchsorted(few, side) * (few.size // divisor)
        for side in ("left", "right")
    ]
    return int(max(np.abs(distance).max() for distance in distances))


@lru_cache(maxsize=4096)
def ks_pvalue(steps: int, few: int, many: int) -> float:
    """P(D >= steps / lcm(few, many)) for samples of one continuous distribution. Pure, so results are kept."""
    if max(few, many) <= EXACT_UP_TO:
        return _exact_pvalue(steps, *sorted((few, many)))
    from scipy.stats import kstwo  # imported here: it costs a second and 50 MB, and few desks need it

    pvalue = kstwo.sf(steps / math.lcm(few, many), round(few * many / (few + many)))
    return float(np.clip(pvalue, 0.0, 1.0))


def _exact_pvalue(steps: int, few: int, many: int) -> float:
    """Share of the lattice paths from (0, 0) to (few, many) that come `steps` away from the diagonal.

    `touched[x + 1]` is that share for paths to the point x of the smaller and k - x of the larger sample, k growing by one.
    Every term is positive, so a p-value of 1e-200 is as good as one of 0.5; counting paths overflows at a thousand rows.
    """
    divisor = math.gcd(few, many)
    rise, run = few // divisor, many // divisor
    touched = np.ones(few + 2)
    touched[1] = 0.0 if steps else 1.0
    points = np.arange(few + 1, dtype=np.float64)
    for k in range(1, few + many + 1):
        low = max((k * rise - steps) // (rise + run) + 1, 0, k - many)
        high = max(min(-((-k * rise - steps) // (rise + run)), few + 1, k + 1), low)
        band = points[low:high]
        inside = (touched[low + 1 : high + 1] * (k - band) + touched[low:high] * band) / k
        touched[: low + 1] = 1.0
        touched[low + 1 : high + 1] = inside
        touched[high + 1 :] = 1.0
    return min(float(touched[few + 1]), 1.0)


def benjamini_yekutieli(pvalues: Floats) -> Floats:
    """P-values adjusted for the false discovery rate under any dependence between the tests.

    Args:
        pvalues: (M,) in [0, 1], M >= 0.

    Returns:
        (M,) in [0, 1], in the same order: those at most q are discoveries at rate q.

    Source: Y. Benjamini, D. Yekutieli, The control of the false discovery rate in multiple testing under dependency, Annals
    of Statistics 29 (2001), theorem 1.3.
    """
    count = pvalues.size
    ranks = np.arange(1, count + 1)
    order = np.argsort(pvalues)
    scaled = pvalues[order] * (count * (1.0 / ranks).sum()) / ranks
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _ratios(strategy: str, live: Floats, backtest: Floats) -> Iterator[Result]:
    for metric, measure in (("sharpe", sharpe), ("win_rate", win_rate), ("mean_return", mean_return)):
        difference = _relative(measure(live), measure(backtest))
        if isinstance(difference, Gap):
            yield Undefined(NAME, difference, f"{strategy} {metric}")
        else:
            yield RATIO.sample(strategy, metric, value=difference)


def _relative(live: float | Gap, backtest: float | Gap) -> float | Gap:
    for value in (live, backtest):
        if isinstance(value, Gap):
            return value
    if backtest == 0.0:
        return Gap.BASELINE_ZERO
    difference = abs(float(live) / float(backtest) - 1.0)
    return difference if math.isfinite(difference) else Gap.NOT_FINITE


def _untestable(live: Floats, backtest: Floats, minimum: int) -> Gap | None:
    if min(live.size, backtest.size) < minimum:
        return Gap.SHORT_SAMPLE
    return None if np.isfinite(live).all() and np.isfinite(backtest).all() else Gap.NOT_FINITE


def _pairs(records: Sequence[StrategyReturns]) -> dict[str, tuple[Floats, Floats]]:
    """Live and backtest returns by strategy, sorted; empty where there are none; of two samples the first counts."""
    found: dict[tuple[str, str], Floats] = {}
    for record in records:
        found.setdefault((record.strategy, record.sample), record.values)
    empty = np.empty(0)
    names = sorted({strategy for strategy, _ in found})
    return {name: (found.get((name, "live"), empty), found.get((name, "backtest"), empty)) for name in names}
