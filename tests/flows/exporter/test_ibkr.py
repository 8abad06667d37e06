"""IBKR's Client Portal over real sockets: every record arrives whole, each failure has its reason, no session is taken."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable, Throttled
from exporter.snapshot import Account, Fill, InstrumentTerms, Order, Position, Price, Quote, Snapshot
from exporter.source import Kept
from exporter.sources.ibkr import Config, IbkrSource
from tests.flows.exporter.ibkr_desk import ACCOUNT, INTERVAL, NOW, YESTERDAY, BriskClock, Desk, desk
from tests.flows.exporter.running import configuration, running, value
from tests.stand_ins import ibkr_bodies as body
from tests.stand_ins.ibkr import LOGIN_PAGE, TOO_MANY, Gateway
from tests.stand_ins.ibkr_bodies import (
    AAPL,
    AAPL_IN_MEXICO,
    BITCOIN,
    ES,
    ES_MARCH,
    EUR_USD,
    SPY,
    USD_SGD,
    VODAFONE,
    Listed,
)
from tests.stand_ins.server import DROP, HANG, HTML, SERVER_ERROR, Answer
from tests.stand_ins.venue import CUT_SHORT, EMPTY, TRUNCATED, UNAVAILABLE, answer

D = Decimal
GBP_USD = Listed(12087797, "GBP", "CASH", is_us=None, description="GBP.USD", exchange="IDEALPRO")


def reasons(snapshot: Snapshot) -> Counter[tuple[str, str]]:
    """What was left out: kind and reason."""
    return Counter((each.kind, each.reason) for each in snapshot.rejected)


# Records.


async def test_everything_arrives_exactly() -> None:
    """Numbers as on the wire, signs, times, names; what is held with nothing and what the ledger has already are left out."""
    async with desk(symbols=["SPY"]) as given:
        found = await given.settled()
        at, updated = found.fetched_at, NOW - timedelta(seconds=1)
        assert found.rejected == ()
        assert found.instruments == (
            InstrumentTerms("SPY", "USD", None, "share", D(1)),
            InstrumentTerms("AAPL", "USD", "Technology", "share", D(1)),
            InstrumentTerms("ES-20261218", "USD", None, "future", D("50.0")),
            InstrumentTerms("VOD", "GBP", None, "share", D(1)),
            InstrumentTerms("AAPL-20260116-C-195", "USD", None, "option", D("100.0")),
            InstrumentTerms("EUR.USD", "USD", None, "spot", D(1)),
        )
        assert found.positions == (
            Position("book", "AAPL", D("614.2639"), "USD", D("192.7477563"), D("2847.88")),
            Position("book", "ES-20261218", D("-2.0"), "USD", D("4990.5"), D("-975.0")),
            Position("book", "VOD", D("100.0"), "GBP", D("0.71"), D("0.0")),
            Position("book", "AAPL-20260116-C-195", D("1.0"), "USD", D("12.5"), D("0.0")),
        )
        ledger_at = datetime(2023, 12, 14, 19, 32, 1, tzinfo=UTC)
        assert found.prices == (
            Price("AAPL", D("197.3840027"), "USD", at),
            Price("ES-20261218", D("5000.25"), "USD", at),
            Price("VOD", D("0.71"), "GBP", at),
            Price("AAPL-20260116-C-195", D("12.5"), "USD", at),
            Price("EUR", D("1.0853"), "USD", ledger_at),
            Price("GBP", D("1.27"), "USD", ledger_at),
            Price("SPY", D("600.01"), "USD", updated),
        )
        assert found.accounts == (
            Account(
                portfolio="book", currency="USD", cash=D("100000.5"), equity=D("226843.75"), buying_power=D("400002.25"),
                initial_margin=D("12000.5"), maintenance_margin=D("11000.25"), daily_pnl=D("15.7"), realized_pnl=D("12.5"),
                unrealized_pnl=D("1872.88"), trading_blocked=False,
            ),
            Account("book", "EUR", D("5000.25"), realized_pnl=D("0.0"), unrealized_pnl=D("0.0")),
            Account("book", "GBP", D("0.0"), realized_pnl=D("0.0"), unrealized_pnl=D("1.5")),
        )  # fmt: skip
        assert found.orders == (
            Order(
                order_id="1", portfolio="book", symbol="AAPL", side="BUY", quantity=D("5.0"), filled_quantity=D("0.0"),
                status="NEW", submitted_at=NOW - timedelta(minutes=2), venue="ibkr", limit_price=D("190.00"),
                updated_at=NOW - timedelta(minutes=2), client_order_id="ref-1", order_type="limit",
            ),
            Order(
                order_id="2", portfolio="book", symbol="ES-20261218", side="SELL", quantity=D("1.0"), filled_quantity=D("1.0"),
                status="FILLED", submitted_at=datetime(2026, 3, 4, 14, 58, 58, tzinfo=UTC), venue="ibkr",
                average_price=D("5000.50"), updated_at=NOW - timedelta(minutes=1), client_order_id="ref-2", order_type="market",
            ),
        )  # fmt: skip
        assert found.fills == (
            Fill(
                execution_id="0000e0d5.6576fd38.01.01", portfolio="book", symbol="ES-20261218", side="SELL", quantity=D("1.0"),
                price=D("5000.50"), currency="USD", at=NOW - timedelta(minutes=1), venue="ibkr", fee=D("2.25"),
            ),
        )  # fmt: skip
        assert found.quotes == (
            Quote("SPY", "USD", "ibkr", updated, D("599.98"), D("1600.02"), D(120000), D(300)),
            Quote("AAPL", "USD", "ibkr", updated, D("197.38"), D("197.41"), D(1200), D(300)),
            Quote("ES-20261218", "USD", "ibkr", updated, D("5000.25"), D("5000.50"), D(31), D(27)),
            Quote("VOD", "GBP", "ibkr", updated, D("0.71"), D("0.712"), D(1200), D(5)),
        )
        assert (found.data_at, found.notes["brokerage session"]) == (updated, "there")


async def test_bars_arrive_for_what_is_held_what_is_configured_and_the_currencies() -> None:
    """Days that are over only, a share in pence in pounds, and the rates that make them one currency."""
    async with desk(symbols=["SPY"], history_days=365) as given:
        found = {each.symbol: each for each in (await given.settled()).histories}
        assert set(found) == {"AAPL", "SPY", "ES-20261218", "VOD", "EUR", "EUR.USD"}
        for symbol, listed, scale in (("AAPL", AAPL, 1), ("SPY", SPY, 1), ("ES-20261218", ES, 1), ("VOD", VODAFONE, 100)):
            told = [(at.date(), close) for at, close in given.gateway.bars[listed.conid]]
            wanted = [(day, close / scale) for day, close in told if NOW.date() - timedelta(days=365) <= day <= YESTERDAY]
            history = found[symbol]
            assert [day.astype(date) for day in history.days] == [day for day, _ in wanted]
            np.testing.assert_array_equal(history.closes, np.array([close for _, close in wanted]))
        assert (found["VOD"].currency, found["EUR"].currency) == ("GBP", "USD")
        # The session of a currency begins the evening before.
        assert [found["EUR"].days[-1].astype(date), found["EUR"].closes[-1]] == [YESTERDAY, given.gateway.bars[12087792][-2][1]]
        sources = {each.query["conid"]: each.query["source"] for each in given.gateway.asked("/iserver/marketdata/history")}
        assert (sources["12087792"], sources["265598"]) == ("Midpoint", "Trades")


async def test_bars_that_are_kept_are_not_asked_for_again() -> None:
    """Only when a newer day has ended, and then from some days before it on."""
    async with desk(read=["positions", "histories"], history_days=365) as given:
        given.kept = {each.symbol: each for each in (await given.settled()).histories}
        before = len(given.gateway.asked("/iserver/marketdata/history"))
        assert (await given.later(times=3)).histories == ()
        assert len(given.gateway.asked("/iserver/marketdata/history")) == before
        given.gateway.bars[AAPL.conid] = body.weekdays(date(2026, 3, 5), 10, first_close=190.0)
        given.clock.jump(24 * 3600.0)
        (apple,) = [each for each in (await given.later()).histories if each.symbol == "AAPL"]
        assert [str(day) for day in apple.days] == [
            "2026-02-25",
            "2026-02-26",
            "2026-02-27",
            "2026-03-02",
            "2026-03-03",
            "2026-03-04",
        ]
        asked = given.gateway.asked("/iserver/marketdata/history")[before:]
        assert {each.query["period"] for each in asked if each.query["conid"] == "265598"} == {"9d"}


async def test_a_first_fetch_says_what_it_does_not_know_yet() -> None:
    """The calls that only prime are no empty answers; positions and balances are there at once."""
    async with desk() as given:
        found = await given.fetch()
        assert (len(found.positions), len(found.accounts)) == (4, 3)
        assert (found.orders, found.fills, found.quotes) == ((), (), ())
        assert reasons(found) == {("orders", "not_read_yet"): 1, ("fills", "not_read_yet"): 1}
        assert {each.portfolio for each in found.rejected} == {"book"}
        assert found.accounts[0].daily_pnl is None
        later = await given.later()
        assert (len(later.orders), len(later.fills), len(later.quotes), later.rejected) == (2, 1, 3, ())
        assert later.accounts[0].daily_pnl == D("15.7")
        forced = [each.query.get("force") for each in given.gateway.asked("/iserver/account/orders")]
        assert forced == ["true", None]


async def test_no_orders_and_no_executions_are_none_once_ibkr_says_so_twice() -> None:
    """An account at rest is not one nobody knows about."""
    async with desk() as given:
        given.gateway.orders, given.gateway.trades = [], []
        assert (await given.settled()).rejected == ()


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (99, 1), (100, 2), (250, 3)])
async def test_positions_come_page_by_page_until_a_short_one(count: int, pages: int) -> None:
    """From page 0 on, a hundred to a page."""
    async with desk(filled=False, read=["positions"]) as given:
        for number in range(count):
            given.gateway.hold(Listed(1000 + number, f"S{number}"), number + 1.0)
        found = await given.fetch()
        assert [(each.symbol, each.quantity) for each in found.positions] == [(f"S{n}", D(n + 1)) for n in range(count)]
        asked = [each.path.rpartition("/")[2] for each in given.gateway.asked(f"/portfolio/{ACCOUNT}/positions/")]
        assert asked == [str(page) for page in range(pages)]


async def test_a_position_that_moves_from_page_to_page_is_one() -> None:
    """A sale between two calls moves all that follow."""
    async with desk(filled=False, read=["positions"]) as given:
        for number in range(150):
            given.gateway.hold(Listed(1000 + number, f"S{number}"), number + 1.0)
        rows = given.gateway.positions[ACCOUNT]
        rows.insert(100, rows[0])
        found = await given.fetch()
        assert len(found.positions) == 150


async def test_past_the_cache_a_position_tells_less_and_is_looked_up() -> None:
    """Tickers, multipliers and listings come from the definitions, once."""
    async with desk(uncached_positions=True, read=["positions", "instruments", "prices", "accounts"]) as given:
        found = await given.settled()
        assert given.gateway.asked(f"/portfolio/{ACCOUNT}/positions") == []
        assert len(given.gateway.asked("/trsrv/secdef")) == 1
        assert [(each.symbol, each.quantity) for each in found.positions] == [
            ("AAPL", D("614.2639")), ("ES-20261218", D("-2.0")), ("VOD", D("100.0")), ("AAPL-20260116-C-195", D("1.0")),
        ]  # fmt: skip
        assert {each.symbol: each.multiplier for each in found.instruments}["ES-20261218"] == D("50.0")
        assert found.prices[0] == Price("AAPL", D("197.3840027"), "USD", datetime(2024, 6, 3, 19, 57, 48, tzinfo=UTC))
    async with desk(read=["positions", "accounts"]) as given:
        assert (await given.fetch()).positions == found.positions


async def test_a_future_whose_multiplier_nobody_tells_is_unknown() -> None:
    """And its risk undefined, instead of fifty times too small."""
    async with desk(filled=False, read=["positions", "instruments"]) as given:
        given.gateway.hold(replace(ES, multiplier=0.0), 1.0)
        (terms,) = (await given.fetch()).instruments
        assert (terms.symbol, terms.instrument) == ("ES-20261218", "unknown")
        given.gateway.contracts[ES.conid] = ES
        given.clock.jump(24 * 3600.0)
        (terms,) = (await given.later()).instruments
        assert (terms.instrument, terms.multiplier) == ("future", D("50.0"))


async def test_contracts_of_one_ticker_do_not_become_one() -> None:
    """Two listings of a share, two expiries of a future, a coin."""
    async with desk(filled=False, read=["positions", "accounts"]) as given:
        for listed in (AAPL_IN_MEXICO, AAPL, ES, ES_MARCH, BITCOIN):
            given.gateway.hold(listed, 1.0)
        found = await given.fetch()
        assert [each.symbol for each in found.positions] == ["AAPL.MXN", "AAPL", "ES-20261218", "ES-20270319", "BTC"]


async def test_a_position_that_cannot_be_read_leaves_the_others_and_its_portfolio_undefined() -> None:
    """One record, counted."""
    async with desk(read=["positions"]) as given:
        given.gateway.positions[ACCOUNT][1]["position"] = "many"
        found = await given.fetch()
        assert [each.symbol for each in found.positions] == ["AAPL", "VOD", "AAPL-20260116-C-195", "EUR.USD"]
        assert [(each.reason, each.portfolio) for each in found.rejected] == [("not_a_number", "book")]


@pytest.mark.parametrize(("look_back", "days", "fills"), [(30.0, "7", 2), (3.5, "4", 1), (0.0001, "1", 0)])
async def test_orders_and_executions_are_read_as_far_back_as_wanted(look_back: float, days: str, fills: int) -> None:
    """IBKR keeps seven days of them; what is older than wanted is left out."""
    async with desk(look_back_days=look_back, read=["orders", "fills"]) as given:
        given.gateway.trades[1]["trade_time_r"] += 2 * 24 * 3600 * 1000  # six days ago
        found = await given.settled()
        assert {each.query["days"] for each in given.gateway.asked("/iserver/account/trades")} == {days}
        assert (len(found.fills), len(found.orders)) == (fills, 2 if fills else 0)


@pytest.mark.parametrize("path", ["/trsrv/secdef", "/trsrv/stocks"])
async def test_reference_data_that_cannot_be_read_costs_only_what_needs_it(path: str) -> None:
    """What the positions tell of themselves is enough for them; the rest comes with the next fetch."""
    async with desk(symbols=["SPY"], read=["positions", "instruments"]) as given:
        del given.gateway.positions[ACCOUNT][0]["ticker"]
        given.gateway.fault(path, UNAVAILABLE)
        found = await given.fetch()
        named = ["ES-20261218", "VOD", "AAPL-20260116-C-195", "EUR.USD"]
        assert [each.symbol for each in found.positions][-4:] == named
        if path == "/trsrv/secdef":
            assert reasons(found) == {("instruments", "server_error"): 1, ("positions", "unknown_contract"): 1}
        else:
            assert reasons(found) == {("instruments", "server_error"): 1}
        found = await given.later()
        assert (len(found.positions), found.rejected) == (5, ())
        assert "SPY" in {each.symbol for each in found.instruments}


async def test_symbols_are_tickers_pairs_and_contract_ids() -> None:
    """Whichever they are, once; what is none, or several, is said."""
    symbols = ["SPY", "EUR.USD", "495512552", "AAPL", "NONE", "TWO", "JPY.USD"]
    async with desk(filled=False, symbols=symbols) as given:
        given.gateway.contracts[AAPL_IN_MEXICO.conid] = AAPL_IN_MEXICO
        for number in (1, 2):
            given.gateway.contracts[number] = Listed(number, "TWO", is_us=False)
        given.gateway.quotes |= {each.conid: {"31": "7", "_updated": 1772636400000} for each in (SPY, EUR_USD, ES)}
        found = await given.settled()
        assert [each.symbol for each in found.instruments] == ["SPY", "EUR.USD", "ES-20261218", "AAPL"]
        assert {each.symbol: each.price for each in found.prices} == {"SPY": D(7), "EUR.USD": D(7), "ES-20261218": D(7)}
        assert {(each.record, each.reason) for each in found.rejected if each.kind == "instruments"} == {
            ("symbols: NONE", "unknown_symbol"), ("symbols: TWO", "ambiguous_symbol"), ("symbols: JPY.USD", "unknown_symbol"),
        }  # fmt: skip
        assert len(given.gateway.asked("/trsrv/stocks")) == 1
        await given.later(3600.0)
        assert len(given.gateway.asked("/trsrv/stocks")) == 2


async def test_a_currency_quoted_the_other_way_round_is_turned() -> None:
    """Dollars for one from Singapore, though IBKR trades USD.SGD."""
    async with desk(filled=False, read=["accounts", "histories"]) as given:
        given.gateway.ledgers[ACCOUNT] = body.ledger(USD={"cashbalance": 1.0}, SGD={"cashbalance": 8.0, "exchangerate": 0.75})
        given.gateway.bars[USD_SGD.conid] = [(datetime(2026, 3, 2, 22, 15, tzinfo=UTC), 1.25)]
        (history,) = (await given.settled()).histories
        assert (history.symbol, history.currency, history.closes.tolist()) == ("SGD", "USD", [0.8])


async def test_no_more_is_quoted_than_the_market_data_lines_allow() -> None:
    """The trader's own screen needs some too; the rest is counted."""
    async with desk(filled=False, market_data_lines=10, read=["positions", "quotes"]) as given:
        for number in range(12):
            given.gateway.hold(Listed(1000 + number, f"S{number}"), 1.0)
        found = await given.settled()
        (asked, *_) = given.gateway.asked("/iserver/marketdata/snapshot")
        assert len(asked.query["conids"].split(",")) == 7
        assert found.notes["contracts not quoted"] == "5"


