"""Measures of sources: passed on while fresh, undefined otherwise."""

from __future__ import annotations

from datetime import UTC, datetime

from exporter.analytics.observed import compute
from exporter.desk import DeskState, Feed
from exporter.reading import Family, Gap, Sample, Undefined
from exporter.snapshot import Snapshot
from tests.unit.exporter.desks import make_config

LAG = Family("desk_test_lag", "Lag", ("source",))
AT = datetime(2026, 1, 1, tzinfo=UTC)


def state(*, delivered: bool = True, stale: bool = False) -> DeskState:
    """A desk with one source of measures."""
    snapshot = Snapshot(AT, measures=(LAG.sample("queue", value=3.0),)) if delivered else None
    return DeskState(AT, make_config(), (Feed("queue", "infrastructure", frozenset({"measures"}), snapshot, stale),))


def test_a_fresh_sources_measures_are_passed_on() -> None:
    """As they are."""
    assert list(compute(state())) == [Sample(LAG, ("queue",), 3.0)]


def test_a_stale_or_silent_sources_measures_are_undefined() -> None:
    """The last value is not repeated."""
    assert list(compute(state(stale=True))) == [Undefined("observed", Gap.INPUT_STALE, "queue")]
    assert list(compute(state(delivered=False))) == [Undefined("observed", Gap.INPUT_MISSING, "queue")]
