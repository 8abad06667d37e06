"""Orders and executions of one market over the look-back: what has been read stays, and a fetch asks for what may be new.

The venue lists both by symbol only. A symbol is asked about when it is new, when what is held of it or its open orders changed
since, once more after that, and else in turn: a trade that leaves no trace is found within about a minute. Open orders of all
symbols cost as much as those of many single ones, so between two such looks the known symbols are asked, where they are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from deskwatch.clock import Clock
from deskwatch.venues.binance_api import Api, Cursor, together
from deskwatch.venues.binance_paging import whole
from deskwatch.venues.binance_refusals import UnknownSymbol
from exporter.normal.binance_listing import Listed, Listing
from exporter.normal.binance_records import Named, Paid, Place, Worth, commission, fee_in, fill, order, time_of
from exporter.records import Fields, FieldUnreadable, Sheet
from exporter.snapshot import Fill, Kind, Order, Rejected

TURN_SECONDS = 60.0
"""A symbol of which nothing seems to have changed is asked about again after this long."""
TURNS = 10
"""So many of those at most in one fetch, the longest unasked first."""

Fees: TypeAlias = Callable[[Sequence[tuple[str, str, datetime]]], Awaitable[Worth]]
"""Makes prices of commission assets known: asset, wanted currency, when."""


START = Cursor()
"""Nothing has been read yet."""


@dataclass(slots=True)
class _Symbol:
    """What is known of one symbol."""

    listed: Listed
    named: Named
    fills: dict[int, Fill] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    trades_read: Cursor = START
    orders_read: Cursor = START
    rejected: dict[str, tuple[Rejected, datetime]] = field(default_factory=dict)
    """By what was found, with when it was found."""
    seen: Hashable = None
    """What was held and open when it was last asked about."""
    settled: bool = False
    """Whether it has been asked about once more since that changed."""
    asked: float | None = None

    @property
    def silent(self) -> bool:
        """Whether there is nothing to remember."""
        return not (self.fills or self.orders or self.rejected)


class Activity:
    """Orders and executions of one market.

    Args:
        api: the market's API.
        clock: monotonic time.
        place: portfolio, venue and market of the records.
        kinds: `fills`, `orders` or both.
        name: a market in the desk's words.
        fees: makes prices of commission assets known.
    """

    def __init__(
        self, api: Api, clock: Clock, place: Place, kinds: Iterable[Kind], name: Callable[[Listed], Named], fees: Fees
    ) -> None:
        self._api = api
        self._clock = clock
        self._place = place
        self._kinds = frozenset(kinds) & {"fills", "orders"}
        self._name = name
        self._fees = fees
        self._symbols: dict[str, _Symbol] = {}
        self._all_open_asked: float | None = None
        self._unreadable: list[Rejected] = []
        """Of the last reading alone: open orders, and symbols the venue no longer knows."""
        self.wrong: set[str] = set()
        """Symbols the venue, or the listing, no longer knew at the last reading."""
        self.unpriced_fees = 0
        """Executions so far whose commission has no price and counts as 0."""

    async def read(self, symbols: Iterable[str], held: Mapping[str, Hashable], listing: Listing, start: datetime) -> None:
        """Bring it up to date.

        Args:
            symbols: those that may have trades: held, or wanted.
            held: what is held, by what trades in a symbol change: its base asset, or the contract itself.
            listing: the markets.
            start: beginning of the look-back.
        """
        if not self._kinds:
            return
        self.wrong, self._unreadable = set(), []
        for symbol in symbols:
            self._know(symbol, listing)
        if "orders" in self._kinds:
            await self._read_open(listing)
        due = self._due({symbol: self._state(of, held) for symbol, of in self._symbols.items()})
        await together(self._ask(of, self._state(of, held), start) for of in due)
        self._forget(set(symbols), start)

    @property
    def fills(self) -> tuple[Fill, ...]:
        """Executions of the look-back."""
        return tuple(each for of in self._symbols.values() for each in of.fills.values())

    @property
    def orders(self) -> tuple[Order, ...]:
        """Open orders, and those placed in the look-back."""
        return tuple(each for of in self._symbols.values() for each in of.orders.values())

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What could not be read of either."""
        return (*self._unreadable, *(each for of in self._symbols.values() for each, _ in of.rejected.values()))

    def _know(self, symbol: str, listing: Listing) -> _Symbol | None:
        if symbol not in self._symbols:
            listed = listing.markets.get(symbol)
            if listed is None:
                self.wrong.add(symbol)
                return None
            self._symbols[symbol] = _Symbol(listed, self._name(listed))
        return self._symbols[symbol]

    def _state(self, of: _Symbol, held: Mapping[str, Hashable]) -> Hashable:
        progress = frozenset((number, of.orders[number].filled_quantity) for number in of.open if number in of.orders)
        return held.get(of.named.symbol), frozenset(of.open), progress

    def _due(self, states: Mapping[str, Hashable]) -> list[_Symbol]:
        now = self._clock.monotonic()
        first, rest = [], []
        for symbol, of in self._symbols.items():
            if of.asked is None or of.seen != states[symbol] or not of.settled:
                first.append(of)
            elif now - of.asked >= TURN_SECONDS:
                rest.append((of.asked, symbol, of))
        return first + [of for _, _, of in sorted(rest)[:TURNS]]

    async def _read_open(self, listing: Listing) -> None:
        """Open orders as they are now; a symbol that has one is known from here on."""
        now, api = self._clock.monotonic(), self._api
        many = len(self._symbols) * api.open_orders_weight >= api.all_open_orders_weight
        if many or self._all_open_asked is None or now - self._all_open_asked >= TURN_SECONDS:
            rows = await api.open_orders(None)
            self._all_open_asked = now
        else:
            rows = [row for each in await together(self._open_of(symbol) for symbol in self._symbols) for row in each]
        sheet = Sheet()
        by_symbol: dict[str, list[Any]] = {symbol: [] for symbol in self._symbols}
        for row in rows:
            symbol = row.get("symbol") if isinstance(row, Mapping) else None
            if not isinstance(symbol, str) or self._know(symbol, listing) is None:
                reason = "unlisted_symbol" if isinstance(symbol, str) else "missing"
                sheet.reject("orders", f"open order: symbol={symbol!r}", reason, self._place.portfolio)
            else:
                by_symbol.setdefault(symbol, []).append(row)
        parsed = await asyncio.to_thread(
            lambda: [(of, self._orders(of, by_symbol[symbol], sheet)) for symbol, of in self._symbols.items()]
        )
        for of, found in parsed:
            of.open = _take_orders(of, found)
        self._unreadable += sheet.rejected

    async def _open_of(self, symbol: str) -> list[Any]:
        try:
            return await self._api.open_orders(symbol)
        except UnknownSymbol:
            self.wrong.add(symbol)
            return []

    async def _ask(self, of: _Symbol, state: Hashable, start: datetime) -> None:
        start_ms, looked_ms = int(start.timestamp() * 1000), self._api.now_ms()
        changed = of.asked is None or of.seen != state
        try:
            if "fills" in self._kinds:
                rows = await self._api.trades(of.listed.symbol, of.trades_read, start_ms)
                await self._take_fills(of, rows)
                of.trades_read = _further(of.trades_read, rows, "id", looked_ms)
            if "orders" in self._kinds:
                rows = await self._api.orders(of.listed.symbol, self._reread(of), start_ms)
                sheet = Sheet()
                _take_orders(of, await asyncio.to_thread(self._orders, of, rows, sheet))
                self._note(of, sheet)
                of.orders_read = _further(of.orders_read, rows, "orderId", looked_ms)
        except UnknownSymbol as unknown:
            self.wrong.add(of.listed.symbol)
            self._unreadable += (Rejected(str(unknown), "unknown_symbol", kind, self._place.portfolio) for kind in self._kinds)
        of.seen, of.settled, of.asked = state, not changed, self._clock.monotonic()

    def _reread(self, of: _Symbol) -> Cursor:
        """From where orders are read: the end, or the first of those that are open no more but have not been seen to end."""
        ended = {number: each for number, each in of.orders.items() if number not in of.open and _is_open(each)}
        if not ended:
            return of.orders_read
        first = min(ended)
        at_ms = int(min(each.submitted_at for each in ended.values()).timestamp() * 1000)
        return Cursor(first - 1, min(at_ms, of.orders_read.looked_ms or at_ms))

    async def _take_fills(self, of: _Symbol, rows: Iterable[Any]) -> None:
        new = [row for row in rows if (number := whole(row, "id")) is None or number not in of.fills]
        usual = (of.listed.base, of.named.currency)
        third = [row for row in new if isinstance(row, Mapping) and row.get("commissionAsset") not in usual]
        paid = [each for each in await asyncio.to_thread(lambda: [_paid(row) for row in third]) if each is not None]
        worth = await self._fees([(each.asset, of.named.currency, each.at) for each in paid if each.amount])
        sheet = Sheet()
        made = await asyncio.to_thread(self._fills, of, new, worth, sheet)
        of.fills.update({number: each for number, each, _ in made})
        self.unpriced_fees += sum(not priced for _, _, priced in made)
        self._note(of, sheet)

    def _fills(self, of: _Symbol, rows: Iterable[Any], worth: Worth, sheet: Sheet) -> tuple[tuple[int, Fill, bool], ...]:
        """Executions by their number, and whether their commission has a price."""

        def make(row: Fields) -> tuple[int, Fill, bool]:
            fee = fee_in(commission(row), of.listed.base, of.named.currency, row.positive("price"), worth)
            return int(row.number("id")), fill(self._place, of.named, fee or Decimal(0), row), fee is not None

        return sheet.read("fills", rows, make, portfolio=self._place.portfolio)

    def _orders(self, of: _Symbol, rows: Iterable[Any], sheet: Sheet) -> tuple[tuple[int, Order | None], ...]:
        """Orders by their number."""
        return sheet.read(
            "orders",
            rows,
            lambda row: (int(row.number("orderId")), order(self._place, of.named, row)),
            portfolio=self._place.portfolio,
        )

    def _note(self, of: _Symbol, sheet: Sheet) -> None:
        at = time_of(self._api.now_ms())
        of.rejected.update({each.record: (each, at) for each in sheet.rejected})

    def _forget(self, wanted: set[str], start: datetime) -> None:
        """Drop what lies before the look-back, and symbols of which nothing is left."""
        for symbol, of in list(self._symbols.items()):
            of.fills = {number: each for number, each in of.fills.items() if each.at >= start}
            of.orders = {number: each for number, each in of.orders.items() if each.submitted_at >= start or number in of.open}
            of.rejected = {record: each for record, each in of.rejected.items() if each[1] >= start}
            if symbol in self.wrong or (of.silent and symbol not in wanted):
                del self._symbols[symbol]


def _take_orders(of: _Symbol, found: Iterable[tuple[int, Order | None]]) -> set[int]:
    """Take over orders as the venue tells them, unless a later state is known; the numbers of all that are told."""
    told = {number: new for number, new in found if new is not None}
    for number, new in told.items():
        known = of.orders.get(number)
        if known is None or _changed_at(new) >= _changed_at(known):
            of.orders[number] = new
    return set(told)


def _changed_at(each: Order) -> datetime:
    return each.updated_at or each.submitted_at


def _is_open(each: Order) -> bool:
    return each.status in ("NEW", "PARTIALLY_FILLED")


def _further(cursor: Cursor, rows: Iterable[Any], number: str, looked_ms: int) -> Cursor:
    known = [found for row in rows if (found := whole(row, number)) is not None]
    return Cursor(max(known, default=cursor.last_id), looked_ms)


def _paid(row: Any) -> Paid | None:
    """A commission that can be read; one that cannot rejects its trade later."""
    try:
        return commission(Fields(row))
    except FieldUnreadable:
        return None
