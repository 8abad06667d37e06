"""Look-backs through pages: whole from whichever end they begin, resumed after an interruption, never called whole when cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.ccxt_errors import BadSymbol, SymbolNeeded, TypeUnsupported
from deskwatch.venues.ccxt_exchange import MarketKind
from deskwatch.venues.ccxt_paging import DAY_MS, OVERLAP_MS, Feed, Lookback, Turn, daily_candles

LENGTH = 7 * DAY_MS
NOW = 1_768_000_000_000
SPOT: MarketKind = ("spot", None)
SWAP: MarketKind = ("swap", "linear")
Rows = Sequence[dict[str, Any]]


def rows(*times: int, symbol: str = "BTC/USD", **more: Any) -> list[dict[str, Any]]:
    """One row at each time."""
    return [{"id": f"{symbol}-{at}", "symbol": symbol, "timestamp": at, **more} for at in times]


def every(seconds: int, count: int) -> list[int]:
    """Times from now back."""
    return [NOW - 1 - 1000 * seconds * place for place in range(count)]


class Pages:
    """An exchange's pages of 20; counts what it is asked."""

    def __init__(self, found: Iterable[dict[str, Any]], *, ascending: bool, until: str = "kept", size: int = 20) -> None:
        self.found = sorted(found, key=lambda row: row["timestamp"])
        self.ascending = ascending
        self.until = until
        self.size = size
        self.asked: list[tuple[int, int | None]] = []
        self.fail_at: int | None = None

    async def __call__(self, since: int, until: int | None) -> Rows:
        """One page."""
        self.asked.append((since, until))
        if self.fail_at == len(self.asked):
            raise Retryable("busy", reason=Reason.SERVER_ERROR)
        if until is not None and self.until == "refused":
            raise Permanent("until?", reason=Reason.REJECTED)
        last = NOW * 2 if until is None or self.until == "ignored" else until * 1000 if self.until == "seconds" else until
        page = [row for row in self.found if since <= row["timestamp"] <= last]
        return page[: self.size] if self.ascending else page[-self.size :]


def always() -> bool:
    """There is time."""
    return True


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 19, 20, 21, 40, 250])
async def test_everything_is_read_whichever_end_pages_begin_at(ascending: bool, count: int) -> None:
    """Each row once, oldest first; what is older than the look-back is not."""
    pages = Pages([*rows(*every(60, count)), *rows(NOW - LENGTH - 5)], ascending=ascending)
    lookback = Lookback(LENGTH)
    assert await lookback.read(pages, NOW, always)
    assert [row["timestamp"] for row in lookback.rows] == sorted(every(60, count))
    assert not lookback.cut
    assert len(pages.asked) <= count // 18 + 3


@pytest.mark.parametrize("ascending", [True, False])
async def test_only_what_is_new_is_asked_for_again(ascending: bool) -> None:
    """With an overlap; and in one call where the exchange's way is known."""
    pages = Pages(rows(*every(60, 100)), ascending=ascending)
    lookback = Lookback(LENGTH)
    await lookback.read(pages, NOW, always)
    pages.asked.clear()
    pages.found += rows(NOW + 1000, NOW + 2000)
    assert await lookback.read(pages, NOW + 3000, always)
    assert pages.asked[0][0] == NOW - 1 - OVERLAP_MS
    assert len(pages.asked) <= (2 if ascending else 1)
    assert len(lookback.rows) == 102


async def test_more_news_than_a_page_holds_leaves_no_hole() -> None:
    """Pages that begin with the newest are read back until they reach what is known."""
    pages = Pages(rows(*every(60, 100)), ascending=False)
    lookback = Lookback(LENGTH)
    await lookback.read(pages, NOW, always)
    pages.found += rows(*(NOW + 1000 * place for place in range(1, 90)))
    pages.asked.clear()
    assert await lookback.read(pages, NOW + 100_000, always)
    assert len(lookback.rows) == 189
    assert len(pages.asked) == 5, "not one page more than it takes"


async def test_what_is_older_than_the_look_back_goes() -> None:
    """It moves with the clock."""
    lookback = Lookback(LENGTH)
    await lookback.read(Pages(rows(*every(3600, 100)), ascending=False), NOW, always)
    await lookback.read(Pages([], ascending=False), NOW + LENGTH - 10 * 3600_000, always)
    assert len(lookback.rows) == 10


@pytest.mark.parametrize("ascending", [True, False])
async def test_it_goes_on_where_time_ran_out_or_the_exchange_failed(ascending: bool) -> None:
    """Pages read are kept; until it is whole it says that it is not."""
    pages = Pages(rows(*every(60, 200)), ascending=ascending)
    lookback, left = Lookback(LENGTH), iter([True, True, False])
    assert not await lookback.read(pages, NOW, lambda: next(left))
    assert len(pages.asked) == 2
    pages.fail_at = 4
    with pytest.raises(Retryable):
        await lookback.read(pages, NOW, always)
    pages.fail_at = None
    assert await lookback.read(pages, NOW, always)
    assert len(lookback.rows) == 200
    assert len(pages.asked) <= 15
    assert lookback.rows == Pages(rows(*every(60, 200)), ascending=True).found