async def test_delayed_quotes_are_left_out_and_counted() -> None:
    """Without a subscription IBKR sends prices a quarter of an hour old under the time of now."""
    async with desk(symbols=["SPY"]) as given:
        for fields in given.gateway.quotes.values():
            fields["6509"] = "DpB"
        found = await given.settled()
        assert (found.quotes, found.notes["quotes delayed, left out"]) == ((), "4")
        assert "SPY" not in {each.symbol for each in found.prices}


# Accounts.

TWO = ("U1", "U2")


def two_accounts(given: Desk) -> None:
    """A share in each, and an order and an execution."""
    for account, quantity in (("U1", 1.0), ("U2", 2.0)):
        given.gateway.hold(AAPL, quantity, of=account)
        given.gateway.orders.append(body.order(AAPL, int(account[1:]), at=NOW, account=account))
        given.gateway.trades.append(body.trade(AAPL, f"a.b.{account}.01", at=NOW, account=account))


async def test_several_accounts_are_several_portfolios_in_turns() -> None:
    """Named after their ids; orders and executions are asked for one account at a time, within the limit."""
    kinds = ["positions", "accounts", "orders", "fills"]
    async with desk(filled=False, login=TWO, portfolio=None, read=kinds) as given:
        two_accounts(given)
        found = await given.fetch()
        assert [(each.portfolio, each.quantity) for each in found.positions] == [("U1", D(1)), ("U2", D(2))]
        assert {each.portfolio for each in found.accounts} == {"U1", "U2"}
        assert reasons(found) == {("orders", "not_read_yet"): 2, ("fills", "not_read_yet"): 2}
        found = await given.later(times=4)
        assert {(each.portfolio, each.order_id) for each in found.orders} == {("U1", "1"), ("U2", "2")}
        assert {(each.portfolio, each.execution_id) for each in found.fills} == {("U1", "a.b.U1.01"), ("U2", "a.b.U2.01")}
        assert found.rejected == ()
        assert (await given.later(times=8)).rejected == ()


