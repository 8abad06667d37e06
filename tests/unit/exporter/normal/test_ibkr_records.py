"""IBKR's rows become the desk's records exactly, or are refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from exporter.normal import ibkr_money as money
from exporter.normal import ibkr_records as normal
from exporter.normal.ibkr_contracts import Contracts, contract
from exporter.normal.ibkr_money import Owner
from exporter.normal.ibkr_records import Scene
from exporter.records import Fields, Sheet
from exporter.snapshot import Account, Fill, Order, Position, Price, Quote
from tests.stand_ins import ibkr_bodies as body
from tests.stand_ins.ibkr_bodies import AAPL, BITCOIN, ES, EUR_USD, VODAFONE, Listed, without_cache

D = Decimal
NOW = datetime(2026, 3, 4, 15, tzinfo=UTC)
SINCE = NOW - timedelta(days=7)
OWNER = Owner("U1", "book", "USD", trading_blocked=False)
UPDATED = {"_updated": 1772636400123}
UPDATED_AT = datetime(2026, 3, 4, 15, 0, 0, 123000, tzinfo=UTC)


def scene(*listed: Listed, **marks: str) -> Scene:
    """What the contracts are; prices by symbol."""
    contracts = Contracts()
    contracts.learn(contract(Fields(each.definition())) for each in (listed or (AAPL, ES, EUR_USD, VODAFONE, BITCOIN)))
    prices = {symbol: Price(symbol, D(value), "USD", NOW) for symbol, value in marks.items()}
    return Scene(NOW, contracts, {"U1": "book", "U2": "other"}, "ibkr", prices)


def refused(make: Any, row: Any) -> str:
    """Why the record is refused."""
    sheet = Sheet()
    assert sheet.read("orders", [row], make) == ()
    (rejected,) = sheet.rejected
    return rejected.reason


# Positions and marks.


def row(listed: Listed = AAPL, quantity: float = 5.0, price: float = 197.3840027, **more: Any) -> dict[str, Any]:
    """A row of positions."""
    return body.position(listed, quantity, price, account="U1") | more


def test_a_position_is_exact_and_signed() -> None:
    """Quantity, entry and gain as on the wire, in the contract's currency."""
    make = partial(normal.position, scene=scene(), portfolio="book", currencies=False)
    assert make(Fields(row(ES, -2.0, 5000.25, avgPrice=4990.1, unrealizedPnl=-1015.5))) == Position(
        "book", "ES-20261218", D("-2.0"), "USD", D("4990.1"), D("-1015.5")
    )
    assert make(Fields(row(avgPrice=None, unrealizedPnl=None))) == Position("book", "AAPL", D("5.0"), "USD")


def test_what_was_sold_today_is_no_position() -> None:
    """IBKR lists it with nothing until the next day."""
    assert normal.position(Fields(row(quantity=0.0)), scene(), "book", currencies=False) is None
    assert normal.mark(Fields(row(quantity=0.0, mktPrice=0.0)), scene()) is None


def test_a_currency_pair_is_no_second_holding_of_the_money_in_the_ledger() -> None:
    """IBKR only tracks it; where no balances are read it is all there is."""
    pair = row(EUR_USD, 10000.0, 1.08)
    assert normal.position(Fields(pair), scene(), "book", currencies=False) is None
    assert normal.mark(Fields(pair), scene()) is None
    assert normal.position(Fields(pair), scene(), "book", currencies=True) == Position(
        "book", "EUR.USD", D("10000.0"), "USD", D("1.08"), D("0.0")
    )


def test_a_position_without_quantity_or_of_an_unknown_contract_is_refused() -> None:
    """A book without one of its positions is not a smaller book."""
    make = partial(normal.position, scene=scene(), portfolio="book", currencies=False)
    assert refused(make, row(position=None)) == "missing"
    assert refused(make, row(position="many")) == "not_a_number"
    assert refused(make, row(conid=4711)) == "unknown_contract"
    assert refused(make, row(conid=None)) == "missing"
    assert refused(make, row(avgPrice="dear")) == "not_a_number"


