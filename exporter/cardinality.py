"""Bounds the series of a reading: per family the largest values stay, the others are dropped and counted.

A family that grows with the number of symbols, topics or runs must not take down the Prometheus that scrapes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from exporter.config import CardinalityConfig
from exporter.reading import Family, Sample

DROPPED = Family(
    "desk_series_dropped_total",
    "Series left out of the page because their family has more than its bound, counted each cycle",
    ("family",),
    "counter",
)
METRICS = (DROPPED,)


class Bound:
    """Applies the bounds cycle after cycle and counts what they cost."""

    def __init__(self, config: CardinalityConfig) -> None:
        self.config = config
        self._dropped: Counter[str] = Counter()

    def apply(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that stay, in their order, and the count of those dropped so far, 0 included."""
        found, dropped = bounded(samples, self.config)
        for name, count in dropped.items():
            self._dropped[name] += count
        return [*found, *(DROPPED.sample(name, value=float(count)) for name, count in sorted(self._dropped.items()))]


def bounded(samples: Sequence[Sample], config: CardinalityConfig) -> tuple[Iterable[Sample], Mapping[str, int]]:
    """The samples that stay, in their order, and how many of each family do not.

    The largest absolute values stay; of equal ones those with the smaller labels, so that the same ones stay each cycle.
    """
    counts = Counter(sample.family.name for sample in samples)
    limits = {name: config.families.get(name, config.series_per_family) for name in counts}
    over = {name for name, count in counts.items() if count > limits[name]}
    dropped = {name: counts[name] - limits[name] if name in over else 0 for name in counts}
    if not over:
        return samples, dropped
    kept: set[tuple[str, tuple[str, ...]]] = set()
    for name in over:
        ranked = ((-abs(sample.value), sample.labels) for sample in samples if sample.family.name == name)
        kept |= {(name, labels) for _, labels in sorted(ranked)[: limits[name]]}
    return [
        sample for sample in samples if sample.family.name not in over or (sample.family.name, sample.labels) in kept
    ], dropped
