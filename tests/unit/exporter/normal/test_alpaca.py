"""Alpaca's rows as records: whole records, compared whole; a field that is missing or wrong costs its record and no other."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from exporter.normal import alpaca as normal
from exporter.normal.alpaca import Held, Owner
from exporter.records import Fields, FieldUnreadable, Sheet
from exporter.snapshot import Account, Fill, InstrumentTerms, Order, Position, Price, Quote, Session
from tests.stand_ins.alpaca import account, fill, order, position, quote

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
OWNER = Owner("book", "alpaca", "USD", NOW)
D = Decimal


def held(*arguments: Any, **changes: Any) -> Held:
    """One row of positions, read."""
    return normal.held(Fields(position(*arguments, **changes)), OWNER)


def ordered(*arguments: Any, **changes: Any) -> Order | None:
    """One row of orders, read."""
    return normal.order(Fields(order(1, "2026-01-05T14:30:00.123456789Z", *arguments) | changes), OWNER)


def test_a_share() -> None:
    """Fractional quantity, class behind a dot, money exactly as written."""
    assert held("BRK.B", "0.123456789", "500.10") == Held(
        Position("book", "BRK.B", D("0.123456789"), "USD", D("100.0"), D("12.5")),
        InstrumentTerms("BRK.B", "USD", None, "share", D(1)),
        Price("BRK.B", D("500.10"), "USD", NOW),
    )


@pytest.mark.parametrize(("qty", "side"), [("-2.5", "short"), ("2.5", "short")])
def test_short_is_negative_however_it_is_written(qty: str, side: str) -> None:
    """By sign and side, or by the side alone."""
    assert held("TSLA", qty, "300", side=side).position.quantity == D("-2.5")


def test_a_long_position_of_a_negative_quantity_is_a_contradiction() -> None:
    """Not guessed."""
    with pytest.raises(FieldUnreadable) as caught:
        held("TSLA", "-2.5", "300", side="long")
    assert caught.value.reason == "negative"


@pytest.mark.parametrize(
    ("written", "pair", "currency"),
    [
        ("BTCUSD", "BTC/USD", "USD"),
        ("BTC/USD", "BTC/USD", "USD"),
        ("ETHBTC", "ETH/BTC", "BTC"),
        ("BTCUSDT", "BTC/USDT", "USDT"),
        ("USDTUSD", "USDT/USD", "USD"),
        ("USDCUSD", "USDC/USD", "USD"),
        ("SHIBUSDC", "SHIB/USDC", "USDC"),
    ],
)
def test_a_pair_has_one_symbol_and_is_priced_in_its_second_part(written: str, pair: str, currency: str) -> None:
    """A position writes it without its slash, quotes, bars and orders with it."""
    found = held(written, "0.5", "90000", "crypto")
    assert found.position == Position("book", pair, D("0.5"), currency, D("100.0"), D("12.5"))
    assert found.terms == InstrumentTerms(pair, currency, None, "spot", D(1))
    assert found.price == Price(pair, D("90000"), currency, NOW)


def test_a_pair_of_an_unknown_second_part_keeps_its_symbol() -> None:
    """There is nothing to tell where it is to be cut."""
    assert held("BTCEUR", "1", "1", "crypto").position.symbol == "BTCEUR"


def test_an_option_has_its_multiplier_and_no_linear_risk() -> None:
    """100 shares a contract; the instrument says so to whoever computes risk."""
    assert held("AAPL260116C00250000", "-1", "3.2", "us_option").terms == InstrumentTerms(
        "AAPL260116C00250000", "USD", None, "option", D(100)
    )


@pytest.mark.parametrize(
    ("asset_class", "instrument"), [("crypto_perp", "perpetual"), ("treasury", "unknown"), ("new", "unknown")]
)
def test_other_classes(asset_class: str, instrument: str) -> None:
    """A perpetual is linear; for what is not known no number is guessed."""
    assert held("X", "1", "1", asset_class).terms.instrument == instrument


def test_a_position_without_a_price_is_a_position() -> None:
    """Nullable in the venue's own models; its last close may price it."""
    found = held("GONE", "3", None, unrealized_pl=None)
    assert found.position == Position("book", "GONE", D(3), "USD", D("100.0"), None)
    assert found.price is None


