"""Alpaca over real sockets: every record arrives whole, every failure has its reason, and the vendor's own client agrees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.snapshot import (
    Account,
    Fill,
    History,
    InstrumentTerms,
    Order,
    Position,
    Price,
    Quote,
    Session,
    Snapshot,
)
from exporter.source import Kept
from exporter.sources.alpaca import AlpacaSource, Config
from tests.flows.exporter.running import Series, running, value
from tests.stand_ins import alpaca as stand_in
from tests.stand_ins.alpaca import KEY_ID, SECRET_KEY, Alpaca
from tests.stand_ins.server import DROP, HANG, HTML, SERVER_ERROR, Answer, Received
from tests.stand_ins.venue import CUT_SHORT, EMPTY, TRUNCATED, UNAVAILABLE, answer

NOW = datetime(2026, 1, 5, 15, 0, 20, tzinfo=UTC)
FRIDAY = date(2026, 1, 2)
D = Decimal
OPTION = "AAPL260116C00250000"


def fill_in(alpaca: Alpaca) -> None:
    """An account that holds some of everything and has traded this morning."""
    alpaca.positions = [
        stand_in.position("AAPL", "5.25", "120.0"),
        stand_in.position("BRK.B", "-2", "500.5"),
        stand_in.position("BTCUSD", "0.5", "90000", "crypto"),
        stand_in.position(OPTION, "1", "3.2", "us_option"),
        stand_in.position("GONE", "3", None),
    ]
    legs = [stand_in.order(3, "2026-01-05T14:45:00Z", "new", side="sell"), stand_in.order(4, "2026-01-05T14:45:00Z", "held")]
    alpaca.orders = [
        stand_in.order(1, "2026-01-05T14:30:00.123456789Z"),
        stand_in.order(2, "2026-01-05T14:45:00Z", order_class="bracket", legs=legs),
        stand_in.order(
            5, "2025-11-05T15:00:00Z", "new", symbol="BTC/USD", asset_class="crypto", qty="0.1", limit_price="50000"
        ),
    ]
    alpaca.fills = [
        stand_in.fill(1, "2026-01-05T14:30:01Z", qty="0.5", leaves_qty="1.5", type="partial_fill"),
        stand_in.fill(1, "2026-01-05T14:30:02Z", qty="1.5", price="119.75"),
        stand_in.fill(6, "2026-01-05T14:31:00Z", symbol="BTCUSD", qty="0.000000001", price="90000.5", side="sell"),
    ]
    at = "2026-01-05T15:00:19.5Z"
    alpaca.quotes = {
        "AAPL": stand_in.quote(119.99, 120.01, at),
        "BRK.B": stand_in.quote(0, 500.6, at, bid_size=0),
        "BTC/USD": stand_in.quote(89990.5, 90010, at, bid_size=0.25, share=False),
        "SPY": stand_in.quote(600, 600.02, at),
    }
    alpaca.trades = {"SPY": {"t": at, "p": 600.01, "s": 100, "x": "V", "c": ["@"], "i": 1, "z": "B"}}
    alpaca.bars = {
        "AAPL": stand_in.walk(date(2026, 1, 5), 280, price=120),
        "BRK.B": stand_in.walk(date(2026, 1, 5), 280, price=500, step=0.008),
        "BTC/USD": stand_in.walk(date(2026, 1, 5), 400, price=90000, step=0.02, pair=True),
        "SPY": stand_in.walk(date(2026, 1, 5), 280, price=600, step=0.005),
        "GONE": stand_in.walk(date(2025, 12, 1), 20, price=2),
    }


class Desk:
    """A source, the venue it reads, and the time."""

    def __init__(self, source: AlpacaSource, venue: Alpaca, clock: ManualClock) -> None:
        self.source = source
        self.venue = venue
        self.clock = clock

    async def fetch(self, kept: Kept | None = None) -> Snapshot:
        """One fetch."""
        return await self.source.fetch(kept or Kept())

    async def fail(self) -> Retryable | Permanent:
        """One fetch that fails as a source may fail."""
        with pytest.raises((Retryable, Permanent)) as caught:
            await self.fetch()
        error = caught.value
        assert isinstance(error, Retryable | Permanent)
        assert SECRET_KEY not in str(error)
        assert KEY_ID not in str(error)
        return error


@asynccontextmanager
async def desk(**settings: Any) -> AsyncIterator[Desk]:
    """The stand-in, filled, and a source that reads it."""
    clock = ManualClock(NOW)
    async with Alpaca(now=clock.now) as venue:
        fill_in(venue)
        config = validate(Config, {**settings_for(venue), "name": "alpaca", "portfolio": "book", **settings})
        assert isinstance(config, Config), config
        source = AlpacaSource(config, clock)
        try:
            yield Desk(source, venue, clock)
        finally:
            await source.close()


def settings_for(venue: Alpaca) -> dict[str, Any]:
    """Configuration of a source that reads the stand-in."""
    return {
        "type": "alpaca",
        "key_id": KEY_ID,
        "secret_key": SECRET_KEY,
        "trading_url": venue.url,
        "data_url": venue.url,
        "symbols": ["SPY"],
    }


def utc(hour: int, minute: int, second: int = 0, microsecond: int = 0) -> datetime:
    """This morning."""
    return datetime(2026, 1, 5, hour, minute, second, microsecond, tzinfo=UTC)


def an_order(number: int, submitted_at: datetime, **changes: Any) -> Order:
    """What a stand-in's order is for the desk."""
    usual = Order(
        order_id=f"61e69015-8549-4bfd-b9c3-{number:012d}", portfolio="book", symbol="AAPL", side="BUY", quantity=D(2),
        filled_quantity=D(2), status="FILLED", submitted_at=submitted_at, venue="alpaca", limit_price=D(120),
        average_price=D("119.5"), updated_at=submitted_at, client_order_id=f"desk-{number}", order_type="limit",
    )  # fmt: skip
    return replace(usual, **changes)


