"""Tickers, order books and daily bars of markets through ccxt, as few calls as the exchange allows.

A market the exchange does not know any more is rejected; the others are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from deskwatch.venues.ccxt_errors import BadSymbol, SymbolNeeded, TypeUnsupported
from deskwatch.venues.ccxt_exchange import Exchange, MarketKind
from deskwatch.venues.ccxt_paging import DAY_MS, daily_candles
from exporter.normal.binance_bars import DailyBars
from exporter.normal.binance_listing import Leg
from exporter.normal.ccxt_records import Market, Place, closes, depth_quote, mark, ticker_quote
from exporter.records import Sheet
from exporter.snapshot import History, Kind, Price, Quote

USUAL_LEVELS = 20
"""So many levels every exchange shows unasked; asking for a number of its own is refused by some."""


class Tickers:
    """Tickers by unified symbol, each read once in a fetch."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[str, Any] = {}

    async def read(self, markets: Iterable[Market], sheet: Sheet, kind: Kind) -> None:
        """Read those that are not known yet.

        Raises:
            Retryable, Permanent: as `Exchange.call`.
        """
        groups: dict[MarketKind, list[str]] = defaultdict(list)
        for market in markets:
            if market["symbol"] not in self._known:
                groups[str(market["type"]), market.get("subType")].append(str(market["symbol"]))
        for of, symbols in groups.items():
            if not await self._together(of, symbols):
                for symbol in symbols:
                    await self._single(of, symbol, sheet, kind)

    def of(self, market: Market) -> list[Any]:
        """A market's ticker, or nothing."""
        found = self._known.get(str(market["symbol"]))
        return [] if found is None else [found]

    async def _together(self, of: MarketKind, symbols: list[str]) -> bool:
        alone = len(symbols) == 1 and self._exchange.has("fetchTicker")
        if alone or not self._exchange.has("fetchTickers"):
            return False
        try:
            found = await self._exchange.call_as(of, "fetch_tickers", symbols)
        except (BadSymbol, SymbolNeeded, TypeUnsupported):
            return not self._exchange.has("fetchTicker")
        self._known |= {symbol: found[symbol] for symbol in symbols if found.get(symbol) is not None}
        return True

    async def _single(self, of: MarketKind, symbol: str, sheet: Sheet, kind: Kind) -> None:
        try:
            self._known[symbol] = await self._exchange.call_as(of, "fetch_ticker", symbol)
        except BadSymbol:
            sheet.reject(kind, symbol, "unknown_symbol")


def marks(tickers: Tickers, markets: Iterable[Market], place: Place, sheet: Sheet) -> list[Price]:
    """The price of each market; one without a ticker is rejected."""
    found: list[Price] = []
    for market in markets:
        told = tickers.of(market)
        if not told:
            sheet.reject("prices", f"{market['symbol']}: no ticker", "missing")
        found += sheet.read("prices", told, partial(mark, place, market))
    return found


async def read_quotes(
    exchange: Exchange, tickers: Tickers, books: Mapping[str, Market], levels: int, place: Place, sheet: Sheet
) -> tuple[Quote, ...]:
    """Best bid and ask of each market, by the desk's name; with depth where levels are wanted and the exchange shows them.

    Raises:
        Retryable, Permanent: as `Exchange.call`.
    """
    if not levels or not exchange.has("fetchOrderBook"):
        await tickers.read(books.values(), sheet, "quotes")
        told = [(name, market, tickers.of(market)) for name, market in books.items()]
        read = (sheet.read("quotes", rows, partial(ticker_quote, place, market, name)) for name, market, rows in told)
        return tuple(quote for each in read for quote in each)
    found: list[Quote] = []
    for name, market in books.items():
        try:
            book = await exchange.call("fetch_order_book", market["symbol"], None if levels <= USUAL_LEVELS else levels)
        except BadSymbol:
            sheet.reject("quotes", str(market["symbol"]), "unknown_symbol")
            continue
        found += sheet.read("quotes", [book], partial(depth_quote, place, market, name, levels))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Daily bars wanted: the desk's symbol to its market, what the exporter has kept, wall time, whether there is time left."""

    legs: Mapping[str, Leg]
    kept: Mapping[str, History]
    now_ms: int
    within: Callable[[], bool]


async def read_histories(
    exchange: Exchange, bars: DailyBars, wanted: Wanted, sheet: Sheet, notes: dict[str, str]
) -> tuple[History, ...]:
    """Daily closes that are due, and those read before; what there is no time for is left to the next fetch.

    Raises:
        Retryable, Permanent: as `Exchange.call`; what has been read until then stays.
    """
    currencies = {symbol: leg.currency for symbol, leg in wanted.legs.items()}
    today = wanted.now_ms // DAY_MS
    due = bars.due(currencies, wanted.kept, today)
    for place, (symbol, first) in enumerate(due.items()):
        if not wanted.within():
            notes["daily bars"] = f"{len(due) - place} symbols are still to be read"
            break
        leg = wanted.legs[symbol]
        try:
            candles = await daily_candles(exchange, leg.symbol, first * DAY_MS, wanted.now_ms)
        except BadSymbol:
            sheet.reject("histories", leg.symbol, "unknown_symbol")
            candles = []
        history = closes(symbol, leg.currency, candles, sheet, inverse=leg.inverse)
        bars.take(symbol, leg.currency, history, first, today)
    return bars.give(currencies)
