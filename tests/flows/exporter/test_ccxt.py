"""Two exchanges through ccxt: everything arrives exactly, every failure has its reason, the event loop is left alone."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from deskwatch.clock import ManualClock, SystemClock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.ccxt_exchange import Exchange
from exporter.snapshot import Account, InstrumentTerms, Position, Snapshot
from exporter.source import Kept
from exporter.sources.ccxt import CcxtSource
from tests.flows.exporter.ccxt_desks import (
    DAY,
    EXPIRES,
    MIDNIGHT,
    MS,
    NOW,
    fill_kraken,
    fill_okx,
    settings,
    source,
)
from tests.flows.exporter.running import configuration, running, value
from tests.stand_ins import kraken, okx
from tests.stand_ins.kraken import Kraken
from tests.stand_ins.okx import Okx
from tests.stand_ins.server import DROP, HANG, HTML, Answer
from tests.stand_ins.venue import CUT_SHORT, EMPTY, TOO_MANY, TOO_MANY_FOR_2_SECONDS, TRUNCATED, UNAVAILABLE

YESTERDAY = np.datetime64(datetime.fromtimestamp(MIDNIGHT - DAY, UTC).date(), "D")
FUTURE = f"BTC/USDT:USDT-{datetime.fromtimestamp(EXPIRES / MS, UTC):%y%m%d}"


def at(seconds: float) -> datetime:
    """A time in seconds as aware UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@pytest.fixture
async def kraken_desk() -> AsyncIterator[Kraken]:
    """Kraken with an account."""
    async with Kraken() as exchange:
        fill_kraken(exchange)
        yield exchange


@pytest.fixture
async def okx_desk() -> AsyncIterator[Okx]:
    """OKX with an account."""
    async with Okx() as exchange:
        fill_okx(exchange)
        yield exchange


async def fetched(exchange: str, url: str, **changes: Any) -> Snapshot:
    """One fetch of a new source."""
    made = source(exchange, url, **changes)
    try:
        return await made.fetch(Kept())
    finally:
        await made.close()


async def test_krakens_balances_prices_and_books_arrive_exactly(kraken_desk: Kraken) -> None:
    """To the last digit; cash in its currency, assets under their own names, nothing for what is empty."""
    snapshot = await fetched("kraken", kraken_desk.url, symbols=["BTC/EUR"])
    assert snapshot.positions == (
        Position("crypto", "BTC", Decimal("1.24350000000000000001"), "USD"),
        Position("crypto", "GIFT", Decimal(1000000), "USD"),
    )
    assert snapshot.accounts == (
        Account("crypto", "EUR", Decimal("-0.5")),
        Account("crypto", "USD", Decimal("25435.21000000001")),
    )
    assert {each.symbol: (str(each.price), each.currency) for each in snapshot.prices} == {
        "BTC": ("97000.10000", "USD"), "EUR": ("1.0825", "USD"),
    }  # fmt: skip
    quotes = {each.symbol: each for each in snapshot.quotes}
    assert quotes.keys() == {"BTC", "BTC/EUR"}
    book = quotes["BTC"]
    assert (book.bid, book.ask, book.bid_quantity, book.ask_quantity) == (
        Decimal(97000), Decimal("97001.5"), Decimal("0.5"), Decimal("0.25"),
    )  # fmt: skip
    assert (book.venue, book.currency, book.depth_levels) == ("kraken", "USD", 10)
    assert book.bid_depth_value == sum(Decimal(97000 - level) / 2 for level in range(10))
    assert book.ask_depth_value == sum((Decimal(97001 + level) + Decimal("0.5")) / 4 for level in range(10))
    assert (quotes["BTC/EUR"].bid, quotes["BTC/EUR"].bid_depth_value, quotes["BTC/EUR"].depth_levels) == (None, 0, 1)
    assert snapshot.instruments == (
        InstrumentTerms("BTC", "USD"), InstrumentTerms("GIFT", "USD"), InstrumentTerms("EUR", "USD"),
    )  # fmt: skip
    assert snapshot.notes["no market"] == "GIFT"
    assert snapshot.rejected == ()
    assert snapshot.data_at is not None
    assert NOW - 60 <= snapshot.data_at.timestamp() <= SystemClock().now().timestamp() + 1