def a_fill(name: str, number: int, at: datetime, **changes: Any) -> Fill:
    """What a stand-in's fill is for the desk."""
    usual = Fill(
        execution_id=f"{name}::{number:08d}-0000-0000-0000-000000000000", portfolio="book", symbol="AAPL", side="BUY",
        quantity=D(2), price=D("119.5"), currency="USD", at=at, venue="alpaca",
        order_id=f"61e69015-8549-4bfd-b9c3-{number:012d}",
    )  # fmt: skip
    return replace(usual, **changes)


async def test_every_record_arrives_exactly() -> None:
    """Whole records, one symbol for each instrument, nothing rejected."""
    async with desk() as alpaca:
        found = await alpaca.fetch()
    entry, gain = D("100.0"), D("12.5")
    assert found.positions == (
        Position("book", "AAPL", D("5.25"), "USD", entry, gain),
        Position("book", "BRK.B", D(-2), "USD", entry, gain),
        Position("book", "BTC/USD", D("0.5"), "USD", entry, gain),
        Position("book", OPTION, D(1), "USD", entry, gain),
        Position("book", "GONE", D(3), "USD", entry, gain),
    )
    at = utc(15, 0, 19, 500000)
    assert found.prices == (
        Price("AAPL", D("120.0"), "USD", NOW),
        Price("BRK.B", D("500.5"), "USD", NOW),
        Price("BTC/USD", D(90000), "USD", NOW),
        Price(OPTION, D("3.2"), "USD", NOW),
        Price("SPY", D("600.01"), "USD", at),
    )
    assert found.instruments == (
        InstrumentTerms("AAPL", "USD", None, "share"),
        InstrumentTerms("BRK.B", "USD", None, "share"),
        InstrumentTerms("BTC/USD", "USD", None, "spot"),
        InstrumentTerms(OPTION, "USD", None, "option", D(100)),
        InstrumentTerms("GONE", "USD", None, "share"),
        InstrumentTerms("SPY", "USD", None, "share"),
    )
    assert found.accounts == (
        Account("book", "USD", D("40000.5"), D(50000), D("90000.5"), D("5000.25"), D(3000), D("399.75"), trading_blocked=False),
    )
    assert found.quotes == (
        Quote("AAPL", "USD", "alpaca", at, D("119.99"), D("120.01"), D(3), D(4)),
        Quote("BRK.B", "USD", "alpaca", at, None, D("500.6"), None, D(4)),
        Quote("SPY", "USD", "alpaca", at, D(600), D("600.02"), D(3), D(4)),
        Quote("BTC/USD", "USD", "alpaca", at, D("89990.5"), D(90010), D("0.25"), D(4)),
    )
    working = {"status": "NEW", "filled_quantity": D(0), "average_price": None}
    assert {order.order_id[-1]: order for order in found.orders} == {
        "1": an_order(1, utc(14, 30, 0, 123456)),
        "2": an_order(2, utc(14, 45)),
        "3": an_order(3, utc(14, 45), side="SELL", **working),
        "4": an_order(4, utc(14, 45), **working),
        "5": an_order(
            5, datetime(2025, 11, 5, 15, tzinfo=UTC), symbol="BTC/USD", quantity=D("0.1"), limit_price=D(50000), **working
        ),
    }
    assert len(found.orders) == 5
    assert found.fills == (
        a_fill("20260105143001000", 1, utc(14, 30, 1), quantity=D("0.5")),
        a_fill("20260105143002000", 1, utc(14, 30, 2), quantity=D("1.5"), price=D("119.75")),
        a_fill("20260105143100000", 6, utc(14, 31), symbol="BTC/USD", side="SELL", quantity=D("1E-9"), price=D("90000.5")),
    )
    assert found.sessions == (Session("XNYS", True, NOW, datetime(2026, 1, 6, 14, 30, tzinfo=UTC), utc(21, 0)),)
    assert (found.fetched_at, found.data_at, found.rejected) == (NOW, at, ())


