"""What can be configured of an IBKR login, and the bodies others have recorded of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.venues.ibkr_session import Session
from exporter.normal import ibkr_money as money
from exporter.normal import ibkr_records as normal
from exporter.normal.ibkr_bars import DailyBars, Wanted
from exporter.normal.ibkr_contracts import Contracts, contract
from exporter.records import Fields, Sheet
from exporter.snapshot import Account, InstrumentTerms, Order, Position, Price
from exporter.sources.ibkr import Config, IbkrSource
from tests.payloads import payload

D = Decimal
NOW = datetime(2024, 1, 3, 22, tzinfo=UTC)
ALL = {"accounts", "positions", "prices", "instruments", "orders", "fills", "quotes", "histories"}
RECORDED = "DUMMY_ACCOUNT_ID123"


def configured(**settings: Any) -> Any:
    """The configuration, or every fault in it."""
    return validate(Config, {"type": "ibkr", "name": "ib", **settings})


def source(**settings: Any) -> IbkrSource:
    """A source that has asked nothing yet."""
    config = configured(**settings)
    assert isinstance(config, Config), config
    return IbkrSource(config, ManualClock(NOW))


def faults(**settings: Any) -> list[str]:
    """What is wrong with a configuration."""
    found = configured(**settings)
    assert isinstance(found, list)
    return [str(fault) for fault in found]


def test_nothing_but_a_name_is_needed() -> None:
    """The gateway on this machine, its certificate checked, everything it tells, and nothing started there."""
    config = configured()
    assert isinstance(config, Config)
    assert (config.base_url, config.verify_certificate) == ("https://localhost:5000/v1/api", True)
    assert (config.brokerage_session, config.uncached_positions, config.timeout_seconds) == ("use", False, 30.0)
    made = source()
    assert (made.provides, made.kind, made.keeps_histories, made.quota_used_ratio) == (ALL, "broker", True, 0.0)


def test_without_a_brokerage_session_only_what_the_login_tells_is_promised() -> None:
    """Orders that are never read would be orders that are missing."""
    assert source(brokerage_session="none").provides == {"accounts", "positions", "prices", "instruments"}
    assert faults(brokerage_session="none", read=["positions", "orders"]) == [
        "read[1]: must be one of accounts, positions, prices, instruments, was 'orders'"
    ]
    assert source(read=["orders", "fills"]).provides == {"orders", "fills"}
    assert faults(read=["signals"]) == [
        "read[0]: must be one of accounts, positions, prices, instruments, orders, fills, quotes, histories, was 'signals'"
    ]


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000"])
def test_an_unsigned_certificate_is_taken_from_this_machine(host: str) -> None:
    """Where nobody can stand in between."""
    assert isinstance(configured(base_url=f"https://{host}/v1/api", verify_certificate=False), Config)


@pytest.mark.parametrize("host", ["gateway:5000", "10.0.0.1", "localhost.example.org", "api.ibkr.com", "0.0.0.0"])
def test_an_unsigned_certificate_is_taken_from_no_other_machine(host: str) -> None:
    """Whoever stands in between would read the book."""
    assert faults(base_url=f"https://{host}/v1/api", verify_certificate=False) == [
        "verify_certificate: may be false only for a gateway on this machine: set http.ca_file"
    ]


def test_what_contradicts_itself_is_a_fault(tmp_path: Path) -> None:
    """With its key path."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    assert faults(verify_certificate=False, http={"ca_file": str(tmp_path / "ca.pem")}) == [
        "http.ca_file: has no use while verify_certificate is false: keep one of the two"
    ]
    assert faults(accounts={"U1": "carry"}, portfolio="book") == [
        "portfolio: stands under accounts for each account: keep one of the two"
    ]
    assert faults(symbols=["AAPL", "EUR.USD", "265598", "BRK B", "A,B"]) == [
        "symbols[4]: must be a ticker, a pair such as EUR.USD or a contract id, was 'A,B'"
    ]
    assert faults(symbols=["AAPL"], brokerage_session="none") == [
        "symbols: need a brokerage session: without one no price of them can be read"
    ]
    (fault,) = faults(accounts={"U1": "two words"})
    assert fault.startswith("accounts.U1: ")


# Recorded bodies.