async def test_krakens_trades_and_orders_arrive_exactly_and_whole(kraken_desk: Kraken) -> None:
    """Three pages of executions, two of orders, newest first on the wire."""
    snapshot = await fetched("kraken", kraken_desk.url)
    assert len(snapshot.fills) == 130
    by_id = {each.execution_id: each for each in snapshot.fills}
    first = by_id["XXBTZUSD-T001"]
    assert (first.portfolio, first.symbol, first.side, first.currency, first.venue, first.order_id) == (
        "crypto", "BTC", "BUY", "USD", "kraken", "XXBTZUSD-O001",
    )  # fmt: skip
    assert (first.quantity, first.price, first.fee) == (Decimal("0.00012345"), Decimal("96000.1"), Decimal("0.03"))
    assert abs(first.at - at(NOW - 630.25)) < timedelta(milliseconds=1)
    orders = {each.order_id: each for each in snapshot.orders}
    assert len(orders) == 62
    resting, partly = orders["XXBTZUSD-OPEN-1"], orders["XXBTZUSD-OPEN-2"]
    assert (resting.status, resting.quantity, resting.filled_quantity, resting.limit_price, resting.average_price) == (
        "NEW", Decimal("0.5"), 0, Decimal(90000), None,
    )  # fmt: skip
    assert (resting.client_order_id, resting.order_type, resting.side, resting.symbol) == ("desk-1", "limit", "BUY", "BTC")
    assert (partly.status, partly.filled_quantity, partly.average_price) == ("PARTIALLY_FILLED", Decimal("0.1"), Decimal(99000))
    assert (orders["XXBTZUSD-DONE-01"].status, orders["XXBTZUSD-DONE-00"].status) == ("FILLED", "CANCELED")
    assert orders["XXBTZUSD-DONE-01"].updated_at == at(NOW - 4000)


async def test_krakens_bars_are_of_days_that_have_ended(kraken_desk: Kraken) -> None:
    """Of what is held, cash too, for conversion; today's is a price, not a close."""
    snapshot = await fetched("kraken", kraken_desk.url, history_days=500)
    histories = {each.symbol: each for each in snapshot.histories}
    assert histories.keys() == {"BTC", "EUR"}
    assert histories["BTC"].days[-1] == YESTERDAY
    assert histories["BTC"].closes.tolist() == [50_000.5 + back for back in range(500, 0, -1)]
    assert (np.diff(histories["BTC"].days) == np.timedelta64(1, "D")).all()


async def test_okx_contracts_are_in_units_and_their_gain_is_counted_once(okx_desk: Okx) -> None:
    """150 contracts of 0.01 are 1.5 bitcoin; a total that holds 100 of gains beside positions from entry on, less that."""
    snapshot = await fetched("okx", okx_desk.url)
    assert snapshot.positions == (
        Position("crypto", "BTC", Decimal("0.500000000000000001"), "USDT"),
        Position("crypto", "OKB", Decimal(3), "USDT"),
        Position("crypto", "BTC/USDT:USDT", Decimal("1.5"), "USDT", Decimal("90000.5"), Decimal(105)),
        Position("crypto", FUTURE, Decimal("-0.2"), "USDT", Decimal(98000), Decimal(-5)),
    )
    assert snapshot.accounts == (Account("crypto", "USDT", Decimal("10000.25")),)
    assert {each.symbol: each.instrument for each in snapshot.instruments} == {
        "BTC": "spot", "OKB": "spot", "BTC/USDT:USDT": "perpetual", FUTURE: "future",
    }  # fmt: skip
    assert all(each.multiplier == 1 for each in snapshot.instruments)
    prices = {each.symbol: each for each in snapshot.prices}
    assert {name: each.price for name, each in prices.items()} == {
        "BTC": Decimal("97000.1"), "OKB": Decimal(50), "BTC/USDT:USDT": Decimal("97000.25"), FUTURE: Decimal(97500),
    }  # fmt: skip
    assert prices["BTC"].at == at(NOW - 2)
    quotes = {each.symbol: each for each in snapshot.quotes}
    assert quotes["BTC/USDT:USDT"].bid_quantity == Decimal("0.05")
    assert quotes["BTC/USDT:USDT"].ask_depth_value == sum(Decimal(97001 + level) / 10 for level in range(10))
    assert quotes["BTC"].bid_quantity == 5
    assert quotes["BTC"].at == at(NOW - 1)
    assert {each.symbol: (each.days.size, each.closes[-1]) for each in snapshot.histories} == dict.fromkeys(
        ("BTC", "OKB", "BTC/USDT:USDT", FUTURE), (550, 60_001.0)
    )
    assert snapshot.rejected == ()


