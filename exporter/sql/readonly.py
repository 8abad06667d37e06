"""One read-only, consistent, time-limited transaction on a database SQLAlchemy knows, and what reading in it is like.

Never writes. Knows no table; every error leaves as Retryable or Permanent, in words that hold no password.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, quote_plus

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from deskwatch.errors import Permanent, Reason, Retryable
from exporter.sql import faults
from exporter.sql.access import Access, Manner
from exporter.sql.mysql import Mysql
from exporter.sql.postgresql import Postgresql
from exporter.sql.sqlite import Sqlite

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncResult
    from sqlalchemy.sql.elements import BindParameter

PAGE_ROWS = 1000
_ACCESS: dict[str, type[Access]] = {"sqlite": Sqlite, "postgresql": Postgresql, "mysql": Mysql, "mariadb": Mysql}
_DRIVERS = frozenset({"asyncpg", "psycopg", "pymysql", "aiomysql", "asyncmy", "sqlite3", "aiosqlite", "oracledb", "aioodbc"})
"""Packages whose exceptions are a database's answer, also where SQLAlchemy does not wrap them."""
_HINTS = {
    Reason.AUTH: "check user, password and rights",
    Reason.REFUSED: "is the server running?",
    Reason.DNS: "the host's name does not resolve",
    Reason.TLS: "check sslmode in url and ca_file",
}


Page: TypeAlias = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Names of the columns, and rows."""


class TooManyRows(Exception):
    """A statement gives more rows than wanted; the rest was not read."""


class ReadOnlyDatabase:
    """Where the transactions come from.

    Args:
        url: from `parse_url`, without TLS options for a driver that is given a context (`split_tls`).
        manner: how to read.
    """

    def __init__(self, url: URL, manner: Manner) -> None:
        self._url = url
        self.access = _ACCESS.get(url.get_backend_name(), Access)(url, manner)

    @property
    def place(self) -> str:
        """The address for a person: no user, no password."""
        named = self._url.host or self._url.query.get("host") or self._url.query.get("unix_socket") or ""
        host = named if isinstance(named, str) else ",".join(named)
        return f"{host}/{self._url.database or ''}" if host else self._url.database or ""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Reading]:
        """A transaction that sees one state of the database and is rolled back at the end.

        Raises:
            Retryable: it cannot be reached, is locked, or took too long.
            Permanent: it refuses the login or the statement.
        """
        try:
            async with self.access.begin() as connection:
                yield Reading(connection, self.access)
        except Exception as error:
            if not _is_of_database(error):
                raise
            raise self.explain(error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.access.engine.dispose()

    def explain(self, error: BaseException) -> Retryable | Permanent:
        """The error of ours for a driver's: the driver's own first line, without the password."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        reason, permanent = faults.reason_of(cause)
        said = self._hide(faults.words_of(cause))
        if isinstance(cause, sqlite3.OperationalError) and reason is Reason.REFUSED:
            return self._cannot_open(said)
        if isinstance(cause, TimeoutError):
            said = f"no answer within {self.access.manner.timeout_seconds:g} seconds"
        hint = f": {_HINTS[reason]}" if reason in _HINTS else ""
        kind = Permanent if permanent else Retryable
        return kind(f"{self.place}: {said}{hint}", reason=reason)

    def _cannot_open(self, said: str) -> Retryable:
        if not Path(self._url.database or "").exists():
            return Retryable(f"{self.place}: the file does not exist; it is read as soon as it does", reason=Reason.NOT_FOUND)
        return Retryable(f"{self.place}: {said}: is it readable for this user?", reason=Reason.REFUSED)

    def _hide(self, said: str) -> str:
        secret = str(self._url.password or "")
        for form in {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)} - {""}:
            said = said.replace(form, "***")
        return said


class Reading:
    """One open transaction."""

    def __init__(self, connection: AsyncConnection, access: Access) -> None:
        self._connection = connection
        self._access = access

    async def rows(
        self, query: str, parameters: Sequence[BindParameter[Any]] = (), *, limit: int, page: int = PAGE_ROWS
    ) -> AsyncGenerator[Page, None]:
        """The statement's rows in pages, each with the names of the columns; one empty page where there are none.

        Only a page is held at a time: what is wanted of a table of any size costs no more than that.

        Raises:
            TooManyRows: more than `limit` rows.
        """
        await self._access.expect(self._connection, limit + 1)
        result = await self._connection.stream(text(query).bindparams(*parameters))
        names = list(result.keys())
        count, wanted = 0, False
        try:
            async for rows in result.partitions(page):
                count += len(rows)
                if count > limit:
                    break
                yield names, rows
            else:
                wanted = True
            if not count:
                yield names, ()
        except GeneratorExit:
            await self._leave(result, ended=wanted)
            raise
        await self._leave(result, ended=wanted)
        if not wanted:
            raise TooManyRows

    async def _leave(self, result: AsyncResult[Any], *, ended: bool) -> None:
        """Close a result. What is left of it nobody wants: a driver that would read it all is brought to an end first."""
        if not ended and await self._access.stop(self._connection):
            with suppress(SQLAlchemyError):
                async for _ in result.partitions(PAGE_ROWS):
                    pass
        await result.close()

    async def names(self, query: str, parameters: Sequence[BindParameter[Any]] = ()) -> list[str]:
        """The columns a query would have."""
        statement = text(f"SELECT * FROM ({query}\n) AS given LIMIT 0").bindparams(*parameters)  # noqa: S608
        return list((await self._connection.execute(statement)).keys())

    async def scalar(self, query: str) -> Any:
        """The first value of the first row."""
        return (await self._connection.execute(text(query))).scalar()

    async def relations(self) -> frozenset[str]:
        """Tables and views the login finds without naming a schema, in lower case."""
        return frozenset(name.lower() for name in await self._connection.run_sync(_relations))

    def quoted(self, names: Mapping[str, str]) -> dict[str, str]:
        """Names of columns as this database writes them."""
        preparer = self._connection.dialect.identifier_preparer
        return {ours: preparer.quote_identifier(theirs) for ours, theirs in names.items()}


def _relations(connection: Any) -> list[str]:
    from sqlalchemy import inspect

    found = inspect(connection)
    names = [*found.get_table_names(), *found.get_view_names()]
    with suppress(NotImplementedError):
        names += found.get_materialized_view_names()
    return names


def _is_of_database(error: Exception) -> bool:
    package = type(error).__module__.partition(".")[0]
    option = isinstance(error, TypeError) and re.search("unexpected keyword argument", str(error))
    return isinstance(error, SQLAlchemyError | OSError) or package in _DRIVERS or bool(option)
