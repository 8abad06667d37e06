"""Sources that do what a test says, polled under a clock turned by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, Literal

from deskwatch.clock import ManualClock
from deskwatch.config import Secret
from exporter.history import Keeper
from exporter.poller import Poller
from exporter.reading import Sample
from exporter.snapshot import Kind, Position, Rejected, Snapshot
from exporter.source import Kept, Source, SourceConfig


class Config(SourceConfig):
    """A source made for a test."""

    type: Literal["made_up"] = "made_up"
    account: str = "main"
    token: Secret = Secret("first")
    url: Secret = Secret("postgresql://reader:one@db/trading")


Behaviour = Callable[[], Awaitable[None]]


class MadeUp(Source[Config]):
    """Does what the test says; counts its fetches and how many run at once."""

    kind = "exchange"

    def __init__(self, clock: ManualClock, name: str = "venue", **settings: Any) -> None:
        super().__init__(Config(name=name, **({"jitter_ratio": 0} | settings)), clock)
        self.behaviour: Behaviour | None = None
        self.rejected: tuple[Rejected, ...] = ()
        self.delivers: Any = None
        self.quota: Callable[[], float | None] = lambda: None
        self.kept: list[Kept] = []
        self.begun: list[float] = []
        self.running = self.most_at_once = 0
        self.closed = False

    @property
    def provides(self) -> frozenset[Kind]:
        """Positions."""
        return frozenset({"positions"})

    @property
    def quota_used_ratio(self) -> float | None:
        """What the test says."""
        return self.quota()

    async def fetch(self, kept: Kept) -> Snapshot:
        """Behave."""
        assert not self.closed, "a source that is closed is not asked"
        self.begun.append(self.clock.monotonic())
        self.kept.append(kept)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            if self.behaviour:
                await self.behaviour()
            if self.delivers is not None:
                return self.delivers  # type: ignore[no-any-return]
            held = Position(self.config.account, "AAPL", Decimal(len(self.begun)), "USD")
            return Snapshot(self.clock.now(), positions=(held,), rejected=self.rejected)
        finally:
            self.running -= 1

    async def close(self) -> None:
        """Remember it."""
        self.closed = True


class Always(random.Random):
    """Jitter without chance: always the given share of the bound."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def uniform(self, a: float, b: float) -> float:
        """The share of the span."""
        return a + self.share * (b - a)


async def raises(error: Exception) -> None:
    """A behaviour."""
    raise error


async def hangs() -> None:
    """A behaviour."""
    await asyncio.Event().wait()


@asynccontextmanager
async def polling(
    clock: ManualClock,
    *sources: MadeUp,
    share: float = 1.0,
    chance: random.Random | None = None,
    keeper: Keeper | None = None,
) -> AsyncIterator[Poller]:
    """A running poller; what ends it by itself fails the test."""
    poller = Poller(sources, clock, chance or Always(share), keeper=keeper)
    task = asyncio.ensure_future(poller.run())
    await clock.advance(0)
    try:
        yield poller
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def value(samples: list[Sample], family: str, *labels: str) -> float | None:
    """One series."""
    return next((each.value for each in samples if (each.family.name, each.labels) == (family, labels)), None)


async def seconds(clock: ManualClock, count: int) -> None:
    """Let so many seconds pass, one by one."""
    for _ in range(count):
        await clock.advance(1)