def test_the_mark_is_ibkrs_own() -> None:
    """When asked, from its cache; at IBKR's time past it, where it has another name."""
    assert normal.mark(Fields(row()), scene()) == Price("AAPL", D("197.3840027"), "USD", NOW)
    fresh = without_cache(row())
    assert normal.mark(Fields(fresh), scene()) == Price(
        "AAPL", D("197.3840027"), "USD", datetime(2024, 6, 3, 19, 57, 48, tzinfo=UTC)
    )
    assert refused(partial(normal.mark, scene=scene()), row(mktPrice=0.0)) == "not_positive"
    assert refused(partial(normal.mark, scene=scene()), row(mktPrice=None)) == "missing"


# Accounts.


def accounts(ledger: Any, summary: Any = None, of: Owner = OWNER, pnl: Decimal | None = None) -> tuple[Account, ...]:
    """The account's records."""
    sheet = Sheet()
    found: list[Account] = []
    for entry, make in money.balances(ledger, summary, of, pnl):
        found += sheet.read("accounts", [entry], make)
    assert sheet.rejected == ()
    return tuple(found)


def test_cash_by_currency_and_the_whole_account_once() -> None:
    """The base currency's entry has equity and margin, so that adding up counts nothing twice."""
    ledger = body.ledger(
        USD={"cashbalance": 985376.94, "realizedpnl": 12.5, "unrealizedpnl": 1701.0, "netliquidationvalue": 1.0},
        EUR={"cashbalance": -5000.25, "exchangerate": 1.0853, "realizedpnl": 0.5, "unrealizedpnl": 2.5},
        JPY={"cashbalance": 0.0, "exchangerate": 0.0067},
        BASE={"netliquidationvalue": 1034222.25},
    )
    assert accounts(ledger, body.summary("U1"), pnl=D("15.7")) == (
        Account(
            portfolio="book", currency="USD", cash=D("985376.94"), equity=D("1034222.25"), buying_power=D("400002.25"),
            initial_margin=D("12000.5"), maintenance_margin=D("11000.25"), daily_pnl=D("15.7"), realized_pnl=D("12.5"),
            unrealized_pnl=D("1701.0"), trading_blocked=False,
        ),
        Account("book", "EUR", D("-5000.25"), realized_pnl=D("0.5"), unrealized_pnl=D("2.5")),
    )  # fmt: skip


def test_a_value_the_summary_marks_as_none_is_none() -> None:
    """Its amount is 0 then, which it is not."""
    (found,) = accounts(body.ledger(USD={"cashbalance": 1.0}), body.summary("U1", buyingpower=None))
    assert (found.buying_power, found.initial_margin) == (None, D("12000.5"))


def test_a_base_currency_never_held_is_held_with_nothing() -> None:
    """The ledger has an entry for every currency there is money in."""
    first, second = accounts(body.ledger(EUR={"cashbalance": 7.0}, BASE={"netliquidationvalue": 7.6}))
    assert (first.currency, first.cash, first.equity) == ("USD", D(0), D("7.6"))
    assert (second.currency, second.cash, second.equity) == ("EUR", D("7.0"), None)


@pytest.mark.parametrize("ledger", [{}, {"BASE": None}, {"BASE": {"cashbalance": 1}}, {"BASE": {"netliquidationvalue": "?"}}])
def test_an_account_without_a_whole_is_refused(ledger: Any) -> None:
    """The portfolio is then undefined, not worth less."""
    (entry, make), *_ = money.balances(ledger, None, OWNER, None)
    sheet = Sheet()
    assert sheet.read("accounts", [entry], make, portfolio="book") == ()
    assert [each.portfolio for each in sheet.rejected] == ["book"]


