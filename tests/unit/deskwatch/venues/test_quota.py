"""A venue's rate limit: what is used, what is ours to use, and how long to wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deskwatch.clock import ManualClock
from deskwatch.errors import Reason, Throttled
from deskwatch.venues.quota import Pace, Quota


def quota(clock: ManualClock, **settings: Any) -> Quota:
    """100 a minute, 30 of them the trader's."""
    return Quota("venue", clock, **({"limit": 100, "window_seconds": 60, "headroom_ratio": 0.3} | settings))


def refused(limit: Quota, weight: float = 1.0) -> float:
    """Seconds until it fits."""
    with pytest.raises(Throttled) as raised:
        limit.take(weight)
    assert raised.value.reason is Reason.RATE_LIMITED
    assert raised.value.retry_after_seconds == raised.value.wait_seconds
    return raised.value.wait_seconds


async def test_the_headroom_is_left_alone() -> None:
    """70 of 100; the wait is the rest of the window, and then it fits."""
    clock = ManualClock()
    limit = quota(clock)
    await clock.advance(1000)
    limit.take(40)
    await clock.advance(20)
    limit.take(30)
    assert limit.used_ratio == 0.7
    wait = refused(limit)
    assert wait == 40
    await clock.advance(wait)
    assert limit.used_ratio == 0
    limit.take(70)


def test_the_message_says_how_much_is_used() -> None:
    """And how much of it is ours."""
    limit = quota(ManualClock())
    limit.take(70)
    with pytest.raises(Throttled, match=r"venue: rate limit: 70 of 100 used, 70 are ours to use"):
        limit.take(1)


def test_what_was_refused_is_not_used() -> None:
    """A lighter call still fits."""
    limit = quota(ManualClock())
    limit.take(60)
    refused(limit, 20)
    limit.take(10)


def test_a_call_heavier_than_all_of_it_goes_through_alone() -> None:
    """Otherwise it never would."""
    limit = quota(ManualClock())
    limit.take(90)
    refused(limit)


async def test_what_the_venue_counts_counts() -> None:
    """The trader's calls are in it; ours alone would be a guess."""
    clock = ManualClock()
    limit = quota(clock)
    limit.take(1)
    limit.learn(used=65, limit=200)
    assert limit.used_ratio == 65 / 200
    limit.take(75)
    refused(limit)
    limit.learn(used=3)
    limit.take(75)


async def test_the_venues_own_end_of_its_window_counts() -> None:
    """Its minute is not ours."""
    clock = ManualClock()
    limit = quota(clock)
    limit.take(70)
    limit.learn(resets_in_seconds=12.5)
    assert refused(limit) == 12.5
    await clock.advance(12.5)
    limit.take(70)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"used": -1.0}, {"used": float("nan")}, {"used": float("inf")}, {"limit": 0.0}, {"limit": -5.0},
        {"limit": float("inf")}, {"limit": float("nan")}, {"resets_in_seconds": -3.0}, {"resets_in_seconds": float("nan")},
        {"resets_in_seconds": float("inf")},
    ],
)  # fmt: skip
def test_nonsense_in_headers_changes_nothing(nonsense: dict[str, float]) -> None:
    """A header is what somebody wrote."""
    limit = quota(ManualClock())
    limit.take(70)
    limit.learn(**nonsense)
    assert limit.used_ratio == 0.7
    assert refused(limit) == 60


def test_a_reset_further_away_than_a_window_is_a_wrong_clock() -> None:
    """Ours or theirs: a window at most is waited."""
    limit = quota(ManualClock())
    limit.take(70)
    limit.learn(resets_in_seconds=3600)
    assert refused(limit) == 60


async def test_while_the_venue_refuses_us_nothing_fits() -> None:
    """Its wait counts, the longest of several; the share used is all of it."""
    clock = ManualClock()
    limit = quota(clock)
    limit.block(120)
    limit.block(30)
    assert (refused(limit, 0.1), limit.used_ratio) == (120, 1.0)
    await clock.advance(119)
    assert refused(limit) == 1
    await clock.advance(1)
    limit.take()
    assert limit.used_ratio == 0.01


async def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    """An operator's or NTP's."""
    clock = ManualClock()
    limit = quota(clock)
    limit.take(70)
    clock.jump(-86400)
    assert refused(limit) == 60
    clock.jump(2 * 86400)
    assert refused(limit) == 60


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0.1, 60)), max_size=80), st.floats(0, 0.9))
async def test_no_window_of_ours_ever_takes_more_than_its_share(calls: list[tuple[float, float]], headroom: float) -> None:
    """And the wait that is named is always enough."""
    clock = ManualClock()
    limit = quota(clock, headroom_ratio=headroom)
    taken: list[tuple[float, float]] = []
    for pause, weight in calls:
        await clock.advance(pause)
        wait = 0.0
        try:
            limit.take(weight)
        except Throttled as throttled:
            wait = throttled.wait_seconds
        assert 0 <= wait <= 60 + 1e-6
        if wait:
            await clock.advance(wait)
            limit.take(weight)
        taken.append((clock.monotonic(), weight))
    windows: list[list[tuple[float, float]]] = []
    for at, weight in taken:
        if not windows or at >= windows[-1][0][0] + 60:
            windows.append([])
        windows[-1].append((at, weight))
    for window in windows:
        total = sum(weight for _, weight in window)
        assert len(window) == 1 or total <= 100 * (1 - headroom) + 1e-9


# --- pace -----------------------------------------------------------------------------------------------------------------


async def test_calls_are_an_interval_apart_in_the_order_they_came() -> None:
    """The first goes at once, also long after the one before."""
    clock = ManualClock()
    pace, went = Pace(clock, 5), []

    async def call(name: int) -> None:
        await pace.turn()
        went.append((name, clock.monotonic()))

    await clock.advance(3)
    calls = [asyncio.ensure_future(call(name)) for name in range(3)]
    await clock.advance(0)
    for _ in range(12):
        await clock.advance(1)
    await asyncio.gather(*calls)
    assert went == [(0, 3), (1, 8), (2, 13)]
    await clock.advance(100)
    await call(3)
    assert went[-1] == (3, 115)


async def test_one_who_gives_up_takes_no_turn() -> None:
    """A fetch cut off at its deadline, again and again, does not put off those after it."""
    clock = ManualClock()
    pace = Pace(clock, 900)
    await pace.turn()
    for _ in range(50):
        waiting = asyncio.ensure_future(pace.turn())
        await clock.advance(10)
        waiting.cancel()
        await asyncio.wait({waiting})
    last = asyncio.ensure_future(pace.turn())
    await clock.advance(399)
    assert not last.done()
    await clock.advance(1)
    assert last.done()