def test_a_worthless_position_has_a_price_of_nothing() -> None:
    """0 is a price where the venue says so."""
    assert held("GONE", "3", "0").price == Price("GONE", D(0), "USD", NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"qty": None}, "missing"),
        ({"symbol": ""}, "missing"),
        ({"side": None}, "missing"),
        ({"asset_class": None}, "missing"),
        ({"qty": "five"}, "not_a_number"),
        ({"qty": True}, "not_a_number"),
        ({"side": "both"}, "not_a_choice"),
        ({"current_price": "-1"}, "negative"),
        ({"current_price": {}}, "not_a_number"),
        ({"avg_entry_price": "NaN"}, "not_finite"),
    ],
)
def test_a_position_that_cannot_be_read_is_rejected_for_its_portfolio(changes: dict[str, Any], reason: str) -> None:
    """The others stand, and the book knows that one is missing."""
    sheet = Sheet()
    rows = [position("AAPL", "1", "2"), position("TSLA", "1", "2") | changes, 7]
    found = sheet.read("positions", rows, partial(normal.held, owner=OWNER), portfolio="book")
    assert [each.position.symbol for each in found] == ["AAPL"]
    assert [(each.reason, each.kind, each.portfolio) for each in sheet.rejected] == [
        (reason, "positions", "book"),
        ("not_an_object", "positions", "book"),
    ]


def test_an_account() -> None:
    """The day's P&L is equity less the last equity."""
    assert normal.account(Fields(account()), OWNER) == Account(
        portfolio="book",
        currency="USD",
        cash=D("40000.5"),
        equity=D("50000"),
        buying_power=D("90000.5"),
        initial_margin=D("5000.25"),
        maintenance_margin=D("3000"),
        daily_pnl=D("399.75"),
        trading_blocked=False,
    )


@pytest.mark.parametrize("flag", ["trading_blocked", "account_blocked", "trade_suspended_by_user"])
def test_whichever_way_trading_is_blocked_it_is_blocked(flag: str) -> None:
    """By the broker, for the account, by the user."""
    assert normal.account(Fields(account(**{flag: True})), OWNER).trading_blocked is True


def test_what_an_account_does_not_tell_is_unknown() -> None:
    """Nullable in the venue's own models, all but the cash, without which there is no book."""
    known = normal.account(Fields({"cash": "1"}), OWNER)
    assert known == Account("book", "USD", D(1))
    with pytest.raises(FieldUnreadable):
        normal.account(Fields(account(cash=None)), OWNER)
    with pytest.raises(FieldUnreadable):
        normal.account(Fields(account(trading_blocked="no")), OWNER)


def test_an_order() -> None:
    """Times to the microsecond, prices and quantities as written."""
    assert ordered() == Order(
        order_id="61e69015-8549-4bfd-b9c3-000000000001",
        portfolio="book",
        symbol="AAPL",
        side="BUY",
        quantity=D(2),
        filled_quantity=D(2),
        status="FILLED",
        submitted_at=datetime(2026, 1, 5, 14, 30, 0, 123456, tzinfo=UTC),
        venue="alpaca",
        limit_price=D(120),
        average_price=D("119.5"),
        updated_at=datetime(2026, 1, 5, 14, 30, 0, 123456, tzinfo=UTC),
        client_order_id="desk-1",
        order_type="limit",
    )


STATUSES = {
    "new": "NEW", "partially_filled": "PARTIALLY_FILLED", "filled": "FILLED", "done_for_day": "NEW", "canceled": "CANCELED",
    "expired": "EXPIRED", "replaced": "CANCELED", "pending_cancel": "NEW", "pending_replace": "NEW", "pending_review": "NEW",
    "accepted": "NEW", "pending_new": "NEW", "accepted_for_bidding": "NEW", "stopped": "NEW", "rejected": "REJECTED",
    "suspended": "NEW", "calculated": "NEW", "held": "NEW",
}  # fmt: skip


