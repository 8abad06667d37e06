"""The markets an exchange lists, and by which of them an asset is priced: directly, the other way round, or by a second one.

Read once and again each day, in the background: it is a large answer that changes little. Refuses nothing but an answer without
markets; a market it cannot read is rejected and does not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deskwatch.clock import Clock
from deskwatch.errors import DeskwatchError, Reason, Retryable
from exporter.records import Fields, Sheet
from exporter.snapshot import Instrument, Rejected

REFRESH_SECONDS = 24 * 3600.0
RETRY_SECONDS = 600.0
"""After a refresh that failed, or one that turned out to be wrong already."""
BRIDGES = ("BTC", "ETH", "BNB", "USDC", "FDUSD", "EUR", "TRY")
"""Assets tried first where an asset has no market against the wanted one: those with the most markets."""
EARN = "LD"
"""Prefix of an asset lent to the venue's flexible savings. Undocumented; see rotki/rotki (issue 1502, pull request 7546)."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One market: `symbol` is `base` priced in `quote`."""

    symbol: str
    base: str
    quote: str
    instrument: Instrument = "spot"


@dataclass(frozen=True, slots=True)
class Leg:
    """How an asset is priced: by the market `symbol` in `currency`; `inverse`: the market prices the currency in the asset."""

    symbol: str
    currency: str
    inverse: bool = False


class Listing:
    """The markets as of one reading."""

    def __init__(self, markets: Iterable[Listed], rejected: tuple[Rejected, ...] = ()) -> None:
        self.markets: Mapping[str, Listed] = {market.symbol: market for market in markets}
        self.rejected = rejected
        self._pairs = {(market.base, market.quote): market.symbol for market in self.markets.values()}
        self._assets = {asset for pair in self._pairs for asset in pair}

    def leg(self, asset: str, currency: str) -> Leg | None:
        """The market between the two, whichever way round."""
        if (asset, currency) in self._pairs:
            return Leg(self._pairs[asset, currency], currency)
        if (currency, asset) in self._pairs:
            return Leg(self._pairs[currency, asset], currency, inverse=True)
        return None

    def pricing(self, assets: Iterable[str], currency: str) -> dict[str, Leg]:
        """How each asset is priced, and the asset it is priced in where that is not the currency."""
        found: dict[str, Leg] = {}
        for asset in assets:
            way = () if asset == currency else self._way(asset, currency)
            found.update(way)
        return found

    def _way(self, asset: str, currency: str) -> tuple[tuple[str, Leg], ...]:
        direct = self.leg(asset, currency)
        if direct is not None:
            return ((asset, direct),)
        for bridge in (*BRIDGES, *sorted(self._assets)):
            first, second = self.leg(asset, bridge), self.leg(bridge, currency)
            if first is not None and second is not None:
                return (asset, first), (bridge, second)
        return ()

    def underlying(self, asset: str) -> str:
        """The asset itself, or the one it stands for in the venue's savings."""
        lent = asset.removeprefix(EARN)
        return lent if asset not in self._assets and lent in self._assets else asset


def spot_listing(rows: Any) -> Listing:
    """The spot markets that trade."""
    return _listing(rows, lambda row: _listed(row, "spot") if row.text("status") == "TRADING" else None)


def futures_listing(rows: Any) -> Listing:
    """Every contract, with what it is: a perpetual or one that ends."""
    return _listing(rows, lambda row: _listed(row, _contract(row.optional_text("contractType") or "")))


def _listing(rows: Any, make: Callable[[Fields], Listed | None]) -> Listing:
    sheet = Sheet()
    return Listing(sheet.read("instruments", rows, make), sheet.rejected)


def _listed(row: Fields, instrument: Instrument) -> Listed:
    return Listed(row.text("symbol"), row.text("baseAsset"), row.text("quoteAsset"), instrument)


def _contract(word: str) -> Instrument:
    """`PERPETUAL`, `TRADIFI_PERPETUAL`, ...; `CURRENT_QUARTER`, `NEXT_QUARTER DELIVERING`, ...; nothing: it ended."""
    if "PERPETUAL" in word:
        return "perpetual"
    return "future" if "QUARTER" in word or "MONTH" in word else "unknown"


class Catalogue:
    """A listing that is kept and refreshed.

    Args:
        clock: monotonic time.
        ask: reads the rows from the venue.
        make: rows to listing; runs in a thread.
    """

    def __init__(self, clock: Clock, ask: Callable[[], Awaitable[Any]], make: Callable[[Any], Listing]) -> None:
        self._clock = clock
        self._ask = ask
        self._make = make
        self._listing: Listing | None = None
        self._due = self._read_at = 0.0
        self._reading: asyncio.Task[Listing] | None = None
        self.failure = ""
        """Why the last refresh failed; empty where it did not."""

    async def read(self) -> Listing:
        """The listing. The first time it is waited for; later an old one is given while a new one is read.

        A caller that gives up waiting does not end the reading: the next one waits for the same.

        Raises:
            Retryable, Permanent: there is none yet and it cannot be read.
        """
        if self._reading is not None and self._reading.done():
            with contextlib.suppress(DeskwatchError):  # a failure nobody waited for is no answer now
                self._take(self._reading)
        if self._reading is None and (self._listing is None or self._clock.monotonic() >= self._due):
            self._reading = asyncio.ensure_future(self._read())
        if self._listing is None:
            reading = self._reading
            assert reading is not None  # noqa: S101 - begun above
            await asyncio.wait({reading})
            self._take(reading)
        assert self._listing is not None  # noqa: S101 - or it was raised why
        return self._listing

    def expire(self) -> None:
        """It is wrong about something: read it anew, unless that has just been done."""
        self._due = min(self._due, self._read_at + RETRY_SECONDS)

    async def close(self) -> None:
        """End a reading under way."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                reading.exception()  # seen: nobody waits for it any more

    async def _read(self) -> Listing:
        rows = await self._ask()
        return await asyncio.to_thread(self._make, rows)

    def _take(self, reading: asyncio.Task[Listing]) -> None:
        """The outcome of a reading that has ended; of several who waited for it, each takes it."""
        if self._reading is reading:
            self._reading = None
        if reading.cancelled():
            raise Retryable("the reading of the listing was ended", reason=Reason.INTERNAL)
        try:
            self._listing, self.failure, wait = reading.result(), "", REFRESH_SECONDS
        except DeskwatchError as error:
            self.failure, wait = str(error), RETRY_SECONDS
            if self._listing is None:
                raise
        self._read_at = self._clock.monotonic()
        self._due = self._read_at + wait