def bars_of(alpaca: Alpaca, symbol: str, last: date) -> tuple[list[str], list[float]]:
    """Days and closes the stand-in has of a symbol up to a day."""
    rows = [row for row in alpaca.bars[symbol] if date.fromisoformat(row["t"][:10]) <= last]
    return [row["t"][:10] for row in rows], [row["c"] for row in rows]


async def test_bars_arrive_exactly_and_only_of_days_that_have_ended() -> None:
    """Up to Friday; of pairs up to Sunday. Adjusted, from the consolidated feed, page by page."""
    async with desk() as alpaca:
        found = await alpaca.fetch()
        expected = {
            symbol: bars_of(alpaca.venue, symbol, date(2026, 1, 4) if symbol == "BTC/USD" else FRIDAY)
            for symbol in ("AAPL", "BRK.B", "GONE", "SPY", "BTC/USD")
        }
        assert {each.symbol: (each.days.astype(str).tolist(), each.closes.tolist()) for each in found.histories} == expected
        assert {each.currency for each in found.histories} == {"USD"}
        (shares,) = alpaca.venue.asked("/v2/stocks/bars")
        assert dict(shares.query) == {
            "symbols": "AAPL,BRK.B,GONE,SPY", "timeframe": "1Day", "adjustment": "all", "feed": "sip", "limit": "10000",
            "sort": "asc", "start": "2024-07-01T04:00:00Z", "end": "2026-01-05T04:59:59Z",
        }  # fmt: skip
        again = await alpaca.fetch()
        assert again.histories is found.histories
        assert len(alpaca.venue.asked("/v2/stocks/bars")) == 1


async def test_what_is_kept_is_not_fetched_again() -> None:
    """A few days' overlap; nothing at all where the newest day is kept."""
    async with desk(read=["histories"], symbols=[], history_days=300) as alpaca:
        alpaca.venue.positions = alpaca.venue.positions[:1]
        (whole,) = (await alpaca.fetch()).histories
        known = History("AAPL", "USD", whole.days[:-1], whole.closes[:-1])
    async with desk(read=["histories"], symbols=[], history_days=300) as alpaca:
        alpaca.venue.positions = alpaca.venue.positions[:1]
        (found,) = (await alpaca.fetch(Kept(histories={"AAPL": known}))).histories
        assert np.array_equal(found.days, whole.days[-6:])
        assert np.array_equal(found.closes, whole.closes[-6:])
        assert (await alpaca.fetch(Kept(histories={"AAPL": whole}))).histories == ()
        assert len(alpaca.venue.asked("/v2/stocks/bars")) == 1


async def test_only_what_is_wanted_is_asked_for() -> None:
    """Fewer kinds need less of the rate limit; whose account it is, is asked once."""
    async with desk(read=["positions", "sessions"]) as alpaca:
        for _ in range(2):
            found = await alpaca.fetch()
        assert [request.path for request in alpaca.venue.requests] == [
            "/v2/account", "/v2/positions", "/v2/clock", "/v2/positions", "/v2/clock",
        ]  # fmt: skip
        assert len(found.positions) == 5
        assert (found.accounts, found.prices, found.instruments, found.histories, found.orders) == ((), (), (), (), ())