def test_two_accounts_in_one_portfolio_are_one_sum() -> None:
    """Of what both tell; what one of two wholes does not tell is not known of both."""
    one = Account("book", "USD", D(1), D(10), D(5), daily_pnl=D(2), realized_pnl=D(1), trading_blocked=False)
    two = Account("book", "USD", D(2), D(20), None, daily_pnl=D(3), realized_pnl=None, trading_blocked=True)
    part = Account("book", "USD", D(4), realized_pnl=D(8))
    assert money.together([one, two]) == (
        Account("book", "USD", D(3), D(30), None, daily_pnl=D(5), realized_pnl=None, trading_blocked=True),
    )
    assert money.together([one, part]) == (
        Account("book", "USD", D(5), D(10), D(5), daily_pnl=D(2), realized_pnl=D(9), trading_blocked=False),
    )
    assert money.together([part, one]) == money.together([one, part])
    other = Account("book", "EUR", D(1))
    assert money.together([one, other]) == (one, other)


def test_the_ledgers_rates_are_prices_of_currencies() -> None:
    """Units of the account's currency for one; its own is none, and a rate of 0 is refused."""
    make = partial(money.rate, base="USD")
    entry = body.ledger(EUR={"cashbalance": 1.0, "exchangerate": 1.0853})["EUR"]
    at = datetime(2023, 12, 14, 19, 32, 1, tzinfo=UTC)
    assert make(Fields(entry)) == Price("EUR", D("1.0853"), "USD", at)
    assert make(Fields(entry | {"timestamp": 1702582321000})) == Price("EUR", D("1.0853"), "USD", at)
    assert make(Fields(entry | {"currency": "USD"})) is None
    assert refused(make, entry | {"exchangerate": 0}) == "not_positive"


@pytest.mark.parametrize(("status", "blocked"), [("O", False), ("P", True), ("C", True), (None, None)])
def test_an_account_that_is_not_open_takes_no_orders(status: Any, blocked: bool | None) -> None:
    """As IBKR's clearing status says."""
    told = money.owner(Fields(body.account("U1", "EUR") | {"clearingStatus": status}), "book")
    assert told == Owner("U1", "book", "EUR", blocked)


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, False),
        ({"stockmarketvalue": 45444.0}, True),
        ({"futuremarketvalue": -1051.0}, True),
        ({"stockmarketvalue": "?"}, False),
    ],
)
def test_the_ledger_tells_whether_there_must_be_positions(changes: Any, holds: bool) -> None:
    """So that positions that are not loaded yet are not taken for none."""
    assert money.holds_something(body.ledger(USD={"cashbalance": 1.0}, BASE=changes)) is holds
    assert not money.holds_something({})


# Executions.


def executed(**changes: Any) -> dict[str, Any]:
    """A row of trades, of now."""
    return body.trade(AAPL, "0000e0d5.6576fd38.01.01", at=NOW, account="U1") | changes


def fill(changes: Any, given: Scene | None = None) -> Fill | None:
    """The execution."""
    return normal.fill(Fields(executed(**changes)), given or scene(), SINCE)


def test_an_execution_is_exact() -> None:
    """Text and number alike, the fee positive when paid."""
    assert fill({}) == Fill(
        execution_id="0000e0d5.6576fd38.01.01", portfolio="book", symbol="AAPL", side="SELL", quantity=D("5.0"),
        price=D("192.26"), currency="USD", at=NOW, venue="ibkr", fee=D("1.01"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"side": "B"}, "side", "BUY"),
        ({"side": "BUY"}, "side", "BUY"),
        ({"side": "BOT"}, "side", "BUY"),
        ({"side": "SLD"}, "side", "SELL"),
        ({"price": "1,192.26"}, "price", D("1192.26")),
        ({"price": "-0.25"}, "price", D("-0.25")),
        ({"commission": "-0.5"}, "fee", D("-0.5")),
        ({"commission": ""}, "fee", D(0)),
        ({"commission": None}, "fee", D(0)),
        ({"order_id": 1799796559}, "order_id", "1799796559"),
        ({"account": None, "accountCode": "U2"}, "portfolio", "other"),
        ({"conid": "265598"}, "symbol", "AAPL"),
    ],
)
def test_what_ibkr_writes_in_several_ways_is_read_in_all(changes: Any, field: str, value: Any) -> None:
    """Sides, thousands, ids."""
    assert getattr(fill(changes), field) == value


