"""The source `ccxt`: what a configuration may say, and what ccxt's unified structures become."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import Secret, validate
from deskwatch.venues import ccxt_exchange as venue
from exporter.normal import ccxt_records as records
from exporter.normal.ccxt_offer import SECRETS, Credentials
from exporter.normal.ccxt_reading import Reading, Terms, listing_of
from exporter.normal.ccxt_records import Place
from exporter.records import Fields, FieldUnreadable, Sheet
from exporter.snapshot import Account, Position
from exporter.sources.ccxt import CcxtSource, Config

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
AT = int(NOW.timestamp() * 1000)
LOGIN = {"api_key": "kEy", "secret": "c2VjcmV0"}


def settings(**changes: Any) -> dict[str, Any]:
    """A configuration."""
    return {"type": "ccxt", "name": "spot", "exchange": "kraken", "credentials": LOGIN} | changes


def config(**changes: Any) -> Config:
    """A valid one."""
    found = validate(Config, settings(**changes))
    assert isinstance(found, Config), found
    return found


def test_nothing_of_ccxt_is_imported_until_an_exchange_is_configured() -> None:
    """It takes half a second and 100 MB: a desk without it does not pay."""
    program = (
        "import sys; from exporter.config import ExporterConfig; from exporter.source import SOURCES;"
        "SOURCES.plugin('ccxt');"
        "ExporterConfig.model_validate({'sources': [{'type': 'ecb', 'name': 'r'}],"
        " 'portfolios': [{'name': 'p', 'base_currency': 'EUR'}]});"
        "print([name for name in sys.modules if name.partition('.')[0] == 'ccxt'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_package_the_configuration_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At `type`, before anything else."""
    monkeypatch.setattr(venue, "find_spec", lambda _: None)
    faults = validate(Config, settings())
    assert isinstance(faults, list)
    assert [str(each) for each in faults] == ["type: needs the package ccxt: pip install 'deskwatch[ccxt]'"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"exchange": "krakn"}, "exchange: must be an exchange ccxt knows, was 'krakn'; did you mean kraken"),
        ({"exchange": "Okx"}, "exchange: must be an exchange ccxt knows, was 'Okx'; did you mean okx"),
        ({"exchange": "nyse!"}, "exchange: must be an exchange ccxt knows, was 'nyse!'; docs.ccxt.com lists them"),
        ({"credentials": LOGIN | {"passwd": "x"}}, "credentials.passwd: unknown key, did you mean password?"),
        ({"credentials": LOGIN | {"uid": "x"}}, "credentials.uid: kraken does not use it; it uses api_key, secret"),
        ({"credentials": {"api_key": "x"}}, "credentials.secret: is required by kraken (or secret_file)"),
        ({"exchange": "okx"}, "credentials.password: is required by okx (or password_file)"),
        ({"exchange": "hyperliquid", "credentials": {"private_key": "x"}}, "credentials.wallet_address: is required"),
        ({"read": ["signals"]}, "read[0]: must be one of accounts, fills, histories, instruments, orders, positions, "),
        ({"exchange": "bitstamp", "read": ["prices", "returns"]}, "read[1]: must be one of accounts, fills, "),
        ({"credentials": {}, "read": ["prices", "fills"]}, "read[1]: fills needs credentials"),
        ({"sandbox": True}, "sandbox: kraken has no test environment"),
        ({"url": "ftp://x"}, "url: must be an http:// or https:// address"),
        ({"market_types": ["margin"]}, "market_types[0]: must be 'spot', 'swap', 'future' or 'option'"),
        ({"depth_levels": -1}, "depth_levels: must be >= 0"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(changes: dict[str, Any], fault: str) -> None:
    """With the key path, and without a secret."""
    faults = validate(Config, settings(**changes))
    assert isinstance(faults, list)
    assert [each for each in faults if str(each).startswith(fault)], [str(each) for each in faults]
    assert LOGIN["secret"] not in str([str(each) for each in faults])


def test_secrets_are_read_from_files_and_shown_nowhere(tmp_path: Path) -> None:
    """Each credential that nobody else may know; the others say which account is meant."""
    assert {name for name, field in Credentials.model_fields.items() if field.annotation == Secret | None} == SECRETS
    (tmp_path / "secret").write_text("from-a-file\n")
    content = settings(credentials={"api_key": "kEy", "secret_file": "secret"})
    found = validate(Config, content, folder=tmp_path)
    assert isinstance(found, Config), found
    assert found.credentials.given == {"api_key": "kEy", "secret": "from-a-file"}
    made = CcxtSource(found, ManualClock())
    for shown in (repr(found), repr(found.access()), repr(made.config), str(vars(made))):
        assert "from-a-file" not in shown
        assert "kEy" not in shown


def test_an_address_is_enough_to_read_a_wallet() -> None:
    """Its private key could move what lies there."""
    assert config(exchange="hyperliquid", credentials={"wallet_address": "0x0"}).kinds >= {"positions", "fills"}


def test_only_what_the_exchange_offers_is_provided() -> None:
    """By ccxt's own table; nothing private without a key."""
    everything = {"instruments", "positions", "accounts", "prices", "quotes", "histories", "fills", "orders"}
    public = {"instruments", "prices", "quotes", "histories"}
    for changes, expected in (
        ({}, everything),
        ({"credentials": {}}, public),
        ({"read": ["positions"]}, {"positions", "instruments"}),
        ({"read": ["fills", "quotes"]}, {"fills", "quotes"}),
        ({"exchange": "bitflyer"}, everything - {"histories"}),
    ):
        made = CcxtSource(config(**changes), ManualClock())
        assert made.provides == expected, changes
        assert made.quota_used_ratio is None


async def test_one_that_was_never_used_is_closed_without_a_thread() -> None:
    """A reload makes sources only to find that nothing has changed."""
    made = CcxtSource(config(), ManualClock())
    await made.close()
    assert "ccxt spot" not in {thread.name for thread in threading.enumerate()}


def test_every_exchange_can_be_configured_for_its_public_data() -> None:
    """All that ccxt has."""
    for name in venue.exchanges():
        assert config(exchange=name, credentials={}).kinds <= {"instruments", "prices", "quotes", "histories"}


def market(symbol: str, **changes: Any) -> dict[str, Any]:
    """A unified market, read off its symbol."""
    pair, _, settle = symbol.partition(":")
    base, quote = pair.split("/")
    contract = bool(settle)
    known = {
        "id": symbol, "symbol": symbol, "base": base, "quote": quote, "settle": settle or None, "spot": not contract,
        "contract": contract, "swap": contract, "future": False, "option": False, "type": "swap" if contract else "spot",
        "linear": (settle == quote) if contract else None, "inverse": (settle == base) if contract else None,
        "contractSize": Decimal("0.01") if contract else None, "active": True,
    }  # fmt: skip
    return known | changes


MARKETS = {each["symbol"]: each for each in (
    market("BTC/USDT"), market("ETH/BTC"), market("USDT/TRY"), market("BTC/USDT:USDT"), market("BTC/USD:BTC"),
    market("BTC/USD:ETH", linear=False), market("BTC/USDC:USDC"),
)}  # fmt: skip
PLACE = Place("crypto", "somewhere", MARKETS.get, NOW)


@pytest.mark.parametrize(
    ("symbol", "changes", "expected"),
    [
        ("BTC/USDT", {}, "spot"),
        ("BTC/USDT:USDT", {}, "perpetual"),
        ("BTC/USDT:USDT", {"swap": False, "future": True}, "future"),
        ("BTC/USDT:USDT", {"swap": False, "option": True}, "option"),
        ("BTC/USD:BTC", {}, "unknown"),
        ("BTC/USD:ETH", {}, "unknown"),
        ("BTC/USDT:USDT", {"linear": None}, "unknown"),
        ("BTC/USDT:USDT", {"inverse": True}, "unknown"),
        ("BTC/USDT:USDT", {"swap": False}, "unknown"),
    ],
)
def test_only_a_contract_whose_gain_is_linear_in_its_price_has_a_risk(
    symbol: str, changes: dict[str, Any], expected: str
) -> None:
    """What pays in what it is about, or in a third currency, is not guessed at."""
    assert records.instrument(market(symbol, **changes)) == expected


def test_a_linear_contract_is_priced_in_what_it_pays() -> None:
    """Hyperliquid and others quote dollars and settle in a stablecoin; what is not linear keeps its quote."""
    assert records.currency_of(market("BTC/USD:USDC", linear=True)) == "USDC"
    assert records.currency_of(market("BTC/USD:BTC")) == "USD"
    assert records.currency_of(market("BTC/USDT")) == "USDT"


def unified_order(**changes: Any) -> dict[str, Any]:
    """A unified order."""
    return {
        "id": "1", "symbol": "BTC/USDT", "side": "buy", "type": "limit", "status": "open", "amount": Decimal(2),
        "filled": Decimal(0), "price": Decimal(9), "average": None, "timestamp": AT,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": "open"}, "NEW"),
        ({"status": "open", "filled": Decimal(1)}, "PARTIALLY_FILLED"),
        ({"status": "canceling"}, "NEW"),
        ({"status": "closed", "filled": Decimal(2)}, "FILLED"),
        ({"status": "canceled", "filled": Decimal(1)}, "CANCELED"),
        ({"status": "expired"}, "EXPIRED"),
        ({"status": "rejected"}, "REJECTED"),
    ],
)
def test_what_became_of_an_order(changes: dict[str, Any], status: str) -> None:
    """In ccxt's words."""
    assert records.order(PLACE)(Fields(unified_order(**changes))).status == status


