"""Binance over real sockets: every record arrives whole, every failure has its reason and passes, and another client agrees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ccxt
import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.poller import Poller
from exporter.snapshot import Account, Fill, InstrumentTerms, Order, Position, Price, Snapshot
from exporter.source import Kept
from exporter.sources.binance import BinanceSource, Config
from tests.flows.exporter.running import Series, running, value
from tests.stand_ins.binance import KEY, SECRET, WAF, Binance, error
from tests.stand_ins.server import DROP, HANG, HTML, SERVER_ERROR, Answer
from tests.stand_ins.venue import CUT_SHORT, EMPTY, TRUNCATED, UNAVAILABLE, answer

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
D = Decimal


def fill_in(venue: Binance) -> None:
    """An account that holds and has traded some of everything."""
    venue.balances |= {"BTC": ("1.0", "0.5"), "USDT": ("1000", "50"), "USDC": ("500", "0"), "ABC": ("1000000", "0")}
    venue.wallet("USDT", "5000", "55", initialMargin="600", maintMargin="30")
    venue.position("BTCUSDT", "0.5", "59900")
    venue.position("ETHUSDT", "0.5", "3100", "LONG")
    venue.position("ETHUSDT", "-0.2", "3050", "SHORT")
    venue.order("spot", "BTCUSDT", "BUY", "0.1", "50000", ago_seconds=100)
    venue.order("spot", "BTCUSDT", "SELL", "0.2", "61000", status="FILLED", filled="0.2", ago_seconds=90)
    venue.order("usd_m", "ETHUSDT", "BUY", "3", "2900", status="PARTIALLY_FILLED", filled="1", ago_seconds=80)
    venue.trade("spot", "BTCUSDT", "SELL", "0.2", "61000", ago_seconds=85, commission="12.2", order_id=1_000_001)
    venue.trade("usd_m", "ETHUSDT", "BUY", "1", "2900", ago_seconds=75, commission="1.16", realizedPnl="-3.5")


class Desk:
    """A source, the venue it reads, and the time of both."""

    def __init__(self, source: BinanceSource, venue: Binance, clock: ManualClock) -> None:
        self.source, self.venue, self.clock = source, venue, clock

    async def fetch(self) -> Snapshot:
        """One fetch."""
        return await self.source.fetch(Kept())

    async def fail(self) -> Retryable | Permanent:
        """One fetch that fails as a source may fail, and gives no secret away."""
        with pytest.raises((Retryable, Permanent)) as caught:
            await self.fetch()
        assert isinstance(caught.value, Retryable | Permanent)
        assert not any(secret in str(caught.value) for secret in (KEY, SECRET, "signature="))
        return caught.value


def settings_for(venue: Binance) -> dict[str, Any]:
    """Configuration of a source that reads the stand-in."""
    return {"type": "binance", "api_key": KEY, "api_secret": SECRET, "spot_url": venue.url, "futures_url": venue.url}


@asynccontextmanager
async def desk(**settings: Any) -> AsyncIterator[Desk]:
    """The stand-in, filled, and a source that reads it."""
    clock = ManualClock(NOON)
    async with Binance() as venue:
        venue.seconds = lambda: clock.now().timestamp()
        fill_in(venue)
        config = validate(Config, {**settings_for(venue), "name": "bn", "portfolio": "book", **settings})
        assert isinstance(config, Config), config
        source = BinanceSource(config, clock)
        try:
            yield Desk(source, venue, clock)
        finally:
            await source.close()


def ago(seconds: float) -> datetime:
    """So long before the fetch."""
    return NOON - timedelta(seconds=seconds)


async def test_every_record_arrives_exactly() -> None:
    """Whole records of both markets, nothing rejected."""
    async with desk() as binance:
        found = await binance.fetch()
    assert found.positions == (
        Position("book", "ABC", D(1_000_000), "BTC"),
        Position("book", "BTC", D("1.5"), "USDT"),
        Position("book", "BTCUSDT", D("0.5"), "USDT", D(59900), D(100)),
        Position("book", "ETHUSDT", D("0.5"), "USDT", D(3100), D(-45)),
        Position("book", "ETHUSDT", D("-0.2"), "USDT", D(3050), D(8)),
    )
    assert found.accounts == (
        Account("book", "USDC", D(500), buying_power=D(500), trading_blocked=False),
        Account(
            "book",
            "USDT",
            D(6050),
            initial_margin=D(600),
            maintenance_margin=D(30),
            unrealized_pnl=D(55),
            trading_blocked=False,
        ),
    )
    assert set(found.prices) == {
        Price("ABC", D("0.00001"), "BTC", NOON),
        Price("BTC", D(60000), "USDT", NOON),
        Price("USDC", D("0.999"), "USDT", NOON),
        Price("BTCUSDT", D(60100), "USDT", NOON),
        Price("ETHUSDT", D(3010), "USDT", NOON),
    }
    assert set(found.instruments) == {
        InstrumentTerms("ABC", "BTC"),
        InstrumentTerms("BTC", "USDT"),
        InstrumentTerms("USDC", "USDT"),
        InstrumentTerms("BTCUSDT", "USDT", instrument="perpetual"),
        InstrumentTerms("ETHUSDT", "USDT", instrument="perpetual"),
    }
    assert set(found.orders) == {
        Order(
            "spot-BTCUSDT-1000000", "book", "BTC", "BUY", D("0.1"), D(0), "NEW", ago(100), "binance", limit_price=D(50000),
            updated_at=ago(100), client_order_id="mine-0", order_type="limit",
        ),
        Order(
            "spot-BTCUSDT-1000001", "book", "BTC", "SELL", D("0.2"), D("0.2"), "FILLED", ago(90), "binance",
            limit_price=D(61000), average_price=D(61000), updated_at=ago(90), client_order_id="mine-1", order_type="limit",
        ),
        Order(
            "usd_m-ETHUSDT-1000000", "book", "ETHUSDT", "BUY", D(3), D(1), "PARTIALLY_FILLED", ago(80), "binance_usd_m",
            limit_price=D(2900), average_price=D(2900), updated_at=ago(80), client_order_id="mine-0", order_type="limit",
        ),
    }  # fmt: skip
    assert set(found.fills) == {
        Fill(
            "spot-BTCUSDT-28000", "book", "BTC", "SELL", D("0.2"), D(61000), "USDT", ago(85), "binance",
            order_id="spot-BTCUSDT-1000001", fee=D("12.2"),
        ),
        Fill(
            "usd_m-ETHUSDT-28000", "book", "ETHUSDT", "BUY", D(1), D(2900), "USDT", ago(75), "binance_usd_m",
            order_id="usd_m-ETHUSDT-1000000", fee=D("1.16"), realized_pnl=D("-3.5"),
        ),
    }  # fmt: skip
    assert {(each.venue, each.symbol, each.bid, each.ask, each.depth_levels) for each in found.quotes} == {
        ("binance", "BTC", D(59994), D(60006), 5),
        ("binance_usd_m", "BTCUSDT", D("60093.99"), D("60106.01"), 5),
        ("binance_usd_m", "ETHUSDT", D("3009.699"), D("3010.301"), 5),
    }
    today = binance.venue.today
    names = {"ABC": "ABCBTC", "BTC": "BTCUSDT", "USDC": "USDCUSDT", "BTCUSDT": "fapi:BTCUSDT", "ETHUSDT": "fapi:ETHUSDT"}
    assert {each.symbol: each.closes.tolist() for each in found.histories} == {
        symbol: [float(binance.venue.close(name, day)) for day in range(today - 550, today)] for symbol, name in names.items()
    }
    assert (found.rejected, found.data_at, dict(found.notes)) == ((), NOON, {})


PATHS = (
    "/api/v3/exchangeInfo", "/api/v3/time", "/api/v3/account", "/api/v3/ticker/price", "/api/v3/depth", "/api/v3/klines",
    "/api/v3/openOrders", "/api/v3/allOrders", "/api/v3/myTrades",
    "/fapi/v1/exchangeInfo", "/fapi/v1/time", "/fapi/v3/account", "/fapi/v3/positionRisk", "/fapi/v1/depth",
    "/fapi/v1/klines", "/fapi/v1/openOrders", "/fapi/v1/allOrders", "/fapi/v1/userTrades", "/fapi/v1/income",
)  # fmt: skip
TOO_MANY = answer({"code": -1003, "msg": "Too much request weight used."}, 429)
FAULTS: dict[str, tuple[Answer, Reason, float | None]] = {
    "html": (HTML, Reason.BAD_RESPONSE, None),
    "truncated": (TRUNCATED, Reason.BAD_RESPONSE, None),
    "empty": (EMPTY, Reason.BAD_RESPONSE, None),
    "another shape": (answer("sorry"), Reason.BAD_RESPONSE, None),
    "null": (answer(None), Reason.BAD_RESPONSE, None),
    "dropped": (DROP, Reason.NETWORK, None),
    "too many": (TOO_MANY, Reason.RATE_LIMITED, 60.0),
    "too many for a while": (answer({"code": -1003, "msg": "x"}, 429, Retry_After="7"), Reason.RATE_LIMITED, 7.0),
    "banned": (answer({"code": -1003, "msg": "Way too much"}, 418, Retry_After="300"), Reason.RATE_LIMITED, 300.0),
    "firewall": (WAF, Reason.RATE_LIMITED, 60.0),
    "elsewhere": (error(451, 0, "Service unavailable from a restricted location."), Reason.REJECTED, None),
    "signature": (error(400, -1022, "Signature for this request is not valid."), Reason.AUTH, None),
    "key": (error(401, -2015, "Invalid API-key, IP, or permissions for action."), Reason.AUTH, None),
    "parameter": (error(400, -1102, "Mandatory parameter was not sent."), Reason.REJECTED, None),
    "overloaded": (error(503, -1008, "Server is currently overloaded."), Reason.SERVER_ERROR, None),
    "error": (SERVER_ERROR, Reason.SERVER_ERROR, None),
    "unavailable": (UNAVAILABLE, Reason.SERVER_ERROR, None),
}
CASES = [(path, "html") for path in PATHS] + [(path, "too many") for path in PATHS]
CASES += [("/api/v3/account", fault) for fault in FAULTS]


@pytest.mark.parametrize(("path", "fault"), CASES)
async def test_each_failure_has_its_reason_and_leaves_nothing_behind(path: str, fault: str) -> None:
    """Whichever call fails, the fetch fails with the reason and the wait; after it, the next one is whole."""
    given, reason, wait = FAULTS[fault]
    async with desk() as binance:
        binance.venue.fault(path, given)
        failed = await binance.fail()
        assert failed.reason is reason
        if isinstance(failed, Retryable):
            assert failed.retry_after_seconds == wait
        if wait:
            await binance.clock.advance(wait)
        found = await binance.fetch()
    kinds = ("positions", "accounts", "prices", "instruments", "orders", "fills", "quotes", "histories", "rejected")
    assert {kind: len(getattr(found, kind)) for kind in kinds} == dict(zip(kinds, (5, 2, 5, 5, 3, 2, 3, 5, 0), strict=True))


async def test_while_it_refuses_us_nothing_is_asked() -> None:
    """The limit shows as used up; a source that goes on asking is banned for longer."""
    async with desk(markets=["spot"]) as binance:
        binance.venue.fault("/api/v3/account", answer({"code": -1003, "msg": "x"}, 429, Retry_After="30"))
        await binance.fail()
        asked = len(binance.venue.requests)
        await binance.clock.advance(29)
        assert binance.source.quota_used_ratio == 1.0
        assert (await binance.fail()).reason is Reason.RATE_LIMITED
        assert len(binance.venue.requests) == asked
        await binance.clock.advance(1)
        assert (await binance.fetch()).positions


async def test_a_limit_others_have_used_up_is_kept() -> None:
    """The trader behind the same address has used all of it: 429 until the minute is over, and no ban follows."""
    async with desk(quota_headroom_ratio=0) as binance:
        await binance.fetch()
        binance.venue.used["spot", binance.venue.now_ms() // 60_000] = 6000
        failed = await binance.fail()
        assert isinstance(failed, Retryable)
        assert failed.retry_after_seconds == pytest.approx(60)
        for _ in range(10):
            await binance.clock.advance(5)
            assert (await binance.fail()).reason is Reason.RATE_LIMITED
        await binance.clock.advance(10)
        assert (await binance.fetch()).positions
        assert binance.venue.warned["spot"] == 0


async def test_several_calls_refused_for_their_time_measure_the_clock_once() -> None:
    """Account and positions are both under way when the machine's clock is found to be wrong."""
    async with desk(markets=["usd_m"]) as binance:
        await binance.fetch()
        late = error(400, -1021, "Timestamp for this request is outside of the recvWindow.")
        late = Answer(late.status, late.body, content_type=late.content_type, delay_seconds=0.2)
        for path in ("/fapi/v3/account", "/fapi/v3/positionRisk"):
            binance.venue.fault(path, late)
        assert len((await binance.fetch()).positions) == 3
        assert len(binance.venue.asked("/fapi/v1/time")) == 2