@pytest.mark.parametrize("feed", [None, "iex", "delayed_sip"])
async def test_the_feeds_asked_for_are_those_configured(feed: str | None) -> None:
    """By default the venue chooses the best the plan includes; bars have a feed of their own; pairs have none."""
    async with desk(feed=feed, history_feed="iex") as alpaca:
        await alpaca.fetch()
        asked = {request.path: request.query.get("feed") for request in alpaca.venue.requests if "stocks" in request.path}
        assert asked == {"/v2/stocks/quotes/latest": feed, "/v2/stocks/trades/latest": feed, "/v2/stocks/bars": "iex"}
        assert all("feed" not in request.query for request in alpaca.venue.asked("/v1beta3"))


async def test_an_account_in_another_currency_has_its_data_in_it() -> None:
    """Positions, cash, fills and closes of shares; pairs are in their second part."""
    async with desk() as alpaca:
        alpaca.venue.account["currency"] = "EUR"
        found = await alpaca.fetch()
        assert {each.symbol: each.currency for each in found.positions}["BTC/USD"] == "USD"
        told: list[Any] = [*found.positions, *found.histories, *found.quotes, *found.fills, *found.prices]
        shares = [each for each in told if "/" not in each.symbol]
        assert {each.currency for each in (*found.accounts, *shares)} == {"EUR"}
        assert {request.query.get("currency") for request in alpaca.venue.asked("/v2/stocks")} == {"EUR"}
        assert {request.query.get("currency") for request in alpaca.venue.asked("/v1beta3")} == {None}


async def test_a_position_without_a_quantity_is_rejected_alone() -> None:
    """The portfolio knows that one is missing; its price and bars are not asked for."""
    async with desk() as alpaca:
        del alpaca.venue.positions[1]["qty"]
        alpaca.venue.fills[0]["price"] = None
        alpaca.venue.orders[0]["status"] = "flying"
        found = await alpaca.fetch()
    assert [each.symbol for each in found.positions] == ["AAPL", "BTC/USD", OPTION, "GONE"]
    others: list[Any] = [*found.prices, *found.quotes, *found.histories]
    assert "BRK.B" not in {each.symbol for each in others}
    assert [(each.kind, each.reason, each.portfolio) for each in found.rejected] == [
        ("positions", "missing", "book"),
        ("orders", "unknown_status", "book"),
        ("fills", "missing", "book"),
    ]
    assert (len(found.fills), len(found.orders)) == (2, 4)


async def test_a_fill_of_a_pair_is_told_as_such_once_the_pair_is_known() -> None:
    """`OPUSD` could be a share; with a position of class crypto it is `OP/USD`, in what was read before too."""
    async with desk(read=["fills", "positions"]) as alpaca:
        alpaca.venue.fills = [stand_in.fill(7, "2026-01-05T14:30:01Z", symbol="OPUSD")]
        assert [each.symbol for each in (await alpaca.fetch()).fills] == ["OPUSD"]
        alpaca.venue.positions.append(stand_in.position("OPUSD", "2", "1.5", "crypto"))
        assert [each.symbol for each in (await alpaca.fetch()).fills] == ["OP/USD"]


async def test_a_symbol_without_market_data_costs_no_other() -> None:
    """An escrow position has a symbol the data API does not take."""
    async with desk() as alpaca:
        alpaca.venue.positions.append(stand_in.position("912ESC014", "7", "0"))
        found = await alpaca.fetch()
        assert len(found.positions) == 6
        assert len(found.quotes) == 4
        assert len(found.histories) == 5
        assert found.notes["symbols the venue does not take"] == "912ESC014"