def test_an_order_in_every_field() -> None:
    """Contracts in units; no limit of a market order, whatever ccxt makes of its price."""
    row = unified_order(
        symbol="BTC/USDT:USDT",
        filled=Decimal(1),
        average=Decimal("9.5"),
        lastTradeTimestamp=AT + 5,
        clientOrderId="c",
        type="Market",
    )
    order = records.order(PLACE)(Fields(row))
    assert (order.symbol, order.quantity, order.filled_quantity) == ("BTC/USDT:USDT", Decimal("0.02"), Decimal("0.01"))
    assert (order.limit_price, order.average_price, order.order_type, order.client_order_id) == (
        None,
        Decimal("9.5"),
        "market",
        "c",
    )
    assert order.updated_at is not None
    assert (order.updated_at - order.submitted_at).microseconds == 5000
    assert records.order(PLACE)(Fields(unified_order(type="stop_limit", price=Decimal(0)))).limit_price is None


@pytest.mark.parametrize("changes", [
    {"amount": None}, {"amount": None, "status": "canceled", "filled": Decimal(1)}, {"status": None}, {"status": "odd"},
    {"symbol": "NO/SUCH"}, {"side": None}, {"timestamp": None}, {"id": None}, {"amount": Decimal(0)},
    {"amount": None, "status": "closed"}, {"filled": Decimal(-1)},
])  # fmt: skip
def test_an_order_that_lacks_something_is_refused(changes: dict[str, Any]) -> None:
    """Nothing is made up."""
    with pytest.raises(FieldUnreadable):
        records.order(PLACE)(Fields(unified_order(**changes)))


