"""Everything of a look-back through ccxt's `since` and `until`, whichever end an exchange's pages begin at, a piece per call.

Some exchanges answer `since` with the oldest rows after it, others with the newest of all; a page is read on from the end it
leaves open until nothing new comes. What was read stays when the time for one fetch is over; the next one goes on from there.
Refuses to call a look-back whole that the exchange has cut off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deskwatch.errors import Permanent, Reason
from deskwatch.venues.ccxt_errors import BadSymbol, SymbolNeeded, TypeUnsupported
from deskwatch.venues.ccxt_exchange import DAY, Exchange, MarketKind
from deskwatch.venues.ccxt_wire import UNREADABLE

FULL_PAGE = 10
"""A page with fewer rows is the last one: no exchange has pages so small."""
OVERLAP_MS = 600_000
"""What is known is asked for again so far back: rows may appear late."""
SLACK_MS = 1_000
"""Some exchanges count in seconds."""
DAY_MS = 86_400_000
BLIND_STEP = 100
"""Candles an exchange's page holds at least: one with fewer shows all there are in so long."""
Row: TypeAlias = Mapping[str, Any]
Ask: TypeAlias = Callable[[int, int | None], Awaitable[Sequence[Row]]]
"""Rows from `since` to `until`, milliseconds since 1970; `until` in seconds where that is what the exchange takes."""