PATHS = (
    "/v2/account",
    "/v2/positions",
    "/v2/orders",
    "/v2/account/activities/FILL",
    "/v2/clock",
    "/v2/stocks/quotes/latest",
    "/v2/stocks/trades/latest",
    "/v2/stocks/bars",
    "/v1beta3/crypto/us/latest/quotes",
    "/v1beta3/crypto/us/bars",
)
FAULTS: dict[str, tuple[Answer, Reason]] = {
    "html": (HTML, Reason.BAD_RESPONSE),
    "truncated": (TRUNCATED, Reason.BAD_RESPONSE),
    "empty": (EMPTY, Reason.BAD_RESPONSE),
    "another shape": (answer("sorry"), Reason.BAD_RESPONSE),
    "null": (answer(None), Reason.BAD_RESPONSE),
    "dropped": (DROP, Reason.NETWORK),
    "unauthorized": (stand_in.UNAUTHORIZED, Reason.AUTH),
    "forbidden": (stand_in.FORBIDDEN, Reason.AUTH),
    "unprocessable": (stand_in.UNPROCESSABLE, Reason.REJECTED),
    "error": (SERVER_ERROR, Reason.SERVER_ERROR),
    "unavailable": (UNAVAILABLE, Reason.SERVER_ERROR),
}
CASES = [(path, "another shape") for path in PATHS] + [("/v2/positions", fault) for fault in FAULTS]


@pytest.mark.parametrize(("path", "fault"), CASES)
async def test_each_failure_has_its_reason_and_leaves_nothing_behind(path: str, fault: str) -> None:
    """Whichever call fails, the fetch fails with the reason, and the next one is whole."""
    given, reason = FAULTS[fault]
    async with desk() as alpaca:
        alpaca.venue.fault(path, given)
        assert (await alpaca.fail()).reason is reason
        found = await alpaca.fetch()
    kinds = ("positions", "prices", "instruments", "orders", "fills", "accounts", "quotes", "histories", "sessions")
    assert {kind: len(getattr(found, kind)) for kind in kinds} == dict(zip(kinds, (5, 5, 6, 5, 3, 1, 4, 5, 1), strict=True))


async def test_an_answer_that_ends_early_is_no_answer() -> None:
    """Fewer bytes than its headers promise, though what came is JSON's beginning."""
    async with desk() as alpaca:
        alpaca.venue.fault("/v2/positions", CUT_SHORT)
        assert (await alpaca.fail()).reason in (Reason.NETWORK, Reason.BAD_RESPONSE)
        assert len((await alpaca.fetch()).positions) == 5


async def test_a_venue_that_hangs_is_a_timeout() -> None:
    """Of one call; and a fetch that is cancelled ends at once."""
    async with desk(http={"timeout_seconds": 0.2}) as alpaca:
        alpaca.venue.fault("/v2/positions", HANG)
        assert (await alpaca.fail()).reason is Reason.TIMEOUT
        alpaca.venue.fault("/v2/positions", HANG)
        before = len(alpaca.venue.requests)
        fetching = asyncio.ensure_future(alpaca.fetch())
        await alpaca.venue.until(lambda: len(alpaca.venue.requests) >= before + 2)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert len((await alpaca.fetch()).positions) == 5


async def test_a_venue_that_is_not_there_refuses() -> None:
    """And is heard again once it is."""
    async with desk() as alpaca:
        port = int(alpaca.venue.url.rpartition(":")[2])
        await alpaca.venue.__aexit__()
        assert (await alpaca.fail()).reason is Reason.REFUSED
        async with Alpaca(port, now=alpaca.clock.now) as venue:
            fill_in(venue)
            assert len((await alpaca.fetch()).positions) == 5


@pytest.mark.parametrize(
    ("paper", "advice"),
    [
        (True, "paper is true, so they must be the paper account's (with those of the live account set paper to false)"),
        (False, "paper is false, so they must be the live account's (with those of the paper account set paper to true)"),
    ],
)
async def test_the_keys_of_the_other_account_are_named_as_such(paper: bool, advice: str) -> None:
    """Paper and live have keys of their own: the commonest mistake."""
    async with desk(paper=paper, key_id="AKLIVE") as alpaca:
        error = await alpaca.fail()
        assert error.reason is Reason.AUTH
        assert str(error) == f"Alpaca trading answered 401 request is not authorized: check key_id and secret_key: {advice}"


async def test_a_plan_without_the_feed_is_told_so() -> None:
    """The message of the venue, and what to look at."""
    async with desk(feed="sip") as alpaca:
        error = await alpaca.fail()
        assert error.reason is Reason.AUTH
        assert "subscription does not permit querying recent SIP data" in str(error)
        assert "plan includes the feed" in str(error)
        alpaca.venue.unlimited_plan = True
        assert len((await alpaca.fetch()).quotes) == 4


