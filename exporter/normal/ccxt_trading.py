"""Orders and executions of one account through ccxt: what is open, what has ended and what was traded within the look-back.

Keeps what has been read and asks only for what is new; an order that is open no more is asked for again from the time it was
placed. Refuses to call a look-back whole while it is still being read, or where the exchange cuts it off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from deskwatch.venues.ccxt_errors import BadSymbol, SymbolNeeded, TypeUnsupported
from deskwatch.venues.ccxt_exchange import MINUTE, Exchange, MarketKind
from deskwatch.venues.ccxt_paging import BLIND_STEP, Feed, Row, Turn
from exporter.normal.binance_fees import MINUTE_MS, MinutePrices
from exporter.normal.binance_listing import Listing
from exporter.normal.ccxt_records import Place, Worth, currency_of, fees, fill, order
from exporter.records import Fields, Sheet
from exporter.snapshot import Fill, Kind, Order

OPEN = ("fetch_open_orders", "fetchOpenOrders")
TRADES = ("fetch_my_trades", "fetchMyTrades")
ENDED = (
    (("fetch_canceled_and_closed_orders", "fetchCanceledAndClosedOrders"),),
    (("fetch_orders", "fetchOrders"),),
    (("fetch_closed_orders", "fetchClosedOrders"), ("fetch_canceled_orders", "fetchCanceledOrders")),
)
"""Ways to read orders that have ended, the one that needs the fewest calls first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One fetch, as far as it concerns trading.

    Args:
        place: where records come from.
        turn: types of markets, symbols, time.
        listing: the spot markets, by which fees in a third asset are valued.
        sheet: takes what cannot be read.
        notes: for a person.
    """

    place: Place
    turn: Turn
    listing: Listing
    sheet: Sheet
    notes: dict[str, str]


class Trading:
    """One account's orders and executions.

    Args:
        exchange: whom to ask.
        look_back_days: how far back.
    """

    def __init__(self, exchange: Exchange, look_back_days: float) -> None:
        self._exchange = exchange
        length_ms = int(look_back_days * 86_400_000)
        ways = ([call for call in way if exchange.has(call[1])] for way in ENDED)
        self._ended = Feed(exchange, next((way for way in ways if way), []), length_ms)
        self._trades = Feed(exchange, [TRADES], length_ms)
        self._open: dict[str, int] = {}
        """Orders that were open last, and when they were placed, in milliseconds."""
        self._owed: int | None = None
        """Ended orders placed from here on are to be read again."""
        self._minutes = MinutePrices()

    async def orders(self, asked: Asked) -> tuple[Order, ...]:
        """Every order that is open or was placed within the look-back.

        Raises:
            Retryable, Permanent: as `Exchange.call`.
        """
        lists_open = self._exchange.has(OPEN[1])
        now_open = await self._read_open(asked) if lists_open else {}
        gone = [at for key, at in self._open.items() if key not in now_open]
        self._owed = min([*gone, *([self._owed] if self._owed is not None else [])], default=None)
        await self._ended.read(replace(asked.turn, back_to=self._owed))
        if self._ended.whole:
            self._owed = None
        known = {str(row.get("id")): row for row in self._ended.rows(asked.turn.now_ms)}
        # What an older answer called open is open only if the newest list of open orders says so.
        known = {key: row for key, row in known.items() if row.get("status") != "open" or not lists_open}
        known |= now_open
        known = {str(row.get("id")): row for row in self._exchange.of_kinds([*known.values()], asked.turn.kinds)}
        self._open = {key: _placed(row) for key, row in known.items() if row.get("status") in ("open", "canceling")}
        self._remark("orders", self._ended, asked)
        return asked.sheet.read("orders", known.values(), order(asked.place), portfolio=asked.place.portfolio)

    async def fills(self, asked: Asked) -> tuple[Fill, ...]:
        """Every execution within the look-back.

        Raises:
            Retryable, Permanent: as `Exchange.call`.
        """
        await self._trades.read(asked.turn)
        rows = self._trades.rows(asked.turn.now_ms)
        worth = await self._worth(rows, asked)
        self._remark("fills", self._trades, asked)
        found = (
            asked.sheet.read("fills", [row], fill(asked.place, worth, row), portfolio=asked.place.portfolio) for row in rows
        )
        return tuple(each for one in found for each in one)

    async def _read_open(self, asked: Asked) -> dict[str, Row]:
        method, call = OPEN
        rows: list[Row] = []
        by_symbol = any(self._exchange.wants_a_symbol(kind, call) for kind in asked.turn.kinds)
        if not by_symbol:
            try:
                for kind in self._exchange.apart(method, asked.turn.kinds):
                    rows += await self._page(kind, None, asked)
            except SymbolNeeded:
                by_symbol, rows = True, []
        if by_symbol:
            for symbol in asked.turn.symbols:
                kind_of = self._exchange.kind_of(symbol)
                if kind_of in asked.turn.kinds and kind_of is not None:
                    rows += await self._page(kind_of, symbol, asked)
            asked.notes["open orders"] = "only of markets held or configured: the exchange wants a symbol"
        return {str(row.get("id")): row for row in rows}

    async def _page(self, kind: MarketKind, symbol: str | None, asked: Asked) -> Sequence[Row]:
        method, call = OPEN
        try:
            rows: Sequence[Row] = await self._exchange.call_as(kind, method, symbol)
        except (TypeUnsupported, BadSymbol):
            return ()
        most = self._exchange.most_rows(kind, call)
        if most is not None and len(rows) >= most:
            said = f"open orders: the exchange shows {most} at most"
            asked.sheet.reject("orders", said, "cut_off", asked.place.portfolio)
        return rows

    def _remark(self, kind: Kind, feed: Feed, asked: Asked) -> None:
        """What is missing is no smaller number: it makes what needs it undefined."""
        if not feed.whole:
            asked.sheet.reject(kind, f"{kind}: the look-back is still being read", "incomplete", asked.place.portfolio)
        elif feed.cut:
            said = f"{kind}: the exchange shows only the newest: set a shorter look_back_days"
            asked.sheet.reject(kind, said, "cut_off", asked.place.portfolio)
        if feed.wants_symbols:
            asked.notes[kind] = "only of markets held or configured: the exchange wants a symbol"

    async def _worth(self, rows: Sequence[Row], asked: Asked) -> Worth:
        """Make prices of fee assets known, by minute candles."""
        needed = [each for row in rows for each in _unlike(row, asked.place)]
        if needed and self._exchange.has(MINUTE):
            await self._minutes.load(needed, asked.listing, self._minute_candles)
        first = asked.turn.now_ms - self._trades.length_ms
        self._minutes.forget_before(datetime.fromtimestamp(first / 1000, UTC))
        return self._minutes.worth

    async def _minute_candles(self, symbol: str, first_ms: int, last_ms: int) -> list[Any]:
        found: dict[int, Any] = {}
        limit = self._exchange.limit(symbol, "fetchOHLCV")
        cursor = first_ms
        while cursor <= last_ms:
            try:
                page = await self._exchange.call("fetch_ohlcv", symbol, MINUTE, cursor, limit)
            except BadSymbol:
                break
            rows = {row[0]: list(row) for row in page if isinstance(row[0], int) and cursor <= row[0] <= last_ms}
            found |= rows
            after = max(rows, default=0) + MINUTE_MS
            cursor = after if len(rows) >= BLIND_STEP else max(after, cursor + BLIND_STEP * MINUTE_MS)
        return list(found.values())


def _placed(row: Row) -> int:
    at = row.get("timestamp")
    return at if isinstance(at, int) else 0


def _unlike(row: Mapping[str, Any], place: Place) -> list[tuple[str, str, datetime]]:
    """Fees that are neither in what was traded nor in what it was paid with: asset, currency wanted, time."""

    def read(fields: Fields) -> list[tuple[str, str, datetime]]:
        market = place.market(fields)
        currency, at = currency_of(market), fields.milliseconds("timestamp")
        return [(asset, currency, at) for asset, _ in fees(row) if asset not in (currency, market["base"], "")]

    return [each for found in Sheet().read("fills", [row], read) for each in found]