def test_every_status_of_the_vendors_own_client_has_a_meaning() -> None:
    """None is unknown; a replaced order has ended, its successor is one of its own."""
    enums = pytest.importorskip("alpaca.trading.enums")
    assert {status.value for status in enums.OrderStatus} == set(STATUSES)
    found = {word: ordered(word, filled_qty="0", filled_avg_price=None) for word in STATUSES}
    assert {word: each.status for word, each in found.items() if each} == STATUSES


def test_an_order_that_works_and_has_filled_in_part_says_so() -> None:
    """Also while it is being cancelled; a price of 0 is none yet."""
    found = ordered("pending_cancel", filled_qty="0.5", filled_avg_price="0")
    assert found is not None
    assert (found.status, found.filled_quantity, found.average_price) == ("PARTIALLY_FILLED", D("0.5"), None)


@pytest.mark.parametrize(
    ("status", "filled", "average", "limit", "quantity"),
    [
        ("filled", "0.0283", "90000", None, D("0.0283")),
        ("new", "0", None, "125", D(4)),
        ("partially_filled", "1", "250", None, D(2)),
        ("canceled", "3", None, None, D(3)),
        ("new", "0", None, None, None),
        ("canceled", "0", None, None, None),
    ],
)
def test_an_order_for_an_amount_of_money(
    status: str, filled: str, average: str | None, limit: str | None, quantity: Decimal | None
) -> None:
    """Has the quantity its price tells; where none does it is left out until one does, and is no rejected record."""
    found = ordered(
        status, qty=None, notional="500", filled_qty=filled, filled_avg_price=average, limit_price=limit, type="market"
    )
    assert (found.quantity if found else None) == quantity


def test_what_holds_legs_together_is_no_order_but_its_legs_are() -> None:
    """A multi-leg parent has neither symbol nor side; its legs have no type."""
    assert ordered(symbol="", side="", order_class="mleg") is None
    leg = ordered(
        symbol="AAPL260116C00250000", asset_class="us_option", order_class="mleg", type="", order_type="", side="sell"
    )
    assert leg is not None
    assert (leg.symbol, leg.side, leg.order_type) == ("AAPL260116C00250000", "SELL", "")


def test_an_order_of_a_pair_and_one_not_submitted_yet() -> None:
    """`BTCUSD` of older orders is `BTC/USD`; without a time of submission that of creation counts."""
    found = ordered(symbol="BTCUSD", asset_class="crypto", submitted_at=None, created_at="2026-01-05T14:00:00Z")
    assert found is not None
    assert (found.symbol, found.submitted_at) == ("BTC/USD", datetime(2026, 1, 5, 14, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"qty": "0"}, "not_positive"),
        ({"qty": None}, "missing"),
        ({"symbol": None}, "missing"),
        ({"id": None}, "missing"),
        ({"status": "flying"}, "unknown_status"),
        ({"side": ""}, "missing"),
        ({"submitted_at": None, "created_at": None}, "missing"),
        ({"submitted_at": "yesterday"}, "not_a_time"),
        ({"filled_qty": "-1"}, "negative"),
    ],
)
def test_an_order_that_cannot_be_read_is_rejected(changes: dict[str, Any], reason: str) -> None:
    """With what is wrong."""
    with pytest.raises(FieldUnreadable) as caught:
        ordered(**changes)
    assert caught.value.reason == reason