async def test_a_refused_parameter_is_named() -> None:
    """422 with the venue's words."""
    async with desk() as alpaca:
        alpaca.venue.fault("/v2/account/activities/FILL", stand_in.UNPROCESSABLE)
        error = await alpaca.fail()
        assert isinstance(error, Permanent)
        assert "422 after is not a timestamp" in str(error)


async def test_429_with_retry_after_is_waited_out() -> None:
    """So long nothing is asked, of that API."""
    async with desk() as alpaca:
        alpaca.venue.fault("/v2/positions", stand_in.TOO_MANY_FOR_7_SECONDS)
        error = await alpaca.fail()
        assert isinstance(error, Retryable)
        assert (error.reason, error.retry_after_seconds) == (Reason.RATE_LIMITED, 7.0)
        assert alpaca.source.quota_used_ratio == 1.0
        asked = len(alpaca.venue.requests)
        error = await alpaca.fail()
        assert (error.reason, len(alpaca.venue.requests)) == (Reason.RATE_LIMITED, asked)
        await alpaca.clock.advance(7)
        assert len((await alpaca.fetch()).positions) == 5


async def test_429_without_retry_after_is_waited_out_to_the_end_of_the_minute() -> None:
    """The venue tells in another header when its minute ends: in 40 seconds, and one more for rounding."""
    async with desk() as alpaca:
        alpaca.venue.respond(alpaca_request())  # begins the minute
        alpaca.venue.used["trading"] = 200
        error = await alpaca.fail()
        assert isinstance(error, Retryable)
        assert (error.reason, error.retry_after_seconds) == (Reason.RATE_LIMITED, 41.0)
        assert (await alpaca.fail()).reason is Reason.RATE_LIMITED
        assert len(alpaca.venue.requests) == 1, "nothing was asked meanwhile"
        await alpaca.clock.advance(41)
        assert len((await alpaca.fetch()).positions) == 5


def alpaca_request() -> Received:
    """Somebody else's call."""
    return Received("/v2/clock", {}, b"", 0.0, "GET")


async def test_the_traders_calls_count_and_a_share_stays_theirs() -> None:
    """200 a minute for everybody: with 139 used by others, the headroom of 30 % is reached after one call of ours."""
    async with desk() as alpaca:
        await alpaca.fetch()
        assert alpaca.source.quota_used_ratio == pytest.approx(6 / 200)
        alpaca.venue.used["trading"] = 139
        error = await alpaca.fail()
        assert isinstance(error, Retryable)
        assert error.reason is Reason.RATE_LIMITED
        assert error.retry_after_seconds == pytest.approx(40, abs=1.1)
        assert "140 of 200 used, 140 are ours to use" in str(error)
        assert alpaca.source.quota_used_ratio == pytest.approx(0.7)
        await alpaca.clock.advance(41)
        assert len((await alpaca.fetch()).positions) == 5


async def test_market_data_has_a_limit_of_its_own() -> None:
    """A better plan has more of it; the larger share used is told."""
    async with desk() as alpaca:
        alpaca.venue.respond(alpaca_request())
        alpaca.venue.limits["data"] = 10_000
        alpaca.venue.used["data"] = 6_000
        await alpaca.fetch()
        assert alpaca.source.quota_used_ratio == pytest.approx(0.6, abs=0.001)


@pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated:DeprecationWarning")
async def test_the_vendors_own_client_agrees() -> None:
    """alpaca-py reads from the stand-in what the source reads: it speaks the vendor's format, and so do we."""
    async with desk() as alpaca:
        alpaca.venue.positions[-1]["current_price"] = "2.5"
        found = await alpaca.fetch()
        read = await asyncio.to_thread(read_with_alpaca_py, alpaca.venue.url)
    (account,) = found.accounts
    assert (D(read.account.cash), D(read.account.equity)) == (account.cash, account.equity)
    assert D(read.account.equity) - D(read.account.last_equity) == account.daily_pnl
    assert read.account.trading_blocked == account.trading_blocked
    assert [(D(each.qty), D(each.avg_entry_price), D(each.unrealized_pl), each.symbol) for each in read.positions] == [
        (each.quantity, each.entry_price, each.unrealized_pnl, each.symbol.replace("/", "")) for each in found.positions
    ]
    assert [D(each.current_price) for each in read.positions] == [each.price for each in found.prices[:5]]
    orders = [order for each in read.orders for order in (each, *(each.legs or ()))]
    assert {
        str(each.id): (each.symbol, each.side.upper(), D(each.qty), D(each.filled_qty), each.submitted_at) for each in orders
    } == {
        each.order_id: (each.symbol, each.side, each.quantity, each.filled_quantity, each.submitted_at) for each in found.orders
    }
    (session,) = found.sessions
    assert (read.clock.is_open, read.clock.next_open, read.clock.timestamp) == (session.open, session.next_open, session.at)
    quotes = {each.symbol: each for each in found.quotes}
    assert set(read.quotes) == set(quotes)
    for symbol, quote in read.quotes.items():
        assert (quote.bid_price, quote.ask_price) == (float(quotes[symbol].bid or 0), float(quotes[symbol].ask or 0))
        assert quote.timestamp == quotes[symbol].at
    histories = {each.symbol: each for each in found.histories}
    assert {symbol: [bar.close for bar in bars] for symbol, bars in read.bars.items()} == {
        symbol: histories[symbol].closes.tolist() for symbol in ("AAPL", "BRK.B", "BTC/USD")
    }
    assert [bar.timestamp.date() for bar in read.bars["AAPL"]] == histories["AAPL"].days.astype(date).tolist()


