"""A desk that has nothing but a PostgreSQL database: the exporter as a process reads positions, cash and closes from it."""

# ruff: noqa: S608 - the SQL of tests is made of the tests' own text

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.flows.exporter.running import Series, configuration, running, value
from tests.stack.databases import Server

pytestmark = pytest.mark.stack
DAYS = 300
CASH, SHARES = 5_000.0, 40


def closes() -> list[float]:
    """Of made-up days, the same every time."""
    rng = np.random.default_rng(7)
    return [round(float(close), 6) for close in 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, DAYS)))]


async def desk_database(postgres: Server) -> str:
    """One share, some cash, three hundred days until yesterday, in tables of the operator's own."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    days = [yesterday - timedelta(days=DAYS - 1 - at) for at in range(DAYS)]
    rows = ", ".join(f"('AAPL', '{day}', {close})" for day, close in zip(days, closes(), strict=True))
    return await postgres.new_database(
        "CREATE TABLE holding (isin text, units numeric)",
        f"INSERT INTO holding VALUES ('AAPL', {SHARES})",
        "CREATE TABLE money (amount numeric)",
        f"INSERT INTO money VALUES ({CASH})",
        "CREATE TABLE quote_of_day (isin text, trading_day date, adjusted numeric)",
        f"INSERT INTO quote_of_day VALUES {rows}",
    )


def content(url: str) -> dict[str, Any]:
    """The exporter's configuration: this source and no other."""
    source = {
        "type": "database",
        "name": "trades",
        "url": url,
        "interval_seconds": 0.2,
        "timeout_seconds": 2,
        "stale_after_seconds": 1.5,
        "queries": {
            "positions": "SELECT 'book' AS portfolio, isin AS symbol, units AS quantity, 'USD' AS currency FROM holding",
            "accounts": "SELECT 'book' AS portfolio, 'USD' AS currency, amount AS cash FROM money",
            "histories": "SELECT isin AS symbol, trading_day AS day, adjusted AS close, 'USD' AS currency FROM quote_of_day"
            " WHERE trading_day >= :since",
        },
    }
    return configuration(sources=[source], portfolios=[{"name": "book", "base_currency": "USD"}], limits=[])


def var(page: Series) -> float | None:
    """The 99 % historical value at risk."""
    return value(page, "desk_var_ratio", portfolio="book", method="historical", confidence="0.99", horizon="1d")


async def test_a_desk_of_postgresql_alone_has_value_at_risk(postgres: Server, tmp_path: Path) -> None:
    """The number of the closes themselves; none while the database is away, not even after a restart; and back with it."""
    desk = content(postgres.url(await desk_database(postgres)))
    prices = np.array(closes())
    returns = (prices[1:] / prices[:-1] - 1.0)[-250:]
    worth = SHARES * prices[-1]
    expected = -np.sort(returns)[2] * worth / (worth + CASH)  # the third worst of 250
    async with running(tmp_path, desk) as exporter:
        page = await exporter.until(lambda page: var(page) is not None)
        assert var(page) == pytest.approx(expected, rel=1e-9)
        assert value(page, "desk_portfolio_value", portfolio="book", currency="USD") == pytest.approx(worth + CASH, rel=1e-12)
        await postgres.execute("UPDATE money SET amount = 0", database=desk_name(desk))
        await exporter.until(lambda page: value(page, "desk_portfolio_value", portfolio="book", currency="USD") == worth)
        await asyncio.to_thread(postgres.kill)
        try:
            page = await exporter.until(lambda page: var(page) is None)
            assert failures(page, "refused") > 0
            assert await exporter.stop()
            async with running(tmp_path, desk) as again:
                page = await again.until(lambda page: failures(page, "refused") > 0)
                assert var(page) is None
                late = {"analytic": "tail_risk", "reason": "input_stale"}
                await again.until(lambda page: value(page, "desk_analytic_undefined", **late) is not None)
                await asyncio.to_thread(postgres.start)
                page = await again.until(lambda page: var(page) is not None)
                assert var(page) == pytest.approx(-np.sort(returns)[2], rel=1e-9)
        finally:
            await asyncio.to_thread(postgres.kill)
            await asyncio.to_thread(postgres.start)


def desk_name(desk: dict[str, Any]) -> str:
    """The database of a configuration."""
    return str(desk["exporter"]["sources"][0]["url"]).rpartition("/")[2]


def failures(page: Series, reason: str) -> float:
    """Fetches that failed so."""
    return value(page, "desk_source_fetch_failures_total", source="trades", reason=reason) or 0.0