def test_of_an_order_for_money_that_is_done_what_was_filled_was_ordered() -> None:
    """ccxt knows no amount of it."""
    row = unified_order(amount=None, status="closed", filled=Decimal(3), type="market")
    assert records.order(PLACE)(Fields(row)).quantity == 3


def unified_trade(**changes: Any) -> dict[str, Any]:
    """A unified trade."""
    return {
        "id": "7", "order": "1", "symbol": "BTC/USDT", "side": "sell", "amount": Decimal("0.5"), "price": Decimal(100),
        "timestamp": AT, "fee": None, "fees": [],
    } | changes  # fmt: skip


def worth(asset: str, currency: str, at: datetime) -> Decimal | None:
    """BNB is known."""
    return Decimal(600) if (asset, currency, at) == ("BNB", "USDT", NOW) else None


@pytest.mark.parametrize(
    ("changes", "fee"),
    [
        ({}, "0"),
        ({"fee": {"cost": Decimal("0.1"), "currency": "USDT"}, "fees": None}, "0.1"),
        ({"fees": [{"cost": Decimal("0.1"), "currency": "USDT"}, {"cost": Decimal("0.002"), "currency": "BTC"}]}, "0.3"),
        ({"fees": [{"cost": Decimal("0.01"), "currency": "BNB"}]}, "6"),
        ({"fees": [{"cost": Decimal("-0.1"), "currency": "USDT"}]}, "-0.1"),
        ({"fees": [{"cost": None, "currency": None}]}, "0"),
        ({"fees": [{"cost": Decimal(0), "currency": "GIFT"}]}, "0"),
    ],
)
def test_fees_in_whatever_they_were_taken(changes: dict[str, Any], fee: str) -> None:
    """In the currency of the price, in what was traded, in a third asset; added up; a rebate is negative."""
    row = unified_trade(**changes)
    fill = records.fill(PLACE, worth, row)(Fields(row))
    assert fill.fee == Decimal(fee)
    assert (fill.execution_id, fill.order_id, fill.symbol, fill.side) == ("BTC/USDT-7", "BTC/USDT-1", "BTC", "SELL")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fees": [{"cost": Decimal(1), "currency": "GIFT"}]}, "fee_not_convertible"),
        ({"fees": [{"cost": Decimal(1), "currency": None}]}, "fee_not_convertible"),
        ({"fees": ["free"]}, "not_an_object"),
        ({"price": Decimal(0)}, "not_positive"),
        ({"amount": None}, "missing"),
        ({"symbol": "BTC/USDT:USDT", "contractSize": None}, ""),
    ],
)
def test_a_trade_that_lacks_something_is_refused(changes: dict[str, Any], reason: str) -> None:
    """A fee that cannot be converted is not left out."""
    row = unified_trade(**changes)
    read = records.fill(PLACE, worth, row)
    if not reason:
        assert read(Fields(row)).quantity == Decimal("0.005"), "the market's size of a contract"
        return
    with pytest.raises(FieldUnreadable) as caught:
        read(Fields(row))
    assert caught.value.reason == reason