async def test_an_answer_that_ends_early_is_no_answer() -> None:
    """Fewer bytes than its headers promise."""
    async with desk() as binance:
        binance.venue.fault("/api/v3/account", CUT_SHORT)
        assert (await binance.fail()).reason in (Reason.NETWORK, Reason.BAD_RESPONSE)
        assert len((await binance.fetch()).positions) == 5


@pytest.mark.parametrize("slow", [HANG, Answer(200, "[]", content_type="application/json", delay_seconds=8)])
async def test_a_venue_that_hangs_is_a_timeout(slow: Answer) -> None:
    """Of one call, however long the rest takes; a fetch that is cancelled ends, and the next one is whole."""
    async with desk(http={"timeout_seconds": 2}) as binance:
        binance.venue.fault("/fapi/v3/positionRisk", slow)
        assert (await binance.fail()).reason is Reason.TIMEOUT
        binance.venue.fault("/fapi/v3/positionRisk", slow)
        before = len(binance.venue.asked("/fapi/v3/positionRisk"))
        fetching = asyncio.ensure_future(binance.fetch())
        await binance.venue.until(lambda: len(binance.venue.asked("/fapi/v3/positionRisk")) > before)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert len((await binance.fetch()).positions) == 5


async def test_a_venue_that_is_not_there_refuses() -> None:
    """And is heard again once it is."""
    async with desk() as binance:
        port = int(binance.venue.url.rpartition(":")[2])
        await binance.venue.__aexit__()
        assert (await binance.fail()).reason is Reason.REFUSED
        async with Binance(port) as venue:
            venue.seconds = lambda: binance.clock.now().timestamp()
            fill_in(venue)
            assert len((await binance.fetch()).positions) == 5