@pytest.mark.parametrize("changes", [{"account": "U9"}, {"trade_time_r": 1}, {"side": "N"}])
def test_executions_of_others_old_ones_and_set_offs_are_left_out(changes: Any) -> None:
    """`N` sets off two event contracts against each other: nothing is bought or sold."""
    if "trade_time_r" in changes:
        changes = {"trade_time_r": round((SINCE.timestamp() - 1) * 1000)}
    assert fill(changes) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"side": "X"}, "not_a_choice"),
        ({"size": 0.0}, "not_positive"),
        ({"price": None}, "missing"),
        ({"price": "free"}, "not_a_number"),
        ({"trade_time_r": None}, "missing"),
        ({"trade_time_r": "soon"}, "not_a_number"),
        ({"execution_id": ""}, "missing"),
        ({"conid": 4711}, "unknown_contract"),
        ({"account": None, "accountCode": None}, "missing"),
    ],
)
def test_an_execution_that_cannot_be_read_is_refused(changes: Any, reason: str) -> None:
    """Its portfolio then has no numbers that need all of them."""
    assert refused(partial(normal.fill, scene=scene(), since=SINCE), executed(**changes)) == reason


def test_the_amount_paid_tells_whether_a_price_is_in_pence() -> None:
    """100 shares at 71.2 pence are 71.20 pounds."""
    given = scene()
    of_vodafone = {"conid": VODAFONE.conid, "size": 100.0, "net_amount": 71.2}
    make = partial(normal.fill, scene=given, since=SINCE)
    assert refused(make, executed(**of_vodafone, price="71.2")) == "unknown_unit"
    given.contracts.magnifiers[VODAFONE.conid] = D(100)
    for price in ("71.2", "0.712"):
        found = fill(of_vodafone | {"price": price}, given)
        assert found is not None
        assert (found.price, found.currency) == (D("0.712"), "GBP")
    assert refused(make, executed(**of_vodafone, price="7.12")) == "unknown_unit"
    assert refused(make, executed(**(of_vodafone | {"net_amount": None}), price="71.2")) == "missing"


def test_a_correction_replaces_the_execution_it_corrects() -> None:
    """Its id differs behind the last point only."""
    first, corrected, other = (
        fill({"execution_id": number, "price": price})
        for number, price in (
            ("0000e0d5.6576fd38.01.01", "1"),
            ("0000e0d5.6576fd38.01.02", "2"),
            ("0000e0d5.6576fd39.01.01", "3"),
        )
    )
    assert first is not None
    assert corrected is not None
    assert other is not None
    assert normal.current([first, corrected, other, first]) == (corrected, other)
    assert normal.current([corrected, first]) == (corrected,)


# Orders.

SENT = {"7": NOW - timedelta(minutes=3)}


def ordered(**changes: Any) -> dict[str, Any]:
    """A row of orders."""
    return body.order(AAPL, 7, at=NOW, account="U1") | changes


def order(**changes: Any) -> Order:
    """The order."""
    found = normal.order(Fields(ordered(**changes)), scene(), SINCE, SENT)
    assert found is not None
    return found


