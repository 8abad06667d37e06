"""Time, injected: every stage that needs the time or waits is handed a Clock, so tests turn it by hand."""

from __future__ import annotations

import asyncio
import heapq
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(moment: datetime) -> int:
    """An aware time as whole microseconds since 1970, as the store keeps it."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(count: int) -> datetime:
    """The aware UTC time of so many microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=count)


class Clock(Protocol):
    """Wall time, monotonic time and waiting."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; a value <= 0 only yields to the loop."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(max(0.0, seconds))


async def until_set(clock: Clock, event: asyncio.Event, seconds: float | None) -> None:
    """Return when the event is set or so much time has passed; None: not before it is set."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait())]
    if seconds is not None:
        waits.append(asyncio.ensure_future(clock.sleep(seconds)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


class ManualClock:
    """A clock that stands still until `advance` is called. For tests of anything that waits."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0
        self._order = 0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    def now(self) -> datetime:
        """Wall time as set, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        event = asyncio.Event()
        self._order += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._order, event))
        await event.wait()

    def jump(self, seconds: float) -> None:
        """Move the wall clock only, as NTP or an operator does."""
        self._now += timedelta(seconds=seconds)

    async def advance(self, seconds: float) -> None:
        """Move both clocks, waking sleepers in order and letting each run before the next."""
        target = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, event = heapq.heappop(self._sleepers)
            self._step(due)
            event.set()
            await _settle()
        self._step(target)
        await _settle()

    def _step(self, target: float) -> None:
        self._now += timedelta(seconds=target - self._monotonic)
        self._monotonic = target


async def _settle() -> None:
    """Let every task that became ready run until it waits again."""
    for _ in range(20):
        await asyncio.sleep(0)