async def test_accounts_are_mapped_to_portfolios() -> None:
    """Those not named are not read."""
    async with desk(filled=False, login=("U1", "U2", "U3"), portfolio=None, accounts={"U2": "carry", "U1": "gilts"}) as given:
        two_accounts(given)
        await given.fetch()
        found = await given.later(times=4)
        assert [(each.portfolio, each.quantity) for each in found.positions] == [("carry", D(2)), ("gilts", D(1))]
        assert {(each.portfolio, each.order_id) for each in found.orders} == {("gilts", "1"), ("carry", "2")}
        assert given.gateway.asked("/portfolio/U3") == []
        assert {each.query["accountId"] for each in given.gateway.asked("/iserver/account/trades")} == {"U1", "U2"}


async def test_all_accounts_in_one_portfolio_are_added_up() -> None:
    """Where one is named for the source."""
    async with desk(filled=False, login=TWO, portfolio="fund") as given:
        two_accounts(given)
        found = await given.settled()
        assert [(each.portfolio, each.cash) for each in found.accounts] == [("fund", D("200001.0"))]
        assert [(each.portfolio, each.quantity) for each in found.positions] == [("fund", D(1)), ("fund", D(2))]


async def test_an_account_that_is_not_the_logins_is_an_error() -> None:
    """Its portfolio would be empty for ever."""
    async with desk(login=TWO, portfolio=None, accounts={"U1": "carry", "U7": "gilts"}, filled=False) as given:
        error = await given.fail()
        assert (type(error), error.reason) == (Permanent, Reason.NOT_FOUND)
        assert str(error) == "accounts.U7: is not an account of the login, which sees U1, U2"