def test_an_order_is_exact() -> None:
    """With the time it was sent, which IBKR's list does not have."""
    assert order() == Order(
        order_id="7", portfolio="book", symbol="AAPL", side="BUY", quantity=D("5.0"), filled_quantity=D("0.0"), status="NEW",
        submitted_at=SENT["7"], venue="ibkr", limit_price=D("190.00"), updated_at=NOW, client_order_id="ref-7",
        order_type="limit",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"status": "PreSubmitted"}, "status", "NEW"),
        ({"status": "Submitted", "filledQuantity": 2.0}, "status", "PARTIALLY_FILLED"),
        ({"status": "Filled", "filledQuantity": 5.0, "avgPrice": "192.26"}, "status", "FILLED"),
        ({"status": "Filled", "filledQuantity": 5.0, "avgPrice": "1,192.26"}, "average_price", D("1192.26")),
        ({"status": "Cancelled", "filledQuantity": 2.0}, "status", "CANCELED"),
        ({"status": "PendingCancel"}, "status", "NEW"),
        ({"status": "Inactive"}, "status", "NEW"),
        ({"avgPrice": "0.00"}, "average_price", None),
        ({"totalSize": None, "remainingQuantity": 4.0, "filledQuantity": 1.0}, "quantity", D("5.0")),
        ({"totalSize": 0.0, "remainingQuantity": 4.0}, "quantity", D("4.0")),
        ({"origOrderType": "STOP", "orderType": "Stop", "price": "150"}, "limit_price", None),
        ({"origOrderType": "STOP_LIMIT", "price": "150"}, "limit_price", D(150)),
        ({"origOrderType": "MARKET", "orderType": "Market", "price": ""}, "limit_price", None),
        ({"origOrderType": "MARKET", "orderType": "Market"}, "order_type", "market"),
        ({"side": "SELL"}, "side", "SELL"),
        ({"order_ref": None}, "client_order_id", ""),
        ({"acct": None, "account": "U2"}, "portfolio", "other"),
    ],
)
def test_an_orders_fields(changes: Any, field: str, value: Any) -> None:
    """A trigger is no limit, and 0 is no average price."""
    assert getattr(order(**changes), field) == value


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"orderId": 8}, "no_submission_time"),
        ({"status": "WarnState"}, "unknown_status"),
        ({"filledQuantity": None}, "missing"),
        ({"filledQuantity": -1.0}, "negative"),
        ({"totalSize": "all"}, "not_a_number"),
        ({"totalSize": None, "remainingQuantity": 0.0}, "not_positive"),
        ({"lastExecutionTime_r": None}, "missing"),
        ({"conid": 4711}, "unknown_contract"),
        ({"side": None}, "missing"),
    ],
)
def test_an_order_that_cannot_be_read_is_refused(changes: Any, reason: str) -> None:
    """Also one of which nobody tells when it was sent."""
    assert refused(partial(normal.order, scene=scene(), since=SINCE, submitted=SENT), ordered(**changes)) == reason


def test_orders_of_others_and_old_ones_are_left_out() -> None:
    """The login sees more accounts than are read."""
    make = partial(normal.order, scene=scene(), since=SINCE, submitted=SENT)
    assert make(Fields(ordered(acct="U9"))) is None
    assert make(Fields(ordered(lastExecutionTime_r=round((SINCE.timestamp() - 1) * 1000)))) is None


def test_an_order_in_pence_has_its_limit_in_pounds() -> None:
    """As its quotes are; in which unit the average price is, nobody says."""
    given = scene()
    given.contracts.magnifiers[VODAFONE.conid] = D(100)
    changes = {"conid": VODAFONE.conid, "price": "71.2", "filledQuantity": 1.0, "avgPrice": "71.2"}
    found = normal.order(Fields(ordered(**changes)), given, SINCE, SENT)
    assert found is not None
    assert (found.limit_price, found.average_price) == (D("0.712"), None)


def test_the_time_of_an_order_is_utc() -> None:
    """`YYMMDDhhmmss`."""
    assert normal.order_time("231211180049") == datetime(2023, 12, 11, 18, 0, 49, tzinfo=UTC)
    with pytest.raises(ValueError, match="not_a_time"):
        normal.order_time("yesterday")


# Quotes.


def quoted(listed: Listed = AAPL, **fields: Any) -> dict[str, Any]:
    """A row of a snapshot; fields by number."""
    told = {name.removeprefix("f"): value for name, value in fields.items()}
    return {"conid": listed.conid, "conidEx": str(listed.conid), "server_id": "q1", "6509": "RpB", **UPDATED, **told}