async def test_okx_fills_and_orders_of_every_type_of_market(okx_desk: Okx) -> None:
    """Contracts as units; a fee in a third asset at its price in that minute, one in the base asset at the trade's."""
    snapshot = await fetched("okx", okx_desk.url)
    fills = {each.execution_id: each for each in snapshot.fills}
    assert len(fills) == 253
    swap = fills[f"BTC-USDT-SWAP-t{(NOW - 60) * MS}"]
    assert (swap.symbol, swap.quantity, swap.price, swap.fee, swap.currency) == (
        "BTC/USDT:USDT", Decimal("0.1"), Decimal("97000.5"), Decimal("0.25"), "USDT",
    )  # fmt: skip
    assert fills["BTC-USDT-t1"].fee == Decimal("0.02") * Decimal("51.5")
    assert fills["BTC-USDT-t2"].fee == Decimal("0.0002") * 97000
    name = next(each["instId"] for each in okx_desk.instruments if each["instType"] == "FUTURES")
    rebate = fills[f"{name}-t3"]
    assert (rebate.fee, rebate.quantity, rebate.symbol, rebate.side) == (Decimal("-0.5"), Decimal("0.2"), FUTURE, "SELL")
    orders = {each.symbol + each.status: each for each in snapshot.orders}
    assert {name: (each.quantity, each.filled_quantity) for name, each in orders.items()} == {
        "BTC/USDT:USDTNEW": (Decimal("0.05"), 0),
        "BTCPARTIALLY_FILLED": (Decimal("0.5"), Decimal("0.2")),
        "BTCFILLED": (Decimal("0.1"), Decimal("0.1")),
        f"{FUTURE}CANCELED": (Decimal("0.2"), 0),
    }
    assert orders["BTC/USDT:USDTNEW"].client_order_id == "mine"


async def test_an_inverse_contract_has_no_price_and_is_said_to_have_none(okx_desk: Okx) -> None:
    """Its risk is not linear in its price: a portfolio that holds it has no value rather than a wrong one."""
    okx_desk.positions = [okx.position("ETH-USD-SWAP", "7", "3100", "3000", "-0.01", ccy="ETH")]
    okx_desk.balances.append(okx.balance("ETH", "1", "1.01", "-0.01"))
    okx_desk.instruments.append(okx.spot("ETH", "USDT"))
    okx_desk.tickers.append(okx.ticker("ETH-USDT", "3000", "2999", "3001", NOW * MS))
    okx_desk.books["ETH-USDT"] = okx_desk.books["BTC-USDT"]
    okx_desk.bars["ETH-USDT"] = okx_desk.bars["BTC-USDT"]
    snapshot = await fetched("okx", okx_desk.url, symbols=["ETH/USD:ETH"])
    name = "ETH/USD:ETH"
    assert {each.symbol: each.instrument for each in snapshot.instruments}[name] == "unknown"
    held = {each.symbol: each for each in snapshot.positions}
    assert (held[name].quantity, held[name].unrealized_pnl) == (Decimal(70), None)
    assert held["ETH"].quantity == Decimal("1.01"), "the gain in the total is taken out of it"
    for kind in ("prices", "quotes", "histories"):
        assert name not in {each.symbol for each in getattr(snapshot, kind)}
    assert snapshot.notes["no value is computed for"] == name


async def test_long_and_short_of_one_contract_are_two_positions(okx_desk: Okx) -> None:
    """In hedge mode the exchange writes both with a positive number; margin modes are apart too."""
    okx_desk.positions = [
        okx.position("BTC-USDT-SWAP", "100", "90000", "97000", "70", "long"),
        okx.position("BTC-USDT-SWAP", "40", "98000", "97000", "4", "short"),
        okx.position("BTC-USDT-SWAP", "10", "98000", "97000", "-1", "long", mgnMode="isolated", posId="other"),
    ]
    snapshot = await fetched("okx", okx_desk.url)
    assert [str(each.quantity) for each in snapshot.positions[2:]] == ["1.00", "-0.40", "0.10"]
    assert snapshot.accounts[0].cash == Decimal("10100.25") - 73


async def test_a_record_that_cannot_be_read_costs_only_itself_and_its_portfolio(okx_desk: Okx) -> None:
    """A field that is missing, a number that is none, an instrument nobody lists."""
    okx_desk.positions[0]["pos"] = ""
    okx_desk.fills[3]["fillPx"] = "free"
    okx_desk.fills[5]["fillPx"] = ""
    okx_desk.fills[4]["feeCcy"] = "UNHEARD"
    okx_desk.orders[0]["side"] = ""
    okx_desk.books["OKB-USDT"]["bids"][0] = ["97000.5", "-3", "0", "1"]
    okx_desk.balances[1] |= {"eq": "", "availBal": "", "frozenBal": ""}
    snapshot = await fetched("okx", okx_desk.url)
    assert {(each.kind, each.reason, each.portfolio) for each in snapshot.rejected} == {
        ("positions", "missing", "crypto"), ("fills", "missing", "crypto"), ("fills", "fee_not_convertible", "crypto"),
        ("orders", "missing", "crypto"), ("quotes", "negative", None),
    }  # fmt: skip
    assert len([each for each in snapshot.rejected if each.kind == "positions"]) == 2
    assert (len(snapshot.fills), len(snapshot.orders), len(snapshot.quotes)) == (250, 3, 1)