async def test_another_base_currency_is_told_as_such() -> None:
    """Rates are in it too."""
    async with desk(filled=False, read=["accounts", "prices"]) as given:
        given.gateway.accounts = [body.account(ACCOUNT, "EUR", status="C")]
        given.gateway.ledgers[ACCOUNT] = body.ledger(EUR={"cashbalance": 1.5}, USD={"cashbalance": 2.5, "exchangerate": 0.9})
        found = await given.fetch()
        assert [(each.currency, each.cash, each.equity) for each in found.accounts] == [
            ("EUR", D("1.5"), D("1.5")), ("USD", D("2.5"), None),
        ]  # fmt: skip
        assert [(each.symbol, each.price, each.currency) for each in found.prices] == [("USD", D("0.9"), "EUR")]
        assert found.accounts[0].trading_blocked


# Limits.


@pytest.mark.parametrize(("interval", "headroom"), [(1.0, 0.3), (1.0, 0.0), (15.0, 0.3), (7.0, 0.9)])
async def test_the_limits_are_never_broken(interval: float, headroom: float) -> None:
    """However often is fetched, with more histories than fit into a minute: not one 429 from a gateway that counts."""
    async with desk(quota_headroom_ratio=headroom, interval_seconds=interval, stale_after_seconds=60.0) as given:
        for number in range(60):
            listed = Listed(1000 + number, f"S{number}")
            given.gateway.hold(listed, 1.0)
            given.gateway.bars[listed.conid] = body.weekdays(NOW.date(), 5)
        await given.fetch()
        for _ in range(40):
            found = await given.later(interval)
            assert 0.0 <= given.source.quota_used_ratio <= 1.0 - headroom + 1e-9
        assert (found.orders, found.rejected) != ((), ())
        times = Counter(each.path for each in given.gateway.requests)
        minutes = given.clock.monotonic() / 60.0
        assert times["/v1/api/iserver/account/orders"] <= 12 * minutes + 1
        assert times["/v1/api/iserver/marketdata/history"] <= 50 * (1.0 - headroom) * (minutes + 1)
        assert times["/v1/api/portfolio/accounts"] <= minutes / 10 + 1


