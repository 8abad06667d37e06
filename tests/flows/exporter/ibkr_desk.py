"""A source that reads an IBKR login over real sockets, the stand-in of the gateway it reads, and the time, which tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Retryable
from exporter.snapshot import History, Snapshot
from exporter.source import Kept
from exporter.sources.ibkr import Config, IbkrSource
from tests.stand_ins import ibkr_bodies as body
from tests.stand_ins.ibkr import Gateway
from tests.stand_ins.ibkr_bodies import AAPL, CALL, ES, EUR_USD, SPY, VODAFONE

NOW = datetime(2026, 3, 4, 15, tzinfo=UTC)
"""A Wednesday."""
YESTERDAY = date(2026, 3, 3)
ACCOUNT = "U1234567"
INTERVAL = 15.0


class BriskClock(ManualClock):
    """Stands still, but for waits of about a second, which pass at once: the pace of calls within a fetch."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self._waiting = 0
        self._somebody_waits = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced; not for long."""
        if 0.0 < seconds <= 1.2:
            self._step(self._monotonic + seconds)
            await asyncio.sleep(0)
            return
        self._waiting += 1
        self._somebody_waits.set()
        try:
            await super().sleep(seconds)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._somebody_waits.clear()

    async def until_somebody_waits(self) -> None:
        """Return once what the last advance has woken waits again: real answers take a moment."""
        async with asyncio.timeout(10.0):
            await self._somebody_waits.wait()


class Desk:
    """A source, the gateway it reads, and the time."""

    def __init__(self, source: IbkrSource, gateway: Gateway, clock: BriskClock) -> None:
        self.source = source
        self.gateway = gateway
        self.clock = clock
        self.kept: dict[str, History] = {}

    async def fetch(self, kept: Mapping[str, History] | None = None) -> Snapshot:
        """One fetch."""
        return await self.source.fetch(Kept(None, self.kept if kept is None else kept))

    async def later(self, seconds: float = INTERVAL, *, times: int = 1) -> Snapshot:
        """As many fetches, each so long after the one before; the last."""
        for _ in range(times):
            await self.wait(seconds)
            found = await self.fetch()
        return found

    async def wait(self, seconds: float) -> None:
        """Let time pass, and the keep-alive, which it may have woken, come to its end."""
        await self.clock.advance(seconds)
        await self.clock.until_somebody_waits()

    async def settled(self) -> Snapshot:
        """What is told once everything that must be primed has been."""
        await self.fetch()
        return await self.later(times=2)

    async def fail(self) -> Retryable | Permanent:
        """One fetch that fails as a source may fail."""
        with pytest.raises((Retryable, Permanent)) as caught:
            await self.fetch()
        error = caught.value
        assert isinstance(error, Retryable | Permanent)
        return error


def fill_in(gateway: Gateway) -> None:
    """A login with some of everything."""
    gateway.hold(AAPL, 614.2639, 197.3840027, avgPrice=192.7477563, unrealizedPnl=2847.88)
    gateway.hold(ES, -2.0, 5000.25, avgPrice=4990.5, unrealizedPnl=-975.0)
    gateway.hold(VODAFONE, 100.0, 0.71)
    gateway.hold(CALL, 1.0, 12.5)
    gateway.hold(EUR_USD, 5000.0, 1.08)
    gateway.hold(SPY, 0.0, 0.0)
    gateway.ledgers[ACCOUNT] = body.ledger(
        USD={"cashbalance": 100000.5, "realizedpnl": 12.5, "unrealizedpnl": 1872.88},
        EUR={"cashbalance": 5000.25, "exchangerate": 1.0853},
        GBP={"cashbalance": 0.0, "exchangerate": 1.27, "unrealizedpnl": 1.5},
        BASE={"netliquidationvalue": 226843.75, "stockmarketvalue": 121245.87},
    )
    gateway.orders = [
        body.order(AAPL, 1, at=NOW - timedelta(minutes=2)),
        body.order(ES, 2, at=NOW - timedelta(minutes=1), status="Filled", filledQuantity=1.0, totalSize=1.0, avgPrice="5000.50",
                   remainingQuantity=0.0, side="SELL", origOrderType="MARKET", orderType="Market", price=""),
    ]  # fmt: skip
    gateway.order_times = {"2": "260304145858"}
    gateway.trades = [
        body.trade(ES, "0000e0d5.6576fd38.01.01", at=NOW - timedelta(minutes=1), size=1.0, price="5000.50", commission="2.25"),
        body.trade(AAPL, "0000e0d5.6576fd39.01.01", at=NOW - timedelta(days=8)),
    ]
    gateway.profit = {f"{ACCOUNT}.Core": {"rowType": 1, "dpl": 15.7, "nl": 226843.75, "upl": 607.0, "el": 1.0, "mv": 0.0}}
    updated = {"_updated": round((NOW - timedelta(seconds=1)).timestamp() * 1000)}
    gateway.quote(AAPL, f31="197.40", f84="197.38", f86="197.41", f88="12", f85="3", **updated)
    gateway.quote(SPY, f31="C600.01", f84="599.98", f86="1,600.02", f88="1,200", f85="3", **updated)
    gateway.quote(ES, f31="5000.25", f84="5000.25", f86="5000.50", f88="31", f85="27", **updated)
    gateway.quote(VODAFONE, f31="71.1", f84="71.0", f86="71.2", f88="1,200", f85="5", **updated)
    for listed, close in ((AAPL, 190.0), (SPY, 590.0), (ES, 4950.0), (VODAFONE, 70.0)):
        gateway.bars[listed.conid] = body.weekdays(NOW.date(), 400, first_close=close)
    gateway.bars[EUR_USD.conid] = body.weekdays(YESTERDAY, 400, hour=22, minute=15, first_close=1.0)


@asynccontextmanager
async def desk(
    *, filled: bool = True, login: tuple[str, ...] = (ACCOUNT,), paced: bool = True, **settings: Any
) -> AsyncIterator[Desk]:
    """The gateway, filled, its limits enforced, and a source that reads it."""
    clock = BriskClock(NOW)
    async with Gateway(accounts=login) as gateway:
        gateway.clock = clock if paced else None
        if filled:
            fill_in(gateway)
        content = {"type": "ibkr", "name": "ib", "portfolio": "book", "base_url": gateway.base_url, **settings}
        config = validate(Config, {name: value for name, value in content.items() if value is not None})
        assert isinstance(config, Config), config
        source = IbkrSource(config, clock)
        try:
            yield Desk(source, gateway, clock)
        finally:
            await source.close()
            assert not [each for each in gateway.requests if b'"compete":true' in each.body.replace(b" ", b"")]
