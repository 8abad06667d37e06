"""The trading database holds what the trader did, in the exporter's canonical tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from deskwatch.demo.database import TradingDatabase, canonical_schema
from deskwatch.demo.desk import BACKTEST_DAYS, BOOKS, FIRST_DAY, SECTORS, TRACK_RECORD_DAYS
from deskwatch.demo.rates import Rates
from deskwatch.demo.trading import Trading, backtest


@pytest.fixture
def trading(rates: Rates) -> Trading:
    """The desk before its track record."""
    return Trading(BOOKS, rates, rates.index(FIRST_DAY))


@pytest.fixture
def database(tmp_path: Path, rates: Rates, trading: Trading) -> Iterator[TradingDatabase]:
    """The database at the start of the replay."""
    made = TradingDatabase(tmp_path / "trading.db")
    made.open_desk(SECTORS, backtest(BOOKS, rates, rates.index(FIRST_DAY)), trading.track_record())
    yield made
    made.close()


def rows(database: TradingDatabase, query: str) -> list[tuple[str, ...]]:
    """What another process sees."""
    reader = sqlite3.connect(f"file:{database.path}?mode=ro", uri=True)
    try:
        return reader.execute(query).fetchall()
    finally:
        reader.close()


def agrees(database: TradingDatabase, trading: Trading) -> None:
    """Positions and cash in the database are those of the books."""
    held = {(name, symbol): str(units) for name, book in trading.books.items() for symbol, units in book.quantities.items()}
    assert {(each[0], each[1]): each[2] for each in rows(database, "SELECT portfolio, symbol, quantity FROM positions")} == held
    cash = {(name, "EUR"): str(book.cash) for name, book in trading.books.items()}
    assert {(each[0], each[1]): each[2] for each in rows(database, "SELECT portfolio, currency, cash FROM accounts")} == cash


def test_the_schema_is_the_exporters_own() -> None:
    """Found beside the package, without importing it."""
    assert "CREATE TABLE IF NOT EXISTS strategy_returns" in canonical_schema()


def test_positions_and_cash_follow_every_update(database: TradingDatabase, trading: Trading) -> None:
    """At the start, after a day, after a cut, and after a book was closed altogether."""
    agrees(database, trading)
    database.record(trading.advance())
    agrees(database, trading)
    database.record(trading.cut("carry", {symbol: -units for symbol, units in trading.books["carry"].quantities.items()}))
    agrees(database, trading)
    assert rows(database, "SELECT * FROM positions WHERE portfolio = 'carry'") == []


def test_every_fill_has_its_order_and_every_strategys_order_its_signal(database: TradingDatabase) -> None:
    """What was done can be followed back to what was wanted."""
    orphans = "SELECT * FROM fills LEFT JOIN orders USING (order_id) WHERE orders.order_id IS NULL"
    assert rows(database, orphans) == []
    assert rows(database, "SELECT * FROM orders LEFT JOIN signals USING (signal_id) WHERE signals.signal_id IS NULL") == []
    short = """SELECT order_id, filled_quantity, sum(CAST(fills.quantity AS INTEGER)) AS executed FROM orders JOIN fills
               USING (order_id) GROUP BY order_id HAVING executed <> CAST(filled_quantity AS INTEGER)"""
    assert rows(database, short) == []


def test_a_cut_replaces_the_days_return(database: TradingDatabase, trading: Trading) -> None:
    """One return for each strategy and day, the last one."""
    count = "SELECT count(*) FROM strategy_returns WHERE sample = 'live'"
    before = rows(database, count)
    update = trading.cut("carry", {"CHF": Decimal(1_000_000)})
    database.record(update)
    assert rows(database, count) == before
    newest = "SELECT return_ratio FROM strategy_returns WHERE strategy = 'carry' AND sample = 'live' ORDER BY at DESC LIMIT 1"
    assert rows(database, newest) == [(str(update.returns[0].ratio),)]


def test_both_samples_are_there_from_the_start(database: TradingDatabase) -> None:
    """Drift can be tested in the first reading."""
    counts = dict(rows(database, "SELECT sample, count(*) FROM strategy_returns GROUP BY sample"))
    assert counts == {"backtest": len(BOOKS) * (BACKTEST_DAYS - 1), "live": len(BOOKS) * TRACK_RECORD_DAYS}


def test_an_update_is_seen_whole_or_not_at_all(
    database: TradingDatabase, trading: Trading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A book whose cash moved and whose position did not would be a phantom profit."""
    held = rows(database, "SELECT * FROM positions")
    update = trading.advance()
    monkeypatch.setattr(TradingDatabase, "_put_returns", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        database.record(update)
    assert rows(database, "SELECT * FROM positions") == held