async def test_calls_that_come_together_wait_for_the_next_second() -> None:
    """On a busy machine what was spaced arrives at once; that is no reason to fail."""
    async with desk(read=["positions"]) as given:
        given.source._portal._gateway.quota.take(10.0)
        assert len((await given.fetch()).positions) == 5


async def test_a_list_of_accounts_that_could_not_be_read_is_not_asked_for_too_soon() -> None:
    """Once in five seconds: until then the exporter waits, which is no failure of IBKR's."""
    async with desk(read=["positions"]) as given:
        given.gateway.fault("/portfolio/accounts", SERVER_ERROR)
        assert (await given.fail()).reason is Reason.SERVER_ERROR
        await given.wait(2.0)
        error = await given.fail()
        assert isinstance(error, Throttled)
        assert error.wait_seconds == pytest.approx(3.5)
        assert len(given.gateway.asked("/portfolio/accounts")) == 1
        await given.wait(3.5)
        assert len((await given.fetch()).positions) == 5


async def test_a_broken_limit_is_sat_out() -> None:
    """In the penalty box nothing is asked, not even to keep the login alive; after it everything is as before."""
    async with desk() as given:
        await given.settled()
        given.gateway.fault("/portfolio/", TOO_MANY)
        error = await given.fail()
        assert (error.reason, getattr(error, "retry_after_seconds", None)) == (Reason.RATE_LIMITED, 600.0)
        count = len(given.gateway.requests)
        for _ in range(4):
            await given.wait(149.0)
            assert (await given.fail()).reason is Reason.RATE_LIMITED
        assert given.source.quota_used_ratio == 1.0
        assert len(given.gateway.requests) == count
        await given.wait(4.0)
        found = await given.fetch()
        assert (len(found.positions), len(found.orders)) == (4, 2)


@pytest.mark.parametrize("path", ["/iserver/account/orders", "/iserver/account/trades", "/iserver/marketdata/snapshot"])
async def test_a_limit_broken_in_the_brokerage_session_is_the_whole_logins(path: str) -> None:
    """IBKR refuses the address, whatever is asked; a `Retry-After` that is longer counts."""
    async with desk() as given:
        await given.fetch()
        given.gateway.fault(path, answer({"error": "Too many requests"}, 429, Retry_After="900"))
        await given.wait(INTERVAL)
        error = await given.fail()
        assert (error.reason, getattr(error, "retry_after_seconds", None)) == (Reason.RATE_LIMITED, 900.0)


# Failures.

FAILURES = [
    (HTML, Reason.BAD_RESPONSE),
    (TRUNCATED, Reason.BAD_RESPONSE),
    (EMPTY, Reason.BAD_RESPONSE),
    (answer("what?"), Reason.BAD_RESPONSE),
    (answer(None), Reason.BAD_RESPONSE),
    (DROP, Reason.NETWORK),
    (CUT_SHORT, Reason.NETWORK),
    (SERVER_ERROR, Reason.SERVER_ERROR),
    (UNAVAILABLE, Reason.SERVER_ERROR),
    (Answer(502, "<html>Bad Gateway</html>", content_type="text/html"), Reason.SERVER_ERROR),
    (answer({"error": "internal"}), Reason.SERVER_ERROR),
    (answer({"error": "not found"}, 404), Reason.NOT_FOUND),
]