def unified_position(**changes: Any) -> dict[str, Any]:
    """A unified position."""
    return {
        "id": None, "symbol": "BTC/USDT:USDT", "side": "short", "contracts": Decimal(5), "contractSize": None,
        "entryPrice": Decimal(90), "markPrice": Decimal(80), "unrealizedPnl": Decimal("0.5"), "marginMode": "cross",
    } | changes  # fmt: skip


def test_a_position_in_units_with_its_sign() -> None:
    """Short is negative, whether the exchange writes a sign or not; its own size of a contract counts."""
    read = records.contract(PLACE)
    for contracts in (Decimal(5), Decimal(-5)):
        held = read(Fields(unified_position(contracts=contracts)))
        assert held is not None
        assert held.position == Position("crypto", "BTC/USDT:USDT", Decimal("-0.05"), "USDT", Decimal(90), Decimal("0.5"))
        assert (held.mark, held.gain, held.settle) == (Decimal(80), Decimal("0.5"), "USDT")
    larger = read(Fields(unified_position(contractSize=Decimal(2), side="long")))
    assert larger is not None
    assert larger.position.quantity == 10
    assert read(Fields(unified_position(contracts=Decimal(0), side=None))) is None


@pytest.mark.parametrize(("changes", "reason"), [
    ({"contracts": None}, "missing"), ({"side": None}, "missing"), ({"side": "both"}, "not_a_choice"),
    ({"symbol": "NO/SUCH"}, "unknown_symbol"), ({"symbol": "BTC/USDT"}, "margin_position"),
    ({"contractSize": Decimal(0)}, "not_positive"),
])  # fmt: skip
def test_a_position_that_lacks_something_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Borrowed money on a spot market is not counted the same by every exchange."""
    with pytest.raises(FieldUnreadable) as caught:
        records.contract(PLACE)(Fields(unified_position(**changes)))
    assert caught.value.reason == reason


def reading(**changes: Any) -> Reading:
    """A fetch about to begin."""
    known: dict[str, Any] = {
        "quote_asset": "USDT", "cash": frozenset({"TRY"}), "ignored": frozenset({"GIFT"}), "minimum_notional": Decimal(0),
        "symbols": (), "gains_in_totals": None,
    }  # fmt: skip
    return Reading(Terms(**(known | changes)), PLACE, listing_of(MARKETS.values()))


def balance(**totals: Any) -> dict[str, Any]:
    """A unified balance."""
    told: dict[str, Any] = {asset: {"free": None, "used": None, "total": total} for asset, total in totals.items()}
    return {"info": {}, "timestamp": None, "datetime": None, "free": {}, "used": {}, "total": {}} | told


def test_balances_of_several_accounts_and_what_they_are() -> None:
    """Cash, assets, what is ignored; the quote asset's account is there when it is empty, and only then made up."""
    found = reading()
    found.take_balances(balance(BTC=Decimal(1), TRY=Decimal(50), GIFT=Decimal(9), ETH=Decimal(0)), "positions")
    found.take_balances(balance(BTC=Decimal("0.5")), "positions")
    found.settle()
    assert found.positions() == (Position("crypto", "BTC", Decimal("1.5"), "USDT"),)
    assert found.accounts() == (Account("crypto", "TRY", Decimal(50)), Account("crypto", "USDT", Decimal(0)))
    assert found.notes == {"ignored_assets": "GIFT"}


def test_borrowed_money_leaves_the_portfolio_undefined() -> None:
    """Some exchanges count it in the total, some beside it."""
    found = reading()
    told = balance(BTC=Decimal(1))
    told["BTC"]["debt"] = Decimal("0.2")
    told["debt"] = {"BTC": Decimal("0.2")}
    found.take_balances(told, "positions")
    assert [(each.kind, each.reason, each.portfolio) for each in found.sheet.rejected] == [("positions", "borrowed", "crypto")]
    told["BTC"]["debt"] = Decimal(0)
    again = reading()
    again.take_balances(told, "positions")
    assert again.sheet.rejected == ()


