"""The Alpaca source's configuration, and the vendor's own bodies as snapshots."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Fault
from deskwatch.venues.alpaca_data import PAIRS, SHARES
from exporter.config import ExporterConfig
from exporter.normal import alpaca as normal
from exporter.normal.alpaca import Owner
from exporter.normal.alpaca_bars import DailyBars, Question
from exporter.records import Fields, Sheet
from exporter.snapshot import Account, InstrumentTerms, Order, Position, Price, Quote
from exporter.sources.alpaca import AlpacaSource, Config
from tests.payloads import payload

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
OWNER = Owner("book", "alpaca", "USD", NOW)
D = Decimal
GIVEN = {"type": "alpaca", "name": "alpaca", "key_id": "PK1", "secret_key": "s3cret"}


def configured(**settings: Any) -> Config | list[Fault]:
    """One source's configuration, or what is wrong with it."""
    return validate(Config, {**GIVEN, **settings})


def source(**settings: Any) -> AlpacaSource:
    """A source that has not asked anything."""
    config = configured(**settings)
    assert isinstance(config, Config), config
    return AlpacaSource(config, ManualClock(NOW))


def faults(**settings: Any) -> list[str]:
    """What is wrong with a configuration."""
    found = configured(**settings)
    assert isinstance(found, list)
    return [str(fault) for fault in found]


def test_credentials_are_enough() -> None:
    """The paper account, everything there is, as a broker."""
    config = configured()
    assert isinstance(config, Config)
    assert (config.paper, config.feed, config.history_feed, config.book) == (True, None, "sip", "alpaca")
    assert source().provides == {
        "accounts", "positions", "prices", "instruments", "orders", "fills", "sessions", "quotes", "histories",
    }  # fmt: skip
    assert source().kind == "broker"
    assert source().quota_used_ratio == 0.0
    assert "s3cret" not in repr(config)


def test_credentials_may_stand_in_files(tmp_path: Path) -> None:
    """As every secret."""
    (tmp_path / "secret").write_text("from-a-file\n")
    given = {name: value for name, value in GIVEN.items() if name != "secret_key"}
    config = validate(Config, {**given, "secret_key_file": "secret"}, folder=tmp_path)
    assert isinstance(config, Config)
    assert config.secret_key.get_secret_value() == "from-a-file"


def test_what_is_read_can_be_narrowed() -> None:
    """To kinds it offers."""
    assert source(read=["positions", "accounts"]).provides == {"positions", "accounts"}
    assert faults(read=["positions", "signals", "returns"]) == [
        "read[1]: must be one of accounts, positions, prices, instruments, orders, fills, sessions, quotes, histories,"
        " was 'signals'",
        "read[2]: must be one of accounts, positions, prices, instruments, orders, fills, sessions, quotes, histories,"
        " was 'returns'",
    ]


@pytest.mark.parametrize(
    ("symbol", "fault"),
    [
        ("BTCUSD", "must be written with its slash, BTC/USD, was 'BTCUSD'"),
        ("AAPL,TSLA", "must be one symbol, was 'AAPL,TSLA'"),
        ("", "must be one symbol, was ''"),
        ("AAPL260116C00250000", "must be a share or a crypto pair"),
    ],
)
def test_a_symbol_that_cannot_be_read_is_a_fault(symbol: str, fault: str) -> None:
    """With its key path."""
    (found,) = faults(symbols=["AAPL", "BRK.B", "BTC/USD", "OPUSD", symbol])
    assert found.startswith(f"symbols[4]: {fault}")


def test_every_fault_is_reported_with_its_key_path_and_no_secret() -> None:
    """As everywhere in the configuration."""
    content = {
        "sources": [
            {"type": "alpaca", "name": "a", "key_id": "two words", "secret_key": "", "feed": "tape", "trading_url": "x"}
        ],
        "portfolios": [{"name": "a", "base_currency": "USD"}],
    }
    found = validate(ExporterConfig, content, at=("exporter",))
    assert isinstance(found, list)
    assert sorted(str(fault) for fault in found) == [
        "exporter.sources[0].feed: must be 'iex', 'sip', 'delayed_sip', 'otc', 'boats' or 'overnight', was 'tape'",
        "exporter.sources[0].key_id: must be letters and digits without blanks, as Alpaca shows it",
        "exporter.sources[0].secret_key: must be letters and digits without blanks, as Alpaca shows it",
        "exporter.sources[0].trading_url: must be an http:// or https:// address with a host, was 'x'",
    ]


def body(file: str, key: str) -> Any:
    """One body of the vendor's own client tests."""
    return payload(f"alpaca-py-tests/{file}.json")[key]


@pytest.mark.payloads
def test_the_vendors_account() -> None:
    """Cash below zero, on margin."""
    row = body("account_routes", "get_account")
    assert normal.account(Fields(row), OWNER) == Account(
        portfolio="book",
        currency="USD",
        cash=D("-23140.2"),
        equity=D("103820.56"),
        buying_power=D("262113.632"),
        initial_margin=D("63480.38"),
        maintenance_margin=D("38088.228"),
        daily_pnl=D("291.32"),
        trading_blocked=False,
    )


