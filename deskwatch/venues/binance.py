"""Binance, spot market and USD-margined futures: what can be read of an account and its markets, and what each call weighs.

Returns the venue's own JSON; `deskwatch.venues.binance_api` signs, counts and pages.
Sources: github.com/binance/binance-spot-api-docs, rest-api.md; developers.binance.com, USDS-margined futures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from deskwatch.venues.binance_api import Api, Cursor, listed, together
from deskwatch.venues.binance_paging import DAY_MS, LIMIT, ORDERS, TRADES, Ask, Numbered, by_time, from_id, latest
from deskwatch.venues.binance_refusals import UnknownSymbol
from deskwatch.venues.wire import Parameters

SPOT_URL = "https://api.binance.com"
USD_M_URL = "https://fapi.binance.com"
OVERLAP_MS = 60_000
"""So far before the last look a list without ids is read again: a row may be filed a little late."""
USD_M_REACH_MS = 90 * DAY_MS
"""Futures trades older than that are not given. Source: "Account Trade List" (three months; six in older copies)."""
MOST_INCOME_PAGES = 10
MOST_NAMED = 100
"""Markets named in one call; for more all are asked for, which weighs the same."""


class Spot(Api):
    """The spot market."""

    name = "binance spot"
    market = "spot"
    root = "/api/v3"
    minute_weight = 6000
    listing_weight = 20
    # Without the permission sets, and markets that do not trade, it is a third of the size.
    listing_parameters: ClassVar[Parameters] = {"symbolStatus": "TRADING", "showPermissionSets": "false"}
    open_orders_weight = 6
    all_open_orders_weight = 80

    def bars_weight(self, limit: int) -> int:
        """2, however many."""
        return 2

    def depth_weight(self, levels: int) -> int:
        """5 up to 100 levels."""
        return 5

    async def account(self) -> Any:
        """Balances that are not zero, and whether the account may trade."""
        return await self._own(f"{self.root}/account", {"omitZeroBalances": "true"}, weight=20)

    async def prices(self, symbols: Sequence[str]) -> list[Any]:
        """The last price of each market; rows of other markets may be among them."""
        return await self._of_several("price", symbols)

    async def book_tickers(self, symbols: Sequence[str]) -> list[Any]:
        """Best bid and ask of each market; rows of other markets may be among them."""
        return await self._of_several("bookTicker", symbols)

    async def _of_several(self, ticker: str, symbols: Sequence[str]) -> list[Any]:
        path = f"{self.root}/ticker/{ticker}"
        if len(symbols) <= MOST_NAMED:
            try:
                return await self._list(path, {"symbols": msgspec.json.encode(list(symbols)).decode()}, weight=4)
            except UnknownSymbol:
                pass  # one that went has spoilt it for all: ask for every market there is
        return await self._list(path, {}, weight=4)

    async def trades(self, symbol: str, cursor: Cursor, start_ms: int) -> list[Any]:
        """By id once one is known."""
        return await self._numbered(self._asking("myTrades", symbol, 20), TRADES, cursor, start_ms)

    async def orders(self, symbol: str, cursor: Cursor, start_ms: int) -> list[Any]:
        """By id once one is known."""
        return await self._numbered(self._asking("allOrders", symbol, 20), ORDERS, cursor, start_ms)

    async def _numbered(self, ask: Ask, numbered: Numbered, cursor: Cursor, start_ms: int) -> list[Any]:
        if cursor.last_id is not None:
            return await from_id(ask, numbered, cursor.last_id + 1)
        return await latest(ask, numbered, start_ms, self.now_ms(), DAY_MS)


class UsdM(Api):
    """USD-margined futures."""

    name = "binance usd_m"
    market = "usd_m"
    root = "/fapi/v1"
    minute_weight = 2400
    listing_weight = 1
    listing_parameters: ClassVar[Parameters] = {}
    open_orders_weight = 1
    all_open_orders_weight = 40

    def bars_weight(self, limit: int) -> int:
        """1 below 100, 2 below 500, else 5."""
        return 1 if limit < 100 else 2 if limit < 500 else 5

    def depth_weight(self, levels: int) -> int:
        """2 up to 50 levels, 5 for 100."""
        return 2 if levels <= 50 else 5

    async def account(self) -> Any:
        """Balances and margins by asset."""
        return await self._own("/fapi/v3/account", weight=5)

    async def positions(self) -> list[Any]:
        """Every symbol with a position or an open order, each side of a hedge for itself."""
        return listed(await self._own("/fapi/v3/positionRisk", weight=5), f"{self.name} positionRisk")

    async def marks(self, symbols: Sequence[str]) -> list[Any]:
        """The mark price of each contract; rows of others may be among them, and of one unknown there is none."""
        return await self._of_several("premiumIndex", symbols, weight=1, weight_of_all=10)

    async def book_tickers(self, symbols: Sequence[str]) -> list[Any]:
        """Best bid and ask of each contract; as `marks`."""
        return await self._of_several("ticker/bookTicker", symbols, weight=2, weight_of_all=5)

    async def _of_several(self, path: str, symbols: Sequence[str], *, weight: int, weight_of_all: int) -> list[Any]:
        if len(symbols) * weight >= weight_of_all:
            return await self._list(f"{self.root}/{path}", {}, weight=weight_of_all)

        async def one(symbol: str) -> list[Any]:
            try:
                return [await self._public(f"{self.root}/{path}", {"symbol": symbol}, weight=weight)]
            except UnknownSymbol:
                return []

        return [row for found in await together(one(symbol) for symbol in symbols) for row in found]

    async def trades(self, symbol: str, cursor: Cursor, start_ms: int) -> list[Any]:
        """By time: ids and times do not go together."""
        return await self._timed(self._asking("userTrades", symbol, 5), TRADES, cursor, start_ms)

    async def orders(self, symbol: str, cursor: Cursor, start_ms: int) -> list[Any]:
        """By time."""
        return await self._timed(self._asking("allOrders", symbol, 5), ORDERS, cursor, start_ms)

    async def closing(self, start_ms: int) -> tuple[list[Any], bool]:
        """What closed positions have earned since, any symbol's, and whether that is all: at most so many pages are read."""
        rows: list[Any] = []
        for page in range(1, MOST_INCOME_PAGES + 1):
            parameters: Parameters = {
                "incomeType": "REALIZED_PNL", "startTime": start_ms, "page": page, "limit": LIMIT
            }  # fmt: skip
            found = await self._own_list("income", parameters, 30)
            rows += found
            if len(found) < LIMIT:
                return rows, True
        return rows, False

    async def _timed(self, ask: Ask, numbered: Numbered, cursor: Cursor, start_ms: int) -> list[Any]:
        now_ms = self.now_ms()
        since = start_ms if cursor.looked_ms is None else max(start_ms, cursor.looked_ms - OVERLAP_MS)
        return await by_time(ask, numbered, max(since, now_ms - USD_M_REACH_MS), now_ms, 7 * DAY_MS)