NAMES = normal.symbol_names(["BTC/USD", "OP/USD", "AAPL"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"side": "sell_short"}, {"side": "SELL"}),
        ({"symbol": "BTC/USD"}, {"symbol": "BTC/USD"}),
        ({"symbol": "BTCUSD"}, {"symbol": "BTC/USD"}),
        ({"symbol": "OPUSD"}, {"symbol": "OP/USD"}),
        ({"symbol": "LINKUSDT"}, {"symbol": "LINK/USDT", "currency": "USDT"}),
        ({"symbol": "XXUSD"}, {"symbol": "XXUSD"}),
        ({"qty": "0.000000001", "price": "0.05"}, {"quantity": D("0.000000001"), "price": D("0.05")}),
    ],
)
def test_a_fill(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """It does not say what it is: the account's pairs, and what is too long for a share's symbol, are pairs."""
    at = datetime(2026, 1, 5, 14, 30, 0, 123456, tzinfo=UTC)
    usual: dict[str, Any] = {
        "execution_id": "20260105143000123::00000001-0000-0000-0000-000000000000", "portfolio": "book", "symbol": "AAPL",
        "side": "BUY", "quantity": D(2), "price": D("119.5"), "currency": "USD", "at": at, "venue": "alpaca",
        "order_id": "61e69015-8549-4bfd-b9c3-000000000001",
    }  # fmt: skip
    row = fill(1, "2026-01-05T14:30:00.123456Z", **changes)
    assert normal.fill(Fields(row), OWNER, NAMES) == Fill(**(usual | expected))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"qty": "0"}, "not_positive"), ({"price": None}, "missing"), ({"side": "hold"}, "not_a_choice"), ({"id": ""}, "missing")],
)
def test_a_fill_that_cannot_be_read_is_rejected(changes: dict[str, Any], reason: str) -> None:
    """With what is wrong."""
    with pytest.raises(FieldUnreadable) as caught:
        normal.fill(Fields(fill(1, "2026-01-05T14:30:00Z", **changes)), OWNER, {})
    assert caught.value.reason == reason


def quoted(symbol: str, data: Any) -> Quote:
    """One quote, read."""
    return normal.quote(Fields({"symbol": symbol, "data": data}), OWNER)


def test_a_quote() -> None:
    """Prices as the JSON has them, sizes in shares or coins."""
    at = datetime(2026, 1, 5, 14, 59, 59, 123456, tzinfo=UTC)
    data = quote(119.99, 120.01, "2026-01-05T14:59:59.123456789Z")
    assert quoted("AAPL", data) == Quote("AAPL", "USD", "alpaca", at, D("119.99"), D("120.01"), D(3), D(4))
    data = quote(0.05, 0.06, "2026-01-05T14:59:59.123456789Z", bid_size=0.3544, share=False)
    assert quoted("ETH/BTC", data) == Quote("ETH/BTC", "BTC", "alpaca", at, D("0.05"), D("0.06"), D("0.3544"), D(4))


def test_a_price_of_nothing_is_an_empty_side() -> None:
    """Both where the market is closed."""
    at = datetime(2026, 1, 5, 14, tzinfo=UTC)
    assert quoted("AAPL", quote(0, 120.5, "2026-01-05T14:00:00Z", bid_size=0)) == Quote(
        "AAPL", "USD", "alpaca", at, None, D("120.5"), None, D(4)
    )
    assert quoted("AAPL", quote(0, 0, "2026-01-05T14:00:00Z")) == Quote("AAPL", "USD", "alpaca", at, None, None)


def test_sizes_of_old_quotes_are_in_lots_of_unknown_size() -> None:
    """In shares since 2025-11-03; a share that has not been quoted since has no size told in shares."""
    assert quoted("OLD", quote(1, 2, "2025-11-02T23:59:59Z")).bid_quantity is None
    assert quoted("OLD", quote(1, 2, "2025-11-03T00:00:00Z")).bid_quantity == D(3)
    assert quoted("BTC/USD", quote(1, 2, "2025-11-02T23:59:59Z")).ask_quantity == D(4)


@pytest.mark.parametrize("data", [{}, {"t": "2026-01-05T14:00:00Z"}, "no object", quote(-1, 2, "2026-01-05T14:00:00Z")])
def test_a_quote_that_cannot_be_read_is_rejected(data: Any) -> None:
    """A missing price is not an empty side."""
    with pytest.raises(FieldUnreadable):
        quoted("AAPL", data)


def test_the_clock() -> None:
    """Open now, and when that changes."""
    row = {
        "is_open": True,
        "timestamp": "2026-01-05T10:00:00.5-05:00",
        "next_open": "2026-01-06T09:30:00-05:00",
        "next_close": None,
    }
    assert normal.session(Fields(row)) == Session(
        "XNYS", True, datetime(2026, 1, 5, 15, 0, 0, 500000, tzinfo=UTC), datetime(2026, 1, 6, 14, 30, tzinfo=UTC), None
    )