async def test_an_exchange_that_takes_until_in_seconds_is_read_whole() -> None:
    """ccxt passes milliseconds on to Kraken's closed orders as if they were seconds; later the way is known."""
    pages = Pages(rows(*every(60, 100)), ascending=False, until="seconds")
    lookback = Lookback(LENGTH)
    assert await lookback.read(pages, NOW, always)
    assert (len(lookback.rows), lookback.cut) == (100, False)
    pages.asked.clear()
    pages.found += rows(*(NOW + 1000 * place for place in range(1, 90)))
    assert await lookback.read(pages, NOW + 100_000, always)
    assert (len(lookback.rows), lookback.cut) == (189, False)
    assert all(until is None or until < NOW // 100 for _, until in pages.asked)


async def test_an_exchange_without_until_that_trades_meanwhile_is_not_taken_for_one_with() -> None:
    """Its pages bring something new each time, but never anything older."""

    class Trading(Pages):
        async def __call__(self, since: int, until: int | None) -> Rows:
            self.found += rows(NOW + len(self.asked))
            return await super().__call__(since, until)

    lookback = Lookback(LENGTH)
    assert await lookback.read(Trading(rows(*every(60, 100)), ascending=False, until="ignored"), NOW, always)
    assert lookback.cut


async def test_an_answer_without_the_row_that_was_asked_for_is_no_end() -> None:
    """Seconds taken for milliseconds lie in 1970: nothing is older than that."""

    class Blind(Pages):
        async def __call__(self, since: int, until: int | None) -> Rows:
            page = await super().__call__(since, None)
            return [] if until is not None and until < NOW // 100 else page

    lookback = Lookback(LENGTH)
    assert await lookback.read(Blind(rows(*every(60, 100)), ascending=False), NOW, always)
    assert lookback.cut


@pytest.mark.parametrize("until", ["ignored", "refused"])
async def test_a_look_back_that_cannot_be_read_to_its_start_says_so(until: str) -> None:
    """An exchange that shows the newest rows and nothing older."""
    lookback = Lookback(LENGTH)
    assert await lookback.read(Pages(rows(*every(60, 100)), ascending=False, until=until), NOW, always)
    assert lookback.cut
    few = Lookback(LENGTH)
    assert await few.read(Pages(rows(*every(60, 9)), ascending=False, until=until), NOW, always)
    assert not few.cut


async def test_once_cut_it_stays_cut_until_the_hole_is_older_than_the_look_back() -> None:
    """A good incremental page does not fill it."""
    pages = Pages(rows(*every(60, 100)), ascending=False, until="ignored")
    lookback = Lookback(LENGTH)
    await lookback.read(pages, NOW, always)
    pages.found += rows(NOW + 1000)
    await lookback.read(pages, NOW + 2000, always)
    assert lookback.cut


async def test_more_rows_at_one_time_than_a_page_holds_are_not_taken_for_the_end() -> None:
    """The page is full and brings nothing new: what lies behind it cannot be asked for."""
    pages = Pages(rows(*every(60, 15)) + [{"id": str(n), "symbol": "X", "timestamp": NOW - 900_000} for n in range(50)],
                  ascending=False)  # fmt: skip
    lookback = Lookback(LENGTH)
    assert await lookback.read(pages, NOW, always)
    assert lookback.cut


async def test_another_refusal_is_none_of_until() -> None:
    """Credentials that end in the middle are not a short look-back."""

    class Refusing(Pages):
        async def __call__(self, since: int, until: int | None) -> Rows:
            if until is not None:
                raise Permanent("key", reason=Reason.AUTH)
            return await super().__call__(since, until)

    with pytest.raises(Permanent):
        await Lookback(LENGTH).read(Refusing(rows(*every(60, 100)), ascending=False), NOW, always)


async def test_something_older_that_has_changed_is_read_again() -> None:
    """Also in the middle of a run that has begun later."""
    pages = Pages(rows(*every(3600, 100)), ascending=False)
    lookback = Lookback(LENGTH)
    await lookback.read(pages, NOW, always)
    changed = NOW - 1 - 3600_000 * 80
    pages.found = [{**row, "status": "closed"} if row["timestamp"] == changed else row for row in pages.found]
    assert not await lookback.read(pages, NOW, lambda: False)
    assert await lookback.read(pages, NOW, always, back_to=changed)
    assert [row["status"] for row in lookback.rows if "status" in row] == ["closed"]
    assert len(lookback.rows) == 100


async def test_rows_of_one_id_in_two_markets_are_two() -> None:
    """OKX counts trades by instrument; a trade with oneself is one of two orders."""
    same = [{"id": "1", "symbol": symbol, "order": order, "timestamp": NOW - 5} for symbol in "AB" for order in "xy"]
    lookback = Lookback(LENGTH)
    await lookback.read(Pages(same, ascending=True), NOW, always)
    assert len(lookback.rows) == 4


async def test_a_row_without_a_time_is_passed_on_to_whoever_complains() -> None:
    """It is not silently dropped."""

    async def ask(since: int, until: int | None) -> Rows:
        return [{"id": "1", "symbol": "A", "timestamp": None}]

    lookback = Lookback(LENGTH)
    assert await lookback.read(ask, NOW, always)
    assert len(lookback.rows) == 1


class Exchange:
    """What a feed asks, by type of market or by symbol."""

    def __init__(self, *, apart: bool = True, symbols_for: Sequence[MarketKind] = (), known: bool = False) -> None:
        self.told_apart = apart
        self.symbols_for = symbols_for
        self.known = known
        self.unsupported: list[MarketKind] = []
        self.delisted: list[str] = []
        self.asked: list[tuple[MarketKind, str | None]] = []
        self.kinds = {"BTC/USD": SPOT, "ETH/USD": SPOT, "BTC/USD:USD": SWAP}

    def apart(self, method: str, kinds: Sequence[MarketKind]) -> Sequence[MarketKind]:
        """All of them, or one for all."""
        return kinds if self.told_apart else kinds[:1]

    def wants_a_symbol(self, kind: MarketKind, call: str) -> bool:
        """Whether it is known beforehand."""
        return self.known and kind in self.symbols_for

    def kind_of(self, symbol: str) -> MarketKind | None:
        """The type."""
        return self.kinds.get(symbol)

    async def call_as(self, kind: MarketKind, method: str, symbol: str | None, since: int, limit: None, options: Any) -> Rows:
        """One page."""
        if symbol is None and kind in self.symbols_for:
            raise SymbolNeeded(method)
        if kind in self.unsupported:
            raise TypeUnsupported(method)
        self.asked.append((kind, symbol))
        if symbol in self.delisted:
            raise BadSymbol(symbol)
        wanted = [symbol] if symbol else [name for name, of in self.kinds.items() if of == kind or not self.told_apart]
        return [row for name in wanted for row in rows(NOW - 5, symbol=name)]


def feed(exchange: Exchange) -> Feed:
    """Of trades."""
    return Feed(exchange, [("fetch_my_trades", "fetchMyTrades")], LENGTH)  # type: ignore[arg-type]


def turn(*symbols: str, within: Callable[[], bool] = always) -> Turn:
    """For both types of market."""
    return Turn([SPOT, SWAP], symbols, NOW, within)


async def test_each_type_of_market_is_asked_for_where_types_are_told_apart() -> None:
    """And one for all where they are not."""
    for apart, calls in ((True, 2), (False, 1)):
        exchange = Exchange(apart=apart)
        trades = feed(exchange)
        await trades.read(turn())
        assert len(exchange.asked) == calls
        assert {row["symbol"] for row in trades.rows(NOW)} == set(exchange.kinds)
        assert (trades.whole, trades.cut, trades.wants_symbols) == (True, False, False)


@pytest.mark.parametrize("known", [True, False])
async def test_where_one_type_wants_a_symbol_every_symbol_is_asked_for(known: bool) -> None:
    """Whether ccxt knows it or only finds out."""
    exchange = Exchange(symbols_for=[SWAP], known=known)
    trades = feed(exchange)
    await trades.read(turn("BTC/USD", "BTC/USD:USD", "UNKNOWN"))
    assert trades.wants_symbols
    assert {row["symbol"] for row in trades.rows(NOW)} == {"BTC/USD", "BTC/USD:USD"}
    assert not (known and [symbol for _, symbol in exchange.asked if symbol is None]), "a call that is known to fail"
    exchange.asked.clear()
    await trades.read(turn("BTC/USD"))
    assert exchange.asked == [(SPOT, "BTC/USD"), (SWAP, "BTC/USD:USD")], "what was traded is followed on"


async def test_symbols_of_types_that_are_not_wanted_are_not_asked_for() -> None:
    """`market_types`."""
    exchange = Exchange(symbols_for=[SPOT], known=True)
    trades = feed(exchange)
    await trades.read(Turn([SPOT], ["BTC/USD", "BTC/USD:USD"], NOW, always))
    assert exchange.asked == [(SPOT, "BTC/USD")]


async def test_a_type_ccxt_cannot_ask_for_is_left_out_once_and_for_all() -> None:
    """The other is read."""
    exchange = Exchange()
    exchange.unsupported = [SWAP]
    trades = feed(exchange)
    await trades.read(turn())
    assert {row["symbol"] for row in trades.rows(NOW)} == {"BTC/USD", "ETH/USD"}
    assert trades.whole


async def test_a_delisted_symbol_costs_only_itself() -> None:
    """What was traded elsewhere is read."""
    exchange = Exchange(symbols_for=[SPOT, SWAP])
    exchange.delisted = ["BTC/USD"]
    trades = feed(exchange)
    await trades.read(turn("BTC/USD", "ETH/USD"))
    assert {row["symbol"] for row in trades.rows(NOW)} == {"ETH/USD"}


async def test_it_is_whole_only_when_every_part_is() -> None:
    """Time ran out before one of two types."""
    for first, second in ((True, False), (False, True)):
        left = iter([first, second])
        trades = feed(Exchange())
        await trades.read(turn(within=lambda left=left: next(left)))  # type: ignore[misc]
        assert not trades.whole
    await trades.read(turn())
    assert trades.whole


class Candles:
    """An exchange's daily candles; each page holds at most so many from `since` on, within so many days."""

    def __init__(self, days: Sequence[int], *, page: int = 100, window: bool = False, newest: bool = False) -> None:
        self.days = days
        self.page = page
        self.window = window
        self.newest = newest
        self.asked: list[int] = []

    def limit(self, symbol: str, call: str) -> int | None:
        """What ccxt knows."""
        return self.page

    async def call(self, method: str, symbol: str, timeframe: str, since: int, limit: int) -> list[list[Any]]:
        """One page."""
        assert (method, timeframe, limit) == ("fetch_ohlcv", "1d", self.page)
        self.asked.append(since)
        found = [day * DAY_MS for day in self.days if day * DAY_MS >= since or self.newest]
        if self.window:
            found = [at for at in found if at < since + self.page * DAY_MS]
        found = found[-self.page :] if self.newest else found[: self.page]
        return [[at, 1, 2, 3, at // DAY_MS, 5] for at in found]


TODAY = NOW // DAY_MS


@pytest.mark.parametrize("make", [
    lambda days: Candles(days),
    lambda days: Candles(days, window=True),
    lambda days: Candles(days, page=720, newest=True),
])  # fmt: skip
async def test_candles_come_whole_and_only_of_days_that_have_ended(make: Callable[[Sequence[int]], Candles]) -> None:
    """Pages from `since` on, pages of a window, or the newest whatever is asked."""
    exchange = make(range(TODAY - 550, TODAY + 1))
    found = await daily_candles(exchange, "BTC/USD", (TODAY - 500) * DAY_MS, NOW)  # type: ignore[arg-type]
    assert [row[4] for row in found] == list(range(TODAY - 500, TODAY))
    assert len(exchange.asked) <= 6


async def test_a_market_listed_later_is_found_behind_empty_windows() -> None:
    """An empty page is not the end."""
    exchange = Candles(range(TODAY - 30, TODAY + 1), window=True)
    found = await daily_candles(exchange, "NEW/USD", (TODAY - 550) * DAY_MS, NOW)  # type: ignore[arg-type]
    assert len(found) == 30
    assert len(await daily_candles(Candles([]), "NONE/USD", (TODAY - 550) * DAY_MS, NOW)) == 0  # type: ignore[arg-type]


async def test_a_few_days_are_one_call() -> None:
    """Also where the newest has not appeared yet."""
    for days in (range(TODAY - 6, TODAY + 1), range(TODAY - 6, TODAY - 1)):
        exchange = Candles(days)
        assert len(await daily_candles(exchange, "BTC/USD", (TODAY - 5) * DAY_MS, NOW)) == len(days) - 1 - (days[-1] == TODAY)  # type: ignore[arg-type]
        assert len(exchange.asked) == 1


async def test_a_candle_ends_a_day_after_it_begins() -> None:
    """Also where an exchange's days begin at another hour."""
    exchange = Candles([])
    hours = 8 * 3_600_000

    async def call(*args: Any) -> list[list[Any]]:
        since = args[3]
        return [[at, 1, 1, 1, at, 1] for day in range(TODAY - 3, TODAY + 1) if (at := day * DAY_MS - hours) >= since]

    exchange.call = call  # type: ignore[method-assign]
    found = await daily_candles(exchange, "X", (TODAY - 10) * DAY_MS, TODAY * DAY_MS + 16 * 3_600_000)  # type: ignore[arg-type]
    assert [row[0] for row in found] == [day * DAY_MS - hours for day in range(TODAY - 3, TODAY + 1)]
    found = await daily_candles(exchange, "X", (TODAY - 10) * DAY_MS, TODAY * DAY_MS + 16 * 3_600_000 - 1)  # type: ignore[arg-type]
    assert found[-1][0] == (TODAY - 1) * DAY_MS - hours