def test_a_quote_is_exact_and_in_units() -> None:
    """Thousands are set off by commas, and sizes of US shares are in hundreds."""
    found = normal.quote(Fields(quoted(f84="1,193.06", f86="1,193.14", f88="1,200", f85="3")), scene())
    assert found == Quote("AAPL", "USD", "ibkr", UPDATED_AT, D("1193.06"), D("1193.14"), D(120000), D(300))
    future = normal.quote(Fields(quoted(ES, f84=5000.25, f86="5000.50", f88="12", f85=7)), scene())
    assert future == Quote("ES-20261218", "USD", "ibkr", UPDATED_AT, D("5000.25"), D("5000.50"), D(12), D(7))


@pytest.mark.parametrize("none", ["", None, "-1", "0", 0])
def test_a_side_that_is_empty_is_none(none: Any) -> None:
    """IBKR leaves it out, or says -1 or 0."""
    found = normal.quote(Fields(quoted(f84=none, f86="193.14")), scene())
    assert found is not None
    assert (found.bid, found.ask, found.bid_quantity) == (None, D("193.14"), None)
    assert normal.quote(Fields(quoted(f84=none, f86=none)), scene()) is None


def test_a_row_that_only_primes_is_no_quote() -> None:
    """Its fields are missing, not wrong."""
    assert normal.quote(Fields({"conid": AAPL.conid, "conidEx": "265598"}), scene()) is None
    assert normal.last(Fields({"conid": AAPL.conid, "conidEx": "265598"}), scene()) is None


@pytest.mark.parametrize(
    ("availability", "told"), [("RpB", True), ("Zp", True), ("DpB", False), ("Y", False), ("N", False), ("O", False)]
)
def test_a_delayed_quote_is_none(availability: str, told: bool) -> None:
    """Its time would be a quarter of an hour wrong."""
    fields = Fields(quoted(f84="193.06", f86="193.14", f31="193.1", f6509=availability))
    assert (normal.quote(fields, scene()) is not None) is told
    assert (normal.last(fields, scene()) is not None) is told


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"f84": "dear"}, "not_a_number"), ({"f88": "1.2K"}, "not_a_number"), ({"f_updated": None}, "missing")],
)
def test_a_quote_that_cannot_be_read_is_refused(changes: Any, reason: str) -> None:
    """A guess would be a spread."""
    given = {"f84": "193.06", "f86": "193.14"} | changes
    told = quoted(**given)
    told |= {"_updated": told.pop("_updated") if "f_updated" not in changes else None}
    assert refused(partial(normal.quote, scene=scene()), told) == reason


def test_quotes_in_pence_are_told_in_pounds_once_that_is_known() -> None:
    """And refused where they are not in the unit of what is held."""
    given = scene(VOD="0.71")
    told = quoted(VODAFONE, f84="71.0", f86="71.2", f88="100")
    assert normal.quote(Fields(told), given) is None
    given.contracts.magnifiers[VODAFONE.conid] = D(1)
    assert refused(partial(normal.quote, scene=given), told) == "unknown_unit"
    given.contracts.magnifiers[VODAFONE.conid] = D(100)
    assert normal.quote(Fields(told), given) == Quote("VOD", "GBP", "ibkr", UPDATED_AT, D("0.71"), D("0.712"), D(100))


@pytest.mark.parametrize(
    ("value", "price"), [("193.18", "193.18"), ("C193.18", "193.18"), ("H1,193.18", "1193.18"), (193.18, "193.18"), ("", None)]
)
def test_a_last_price_may_carry_a_letter(value: Any, price: str | None) -> None:
    """`C` yesterday's close, `H` halted."""
    found = normal.last(Fields(quoted(f31=value)), scene())
    assert found == (None if price is None else Price("AAPL", D(price), "USD", UPDATED_AT))


@pytest.mark.parametrize(("value", "reason"), [("-1", "not_positive"), ("X193.18", "not_a_number")])
def test_a_last_price_that_is_none_is_refused(value: str, reason: str) -> None:
    """Any other letter has no meaning here."""
    assert refused(partial(normal.last, scene=scene()), quoted(f31=value)) == reason


def test_what_is_held_has_its_mark() -> None:
    """IBKR's own, which its equity is made of; a last price beside it would be a second opinion."""
    assert normal.last(Fields(quoted(f31="193.18")), scene(AAPL="193")) is None
