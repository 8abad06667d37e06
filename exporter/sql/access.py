"""How one kind of database is opened for reading: what every dialect answers, and the answers that suit any of them.

`exporter.sql.sqlite`, `postgresql` and `mysql` answer for theirs. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import BindParameter

from exporter.sql.address import Tls

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

APPLICATION = "deskwatch"
"""What the server's list of sessions calls us."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to read.

    Args:
        timeout_seconds: bound of one statement and of connecting.
        zone: zone of times that carry none.
        pool_size: connections kept open between transactions, 0 or 1.
        tls: as configured.
    """

    timeout_seconds: float
    zone: tzinfo = UTC
    pool_size: int = 1
    tls: Tls = Tls()  # noqa: RUF009 - frozen


class Access:
    """A server SQLAlchemy knows. A subclass says what is particular to its dialect.

    Args:
        url: where it is, without TLS options for a driver that is given a context.
        manner: how to read.
    """

    def __init__(self, url: URL, manner: Manner) -> None:
        self.manner = manner
        self.engine = self.open(url)

    def open(self, url: URL) -> AsyncEngine:
        """The engine; it connects later."""
        return engine(url, connect_args=self.options(url), **self.pool())

    def options(self, url: URL) -> dict[str, Any]:
        """Arguments of the driver's `connect`."""
        return {}

    def pool(self) -> dict[str, Any]:
        """A kept connection is asked whether it is alive before each use, so a restarted server costs no fetch."""
        if self.manner.pool_size == 0:
            return {"poolclass": NullPool}
        return {"pool_size": self.manner.pool_size, "max_overflow": 1, "pool_pre_ping": True}

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A connection inside a transaction that sees one state of the database and cannot write."""
        async with self.engine.connect() as connection, connection.begin():
            yield connection

    async def expect(self, connection: AsyncConnection, rows: int) -> None:
        """The next statement's rows are wanted so far only, where the server can be told in advance."""
        return

    async def stop(self, connection: AsyncConnection) -> bool:
        """End the statement whose rows are not wanted any more; whether the driver has still to read what was sent."""
        return False

    def bound(self, name: str, at: datetime) -> BindParameter[Any]:
        """The lower bound `at` as the parameter `:name`: what is compared with it may be earlier, never later."""
        return bindparam(name, earliest(at, self.manner.zone))

    def bound_day(self, name: str, day: date) -> BindParameter[Any]:
        """A day as the parameter `:name`."""
        return bindparam(name, day)

    def grouped(self, query: str, columns: Mapping[str, str], limit: int) -> str | None:
        """SQL that has the server put daily closes together: a row for each symbol and currency with the number of closes, all
        days and all closes, each joined by semicolons in the same order. None where the rows are to be read one by one.

        Args:
            query: a SELECT of the operator's or ours.
            columns: its columns `symbol`, `currency`, `day` and `close`, quoted for this dialect.
            limit: read at most so many rows of it.
        """
        return None


def engine(url: URL, **options: Any) -> AsyncEngine:
    """An engine of SQLAlchemy."""
    # Half a second and 20 MB: only where a database is read, not where a configuration is checked.
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, **options)


def earliest(at: datetime, zone: tzinfo) -> datetime:
    """The earliest that clocks on UTC or in the zone may show at or after `at`, without a zone.

    A column that carries no zone may be kept in either. Where clocks are about to be set back, as far as they will go.
    """
    in_zone = at.astimezone(zone)
    later = (at + timedelta(days=1)).astimezone(zone)
    back = max(timedelta(0), (in_zone.utcoffset() or timedelta(0)) - (later.utcoffset() or timedelta(0)))
    return min(in_zone.replace(tzinfo=None) - back, at.astimezone(UTC).replace(tzinfo=None))


def capped(query: str, limit: int) -> str:
    """A query as a table, of at most so many rows. The line break ends a comment the query may end with."""
    return f"(SELECT * FROM ({query}\n) AS given LIMIT {limit}) AS capped"  # noqa: S608 - made of the operator's own SELECT
