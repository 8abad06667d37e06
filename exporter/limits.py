"""The desk's own limits against what was measured. Reads this cycle's samples, so a limit and its gauge cannot disagree."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from exporter.config import LIMITS, LimitConfig
from exporter.reading import Family, Sample

LIMIT = Family("desk_limit", "Limit the desk has set itself, ratio of net asset value", ("portfolio", "limit"))
UTILIZATION = Family(
    "desk_limit_utilization_ratio",
    "Measured value over its limit: above 1 is a breach; 0 for a book that holds nothing; absent while the measured value "
    "is otherwise undefined",
    ("portfolio", "limit"),
)
METRICS = (LIMIT, UTILIZATION)


@dataclass(frozen=True, slots=True)
class Measure:
    """Which samples a limit is set on: the family, label values it must have, and how several become one.

    `of_positions`: it measures what is held, so that a book that holds nothing uses nothing of it.
    """

    family: str
    having: tuple[tuple[str, str], ...] = ()
    reduce: Callable[[Iterable[float]], float] = max
    of_positions: bool = True


def _largest(values: Iterable[float]) -> float:
    return max(abs(value) for value in values)


def _loss(values: Iterable[float]) -> float:
    return 0.0 - min(values)


def _tail(family: str, confidence: str) -> Measure:
    return Measure(family, (("method", "historical"), ("confidence", confidence), ("horizon", "1d")))


MEASURES: dict[str, Measure] = {
    "concentration": Measure("desk_concentration_max_ratio"),
    "concentration_hhi": Measure("desk_concentration_hhi_ratio"),
    "sector": Measure("desk_sector_weight_ratio", reduce=_largest),
    "gross_exposure": Measure("desk_exposure_gross_ratio"),
    "net_exposure": Measure("desk_exposure_net_ratio", reduce=_largest),
    "leverage": Measure("desk_leverage_ratio"),
    "daily_loss": Measure("desk_pnl_daily_ratio", reduce=_loss, of_positions=False),
    **{f"var_{level}": _tail("desk_var_ratio", level) for level in ("0.95", "0.975", "0.99")},
    **{f"expected_shortfall_{level}": _tail("desk_expected_shortfall_ratio", level) for level in ("0.95", "0.975", "0.99")},
}
if set(MEASURES) != set(LIMITS):
    raise AssertionError(f"exporter.config.LIMITS and MEASURES disagree: {set(MEASURES) ^ set(LIMITS)}")


def judge(limits: Sequence[LimitConfig], samples: Sequence[Sample], flat: Collection[str] = ()) -> list[Sample]:
    """Every limit, and its utilization where the measured value is defined.

    Args:
        limits: as configured.
        samples: this cycle's.
        flat: portfolios known to hold nothing. They use nothing of a limit on positions, although their VaR or concentration
            is undefined: closing everything ends a breach at once.
    """
    wanted = {MEASURES[limit.limit].family for limit in limits}
    by_family: dict[str, list[Sample]] = {name: [] for name in wanted}
    for sample in samples:
        if sample.family.name in wanted:
            by_family[sample.family.name].append(sample)
    results: list[Sample] = []
    for limit in limits:
        measure = MEASURES[limit.limit]
        results.append(LIMIT.sample(limit.portfolio, limit.limit, value=limit.value))
        values = list(_measured(measure, limit.portfolio, by_family[measure.family]))
        if not values and measure.of_positions and limit.portfolio in flat:
            values = [0.0]
        used = measure.reduce(values) / limit.value if values else math.nan
        if math.isfinite(used):
            results.append(UTILIZATION.sample(limit.portfolio, limit.limit, value=used))
    return results


def _measured(measure: Measure, portfolio: str, samples: Iterable[Sample]) -> Iterator[float]:
    wanted = (("portfolio", portfolio), *measure.having)
    for sample in samples:
        labels = dict(zip(sample.family.labels, sample.labels, strict=True))
        if all(labels.get(name) == value for name, value in wanted):
            yield sample.value
