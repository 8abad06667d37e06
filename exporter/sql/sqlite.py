"""Reads SQLite: the file is opened `mode=ro`, a connection for each transaction, so that a file replaced on disk is noticed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import bindparam
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import BindParameter

from exporter.sql.access import Access, capped, earliest, engine

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

PROGRESS_STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock: about 0.1 ms."""


class Sqlite(Access):
    """A file."""

    def open(self, url: URL) -> AsyncEngine:
        """The engine; it opens the file at each transaction."""
        path = quote(url.database or "", safe="/")
        return engine(
            url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"}),
            poolclass=NullPool,
            connect_args={"timeout": self.manner.timeout_seconds / 2, "isolation_level": None},
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, interrupted at its deadline or when its task is cancelled."""
        until, task = time.monotonic() + self.manner.timeout_seconds, asyncio.current_task()

        def give_up() -> bool:
            return time.monotonic() > until or (task is not None and task.cancelling() > 0)

        async with self.engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None  # noqa: S101 - a connection just made
            # Text that is not UTF-8 costs its row, not the whole query.
            raw.text_factory = _text
            # The statement runs in a thread that no cancellation reaches: SQLite itself has to look whether to go on.
            await raw.set_progress_handler(give_up, PROGRESS_STEPS)
            await connection.exec_driver_sql("BEGIN")
            yield connection

    def bound(self, name: str, at: datetime) -> BindParameter[Any]:
        """Text, as SQLite keeps times: `T` sorts behind the blank, so ISO times of that second are not cut off."""
        return bindparam(name, earliest(at, self.manner.zone).strftime("%Y-%m-%d %H:%M:%S"))

    def bound_day(self, name: str, day: date) -> BindParameter[Any]:
        """Text."""
        return bindparam(name, day.isoformat())

    def grouped(self, query: str, columns: Mapping[str, str], limit: int) -> str | None:
        """By `group_concat`, which takes rows as they come, both columns alike."""
        joined = {name: f"group_concat(coalesce(CAST({columns[name]} AS TEXT), ''), ';')" for name in ("day", "close")}
        return (
            f"SELECT CAST({columns['symbol']} AS TEXT) COLLATE BINARY, CAST({columns['currency']} AS TEXT) COLLATE BINARY, "  # noqa: S608
            f"count(*), {joined['day']}, {joined['close']} FROM {capped(query, limit)} GROUP BY 1, 2"
        )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
