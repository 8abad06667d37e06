"""The embedded trading database: SQLite with the exporter's canonical tables. Written here, read by the exporter.

Knows the tables, not what is in them; the schema is the exporter's own file, found without importing the exporter.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from deskwatch.demo.desk import BASE
from deskwatch.demo.trader import VENUE, Dealing, Fill, Order, Signal
from deskwatch.demo.trading import DayReturn, Update
from deskwatch.errors import DeskwatchError


def canonical_schema() -> str:
    """The SQL of the canonical tables.

    Raises:
        DeskwatchError: the exporter's package is not installed beside this one.
    """
    spec = find_spec("exporter")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        with suppress(OSError):
            return (Path(folder) / "sources" / "schema.sql").read_text(encoding="utf-8")
    raise DeskwatchError("exporter/sources/schema.sql is missing: install the wheel again")


class TradingDatabase:
    """The file the simulated trader writes. Every update is one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        # Readers never wait for the writer nor it for them; a demo need not survive a power cut.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.executescript(canonical_schema())

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def open_desk(self, sectors: Mapping[str, str], backtest: Iterable[DayReturn], updates: Iterable[Update]) -> None:
        """Fill the tables for the start: instruments, backtest, and every day so far."""
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(
                "INSERT INTO instruments (symbol, currency, sector, instrument) VALUES (?, ?, ?, 'spot')",
                [(symbol, BASE, sector) for symbol, sector in sectors.items()],
            )
            self._put_returns("backtest", backtest)
            for update in updates:
                self._put(update)

    def record(self, update: Update) -> None:
        """Take over one update."""
        with self._connection:
            self._connection.execute("BEGIN")
            self._put(update)

    def _put(self, update: Update) -> None:
        for dealing in update.dealings:
            self._put_dealing(dealing)
        self._put_returns("live", update.returns)

    def _put_dealing(self, dealing: Dealing) -> None:
        execute = self._connection.executemany
        execute(
            """INSERT INTO signals (signal_id, strategy, portfolio, symbol, target_quantity, at) VALUES (?, ?, ?, ?, ?, ?)""",
            map(_signal_row, dealing.signals),
        )
        execute(
            """INSERT INTO orders (order_id, portfolio, symbol, side, quantity, filled_quantity, status, submitted_at, venue,
               signal_id) VALUES (?, ?, ?, ?, ?, ?, 'filled', ?, ?, ?)""",
            map(_order_row, dealing.orders),
        )
        execute(
            """INSERT INTO fills (execution_id, portfolio, symbol, side, quantity, price, currency, at, venue, order_id,
               signal_id, strategy, fee) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            map(_fill_row, dealing.fills),
        )
        book = dealing.book
        execute("DELETE FROM positions WHERE portfolio = ?", [(book.portfolio,)])
        execute(
            "INSERT INTO positions (portfolio, symbol, quantity, currency) VALUES (?, ?, ?, ?)",
            [(book.portfolio, symbol, str(quantity), BASE) for symbol, quantity in book.quantities.items()],
        )
        execute(
            "INSERT OR REPLACE INTO accounts (portfolio, currency, cash) VALUES (?, ?, ?)",
            [(book.portfolio, BASE, str(book.cash))],
        )

    def _put_returns(self, sample: str, returns: Iterable[DayReturn]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO strategy_returns (strategy, sample, at, return_ratio) VALUES (?, ?, ?, ?)",
            [(each.strategy, sample, each.day.isoformat(), str(each.ratio)) for each in returns],
        )


def _moment(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _signal_row(signal: Signal) -> tuple[str, ...]:
    target = str(signal.target_quantity)
    return (signal.signal_id, signal.portfolio, signal.portfolio, signal.symbol, target, _moment(signal.at))


def _order_row(order: Order) -> tuple[str, ...]:
    size = str(order.quantity)
    return (
        order.order_id, order.portfolio, order.symbol, order.side, size, size, _moment(order.at), VENUE, order.signal_id,
    )  # fmt: skip


def _fill_row(fill: Fill) -> tuple[str, ...]:
    order = fill.order
    return (
        fill.execution_id, order.portfolio, order.symbol, order.side, str(fill.quantity), str(fill.price), BASE,
        _moment(fill.at), VENUE, order.order_id, order.signal_id, order.portfolio, str(fill.fee),
    )  # fmt: skip