async def test_the_poller_waits_as_long_as_the_venue_asks() -> None:
    """A ban of 200 seconds: one fetch fails, none is tried before it is over, then it delivers."""
    async with desk(interval_seconds=10, stale_after_seconds=1000) as binance:
        binance.venue.fault("/api/v3/account", answer({"code": -1003, "msg": "x"}, 418, Retry_After="200"))
        poller = Poller([binance.source], binance.clock)
        polling = asyncio.ensure_future(poller.run())
        tracked = poller.sources["bn"]
        await poller.all_tried()
        assert (tracked.failures[Reason.RATE_LIMITED], tracked.up, tracked.attempts) == (1, False, 1)
        asked = len(binance.venue.requests)
        for _ in range(19):
            await binance.clock.advance(10)
        assert (tracked.attempts, len(binance.venue.requests)) == (1, asked)
        await binance.clock.advance(10)
        await binance.venue.until(lambda: len(binance.venue.asked("/fapi/v1/userTrades")) >= 2)
        async with tracked.busy:
            assert (tracked.up, tracked.attempts) == (True, 2)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


def other_client(url: str) -> Any:
    """ccxt's Binance, asking the stand-in."""

    def here(urls: dict[str, Any]) -> dict[str, Any]:
        return {name: here(each) if isinstance(each, dict) else url + urlsplit(each).path for name, each in urls.items()}

    options = {"fetchCurrencies": False, "fetchMargins": False, "fetchMarkets": {"types": ["spot", "linear"]}}
    client = ccxt.binance({"apiKey": KEY, "secret": SECRET, "enableRateLimit": False, "options": options})
    client.urls["api"] = here(client.urls["api"])
    return client