@pytest.mark.parametrize(
    ("path", "fault", "reason"),
    [
        *(("/portfolio/accounts", *failure) for failure in FAILURES),
        *((f"/portfolio/{ACCOUNT}/positions", *failure) for failure in FAILURES[::3]),
        *((f"/portfolio/{ACCOUNT}/ledger", *failure) for failure in FAILURES[1::4]),
        *((f"/portfolio/{ACCOUNT}/summary", *failure) for failure in FAILURES[2::5]),
    ],
)
async def test_each_failure_of_the_login_has_its_reason_and_passes(path: str, fault: Answer, reason: Reason) -> None:
    """The book is read whole or not at all."""
    async with desk(read=["positions", "accounts"]) as given:
        given.gateway.fault(path, fault)
        assert (await given.fail()).reason is reason
        found = await given.later()
        assert (len(found.positions), found.rejected) == (4, ())


@pytest.mark.parametrize(
    ("path", "kind", "fault", "reason"),
    [
        *(("/iserver/account/orders", "orders", *failure) for failure in FAILURES),
        *(("/iserver/account/trades", "fills", *failure) for failure in FAILURES[::5]),
        *(("/iserver/marketdata/snapshot", "quotes", *failure) for failure in FAILURES[1::5]),
    ],
)
async def test_each_failure_of_the_brokerage_session_concerns_what_it_was_about(
    path: str, kind: str, fault: Answer, reason: Reason
) -> None:
    """Positions and balances are read all the same; a recent answer is still good, an old one is not."""
    async with desk() as given:
        await given.settled()
        given.gateway.fault(path, fault, always=True)
        found = await given.later()
        assert (len(found.positions), len(found.accounts)) == (4, 3)
        assert len(found.orders) == 2
        assert len(found.fills) == 1
        found = await given.later(times=4)
        assert reasons(found) == {(kind, reason.value): 1}
        assert getattr(found, kind) == ()
        given.gateway.heal()
        found = await given.later()
        assert (found.rejected, bool(getattr(found, kind))) == ((), True)


@pytest.mark.parametrize("path", ["/portfolio/", "/tickle"])
async def test_an_answer_that_does_not_come_is_a_timeout(path: str) -> None:
    """Within the deadline of one call."""
    async with desk(http={"timeout_seconds": 0.1}, read=["orders", "positions"]) as given:
        given.gateway.fault(path, HANG)
        if path == "/tickle":
            assert reasons(await given.fetch()) == {("orders", "not_logged_in"): 1}
        else:
            assert (await given.fail()).reason is Reason.TIMEOUT
        await given.later(times=2)
        assert len((await given.later()).orders) == 2


async def test_a_fetch_can_be_cancelled() -> None:
    """As past its deadline; the next one is whole."""
    async with desk() as given:
        given.gateway.fault("/portfolio/", HANG)
        fetching = asyncio.ensure_future(given.fetch())
        await given.gateway.until(
            lambda: bool(given.gateway.asked(f"/portfolio/{ACCOUNT}")) or len(given.gateway.requests) >= 2
        )
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert len((await given.later(times=3)).positions) == 4


async def test_a_gateway_that_does_not_run_is_refused() -> None:
    """And found again when it does."""
    async with desk() as given:
        address = given.gateway.base_url
    async with desk(base_url=address) as given:
        assert (await given.fail()).reason is Reason.REFUSED


@pytest.mark.parametrize(
    "not_listed",
    [
        answer({"error": "Please query /accounts first", "statusCode": 500}, 500),
        answer({"error": "Bad Request: please query /portfolio/accounts first"}, 503),
        answer({"error": "Bad Request: account"}, 400),
        Answer(401, ""),
    ],
)
async def test_an_account_list_that_ibkr_has_forgotten_is_asked_for_again(not_listed: Answer) -> None:
    """After a login anew; real gateways say so in several ways."""
    async with desk(read=["positions"]) as given:
        given.gateway.not_listed = not_listed
        await given.fetch()
        given.gateway.begin()
        found = await given.later()
        assert (len(found.positions), len(given.gateway.asked("/portfolio/accounts"))) == (5, 2)


async def test_positions_that_are_not_loaded_yet_are_not_none() -> None:
    """An empty page while the ledger tells what the positions are worth."""
    async with desk(read=["positions", "accounts"]) as given:
        rows = given.gateway.positions[ACCOUNT]
        given.gateway.positions[ACCOUNT] = []
        assert (await given.fail()).reason is Reason.BAD_RESPONSE
        given.gateway.positions[ACCOUNT] = rows
        assert len((await given.later()).positions) == 4


async def test_a_login_without_accounts_is_no_empty_desk() -> None:
    """IBKR says so while a login is being set up."""
    async with desk() as given:
        accounts, given.gateway.accounts = given.gateway.accounts, []
        assert (await given.fail()).reason is Reason.BAD_RESPONSE
        given.gateway.accounts = accounts
        assert len((await given.later()).positions) == 4


# The login.


@pytest.mark.parametrize("login", [None, LOGIN_PAGE, Answer(401, "<html>Access Denied</html>", content_type="text/html")])
async def test_an_expired_login_is_said_and_its_return_noticed(login: Answer | None) -> None:
    """401, or a redirect to the page where somebody must log in; then nothing of the old session is taken for the new one's."""
    async with desk() as given:
        await given.settled()
        given.gateway.expire(login)
        for _ in range(3):
            await given.wait(INTERVAL)
            error = await given.fail()
            assert error.reason is Reason.AUTH
            assert "log in" in str(error) or "no brokerage session" in str(error)
        given.gateway.log_in()
        given.gateway.orders = []
        found = await given.later()
        assert len(found.positions) == 4
        assert ("orders", "not_read_yet") in reasons(found)
        assert found.orders == ()
        assert (await given.later(times=2)).rejected == ()


