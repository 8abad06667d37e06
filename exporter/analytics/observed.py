"""Observed: numbers that sources deliver ready-made - consumer lag, a model's metrics, another server's series - passed on
while the source is fresh. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.analytic import Result
from exporter.desk import DeskState
from exporter.reading import Family, Gap, Undefined

METRICS: tuple[Family, ...] = ()
"""None of its own: a source declares the families of what it delivers."""
NAME = "observed"


def compute(state: DeskState) -> Iterator[Result]:
    """Every measure of every source that is fresh."""
    for feed in state.feeds:
        if "measures" not in feed.provides:
            continue
        if feed.snapshot is None:
            yield Undefined(NAME, Gap.INPUT_MISSING, feed.source)
        elif feed.stale:
            yield Undefined(NAME, Gap.INPUT_STALE, feed.source)
        else:
            yield from feed.snapshot.measures
