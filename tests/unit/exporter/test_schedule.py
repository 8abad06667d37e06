"""When a source is fetched next: a grid that does not drift, waits that grow, bounds that hold."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.schedule import Schedule, open_seconds
from exporter.source import SourceConfig


def config(**settings: Any) -> SourceConfig:
    """A source's."""
    return SourceConfig(type="made_up", name="venue", **settings)


def schedule(settings: SourceConfig, seed: int = 0, now: float = 0.0) -> Schedule:
    """With chance."""
    return Schedule(settings, random.Random(seed), now)  # noqa: S311 - seeded


@given(
    st.floats(0.05, 3600), st.floats(0, 0.5), st.integers(0, 2**32), st.floats(0, 1e6),
    st.lists(st.floats(0, 0.2), min_size=1, max_size=60),
)  # fmt: skip
def test_on_average_fetches_are_exactly_an_interval_apart(
    interval: float, jitter: float, seed: int, start: float, late: list[float]
) -> None:
    """However late each wakes, none moves the next, and none is off its place by more than half the jitter and its lateness."""
    turns = schedule(config(interval_seconds=interval, jitter_ratio=jitter, stale_after_seconds=4000), seed, start)
    for turn, share in enumerate(late):
        begun = turns.due + share * interval
        assert abs(begun - start - turn * interval) <= (jitter / 2 + share) * interval + 1e-6 * (1 + start)
        turns.begin(begun)
        turns.succeeded(begun)


def test_a_process_that_was_stopped_does_not_make_up_for_what_it_missed() -> None:
    """SIGSTOP for an hour: one fetch at once, the next an interval later."""
    turns = schedule(config(interval_seconds=10, jitter_ratio=0))
    turns.begin(0)
    turns.succeeded(1)
    assert turns.due == 10
    turns.begin(3610)
    turns.succeeded(3611)
    assert turns.due == 3620


@given(st.floats(0.05, 3600), st.integers(1, 10_000), st.integers(0, 2**32), st.booleans(), st.floats(0, 1e5))
def test_every_wait_after_a_failure_is_within_its_bounds(
    interval: float, failures: int, seed: int, tripped: bool, asked: float
) -> None:
    """At least what was asked for and the breaker's time, at most those or the back-off's bound."""
    settings = config(interval_seconds=interval, stale_after_seconds=2 * interval + 20)
    turns = schedule(settings, seed, 50.0)
    turns.failed(100.0, failures, tripped=tripped, asked_seconds=asked)
    wait = turns.due - 100.0
    least = max(asked, open_seconds(settings) if tripped else 0.0)
    bound = min(max(interval, min(60.0, interval + 10)), min(1.0, interval) * 2.0 ** min(failures - 1, 20))
    assert least - 1e-6 <= wait <= max(least, bound) + 1e-6


def test_the_back_off_has_full_jitter() -> None:
    """Anywhere between nothing and the bound, so that exporters that failed together do not come back together."""
    waits = []
    for seed in range(400):
        turns = schedule(config(interval_seconds=15), seed)
        turns.failed(0.0, 4, tripped=False, asked_seconds=None)
        waits.append(turns.due)
    assert min(waits) < 0.4
    assert 7.6 < max(waits) <= 8
    assert 3.6 < sum(waits) / len(waits) < 4.4


def test_what_is_hastened_keeps_what_the_venue_asked_for() -> None:
    """At once, or when it wants to be asked."""
    turns = schedule(config(breaker={"failures": 1, "open_seconds": 500}))
    turns.failed(100.0, 1, tripped=True, asked_seconds=None)
    turns.hasten(110.0)
    assert turns.due == 110
    turns.failed(110.0, 2, tripped=True, asked_seconds=30)
    turns.hasten(120.0)
    assert turns.due == 140


def test_a_configured_open_time_counts_as_it_is() -> None:
    """Longer than the data lives, if the desk wants it so."""
    assert open_seconds(config(breaker={"open_seconds": 300})) == 300
    assert open_seconds(config()) == 30
    assert open_seconds(config(stale_after_seconds=16)) == 8
