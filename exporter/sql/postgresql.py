"""Reads PostgreSQL, and what speaks its protocol (TimescaleDB): READ ONLY, REPEATABLE READ, `statement_timeout`.

Statements are not kept prepared, so that a pooler in between does no harm and a changed table no more than one fetch.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Date, DateTime, bindparam, text
from sqlalchemy.sql.elements import BindParameter

from exporter.sql.access import APPLICATION, Access, capped

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

_SETTINGS = text(
    """SELECT set_config('statement_timeout', :milliseconds, true), set_config('lock_timeout', :milliseconds, true),
       set_config('TimeZone', :zone, true), set_config('DateStyle', 'ISO', true)"""
)


class Postgresql(Access):
    """A server. Its session is in the configured zone, so that it compares times without one as they were meant."""

    def options(self, url: URL) -> dict[str, Any]:
        """Of asyncpg; another driver takes its own from the address."""
        if url.get_driver_name() != "asyncpg":
            return {}
        tls = self.manner.tls
        encrypted = {"ssl": False if tls.mode == "disable" else tls.context()} if tls.mode not in (None, "prefer") else {}
        return {
            "timeout": self.manner.timeout_seconds,
            "server_settings": {"application_name": APPLICATION},
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"deskwatch_{uuid.uuid4().hex}",
            **encrypted,
        }

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is rolled back at its end."""
        async with self.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin() as transaction:
                milliseconds = str(max(1, int(self.manner.timeout_seconds * 1000)))
                await connection.execute(_SETTINGS, {"milliseconds": milliseconds, "zone": str(self.manner.zone)})
                yield connection
                await transaction.rollback()

    def bound(self, name: str, at: datetime) -> BindParameter[Any]:
        """A `timestamptz`: a column without a zone is taken for one of the session's."""
        return bindparam(name, at.astimezone(UTC), type_=DateTime(timezone=True))

    def bound_day(self, name: str, day: date) -> BindParameter[Any]:
        """A `date`."""
        return bindparam(name, day, type_=Date())

    def grouped(self, query: str, columns: Mapping[str, str], limit: int) -> str | None:
        """By `string_agg`, which takes rows as they come, both columns alike."""
        joined = {name: f"string_agg(coalesce(CAST({columns[name]} AS text), ''), ';')" for name in ("day", "close")}
        return (
            f"SELECT CAST({columns['symbol']} AS text), CAST({columns['currency']} AS text), count(*), "  # noqa: S608
            f"{joined['day']}, {joined['close']} FROM {capped(query, limit)} GROUP BY 1, 2"
        )
