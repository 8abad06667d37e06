"""The manual clock wakes sleepers in order; the system clock is aware and in UTC."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

from deskwatch.clock import ManualClock, SystemClock


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
