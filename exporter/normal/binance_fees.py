"""What commissions in a third asset were worth: its price at the beginning of the minute of the trade, which changes no more.

Asked of the spot market in pieces of a thousand minutes, only where a trade needs one. Guesses nothing: without a market, or
without a bar in that minute, there is no price.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from deskwatch.venues.binance_refusals import UnknownSymbol
from exporter.normal.binance_listing import Listing
from exporter.records import Sheet

MINUTE_MS = 60_000
PIECE = 999
"""Minutes asked for at a time: one call each."""

Bars: TypeAlias = Callable[[str, int, int], Coroutine[Any, Any, list[Any]]]
"""Minute bars of a spot market that open from one time to another, milliseconds since 1970."""


class MinutePrices:
    """Prices of commission assets by the minute, each piece asked for once."""

    def __init__(self) -> None:
        self._opens: dict[str, dict[int, Decimal]] = {}
        self._asked: dict[tuple[str, int], bool] = {}
        """Pieces asked for, and whether they will never hold more."""
        self._loading = asyncio.Lock()
        self._markets: dict[tuple[str, str], tuple[str, bool]] = {}

    async def load(self, needed: Iterable[tuple[str, str, datetime]], listing: Listing, bars: Bars) -> None:
        """Ask for what is needed and not known yet.

        Args:
            needed: commission asset, the currency it is wanted in, and when.
            listing: the spot markets.
            bars: asks the spot market.

        Raises:
            Retryable: the market cannot be read now.
        """
        async with self._loading:
            for asset, currency, at in needed:
                await self._load(asset, currency, at, listing, bars)

    async def _load(self, asset: str, currency: str, at: datetime, listing: Listing, bars: Bars) -> None:
        leg = listing.leg(asset, currency)
        if leg is None:
            return
        self._markets[asset, currency] = leg.symbol, leg.inverse
        minute = _minute(at)
        piece = minute // PIECE
        known = self._opens.setdefault(leg.symbol, {})
        if minute in known or self._asked.get((leg.symbol, piece)):
            return
        first = piece * PIECE
        try:
            rows = await bars(leg.symbol, first * MINUTE_MS, (first + PIECE) * MINUTE_MS - 1)
        except UnknownSymbol:
            return
        known.update(_opens(rows))
        # A piece that has its last minute will never hold more.
        self._asked[leg.symbol, piece] = first + PIECE - 1 in known

    def worth(self, asset: str, currency: str, at: datetime) -> Decimal | None:
        """One unit of the asset in the currency; None where that is not known."""
        market = self._markets.get((asset, currency))
        if market is None:
            return None
        price = self._opens.get(market[0], {}).get(_minute(at))
        return None if price is None else 1 / price if market[1] else price

    def forget_before(self, start: datetime) -> None:
        """Drop what lies before the look-back."""
        first = _minute(start)
        for opens in self._opens.values():
            for minute in [each for each in opens if each < first]:
                del opens[minute]
        self._asked = {key: done for key, done in self._asked.items() if (key[1] + 1) * PIECE > first}


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60


def _opens(rows: Iterable[Any]) -> dict[int, Decimal]:
    """Opening price by minute; a bar that cannot be read is a minute without a price."""
    bars = ({"at": row[0], "open": row[1]} if isinstance(row, list) and len(row) > 1 else row for row in rows)
    read = Sheet().read("prices", bars, lambda bar: (int(bar.number("at")) // MINUTE_MS, bar.positive("open")))
    return dict(read)