def test_assets_are_priced_directly_the_other_way_round_or_through_another() -> None:
    """ETH by ETH/BTC and BTC/USDT; the lira by USDT/TRY, whose price is turned over."""
    found = reading()
    found.take_balances(balance(ETH=Decimal(1), TRY=Decimal(50)), "positions")
    found.settle()
    assert [each["symbol"] for each in found.priced()] == ["ETH/BTC", "BTC/USDT", "USDT/TRY"]
    rows: Mapping[str, Any] = {"ETH/BTC": "0.05", "BTC/USDT": "100000", "USDT/TRY": "40"}
    found.price([records.mark(PLACE, MARKETS[name], Fields({"last": Decimal(last)})) for name, last in rows.items()])
    assert {name: (each.price, each.currency) for name, each in found.prices.items()} == {
        "ETH": (Decimal("0.05"), "BTC"), "BTC": (Decimal(100000), "USDT"), "TRY": (Decimal("0.025"), "USDT"),
    }  # fmt: skip
    assert found.positions() == (Position("crypto", "ETH", Decimal(1), "BTC"),)
    assert {name: (leg.symbol, leg.inverse) for name, leg in found.bars().items()} == {
        "ETH": ("ETH/BTC", False), "BTC": ("BTC/USDT", False), "TRY": ("USDT/TRY", True),
    }  # fmt: skip


def test_the_same_position_told_for_two_types_of_market_is_one() -> None:
    """An exchange asked once for linear and once for inverse contracts may answer with all of them twice."""
    found = reading(gains_in_totals=False)
    for _ in range(2):
        found.take_contracts([unified_position()], "positions")
    found.settle()
    assert len(found.positions()) == 1


@pytest.mark.parametrize(
    ("told", "cash", "rejected"), [(True, "99.5", []), (False, "100", []), (None, None, ["gains_unknown"])]
)
def test_whether_totals_hold_gains_is_said_or_known_or_refused(
    told: bool | None, cash: str | None, rejected: list[str]
) -> None:
    """The gain is counted from entry to mark: in the total too, it would count twice."""
    found = reading(gains_in_totals=told)
    found.take_balances(balance(USDT=Decimal(100)), "positions")
    found.take_contracts([unified_position()], "positions")
    found.settle()
    assert [str(each.cash) for each in found.accounts()] == ([cash] if cash else [])
    assert [each.reason for each in found.sheet.rejected] == rejected


def test_a_ticker_without_a_price_is_rejected_and_a_side_without_orders_is_none() -> None:
    """The middle of bid and ask is not a price somebody paid."""
    with pytest.raises(FieldUnreadable):
        records.mark(PLACE, MARKETS["BTC/USDT"], Fields({"last": None, "bid": Decimal(1), "ask": Decimal(3)}))
    marked = records.mark(
        PLACE, MARKETS["BTC/USDT:USDT"], Fields({"last": Decimal(1), "markPrice": Decimal(2), "timestamp": AT + 1})
    )
    assert (marked.price, marked.symbol) == (2, "BTC/USDT:USDT")
    assert (marked.at - NOW).microseconds == 1000
    spot = records.mark(PLACE, MARKETS["BTC/USDT"], Fields({"last": Decimal(1), "markPrice": Decimal(2)}))
    assert (spot.price, spot.at) == (1, NOW)
    quote = records.ticker_quote(
        PLACE, MARKETS["BTC/USDT"], "BTC", Fields({"bid": Decimal(1), "ask": Decimal(0), "bidVolume": Decimal(3)})
    )
    assert quote is not None
    assert (quote.bid, quote.bid_quantity, quote.ask, quote.ask_quantity) == (1, 3, None, None)
    assert records.ticker_quote(PLACE, MARKETS["BTC/USDT"], "BTC", Fields({"bid": None, "ask": None})) is None


def test_closes_of_a_market_the_other_way_round() -> None:
    """One lira in dollars, from dollars in lira; a candle without a close is rejected, one of today is not asked for here."""
    day = 86_400_000
    sheet = Sheet()
    candles = [[2 * day, 1, 1, 1, Decimal(40), 1], [day, 1, 1, 1, Decimal(50), 1], [3 * day, None, None, None, None, None]]
    history = records.closes("TRY", "USDT", candles, sheet, inverse=True)
    assert history is not None
    assert (history.symbol, history.currency, history.closes.tolist()) == ("TRY", "USDT", [0.02, 0.025])
    assert history.days.astype(str).tolist() == ["1970-01-02", "1970-01-03"]
    assert [(each.kind, each.reason) for each in sheet.rejected] == [("histories", "missing")]
    assert records.closes("TRY", "USDT", [], sheet, inverse=True) is None
