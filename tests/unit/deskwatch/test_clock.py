"""The manual clock wakes sleepers in order; the system clock is aware and in UTC."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

from deskwatch.clock import ManualClock, SystemClock, until_set


async def test_sleepers_wake_in_the_order_of_their_time() -> None:
    """Advancing past several deadlines wakes each at its own time, not at the end."""
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper("late", 5)), asyncio.create_task(sleeper("early", 2))]
    await clock.advance(0)
    await clock.advance(4.9)
    assert woken == [("early", 2.0)]
    await clock.advance(10)
    assert woken == [("early", 2.0), ("late", 5.0)]
    await asyncio.gather(*tasks)


async def test_a_jump_moves_the_wall_clock_only() -> None:
    """What NTP does to wall time must not touch durations."""
    clock = ManualClock()
    before = clock.now()
    clock.jump(-3600)
    assert clock.now() == before - timedelta(hours=1)
    assert clock.monotonic() == 0


def test_the_system_clock_is_aware_and_utc() -> None:
    """Naive times are the source of off-by-an-hour errors."""
    assert SystemClock().now().tzinfo is UTC


async def test_a_wait_ends_with_the_event_or_the_time() -> None:
    """Whichever comes first; without a time only with the event. Nothing is left running."""
    clock, event = ManualClock(), asyncio.Event()
    before = len(asyncio.all_tasks())
    timed = asyncio.ensure_future(until_set(clock, event, 5))
    patient = asyncio.ensure_future(until_set(clock, event, None))
    await clock.advance(0)
    await clock.advance(4)
    assert not timed.done()
    await clock.advance(1)
    assert (timed.done(), patient.done()) == (True, False)
    again = asyncio.ensure_future(until_set(clock, event, 5))
    await clock.advance(0)
    event.set()
    await clock.advance(0)
    assert (again.done(), patient.done()) == (True, True)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