async def test_a_held_contract_whose_gain_is_not_known_leaves_the_account_undefined(okx_desk: Okx) -> None:
    """Rather than counted twice; the configuration can say how it is."""
    assert (await fetched("okx", okx_desk.url, totals_include_gains=False)).accounts[0].cash == Decimal("10100.25")
    for position in okx_desk.positions:
        position["upl"] = ""
    snapshot = await fetched("okx", okx_desk.url)
    assert snapshot.accounts == ()
    assert [(each.kind, each.reason, each.portfolio) for each in snapshot.rejected] == [("accounts", "gains_unknown", "crypto")]
    assert (await fetched("okx", okx_desk.url, read=["positions"])).rejected == ()


async def test_a_second_fetch_asks_only_for_what_may_have_changed(kraken_desk: Kraken) -> None:
    """Markets, bars and old executions are known; what is new is seen."""
    clock = ManualClock(SystemClock().now())
    made = source("kraken", kraken_desk.url, clock)
    first = await made.fetch(Kept())
    asked = len(kraken_desk.requests)
    kraken_desk.account.trades["NEW"] = kraken.trade("XXBTZUSD", NOW + 1.0, "buy", "97000", "0.5", "1", "O-NEW")
    kraken_desk.account.balances["XXBT"]["balance"] = "1.5"
    await clock.advance(60)
    second = await made.fetch(Kept())
    await made.close()
    paths = [request.path.rpartition("/")[2] for request in kraken_desk.requests[asked:]]
    assert not {"AssetPairs", "Assets", "OHLC"} & set(paths)
    assert paths.count("TradesHistory") <= 2
    assert second.positions[0].quantity == Decimal("1.5")
    assert {each.execution_id for each in second.fills} - {each.execution_id for each in first.fills} == {"XXBTZUSD-NEW"}
    assert len(second.fills) == 131
    assert all(one is other for one, other in zip(first.histories, second.histories, strict=True))


async def test_an_order_that_is_open_no_more_is_read_again_from_when_it_was_placed(kraken_desk: Kraken) -> None:
    """It ended between two fetches; nothing of it stays open here."""
    made = source("kraken", kraken_desk.url)
    await made.fetch(Kept())
    gone = kraken_desk.account.open.pop("OPEN-1")
    kraken_desk.account.closed["OPEN-1"] = {
        **gone,
        "status": "closed",
        "vol_exec": "0.5",
        "price": "90000",
        "closetm": NOW - 1.0,
    }
    snapshot = await made.fetch(Kept())
    await made.close()
    orders = {each.order_id: each.status for each in snapshot.orders}
    assert orders["XXBTZUSD-OPEN-1"] == "FILLED"
    assert len(orders) == 62


async def test_bars_are_asked_for_when_a_day_has_ended_and_overlap_what_is_kept(kraken_desk: Kraken) -> None:
    """Whole without any; from some kept days on with them; an hourly question while a day that ended has not appeared."""
    clock = ManualClock(at(MIDNIGHT + 3600))
    for pair in kraken_desk.bars:
        kraken_desk.bars[pair].pop()  # nobody has traded yet today
    made = source("kraken", kraken_desk.url, clock, read=["histories", "positions"])
    whole = (await made.fetch(Kept())).histories
    kept = Kept(clock.now(), {each.symbol: each for each in whole})
    ohlc = "/0/public/OHLC"
    assert len(kraken_desk.asked(ohlc)) == 2
    await made.fetch(kept)
    assert len(kraken_desk.asked(ohlc)) == 2, "nothing has ended since"
    await clock.advance(DAY)
    await made.fetch(kept)
    assert len(kraken_desk.asked(ohlc)) == 4
    await clock.advance(1800)
    await made.fetch(kept)
    assert len(kraken_desk.asked(ohlc)) == 4, "it has not appeared, and is asked for again in an hour"
    for pair in ("XXBTZUSD", "ZEURZUSD"):
        kraken_desk.bars[pair].append(kraken.bar(MIDNIGHT, "7"))
    await clock.advance(1801)
    newest = (await made.fetch(kept)).histories
    assert {each.days.size for each in newest} == {6}
    assert {each.days[-1] for each in newest} == {YESTERDAY + 1}
    await made.fetch(Kept(clock.now(), {"BTC": kept.histories["BTC"]}))
    assert len(kraken_desk.asked(ohlc)) == 7, "what is kept no more is asked for whole"
    await made.close()


async def test_a_desk_of_public_data_needs_no_key(okx_desk: Okx) -> None:
    """Nothing private is asked for."""
    made = source("okx", okx_desk.url, credentials={}, symbols=["BTC/USDT", "BTC-USDT-SWAP", "NO/SUCH"])
    snapshot = await made.fetch(Kept())
    await made.close()
    assert made.provides == {"instruments", "prices", "quotes", "histories"}
    assert {each.symbol: each.price for each in snapshot.prices} == {
        "BTC": Decimal("97000.1"), "BTC/USDT:USDT": Decimal(97010),
    }  # fmt: skip
    assert [(each.record, each.reason) for each in snapshot.rejected] == [("symbols: NO/SUCH", "unknown_symbol")]
    assert not okx_desk.asked("/api/v5/account") + okx_desk.asked("/api/v5/trade") + okx_desk.asked("/api/v5/asset")