@dataclass(slots=True)
class _Run:
    """One way through from `start` until now.

    Args:
        start: milliseconds since 1970.
        known: keys of rows that were read before: what lies between two of them and what is older is known too.
        descending: whether pages are known to begin with the newest rows.
        in_seconds: whether the exchange takes `until` in seconds.
    """

    start: int
    known: Collection[Hashable] = ()
    descending: bool = False
    in_seconds: bool = False
    ascending: bool = False
    joined: bool = False
    """Whether a page has reached what is known."""
    rows: dict[Hashable, Row] = field(default_factory=dict)
    stage: str = "first"
    cut: bool = False

    async def step(self, ask: Ask) -> None:
        """One page."""
        if self.stage == "first":
            page = await ask(self.start, None)
            self._take(page)
            self.stage = self._after_first(page)
        elif self.stage == "forward":
            page = await ask(max(self._times(), default=self.start), None)
            new = self._take(page)
            # One or two new rows on the second page have just happened; a page of them is what the first one left out.
            self.ascending = self.ascending or FULL_PAGE <= new < len(self.rows)
            if new == 0 or len(page) < FULL_PAGE:
                self.stage = "done" if self.ascending or self.joined else "backward"
        else:
            await self._back(ask)

    def _after_first(self, page: Sequence[Row]) -> str:
        if len(page) < FULL_PAGE or (self.descending and self.joined):
            return "done"
        return "backward" if self.descending else "forward"

    async def _back(self, ask: Ask) -> None:
        oldest = min(self._times(), default=self.start)
        try:
            page = await ask(self.start, oldest // 1000 + 1 if self.in_seconds else oldest)
        except Permanent as error:
            if error.reason is not Reason.REJECTED:
                raise
            page = ()
            self.cut = True  # it knows no `until`: whether the first page was all there is cannot be told
        late = any(_time(row) > oldest + SLACK_MS for row in page)
        new = self._take(page)
        if late and not self.in_seconds:
            self.in_seconds = True  # of some exchanges ccxt passes milliseconds on as if they were seconds
            return
        self.descending = self.descending or (new > 0 and not late)
        if late or new == 0 or len(page) < FULL_PAGE or self.joined:
            blind = self.in_seconds and not page  # not even the row that was asked for
            self.cut = self.cut or late or blind or (new == 0 and len(page) >= FULL_PAGE)
            self.stage = "done"

    def _take(self, page: Sequence[Row]) -> int:
        before = len(self.rows)
        for row in page:
            self.joined = self.joined or _key(row) in self.known
            self.rows[_key(row)] = row
        return len(self.rows) - before

    def _times(self) -> list[int]:
        return [at for row in self.rows.values() if (at := _time(row))]


def _time(row: Row) -> int:
    """Milliseconds since 1970; 0 where the row has no time of its own."""
    at = row.get("timestamp")
    return at if isinstance(at, int) and UNREADABLE not in row else 0


def _key(row: Row) -> Hashable:
    """Ids count by market at some exchanges; one trade with oneself is two, of two orders. What is unreadable is itself."""
    if UNREADABLE in row:
        return repr(row.get("info"))
    return row.get("symbol"), row.get("id"), row.get("order"), row.get("side")


class Lookback:
    """The rows of one question since the look-back.

    Args:
        length_ms: how far back.
    """

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._rows: dict[Hashable, Row] = {}
        self._whole = False
        self._run: _Run | None = None
        self._newest = 0
        self._descending = self._in_seconds = False
        self.cut = False
        """Whether the exchange has shown less than there is."""

    @property
    def rows(self) -> list[Row]:
        """What has been read, oldest first."""
        return sorted(self._rows.values(), key=_time)

    async def read(self, ask: Ask, now_ms: int, within: Callable[[], bool], *, back_to: int | None = None) -> bool:
        """Bring it up to date; whether it is.

        Args:
            ask: one page.
            now_ms: wall time.
            within: whether there is time for another page.
            back_to: ask again from here on, where something older has changed.
        """
        first = now_ms - self._length_ms
        start = max(first, self._newest - OVERLAP_MS) if self._whole else first
        start = start if back_to is None else max(first, min(start, back_to))
        if self._run is None or (back_to is not None and self._run.start > start):
            # Asked again for what has changed, nothing that is known saves a page.
            self._run = _Run(start, {**self._rows} if back_to is None else (), self._descending, self._in_seconds)
        run = self._run
        while run.stage != "done":
            if not within():
                return False
            await run.step(ask)
        self._run, self._descending, self._in_seconds = None, run.descending, run.in_seconds
        # Where only the newest part was asked for, what is older is as whole as it was.
        self.cut = run.cut or (self.cut and self._whole and run.start > first)
        self._whole = True
        self._rows |= run.rows
        self._rows = {key: row for key, row in self._rows.items() if _recent(row, first)}
        self._newest = max(map(_time, self._rows.values()), default=now_ms)
        return True


@dataclass(frozen=True, slots=True)
class Turn:
    """One bringing up to date.

    Args:
        kinds: types of markets to ask for.
        symbols: markets to ask for where the exchange wants one.
        now_ms: wall time.
        within: whether there is time for another page.
        back_to: ask again from here on, where something older has changed.
    """

    kinds: Sequence[MarketKind]
    symbols: Sequence[str]
    now_ms: int
    within: Callable[[], bool]
    back_to: int | None = None


class Feed:
    """All rows of some calls, of all types of market, or of each symbol where the exchange wants one.

    Args:
        exchange: whom to ask.
        calls: ccxt's names in both spellings, e.g. ("fetch_my_trades", "fetchMyTrades").
        length_ms: how far back.
    """

    def __init__(self, exchange: Exchange, calls: Sequence[tuple[str, str]], length_ms: int) -> None:
        self._exchange = exchange
        self._calls = calls
        self.length_ms = length_ms
        self._parts: dict[tuple[str, MarketKind, str | None], Lookback] = {}
        self._by_symbol: set[str] = set()
        self._unsupported: set[tuple[str, MarketKind]] = set()
        self.whole = False
        """Whether everything has been read, as of the last time."""

    def rows(self, now_ms: int) -> list[Row]:
        """What has been read and is not older than the look-back, oldest first."""
        found = {_key(row): row for part in self._parts.values() for row in part.rows}
        return sorted((row for row in found.values() if _recent(row, now_ms - self.length_ms)), key=_time)

    @property
    def cut(self) -> bool:
        """Whether the exchange has shown less than there is."""
        return any(part.cut for part in self._parts.values())

    @property
    def wants_symbols(self) -> bool:
        """Whether only symbols given could be asked for."""
        return bool(self._by_symbol)

    async def read(self, turn: Turn) -> None:
        """Bring it up to date, as far as there is time.

        Raises:
            Retryable, Permanent: as `Exchange.call`; what has been read until then stays.
        """
        self.whole = True
        for method, call in self._calls:
            if method not in self._by_symbol and not any(self._exchange.wants_a_symbol(kind, call) for kind in turn.kinds):
                try:
                    await self._read_types(method, turn)
                    continue
                except SymbolNeeded:
                    self._parts = {part: lookback for part, lookback in self._parts.items() if part[0] != method}
            self._by_symbol.add(method)
            await self._read_symbols(method, turn)

    async def _read_types(self, method: str, turn: Turn) -> None:
        for kind in self._exchange.apart(method, turn.kinds):
            if (method, kind) not in self._unsupported:
                try:
                    await self._read_part(method, kind, None, turn)
                except TypeUnsupported:
                    self._unsupported.add((method, kind))

    async def _read_symbols(self, method: str, turn: Turn) -> None:
        # A symbol that is held no more has still had its last trade.
        traded = [symbol for (of, _, symbol), part in self._parts.items() if of == method and symbol and part.rows]
        for symbol in dict.fromkeys([*turn.symbols, *traded]):
            kind = self._exchange.kind_of(symbol)
            if kind is not None and kind in turn.kinds and (method, kind) not in self._unsupported:
                try:
                    await self._read_part(method, kind, symbol, turn)
                except TypeUnsupported:
                    self._unsupported.add((method, kind))
                except BadSymbol:
                    continue  # delisted: what was traded is known already

    async def _read_part(self, method: str, kind: MarketKind, symbol: str | None, turn: Turn) -> None:
        async def ask(since: int, until: int | None) -> Sequence[Row]:
            options = {} if until is None else {"until": until}
            rows: Sequence[Row] = await self._exchange.call_as(kind, method, symbol, since, None, options)
            return rows

        part = self._parts.setdefault((method, kind, symbol), Lookback(self.length_ms))
        done = await part.read(ask, turn.now_ms, turn.within, back_to=turn.back_to)
        self.whole = self.whole and done


def _recent(row: Row, first: int) -> bool:
    """A row without a time is for the reader to complain of."""
    return not _time(row) or _time(row) >= first


async def daily_candles(exchange: Exchange, symbol: str, since_ms: int, now_ms: int) -> list[Sequence[Any]]:
    """Daily candles that have ended: open time in milliseconds, open, high, low, close, volume; oldest first.

    Raises:
        Retryable, Permanent: as `Exchange.call`.
        BadSymbol: the exchange does not know the symbol.
    """
    limit = exchange.limit(symbol, "fetchOHLCV")
    found: dict[int, Sequence[Any]] = {}
    cursor = since_ms
    while cursor + DAY_MS <= now_ms:
        page = await exchange.call("fetch_ohlcv", symbol, DAY, cursor, limit)
        rows = {row[0]: row for row in page if isinstance(row[0], int) and row[0] >= cursor}
        found |= {at: row for at, row in rows.items() if at + DAY_MS <= now_ms}
        after = max(rows, default=0) + DAY_MS
        cursor = after if len(rows) >= BLIND_STEP else max(after, cursor + BLIND_STEP * DAY_MS)
    return [found[at] for at in sorted(found)]
