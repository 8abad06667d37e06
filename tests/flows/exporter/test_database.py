"""The database source in a real exporter process: prices from its own closes, news only, and no secret anywhere."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.flows.exporter.running import Series, configuration, running, trading_database, value

RETURNS = [0.01, -0.02, 0.015, -0.03, 0.005] * 24
"""A hundred and twenty days; the worst lose three per cent."""


def desk(**source: Any) -> dict[str, Any]:
    """A desk with a database and nothing else."""
    trades = {
        "type": "database", "name": "trades", "url": "sqlite:///trading.db", "interval_seconds": 0.1, "stale_after_seconds": 1,
    }  # fmt: skip
    portfolios = [{"name": "book", "base_currency": "USD"}]
    return configuration(sources=[trades | source], portfolios=portfolios, limits=[])


def days() -> list[str]:
    """Days until yesterday, one more than returns."""
    today = datetime.now(UTC).date()
    return [str(today - timedelta(days=len(RETURNS) + 1 - at)) for at in range(len(RETURNS) + 1)]


def share(path: Path) -> sqlite3.Connection:
    """Ten shares and their closes in the canonical tables."""
    database = trading_database(path)
    for statement in ("DELETE FROM positions", "DELETE FROM accounts"):
        database.execute(statement)
    database.execute("INSERT INTO accounts (portfolio, currency, cash) VALUES ('book', 'USD', '0')")
    database.execute("INSERT INTO positions (portfolio, symbol, quantity, currency) VALUES ('book', 'AAPL', '10', 'USD')")
    close = 100.0
    rows = []
    for day, change in zip(days(), [0.0, *RETURNS], strict=True):
        close *= 1.0 + change
        rows.append(("AAPL", day, str(close), "USD"))
    database.executemany("INSERT INTO daily_closes VALUES (?, ?, ?, ?)", rows)
    return database


def var(page: Series) -> float | None:
    """The 99 % historical value at risk."""
    return value(page, "desk_var_ratio", portfolio="book", method="historical", confidence="0.99", horizon="1d")


async def test_a_desk_with_a_database_alone_has_value_at_risk(tmp_path: Path) -> None:
    """From the canonical table `daily_closes`; a restart without the database gives no number."""
    share(tmp_path / "trading.db").close()
    async with running(tmp_path, desk()) as exporter:
        page = await exporter.until(lambda page: var(page) is not None)
        assert var(page) == pytest.approx(0.03, rel=1e-9)
    (tmp_path / "trading.db").rename(tmp_path / "gone.db")
    async with running(tmp_path, desk()) as exporter:
        page = await exporter.until(
            lambda page: value(page, "desk_source_fetch_failures_total", source="trades", reason="not_found")
        )
        assert var(page) is None


async def test_news_only_is_read_by_a_process_too(tmp_path: Path) -> None:
    """The process tells the query when it last read; what it read before stays."""
    database = share(tmp_path / "trading.db")
    database.execute("CREATE TABLE trades (id, at)")
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    database.execute("INSERT INTO trades VALUES (1, ?)", (now,))
    query = (
        "SELECT id AS execution_id, 'book' AS portfolio, 'AAPL' AS symbol, 'BUY' AS side, 1 AS quantity, 100 AS price,"
        " 'USD' AS currency, 'xnas' AS venue, at FROM trades WHERE at >= :last_run"
    )
    content = desk(tables=["positions", "histories"], queries={"fills": query}, overlap_seconds=1)
    async with running(tmp_path, content) as exporter:
        await exporter.until(lambda page: var(page) is not None)
        database.execute("DELETE FROM trades")
        later = datetime.now(UTC) + timedelta(minutes=1)
        database.execute("INSERT INTO trades VALUES (2, ?)", (f"{later:%Y-%m-%d %H:%M:%S}",))
        await exporter.until(lambda page: (value(page, "desk_source_fetches_total", source="trades") or 0) > 40)
        asked = (await exporter.get("/debug/source?name=trades")).json()
    assert asked["notes"]["fills"] == "2 records"
    database.close()


async def test_the_password_of_a_database_is_nowhere(tmp_path: Path) -> None:
    """Not in the log, the metrics, the landing page or the debug page; the reason is."""
    url = "postgresql://reader:s3cr%2Ft@127.0.0.1:1/trading"
    async with running(tmp_path, desk(url=url)) as exporter:
        await exporter.until(lambda page: value(page, "desk_source_fetch_failures_total", source="trades", reason="refused"))
        pages = [(await exporter.get(path)).text for path in ("/metrics", "/", "/debug/source?name=trades")]
        said = [str(line) for line in exporter.said]
    assert any("is the server running?" in line for line in said)
    assert not [text for text in (*pages, *said) if "s3cr" in text]