async def test_every_option_of_a_venue_does_what_it_says(okx_desk: Okx) -> None:
    """portfolio, read, look_back_days, history_days, ignored and cash assets, dust, depth, types of markets."""
    snapshot = await fetched(
        "okx", okx_desk.url, portfolio=None, read=["positions", "fills", "quotes", "histories"], look_back_days=0.01,
        history_days=30, ignored_assets=["OKB"], cash_assets=["BTC"], depth_levels=0, market_types=["spot", "swap"],
    )  # fmt: skip
    assert {each.portfolio for each in (*snapshot.positions, *snapshot.fills)} == {"okx"}
    assert snapshot.prices == snapshot.orders == snapshot.accounts == ()
    assert [each.symbol for each in snapshot.positions] == ["BTC/USDT:USDT"]
    assert len(snapshot.fills) == 14
    assert {each.symbol: (each.bid, each.depth_levels, each.bid_quantity) for each in snapshot.quotes} == {
        "BTC/USDT:USDT": (Decimal(97009), 0, None),
    }  # fmt: skip
    assert {each.days.size for each in snapshot.histories} == {30}
    assert snapshot.notes["ignored_assets"] == "OKB"
    assert not [each for each in okx_desk.asked("/api/v5/trade/fills") if each.query["instType"] == "FUTURES"]
    deep = await fetched("okx", okx_desk.url, read=["quotes", "positions"], depth_levels=150, minimum_notional=200)
    assert {each.depth_levels for each in deep.quotes} == {150}
    assert deep.notes["below minimum_notional"] == "1 assets worth 150.00 USDT"
    assert "OKB" not in {each.symbol for each in deep.positions}


async def test_only_wanted_types_of_markets_are_read(kraken_desk: Kraken, okx_desk: Okx) -> None:
    """Also where the exchange answers for all of them at once; and nothing is asked for that changes nothing."""
    snapshot = await fetched("okx", okx_desk.url, market_types=["spot"], read=["positions", "orders"])
    assert {each.symbol for each in (*snapshot.positions, *snapshot.orders)} == {"BTC", "OKB"}
    assert not okx_desk.asked("/api/v5/account/positions")
    snapshot = await fetched("okx", okx_desk.url, market_types=["spot", "swap"], read=["orders"])
    assert {each.symbol for each in snapshot.orders} == {"BTC", "BTC/USDT:USDT"}
    await fetched("okx", okx_desk.url, read=["accounts"], totals_include_gains=False)
    assert not okx_desk.asked("/api/v5/account/positions")
    await fetched("kraken", kraken_desk.url, read=["accounts"])
    assert not kraken_desk.asked("/0/private/OpenPositions")


async def test_borrowed_money_on_a_spot_exchange_leaves_the_portfolio_undefined(kraken_desk: Kraken) -> None:
    """ccxt gives a margin position's opened volume, not what is left of it."""
    position = {"pair": "XXBTZUSD", "type": "buy", "leverage": "2", "cost": "1", "vol": "2", "vol_closed": "1", "margin": "1"}
    kraken_desk.account.positions = [position]
    snapshot = await fetched("kraken", kraken_desk.url, read=["positions"])
    assert [(each.kind, each.reason, each.portfolio) for each in snapshot.rejected] == [
        ("positions", "margin_position", "crypto")
    ]


async def test_balances_of_several_accounts_are_added_up(okx_desk: Okx) -> None:
    """Each asked for by its type."""
    snapshot = await fetched(
        "okx", okx_desk.url, account_types=["trading", "spot"], read=["accounts"], totals_include_gains=False
    )
    assert snapshot.accounts[0].cash == 2 * Decimal("10100.25")