@pytest.mark.payloads
def test_the_vendors_positions() -> None:
    """With a block in dollars beside the account's own numbers."""
    sheet = Sheet()
    (found,) = sheet.read("positions", body("position_routes", "get_all_positions"), partial(normal.held, owner=OWNER))
    assert found.position == Position("book", "AAPL", D(5), "USD", D("100.0"), D("100.0"))
    assert found.terms == InstrumentTerms("AAPL", "USD", None, "share", D(1))
    assert found.price == Price("AAPL", D("120.0"), "USD", NOW)
    assert sheet.rejected == ()


@pytest.mark.payloads
def test_the_vendors_orders() -> None:
    """A quantity that is a number, an average price of 0, a pair, an amount of money."""
    (row,) = body("order_routes", "get_orders")
    moment = datetime(2019, 8, 24, 14, 15, 22, tzinfo=UTC)
    assert normal.order(Fields(row), OWNER) == Order(
        order_id="0b11f089-722d-4ced-9beb-e2eeed3637dc", portfolio="book", symbol="SPY", side="BUY", quantity=D(1),
        filled_quantity=D(0), status="NEW", submitted_at=moment, venue="alpaca", updated_at=moment, client_order_id="string",
        order_type="stop",
    )  # fmt: skip
    limit = normal.order(Fields(body("order_routes", "limit_order")), OWNER)
    assert limit is not None
    assert (limit.limit_price, limit.order_type, limit.status) == (D(300), "limit", "NEW")
    closed = body("position_routes", "close_all_positions")
    pair = normal.order(Fields(closed[0]["body"]), OWNER)
    assert pair is not None
    assert (pair.symbol, pair.side, pair.quantity) == ("BTC/USD", "SELL", D("0.0283"))
    assert normal.order(Fields(body("position_routes", "close_position_with_symbol")), OWNER) is None


@pytest.mark.payloads
def test_the_vendors_latest_quotes() -> None:
    """A share's of 2022, whose sizes are in lots, and a pair's."""
    rows = {
        **body("historical_stock_data", "get_latest_quote")["quotes"],
        **body("historical_crypto_data", "get_crypto_latest_quote")["quotes"],
    }
    found = [normal.quote(Fields({"symbol": symbol, "data": data}), OWNER) for symbol, data in rows.items()]
    at = datetime(2022, 3, 18, 14, 2, 43, 651613, tzinfo=UTC)
    assert found == [
        Quote("AAPL", "USD", "alpaca", at, D("161.1"), D("161.11")),
        Quote(
            "BTC/USD", "USD", "alpaca", datetime(2022, 3, 18, 14, 3, 13, 661518, tzinfo=UTC), D("40517.08"), D("40765.93"),
            D("4.0178"), D("1.5516"),
        ),
    ]  # fmt: skip
    trade = body("historical_stock_data", "get_multisymbol_latest_trade")["trades"]["TSLA"]
    assert normal.last_price(Fields({"symbol": "TSLA", "data": trade}), OWNER) == Price(
        "TSLA", D("720.19"), "USD", datetime(2022, 7, 15, 19, 59, 59, 405545, tzinfo=UTC)
    )


@pytest.mark.payloads
@pytest.mark.parametrize(
    ("file", "key", "market", "closes"),
    [
        ("historical_stock_data", "get_bars", SHARES, {"AAPL": [("2022-02-01", 174.61), ("2022-02-02", 175.84)]}),
        (
            "historical_stock_data",
            "get_bars_desc",
            SHARES,
            {"TSLA": [("2023-09-25", 246.99), ("2023-09-26", 244.12), ("2023-09-27", 240.5)]},
        ),
        (
            "historical_stock_data",
            "multisymbol_get_bars",
            SHARES,
            {"AAPL": [("2022-03-09", 162.95)], "TSLA": [("2022-03-09", 858.97)]},
        ),
        (
            "historical_crypto_data",
            "get_crypto_bars",
            PAIRS,
            {"BTC/USD": [("2022-03-09", 162.95)], "ETH/USD": [("2022-03-09", 858.97)]},
        ),
    ],
)
def test_the_vendors_bars(file: str, key: str, market: Any, closes: dict[str, list[tuple[str, float]]]) -> None:
    """A day is named by the date its midnight has in UTC, in winter and in summer; days ascend however they came."""
    bars, sheet = DailyBars(ManualClock(NOW), history_days=10_000), Sheet()
    symbols = dict.fromkeys(closes, "USD")
    bars.take(Question(market, "USD", date(2026, 1, 2), symbols=tuple(symbols)), body(file, key)["bars"], sheet)
    found = bars.give(symbols, {})
    assert {
        each.symbol: list(zip(each.days.astype(str).tolist(), each.closes.tolist(), strict=True)) for each in found
    } == closes
    assert sheet.rejected == ()