async def test_another_program_keeps_the_brokerage_session_it_has() -> None:
    """The book is read, what is missing is said, nothing is asked of the session and nothing is done to it."""
    async with desk() as given:
        await given.settled()
        given.gateway.compete()
        await given.wait(60.0)
        count = len(given.gateway.asked("/iserver"))
        found = await given.later(times=5)
        assert (len(found.positions), len(found.accounts)) == (4, 3)
        assert (found.orders, found.fills, found.quotes) == ((), (), ())
        assert reasons(found) == {
            ("orders", "competing_session"): 1, ("fills", "competing_session"): 1, ("quotes", "competing_session"): 1,
            ("histories", "competing_session"): 1,
        }  # fmt: skip
        assert found.notes["brokerage session"] == "competing_session"
        assert len(given.gateway.asked("/iserver")) == count
        assert given.gateway.status["competing"]
        given.gateway.status = {"authenticated": True, "competing": False, "connected": True}
        given.gateway.begin_brokerage()
        found = await given.later(60.0, times=3)
        assert (len(found.orders), len(found.fills), len(found.quotes), found.rejected) == (2, 1, 3, ())


async def test_a_brokerage_session_that_ends_between_two_tickles_is_noticed_by_the_first_call() -> None:
    """Orders are not empty because it is gone."""
    async with desk() as given:
        await given.settled()
        given.gateway.status["authenticated"] = False
        found = await given.later(10.0)
        assert len(found.orders) == 2, "a recent answer is good"
        asked = len(given.gateway.asked("/iserver"))
        found = await given.later(10.0, times=4)
        assert len(given.gateway.asked("/iserver")) == asked
        assert len(found.positions) == 4
        found = await given.later(10.0, times=3)
        assert found.orders == ()
        assert reasons(found)["orders", "no_brokerage_session"] == 1


async def test_a_new_brokerage_session_is_primed_anew() -> None:
    """Its first answers are empty, which says nothing: IBKR wants its accounts to be asked for first."""
    async with desk() as given:
        await given.settled()
        given.gateway.begin_brokerage()
        found = await given.later()
        assert found.orders == ()
        assert reasons(found)["orders", "not_read_yet"] == 1
        found = await given.later(times=2)
        assert (len(found.orders), len(found.fills), found.rejected) == (2, 1, ())


async def test_a_brokerage_session_that_was_away_is_primed_anew() -> None:
    """Even where IBKR still knows that the accounts were asked for."""
    async with desk() as given:
        await given.settled()
        given.gateway.status["authenticated"] = False
        await given.wait(60.0)
        given.gateway.status["authenticated"] = True
        given.gateway.primed.clear()
        found = await given.later(60.0)
        assert given.gateway.asked("/iserver/account/orders")[-1].query.get("force") == "true"
        assert (found.orders, reasons(found)["orders", "not_read_yet"]) == ((), 1)
        assert len((await given.later()).orders) == 2


async def test_where_only_the_brokerage_session_tells_what_is_wanted_its_absence_is_a_failure() -> None:
    """There is nothing left to deliver."""
    async with desk(read=["orders", "fills"]) as given:
        given.gateway.compete()
        error = await given.fail()
        assert (error.reason, "competing_session" in str(error)) == (Reason.AUTH, True)
        given.gateway.status = {"authenticated": True, "competing": False, "connected": True}
        await given.later(60.0)
        assert len((await given.later(times=2)).orders) == 2
        given.gateway.fault("/iserver/account/", UNAVAILABLE, always=True)
        await given.wait(INTERVAL)
        assert (await given.fail()).reason is Reason.SERVER_ERROR


async def test_a_login_without_trading_permissions_is_read_without_asking_for_any() -> None:
    """Configured as such, nothing is missing either."""
    async with desk(brokerage_session="none") as given:
        found = await given.settled()
        assert (len(found.positions), len(found.accounts), found.rejected) == (4, 3, ())
        assert given.gateway.asked("/iserver") == []


async def test_a_session_ended_by_ibkr_is_started_again_where_that_is_wanted() -> None:
    """After the nightly reset, without competing with anybody."""
    async with desk(brokerage_session="restore") as given:
        await given.settled()
        given.gateway.status["authenticated"] = False
        found = await given.later(60.0, times=2)
        assert len(given.gateway.asked("/iserver/auth/ssodh/init")) == 1
        found = await given.later(times=3)
        assert (len(found.orders), found.rejected) == (2, ())
        given.gateway.compete()
        await given.later(60.0, times=3)
        assert len(given.gateway.asked("/iserver/auth/ssodh/init")) == 1


async def test_the_login_outlives_a_night_of_network_errors() -> None:
    """The keep-alive goes on through everything, between fetches, and the session is there in the morning."""
    async with desk(read=["positions", "orders"]) as given:
        await given.settled()
        begun = given.clock.monotonic()
        bad = [DROP, HTML, UNAVAILABLE, TRUNCATED, CUT_SHORT, EMPTY, SERVER_ERROR, answer([]), answer({"error": "x"}), DROP] * 3
        given.gateway.fault("/tickle", *bad)
        tickles = len(given.gateway.asked("/tickle"))
        for _ in range(60):
            await given.wait(10.0)
        assert len(given.gateway.asked("/tickle")) - tickles >= len(bad) + 4
        assert given.clock.monotonic() - begun == pytest.approx(600.0)
        found = await given.fetch()
        assert found.notes["brokerage session"] == "there"
        assert len((await given.later()).orders) == 2