@dataclass
class Read:
    """What alpaca-py has read, in its own types."""

    account: Any
    positions: Any
    orders: Any
    clock: Any
    quotes: dict[str, Any]
    bars: dict[str, Any]


def read_with_alpaca_py(url: str) -> Read:
    """Blocks: for a thread."""
    from alpaca.data.enums import Adjustment, DataFeed
    from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
    from alpaca.data.requests import (
        CryptoBarsRequest,
        CryptoLatestQuoteRequest,
        StockBarsRequest,
        StockLatestQuoteRequest,
    )
    from alpaca.data.timeframe import TimeFrame
    from alpaca.trading.client import TradingClient
    from alpaca.trading.enums import QueryOrderStatus
    from alpaca.trading.requests import GetOrdersRequest

    day: Any = TimeFrame.Day
    span = {"start": datetime(2024, 7, 1, 4, tzinfo=UTC), "end": datetime(2026, 1, 5, 4, 59, 59, tzinfo=UTC)}
    trading = TradingClient(KEY_ID, SECRET_KEY, paper=True, url_override=url)
    shares = StockHistoricalDataClient(KEY_ID, SECRET_KEY, url_override=url)
    pairs = CryptoHistoricalDataClient(KEY_ID, SECRET_KEY, url_override=url)
    names = ["AAPL", "BRK.B", "SPY"]
    share_bars: Any = shares.get_stock_bars(
        StockBarsRequest(symbol_or_symbols=names[:2], timeframe=day, adjustment=Adjustment.ALL, feed=DataFeed.SIP, **span)
    )
    pair_bars: Any = pairs.get_crypto_bars(CryptoBarsRequest(symbol_or_symbols=["BTC/USD"], timeframe=day, **span))
    quotes: Any = shares.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols=names))
    pair_quotes: Any = pairs.get_crypto_latest_quote(CryptoLatestQuoteRequest(symbol_or_symbols=["BTC/USD"]))
    return Read(
        account=trading.get_account(),
        positions=trading.get_all_positions(),
        orders=trading.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, nested=True, limit=500)),
        clock=trading.get_clock(),
        quotes={**quotes, **pair_quotes},
        bars={**share_bars.data, **pair_bars.data},
    )


def live_account(venue: Alpaca) -> None:
    """Shares and a pair with a year of bars up to yesterday, on a fast plan."""
    today = datetime.now(UTC).date()
    venue.limits = {"trading": 100_000, "data": 100_000}
    venue.positions = [
        stand_in.position("AAPL", "50", "120.0"),
        stand_in.position("BRK.B", "-20", "500.5"),
        stand_in.position("BTCUSD", "0.1", "90000", "crypto"),
    ]
    venue.bars = {
        "AAPL": stand_in.walk(today, 300, price=120),
        "BRK.B": stand_in.walk(today, 300, price=500, step=0.008),
        "BTC/USD": stand_in.walk(today, 440, price=90000, step=0.02, pair=True),
    }