def scene() -> normal.Scene:
    """As the recorded positions describe their contracts."""
    contracts = Contracts()
    contracts.learn(contract(Fields(row)) for row in payload("ibkr-ibind/positions.json"))
    return normal.Scene(NOW, contracts, {RECORDED: "book"}, "ibkr")


@pytest.mark.payloads
def test_the_recorded_account_and_its_ledger() -> None:
    """Base currency and balances; the entry of USD and BASE are one account."""
    (row,) = payload("ibkr-ibind/accounts.json")
    owner = money.owner(Fields(row), "book")
    assert owner == money.Owner(RECORDED, "book", "USD", trading_blocked=False)
    sheet, ledger = Sheet(), payload("ibkr-ibind/ledger.json")
    found = [
        each for entry, make in money.balances(ledger, None, owner, None) for each in sheet.read("accounts", [entry], make)
    ]
    assert found == [
        Account(
            "book", "USD", D("985376.94"), D("1034222.25"), realized_pnl=D("0.0"), unrealized_pnl=D("1701.0"),
            trading_blocked=False,
        )
    ]  # fmt: skip
    assert sheet.rejected == ()
    assert money.holds_something(ledger)


@pytest.mark.payloads
def test_the_recorded_position() -> None:
    """A multiplier of 0.0 is 1, a sector that is null is none."""
    (row,), given = payload("ibkr-ibind/positions.json"), scene()
    assert normal.position(Fields(row), given, "book", currencies=False) == Position(
        "book", "SPY", D("100.0"), "USD", D("437.43"), D("1701.0")
    )
    assert normal.mark(Fields(row), given) == Price("SPY", D("454.44000245"), "USD", NOW)
    known = given.contracts.get(756733)
    assert known is not None
    assert known.is_complete
    assert known.terms("SPY") == InstrumentTerms("SPY", "USD", None, "share", D(1))


@pytest.mark.payloads
def test_the_recorded_orders() -> None:
    """Sent when IBKR's own status of each says, as their list alone tells while they work and have no fills."""
    rows, statuses = payload("ibkr-ibind/live_orders.json"), payload("ibkr-ibind/order_status.json")
    sent = {number: normal.order_time(status["order_time"]) for number, status in statuses.items()}
    sheet = Sheet()
    make = partial(normal.order, scene=scene(), since=NOW - timedelta(days=7), submitted=sent)
    found = sheet.read("orders", rows, make)
    assert [each.reason for each in sheet.rejected] == ["no_submission_time"] * (len(rows) - len(found))
    assert len(found) >= 2
    for order in found:
        assert order.submitted_at == order.updated_at
    at = datetime(2024, 1, 3, 20, 10, 41, tzinfo=UTC)
    assert found[0] == Order(
        order_id="1210386759", portfolio="book", symbol="SPY", side="BUY", quantity=D("1.0"), filled_quantity=D("0.0"),
        status="NEW", submitted_at=at, venue="ibkr", limit_price=D("457.00"), updated_at=at,
        client_order_id="240103-SPY-1-BUY-L@457-bxv8", order_type="limit",
    )  # fmt: skip


@pytest.mark.payloads
async def test_the_recorded_tickle() -> None:
    """A login whose brokerage session can be used."""

    async def post(_path: str, _content: Any) -> Any:
        return payload("ibkr-ibind/tickle.json")

    session = Session("IBKR", ManualClock(), post, restore=False)
    await session.open()
    await session.close()
    assert session.lacks is None
    assert session.login is not None
    assert session.login.expires_seconds == 585.695


@pytest.mark.payloads
@pytest.mark.parametrize(("name", "close"), [("AAPL", 189.37), ("CDN", 0.32), ("GOOG", 136.4)])
async def test_the_recorded_bars(name: str, close: float) -> None:
    """A bar of the first of November is that day's, at midnight UTC as at the opening."""

    async def ask(*_: Any) -> list[Any]:
        rows: list[Any] = payload("ibkr-ibind/history.json")[name]["data"]
        return rows

    clock = ManualClock(datetime(2023, 11, 28, tzinfo=UTC))
    bars, sheet, wanted = DailyBars(clock, history_days=60, ask=ask), Sheet(), [Wanted(name, "USD", 1)]
    await bars.read(wanted, {}, sheet, 10.0)
    (found,) = bars.give(wanted, {})
    assert ([str(day) for day in found.days], found.closes.tolist()) == (["2023-11-01"], [close])
    assert sheet.rejected == ()