async def test_the_keep_alive_goes_on_between_fetches_and_stops_when_the_source_is_closed() -> None:
    """A fetch an hour does not let the login die; a source that is no more keeps nothing alive."""
    async with desk(read=["positions"]) as given:
        await given.fetch()
        assert len(given.gateway.asked("/tickle")) == 1
        for count in range(2, 12):
            await given.wait(60.0)
            assert len(given.gateway.asked("/tickle")) == count
        await given.source.close()
        requests = len(given.gateway.requests)
        await given.clock.advance(3600.0)
        assert len(given.gateway.requests) == requests


# TLS.


async def over_tls(tmp_path: Path, **settings: Any) -> Snapshot | Retryable | Permanent:
    """One fetch from a gateway whose certificate is signed by an authority of its own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with Gateway(tls=context) as gateway:
        gateway.hold(AAPL, 5.0)
        config = validate(
            Config,
            {"type": "ibkr", "name": "ib", "base_url": gateway.tls_url, "read": ["positions"], **settings},
            folder=tmp_path,
        )
        assert isinstance(config, Config), config
        source = IbkrSource(config, BriskClock(NOW))
        try:
            return await source.fetch(Kept())
        except (Retryable, Permanent) as error:
            return error
        finally:
            await source.close()


async def test_an_authority_of_ones_own_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    """A gateway with a certificate of its own."""
    found = await over_tls(tmp_path, http={"ca_file": "ca.pem"})
    assert isinstance(found, Snapshot)
    assert [each.symbol for each in found.positions] == ["AAPL"]


async def test_a_certificate_nobody_has_signed_is_refused(tmp_path: Path) -> None:
    """Unless it is said that it may be."""
    found = await over_tls(tmp_path)
    assert isinstance(found, Retryable | Permanent)
    assert found.reason is Reason.TLS
    unchecked = await over_tls(tmp_path, verify_certificate=False)
    assert isinstance(unchecked, Snapshot)
    assert [each.symbol for each in unchecked.positions] == ["AAPL"]


# The whole exporter.


def only_ibkr(gateway: Gateway, **settings: Any) -> dict[str, Any]:
    """A desk with no other source."""
    source = {
        "type": "ibkr", "name": "book", "base_url": gateway.base_url, "interval_seconds": 0.2, "stale_after_seconds": 2.0,
        "quota_headroom_ratio": 0.0, **settings,
    }  # fmt: skip
    return configuration(sources=[source], portfolios=[{"name": "book", "base_currency": "USD"}], limits=[])


def live_login(gateway: Gateway) -> None:
    """A login as of now, whose bars end yesterday."""
    gateway.hold(AAPL, 100.0, 200.0)
    gateway.hold(VODAFONE, 1000.0, 0.7)
    gateway.ledgers[ACCOUNT] = body.ledger(
        USD={"cashbalance": 30000.0}, GBP={"cashbalance": -500.0, "exchangerate": 1.25}, BASE={"netliquidationvalue": 50000.0}
    )
    gateway.pairs = [GBP_USD]
    gateway.contracts[GBP_USD.conid] = GBP_USD
    random = np.random.default_rng(7)
    for listed, close in ((AAPL, 200.0), (VODAFONE, 70.0), (GBP_USD, 1.25)):
        days = body.weekdays(datetime.now(UTC).date(), 300)
        closes = close * np.exp(np.cumsum(random.normal(0, 0.01, len(days))))
        gateway.bars[listed.conid] = [(at, round(float(value), 4)) for (at, _), value in zip(days, closes, strict=True)]


def expected_var(gateway: Gateway) -> float:
    """Historical VaR at 0.99 over 250 joint days, as a ratio of the equity."""
    today = datetime.now(UTC).date()
    closes = {number: {at.date(): close for at, close in bars if at.date() < today} for number, bars in gateway.bars.items()}
    days = sorted(set.intersection(*(set(each) for each in closes.values())))[-251:]

    def moved(number: int, before: date, day: date) -> float:
        return closes[number][day] / closes[number][before]

    pnl = []
    for before, day in pairwise(days):
        pound = moved(GBP_USD.conid, before, day)
        worth = 100 * 200.0 * (moved(AAPL.conid, before, day) - 1)
        worth += 1000 * 0.7 * 1.25 * (moved(VODAFONE.conid, before, day) * pound - 1) - 500 * 1.25 * (pound - 1)
        pnl.append(worth / 50_000)
    return -sorted(pnl)[2]


async def test_a_desk_with_only_this_source_has_var(tmp_path: Path) -> None:
    """Shares in two currencies, one of them quoted in pence, and a debt: the third worst of 250 days, computed here."""
    labels = {"portfolio": "book", "method": "historical", "confidence": "0.99", "horizon": "1d"}
    async with Gateway() as gateway:
        live_login(gateway)
        async with running(tmp_path, only_ibkr(gateway)) as exporter:
            series = await exporter.until(lambda found: value(found, "desk_var_ratio", **labels) is not None)
            assert value(series, "desk_portfolio_value", portfolio="book", currency="USD") == 50_000
            assert value(series, "desk_var_ratio", **labels) == pytest.approx(expected_var(gateway), rel=1e-9)
            gateway.expire(LOGIN_PAGE)
            failures = {"source": "book", "reason": "auth"}
            await exporter.until(lambda found: (value(found, "desk_source_fetch_failures_total", **failures) or 0) >= 1)
            series = await exporter.until(lambda found: value(found, "desk_var_ratio", **labels) is None)
            assert value(series, "desk_source_up", source="book", kind="broker") == 0
            gateway.log_in()
            await exporter.until(lambda found: value(found, "desk_var_ratio", **labels) is not None)
