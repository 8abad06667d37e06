"""One market of an exchange of Binance's form: its API, what it lists and what happens on it, read as the desk's records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from deskwatch.venues.binance import Spot, UsdM
from deskwatch.venues.binance_api import together
from deskwatch.venues.binance_refusals import UnknownSymbol
from exporter.normal.binance_activity import Activity
from exporter.normal.binance_listing import Catalogue, Listed
from exporter.normal.binance_records import Named, depth_quote, ticker_quote
from exporter.records import Fields, Sheet
from exporter.snapshot import Kind, Quote

ApiT = TypeVar("ApiT", Spot, UsdM)


@dataclass(frozen=True, slots=True)
class Market(Generic[ApiT]):
    """One market.

    Args:
        api: what it is asked with.
        catalogue: what it lists.
        activity: orders and executions on it.
        venue: label of its records.
        book: one of its order books in the desk's words.
    """

    api: ApiT
    catalogue: Catalogue
    activity: Activity
    venue: str
    book: Callable[[Listed], Named]

    async def quotes(self, markets: Sequence[Listed], levels: int, at: datetime, sheet: Sheet) -> list[Quote]:
        """The order book of each, or best bid and ask where no levels are wanted."""
        named = {market.symbol: self.book(market) for market in markets}
        if not named:
            return []
        if not levels:
            rows = await self.api.book_tickers(list(named))
            return list(
                self._by_symbol("quotes", rows, named, lambda of, row: ticker_quote(of, self.venue, at, row), sheet).values()
            )
        found = await together(self._depth(of, levels, at, sheet) for of in named.values())
        return [quote for quotes in found for quote in quotes]

    async def _depth(self, named: Named, levels: int, at: datetime, sheet: Sheet) -> tuple[Quote, ...]:
        try:
            row = await self.api.depth(named.market, levels)
        except UnknownSymbol as unknown:
            sheet.reject("quotes", str(unknown), "unknown_symbol")
            self.catalogue.expire()
            return ()
        return sheet.read("quotes", [row], lambda fields: depth_quote(named, self.venue, levels, at, fields))

    async def last_prices(self, symbols: Iterable[str], sheet: Sheet) -> dict[str, Decimal]:
        """The last price of each market, on the futures market its mark."""
        wanted = sorted(set(symbols))
        if not wanted:
            return {}
        if isinstance(self.api, Spot):
            rows, field = await self.api.prices(wanted), "price"
        else:
            rows, field = await self.api.marks(wanted), "markPrice"
        return self._by_symbol("prices", rows, dict.fromkeys(wanted), lambda _, row: row.positive(field), sheet)

    async def bars(self, symbol: str, first_ms: int, last_ms: int, sheet: Sheet) -> list[Any]:
        """Daily bars that open from one time to another."""
        try:
            return await self.api.bars(symbol, "1d", first_ms, last_ms)
        except UnknownSymbol as unknown:
            sheet.reject("histories", str(unknown), "unknown_symbol")
            self.catalogue.expire()
            return []

    def _by_symbol(
        self, kind: Kind, rows: Any, wanted: Mapping[str, Any], make: Callable[[Any, Fields], Any], sheet: Sheet
    ) -> dict[str, Any]:
        """A row of each wanted market; of one that has none it is noted, and what is listed is looked up again."""
        rows = [row for row in rows if not isinstance(row, Mapping) or row.get("symbol") in wanted]
        answered = {row.get("symbol") for row in rows if isinstance(row, Mapping)}
        for symbol in sorted(set(wanted) - answered):
            sheet.reject(kind, f"{symbol}: not in the answer", "unknown_symbol")
            self.catalogue.expire()

        def one(row: Fields) -> tuple[str, Any]:
            symbol = row.text("symbol")
            return symbol, make(wanted[symbol], row)

        return dict(sheet.read(kind, rows, one))