KRAKEN_FAULTS = [
    (kraken.INVALID_KEY, Permanent, Reason.AUTH),
    (kraken.INVALID_SIGNATURE, Permanent, Reason.AUTH),
    (kraken.PERMISSION_DENIED, Permanent, Reason.AUTH),
    (kraken.INVALID_NONCE, Retryable, Reason.AUTH),
    (kraken.RATE_LIMITED, Retryable, Reason.RATE_LIMITED),
    (kraken.LOCKED_OUT, Retryable, Reason.RATE_LIMITED),
    (kraken.UNAVAILABLE, Retryable, Reason.SERVER_ERROR),
    (kraken.BUSY, Retryable, Reason.SERVER_ERROR),
    (kraken.CANCEL_ONLY, Retryable, Reason.SERVER_ERROR),
    (kraken.INVALID_ARGUMENTS, Permanent, Reason.REJECTED),
    (kraken.UNHEARD_OF, Retryable, Reason.REJECTED),
]
OKX_FAULTS = [
    (okx.INVALID_KEY, Permanent, Reason.AUTH),
    (okx.INVALID_SIGN, Permanent, Reason.AUTH),
    (okx.WRONG_PASSPHRASE, Permanent, Reason.AUTH),
    (okx.NOT_ALLOWED_HERE, Permanent, Reason.AUTH),
    (okx.EXPIRED, Retryable, Reason.AUTH),
    (okx.TOO_MANY, Retryable, Reason.RATE_LIMITED),
    (okx.TOO_MANY_FOR_3_SECONDS, Retryable, Reason.RATE_LIMITED),
    (okx.UNAVAILABLE, Retryable, Reason.SERVER_ERROR),
    (okx.BUSY, Retryable, Reason.SERVER_ERROR),
]
COMMON_FAULTS = [
    (TOO_MANY, Retryable, Reason.RATE_LIMITED),
    (TOO_MANY_FOR_2_SECONDS, Retryable, Reason.RATE_LIMITED),
    (Answer(418, "banned", {"Retry-After": "2"}), Retryable, Reason.RATE_LIMITED),
    (HANG, Retryable, Reason.TIMEOUT),
    (DROP, Retryable, Reason.NETWORK),
    (CUT_SHORT, Retryable, Reason.NETWORK),
    (HTML, Retryable, Reason.BAD_RESPONSE),
    (TRUNCATED, Retryable, Reason.BAD_RESPONSE),
    (EMPTY, Retryable, Reason.BAD_RESPONSE),
    (Answer(200, '"text"', content_type="application/json"), Retryable, Reason.BAD_RESPONSE),
    (Answer(200, "null", content_type="application/json"), Retryable, Reason.BAD_RESPONSE),
    (UNAVAILABLE, Retryable, Reason.SERVER_ERROR),
    (Answer(520, "<html>origin</html>", content_type="text/html"), Retryable, Reason.SERVER_ERROR),
    (Answer(500, "<html>oops</html>", content_type="text/html"), Retryable, Reason.SERVER_ERROR),
    (Answer(404, "<html>nothing here</html>", content_type="text/html"), Permanent, Reason.NOT_FOUND),
    (Answer(402, "<html>pay</html>", content_type="text/html"), Retryable, Reason.BAD_RESPONSE),
    (Answer(302, headers={"Location": "http://127.0.0.1:1/"}), Permanent, Reason.REJECTED),
    (Answer(403, "<html>blocked</html>", content_type="text/html"), Permanent, Reason.AUTH),
]


@pytest.mark.parametrize(
    ("exchange", "path", "fault", "kind", "reason"),
    [
        *(("kraken", "/0/private/BalanceEx", *each) for each in (*KRAKEN_FAULTS, *COMMON_FAULTS)),
        *(("okx", "/api/v5/account/balance", *each) for each in (*OKX_FAULTS, *COMMON_FAULTS)),
    ],
)
async def test_each_failure_has_its_reason_and_the_next_fetch_is_good(
    kraken_desk: Kraken, okx_desk: Okx, exchange: str, path: str, fault: Answer, kind: type[Exception], reason: Reason
) -> None:
    """Never an empty account, and no secret in the message."""
    desk = kraken_desk if exchange == "kraken" else okx_desk
    patience = 0.4 if fault is HANG else 10.0  # short only where it is waited for in full
    made = source(exchange, desk.url, http={"timeout_seconds": patience}, read=["positions", "accounts"])
    try:
        await made.fetch(Kept())
        # The HTTP client itself asks once more where a connection it had kept was dropped under a GET.
        desk.fault(path, *([fault] * (2 if exchange == "okx" and fault is DROP else 1)))
        with pytest.raises(kind, match=rf"^{exchange} fetch_balance") as caught:
            await made.fetch(Kept())
        assert caught.value.reason is reason  # type: ignore[attr-defined]
        if "Retry-After" in fault.headers:
            assert caught.value.retry_after_seconds == float(fault.headers["Retry-After"])  # type: ignore[attr-defined]
        for secret in (kraken.KEY, kraken.SECRET, okx.KEY, okx.SECRET, okx.PASSPHRASE, "127.0.0.1"):
            assert secret not in str(caught.value)
        assert len((await made.fetch(Kept())).positions) >= 2
    finally:
        await made.close()