def only_alpaca(venue: Alpaca, **settings: Any) -> dict[str, Any]:
    """A desk with nothing but this source."""
    source = {**settings_for(venue), "name": "book", "symbols": [], "stale_after_seconds": 1.5, "interval_seconds": 0.2}
    return {
        "logs": {"format": "json"},
        "exporter": {
            "web": {"listen": "127.0.0.1:0"},
            "cycle_seconds": 0.1,
            "state_folder": "state",
            "sources": [{**source, **settings}],
            "portfolios": [{"name": "book", "base_currency": "USD"}],
        },
    }


def var(series: Series) -> float | None:
    """The desk's historical VaR."""
    labels = {"portfolio": "book", "method": "historical", "confidence": "0.99", "horizon": "1d"}
    return value(series, "desk_var_ratio", **labels)


def undefined(series: Series, reason: str) -> bool:
    """Whether some number has no value for this reason."""
    return any(
        name == "desk_analytic_undefined" and ("reason", reason) in labels and ("analytic", "tail_risk") in labels
        for name, labels in series
    )


def failures(series: Series, reason: str) -> float:
    """How many fetches have failed so."""
    return value(series, "desk_source_fetch_failures_total", source="book", reason=reason) or 0.0


async def test_a_desk_with_only_this_source_has_var_after_its_first_fetch(tmp_path: Path) -> None:
    """The third worst of 250 days, computed here from the bars the venue has; one fetch was enough."""
    async with Alpaca() as venue:
        live_account(venue)
        async with running(tmp_path, only_alpaca(venue, interval_seconds=3600, stale_after_seconds=7200)) as exporter:
            series = await exporter.until(lambda found: var(found) is not None)
        assert value(series, "desk_source_fetches_total", source="book") == 1
        assert value(series, "desk_source_up", source="book", kind="broker") == 1
        assert value(series, "desk_portfolio_value", portfolio="book", currency="USD") == 50_000
        assert var(series) == pytest.approx(expected_var(venue), rel=1e-9)


def expected_var(venue: Alpaca) -> float:
    """Historical VaR at 0.99 over 250 joint days, as a ratio of the equity."""
    values = {"AAPL": 50 * 120.0, "BRK.B": -20 * 500.5, "BTC/USD": 0.1 * 90000.0}
    today = datetime.now(ZoneInfo("America/New_York")).date().isoformat()
    closes = {symbol: {row["t"][:10]: row["c"] for row in venue.bars[symbol] if row["t"][:10] < today} for symbol in values}
    days = sorted(set.intersection(*(set(each) for each in closes.values())))[-251:]
    pnl: list[float] = [
        sum(worth * (closes[symbol][day] / closes[symbol][before] - 1) for symbol, worth in values.items()) / 50_000
        for before, day in pairwise(days)
    ]
    return -sorted(pnl)[2]


async def test_a_failing_venue_is_told_and_a_recovered_one_is_read_again(tmp_path: Path) -> None:
    """Reason by reason; once its data is too old its numbers are gone and say so, and come back with it."""
    async with Alpaca() as venue:
        live_account(venue)
        async with running(tmp_path, only_alpaca(venue, breaker={"failures": 100})) as exporter:
            await exporter.until(lambda found: var(found) is not None)
            for given, reason in ((HTML, "bad_response"), (stand_in.FORBIDDEN, "auth"), (UNAVAILABLE, "server_error")):
                venue.fault("/v2/positions", given)
                await exporter.until(lambda found, reason=reason: failures(found, reason) == 1)  # type: ignore[misc]
            venue.fault("/v2", UNAVAILABLE, always=True)
            gone = await exporter.until(lambda found: undefined(found, "input_stale"))
            assert var(gone) is None
            assert value(gone, "desk_source_up", source="book", kind="broker") == 0
            venue.heal()
            back = await exporter.until(lambda found: var(found) is not None)
            assert var(back) == pytest.approx(expected_var(venue), rel=1e-9)


async def test_restarted_with_the_venue_down_it_says_so_and_shows_no_number(tmp_path: Path) -> None:
    """Late is not unknown: `input_stale`, from what an earlier process kept."""
    async with Alpaca() as venue:
        live_account(venue)
        content = only_alpaca(venue)
        async with running(tmp_path, content) as exporter:
            await exporter.until(lambda found: var(found) is not None)
            await exporter.stop()
    async with running(tmp_path, content) as exporter:
        series = await exporter.until(lambda found: failures(found, "refused") >= 1)
        series = await exporter.until(lambda found: undefined(found, "input_stale"))
        assert var(series) is None