async def test_another_client_reads_the_same_account() -> None:
    """ccxt takes the stand-in for Binance, and its balances, positions, orders, trades, books and bars are ours."""
    async with Binance() as venue:
        fill_in(venue)
        config = validate(Config, {**settings_for(venue), "name": "bn"})
        assert isinstance(config, Config), config
        source = BinanceSource(config, ManualClock(datetime.now(UTC)))
        ours = await source.fetch(Kept())
        await source.close()
        theirs = await asyncio.to_thread(asked_of_ccxt, other_client(venue.url))
    held: dict[str, Decimal] = {}
    for position in ours.positions:
        held[position.symbol] = held.get(position.symbol, D(0)) + position.quantity
    assert {asset: D(str(total)) for asset, total in theirs["spot"].items()} == {
        "BTC": held["BTC"], "ABC": held["ABC"], "USDC": D(500), "USDT": D(1050),
    }  # fmt: skip
    # Its futures balance is the margin balance: the wallet and what open positions have gained.
    (cash,) = [each for each in ours.accounts if each.currency == "USDT"]
    gained = sum((position.unrealized_pnl or D(0) for position in ours.positions), start=D(0))
    assert theirs["futures"] == {"USDT": float(cash.cash - D(1050) + D(55))}
    assert gained == 63
    assert {(each["info"]["symbol"], each["side"], each["contracts"], each["entryPrice"]) for each in theirs["positions"]} == {
        (each.symbol, "long" if each.quantity > 0 else "short", float(abs(each.quantity)), float(each.entry_price or 0))
        for each in ours.positions
        if each.entry_price
    }
    is_open = [each for each in ours.orders if each.status != "FILLED"]
    assert {(each["clientOrderId"], each["amount"], each["filled"], each["price"]) for each in theirs["orders"]} == {
        (each.client_order_id, float(each.quantity), float(each.filled_quantity), float(each.limit_price or 0))
        for each in is_open
    }
    assert {(each["side"].upper(), each["amount"], each["price"], each["fee"]["cost"]) for each in theirs["trades"]} == {
        (each.side, float(each.quantity), float(each.price), float(each.fee)) for each in ours.fills
    }
    for quote in ours.quotes:
        name = "spot" if quote.venue == "binance" else quote.symbol
        if name in theirs["books"]:
            bids, asks = theirs["books"][name]
            assert (bids[0], asks[0]) == (
                [float(quote.bid or 0), float(quote.bid_quantity or 0)],
                [float(quote.ask or 0), float(quote.ask_quantity or 0)],
            )  # fmt: skip
    closes = {
        each.symbol: dict(zip(each.days.astype(int).tolist(), each.closes.tolist(), strict=True)) for each in ours.histories
    }
    for symbol, rows in theirs["bars"].items():
        ended = {row[0] // 86_400_000: row[4] for row in rows if row[0] // 86_400_000 in closes[symbol]}
        assert len(ended) >= 8
        assert {day: closes[symbol][day] for day in ended} == ended


def asked_of_ccxt(client: Any) -> dict[str, Any]:
    """What ccxt makes of the account."""
    client.load_markets()
    spot, future = "BTC/USDT", "BTC/USDT:USDT"
    pairs = (spot, "ETH/USDT:USDT")

    def book(symbol: str) -> tuple[Any, Any]:
        found = client.fetch_order_book(symbol, 5)
        return found["bids"], found["asks"]

    return {
        "spot": client.fetch_balance()["total"],
        "futures": client.fetch_balance({"type": "future"})["total"],
        "positions": client.fetch_positions(),
        "orders": [order for symbol in pairs for order in client.fetch_open_orders(symbol)],
        "trades": [trade for symbol in pairs for trade in client.fetch_my_trades(symbol)],
        "books": {"spot": book(spot), "BTCUSDT": book(future)},
        "bars": {"BTC": client.fetch_ohlcv(spot, "1d", limit=10), "BTCUSDT": client.fetch_ohlcv(future, "1d", limit=10)},
    }


def configuration(venue: Binance, **settings: Any) -> dict[str, Any]:
    """A desk with nothing but this source."""
    source = {**settings_for(venue), "name": "bn", "portfolio": "book", "interval_seconds": 0.3, "stale_after_seconds": 1.5}
    return {
        "logs": {"format": "json"},
        "exporter": {
            "web": {"listen": "127.0.0.1:0"},
            "cycle_seconds": 0.1,
            "sources": [{**source, "http": {"timeout_seconds": 2}, **settings}],
            "portfolios": [{"name": "book", "base_currency": "USDT"}],
        },
    }


def var_of(series: Series) -> float | None:
    """VaR of the book."""
    return value(series, "desk_var_ratio", portfolio="book", method="historical", confidence="0.99", horizon="1d")


def failures(series: Series, reason: Reason) -> float:
    """Failed fetches for this reason."""
    return value(series, "desk_source_fetch_failures_total", source="bn", reason=reason.value) or 0.0


async def test_a_desk_with_binance_alone_has_value_at_risk_after_its_first_fetch(tmp_path: Path) -> None:
    """And the net asset value is what it adds up to by hand."""
    async with Binance() as venue:
        fill_in(venue)
        content = configuration(venue, interval_seconds=60, stale_after_seconds=60)
        async with running(tmp_path, content) as exporter:
            series = await exporter.until(var_of)
            assert value(series, "desk_source_fetches_total", source="bn") == 1.0
            worth = 1.5 * 60_000 + 1_000_000 * 0.00001 * 60_000 + 500 * 0.999 + 6050 + 0.5 * 200 - 0.5 * 90 + 0.2 * 40
            assert value(series, "desk_portfolio_value", portfolio="book", currency="USDT") == pytest.approx(worth)
            assert value(series, "desk_history_coverage_ratio", portfolio="book") == 1.0
            used = value(series, "desk_source_quota_used_ratio", source="bn")
            assert used is not None
            assert 0.02 < used < 0.2


async def test_the_desk_passes_through_every_failure_of_the_venue(tmp_path: Path) -> None:
    """Each is counted by its reason and takes the numbers away; after each they come back."""
    async with Binance() as venue:
        fill_in(venue)
        async with running(tmp_path, configuration(venue)) as exporter:
            await exporter.until(var_of)
            for given, reason in ((UNAVAILABLE, Reason.SERVER_ERROR), (TRUNCATED, Reason.BAD_RESPONSE), (DROP, Reason.NETWORK)):
                venue.fault("/api/v3/account", given, always=True)
                await exporter.until(lambda series, reason=reason: failures(series, reason) and var_of(series) is None)
                venue.heal()
                await exporter.until(var_of)


async def test_restarted_without_the_venue_its_numbers_are_late_not_there(tmp_path: Path) -> None:
    """Bars and what was priced are kept; what was held is not known: `input_stale`, and no number."""
    async with Binance() as venue:
        fill_in(venue)
        content = configuration(venue)
        async with running(tmp_path, content) as exporter:
            await exporter.until(var_of)
            assert (await exporter.stop())[0] == 0
    async with running(tmp_path, content) as exporter:
        stale = {"analytic": "tail_risk", "reason": "input_stale"}
        series = await exporter.until(lambda series: value(series, "desk_analytic_undefined", **stale))
        assert var_of(series) is None
        assert value(series, "desk_portfolio_value", portfolio="book", currency="USDT") is None
        assert failures(await exporter.until(lambda series: failures(series, Reason.REFUSED)), Reason.REFUSED) > 0
        assert value(series, "desk_price_history_symbols", source="bn") == 5.0