@pytest.mark.parametrize(("path", "parts"), [
    ("/0/public/AssetPairs", ()), ("/0/public/Ticker", ()), ("/0/public/Depth", ()), ("/0/private/OpenOrders", ()),
    ("/0/private/ClosedOrders", ()), ("/0/private/TradesHistory", ()), ("/0/public/OHLC", ()), ("/0/private/OpenPositions", ()),
])  # fmt: skip
async def test_whatever_part_fails_the_fetch_fails_and_is_whole_afterwards(kraken_desk: Kraken, path: str, parts: Any) -> None:
    """Also where the failure leaves a page half-way."""
    made = source("kraken", kraken_desk.url)
    kraken_desk.fault(path, HTML)
    with pytest.raises(Retryable) as caught:
        await made.fetch(Kept())
    assert caught.value.reason is Reason.BAD_RESPONSE
    snapshot = await made.fetch(Kept())
    await made.close()
    assert (len(snapshot.fills), len(snapshot.orders), len(snapshot.histories), snapshot.rejected) == (130, 62, 2, ())


async def test_a_market_the_exchange_refuses_costs_only_itself(okx_desk: Okx) -> None:
    """A symbol delisted since the markets were read."""
    del okx_desk.books["OKB-USDT"], okx_desk.bars["OKB-USDT"]
    snapshot = await fetched("okx", okx_desk.url)
    assert {(each.kind, each.record, each.reason) for each in snapshot.rejected} == {
        ("quotes", "OKB/USDT", "unknown_symbol"), ("histories", "OKB/USDT", "unknown_symbol"),
    }  # fmt: skip
    assert len(snapshot.quotes) == len(snapshot.histories) == 3


async def test_markets_that_cannot_be_refreshed_serve_on(kraken_desk: Kraken) -> None:
    """Reference data of yesterday is better than none; it is noted, and tried again."""
    clock = ManualClock(SystemClock().now())
    made = source("kraken", kraken_desk.url, clock, read=["accounts"], markets_refresh_seconds=3600)
    await made.fetch(Kept())
    kraken_desk.fault("/0/public/AssetPairs", UNAVAILABLE, always=True)
    await clock.advance(3601)
    snapshot = await made.fetch(Kept())
    assert "the old ones serve on" in snapshot.notes["markets"]
    assert len(snapshot.accounts) == 2
    kraken_desk.heal()
    await clock.advance(301)
    assert "markets" not in (await made.fetch(Kept())).notes
    assert len(kraken_desk.asked("/0/public/AssetPairs")) == 3
    await made.close()


async def test_a_fetch_cut_off_by_its_deadline_goes_on_where_it_stopped(kraken_desk: Kraken) -> None:
    """Executions and bars come piece by piece; what is missing makes undefined what needs it, and says so."""
    clock = Impatient(calls=8)
    made = CcxtSource(source("kraken", kraken_desk.url).config, clock)
    first = await made.fetch(Kept())
    assert {(each.kind, each.reason) for each in first.rejected} >= {("fills", "incomplete")}
    assert first.notes["daily bars"].endswith("symbols are still to be read")
    for _ in range(4):
        clock.calls = 8
        last = await made.fetch(Kept())
    await made.close()
    assert (last.rejected, len(last.fills), len(last.histories)) == ((), 130, 2)


class Impatient(SystemClock):
    """A clock on which time is up after so many looks at it."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self._monotonic = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        self.calls -= 1
        if self.calls < 0:
            self._monotonic += 100.0
        return self._monotonic


async def test_a_fetch_that_is_cancelled_ends_and_the_next_one_works(okx_desk: Okx) -> None:
    """What the poller does at the deadline."""
    made = source("okx", okx_desk.url, read=["accounts"])
    okx_desk.fault("/api/v5/account/balance", HANG)
    fetching = asyncio.ensure_future(made.fetch(Kept()))
    await okx_desk.until(lambda: bool(okx_desk.asked("/api/v5/account/balance")))
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert len((await made.fetch(Kept())).accounts) == 1
    await made.close()


async def test_headroom_makes_calls_rarer(okx_desk: Okx) -> None:
    """ccxt learns no limit from headers: leaving half of it means asking half as often. Beside none left, in the same run."""

    async def seconds(headroom: float) -> float:
        made = source("okx", okx_desk.url, call_milliseconds=60, quota_headroom_ratio=headroom, read=["accounts"])
        begun = asyncio.get_running_loop().time()
        await made.fetch(Kept())
        took = asyncio.get_running_loop().time() - begun
        await made.close()
        assert made.quota_used_ratio is None
        return took

    assert await seconds(0.75) > 1.7 * await seconds(0.0)


async def test_tls_and_addresses_that_lead_nowhere(tmp_path: Path, okx_desk: Okx) -> None:
    """Refused, no such name, a certificate nobody signed; one whose authority is named is believed."""
    for url, reason in (("http://127.0.0.1:1", Reason.REFUSED), ("http://nowhere.invalid", Reason.DNS)):
        made = source("okx", url)
        with pytest.raises(Retryable) as caught:
            await made.fetch(Kept())
        assert caught.value.reason is reason
        await made.close()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Tls(authority, okx_desk) as url:
        made = source("okx", url, credentials={}, symbols=["BTC/USDT"])
        with pytest.raises(Retryable) as caught:
            await made.fetch(Kept())
        assert caught.value.reason is Reason.TLS
        await made.close()
        made = source("okx", url, credentials={}, symbols=["BTC/USDT"], http={"ca_file": str(tmp_path / "ca.pem")})
        assert len((await made.fetch(Kept())).prices) == 1
        await made.close()


class Tls:
    """A door with a certificate in front of a server: passes bytes on."""

    def __init__(self, authority: trustme.CA, behind: Okx) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._port = int(behind.url.rpartition(":")[2])

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while part := await source.read(65536):
                    sink.write(part)
                    await sink.drain()
            except (ConnectionError, OSError):
                pass
            finally:
                sink.close()

        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))


async def test_a_proxy_is_used(okx_desk: Okx) -> None:
    """Every request goes to it, with the whole address."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.split(b" ", 2)[1].decode())
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        made = source("okx", "http://exchange.example", http={"proxy": f"http://127.0.0.1:{port}"})
        with pytest.raises(Retryable):
            await made.fetch(Kept())
        await made.close()
    assert seen[0].startswith("http://exchange.example/api/v5/")


async def test_an_exporter_with_this_source_alone_values_the_desk(
    tmp_path: Path, okx_desk: Okx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own: value and VaR after the first fetch; a failing exchange's reason is counted; it recovers."""
    monkeypatch.setattr("tests.flows.exporter.running.PATIENCE_SECONDS", 90)  # ccxt alone takes seconds on a busy machine
    content = settings("okx", okx_desk.url) | {
        "interval_seconds": 0.2, "timeout_seconds": 5, "stale_after_seconds": 2, "ignored_assets": ["OKB"],
    }  # fmt: skip
    portfolios = [{"name": "crypto", "base_currency": "USDT"}]
    async with running(tmp_path, configuration(sources=[content], portfolios=portfolios, limits=[])) as exporter:
        wanted = {"portfolio": "crypto", "currency": "USDT"}
        series = await exporter.until(lambda page: value(page, "desk_portfolio_value", **wanted) is not None)
        gains = 1.5 * (97000.25 - 90000.5) - 0.2 * (97500 - 98000)
        assert value(series, "desk_portfolio_value", **wanted) == pytest.approx(10000.25 + 0.5 * 97000.1 + gains, rel=1e-12)
        var = {"portfolio": "crypto", "method": "historical", "confidence": "0.99", "horizon": "1d"}
        await exporter.until(lambda page: value(page, "desk_var_ratio", **var) is not None)
        okx_desk.fault("/api/v5/account/balance", okx.TOO_MANY, always=True)
        failed = {"source": "okx", "reason": "rate_limited"}
        await exporter.until(
            lambda page: (
                (value(page, "desk_source_fetch_failures_total", **failed) or 0) > 0
                and value(page, "desk_portfolio_value", **wanted) is None
            )
        )
        okx_desk.heal()
        await exporter.until(lambda page: value(page, "desk_portfolio_value", **wanted) is not None)
    said = str(exporter.said)
    for secret in (okx.KEY, okx.SECRET, okx.PASSPHRASE):
        assert secret not in said


SERVE_MARKETS = """
import http.server, json, sys
sys.path.insert(0, sys.argv[1])
from tests.stand_ins import okx
filler = {f"field{place}": "x" * 60 for place in range(50)}
data = [{**okx.spot(f"C{place}", "USDT"), **filler} for place in range(3600)]
body = json.dumps({"code": "0", "msg": "", "data": data}).encode()
none = json.dumps({"code": "0", "msg": "", "data": []}).encode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = body if "instType=SPOT" in self.path else none
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


async def test_loading_an_exchange_of_15_megabytes_does_not_stop_the_event_loop() -> None:
    """Beside the same in the loop itself, in the same run; with the interpreter as the exporter sets it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", SERVE_MARKETS, root]
    serving = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert serving.stdout is not None
        url = f"http://127.0.0.1:{int(await serving.stdout.readline())}"
        made = source("okx", url, credentials={}, read=["instruments"])
        aside = await longest_wait(made.fetch(Kept()))
        assert len(made._exchange.markets) == 3600
        await made.close()
        direct = Exchange(made.config.access(), SystemClock())
        control = await longest_wait(direct.refresh())
        await direct.close()
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()
        serving.kill()
        await serving.wait()
    assert control > 0.15
    assert aside < control / 3, (aside, control)


async def longest_wait(work: Any) -> float:
    """The most this process computed while its loop wanted to go on and could not, in seconds: other processes do not count."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            begun = time.process_time()
            await asyncio.sleep(0.001)
            lags.append(time.process_time() - begun)

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await work
    await asyncio.sleep(0.005)
    watching.cancel()
    return max(lags)
