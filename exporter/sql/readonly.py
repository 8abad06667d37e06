"""One read-only, consistent, time-limited transaction on a database SQLAlchemy knows, and what a driver's error means.

Never writes: SQLite is opened `mode=ro`, the others in a read-only transaction. Knows no table and no query.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from deskwatch.errors import Permanent, Reason, Retryable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

ASYNC_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql", "mariadb": "aiomysql"}
"""Driver taken where the address names none."""
PROGRESS_STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock: about 0.1 ms."""
_SQLITE_REASONS = {
    sqlite3.SQLITE_BUSY: Reason.TIMEOUT,
    sqlite3.SQLITE_LOCKED: Reason.TIMEOUT,
    sqlite3.SQLITE_INTERRUPT: Reason.TIMEOUT,
    sqlite3.SQLITE_IOERR: Reason.SERVER_ERROR,
    sqlite3.SQLITE_NOMEM: Reason.SERVER_ERROR,
    sqlite3.SQLITE_PROTOCOL: Reason.SERVER_ERROR,
    sqlite3.SQLITE_SCHEMA: Reason.SERVER_ERROR,
    sqlite3.SQLITE_CANTOPEN: Reason.REFUSED,
}
_SQLSTATE_REASONS = (
    ("57014", Reason.TIMEOUT),
    ("08", Reason.NETWORK),
    ("53", Reason.SERVER_ERROR),
    ("57", Reason.SERVER_ERROR),
    ("40", Reason.SERVER_ERROR),
    ("55", Reason.SERVER_ERROR),
)
"""SQLSTATE classes that may pass. Source: PostgreSQL documentation, appendix A."""


def parse_url(text: str, folder: Path) -> URL:
    """A database address with an asynchronous driver that is installed; a relative SQLite file counts from `folder`.

    Raises:
        ValueError: what is wrong with it, without the address, which may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("must be a database address such as sqlite:///trading.db or postgresql://user@host/database") from None
    backend = url.get_backend_name()
    if "+" not in url.drivername and backend in ASYNC_DRIVERS:
        url = url.set(drivername=f"{backend}+{ASYNC_DRIVERS[backend]}")
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError:
        raise ValueError(f"no database dialect is called {url.drivername!r}") from None
    except ImportError as error:
        package = error.name or url.get_driver_name()
        raise ValueError(f"the driver {package} is not installed: pip install {package}") from None
    if not dialect.is_async:
        raise ValueError(f"the driver {url.get_driver_name()} is not asynchronous; e.g. postgresql+asyncpg, sqlite+aiosqlite")
    return _at_file(url, folder) if backend == "sqlite" else url


def _at_file(url: URL, folder: Path) -> URL:
    if not url.database or url.database == ":memory:" or url.query:
        raise ValueError("must name a file and nothing more, e.g. sqlite:///trading.db (four slashes for an absolute path)")
    return url.set(database=str(folder / Path(url.database).expanduser()))


class ReadOnlyDatabase:
    """Where the transactions come from.

    Args:
        url: from `parse_url`.
        timeout_seconds: bound of one statement and, by half, of waiting for a lock.
    """

    def __init__(self, url: URL, timeout_seconds: float) -> None:
        self._url = url
        self._access: _Access = _ACCESS.get(url.get_backend_name(), _Other)(url, timeout_seconds)

    @property
    def is_sqlite(self) -> bool:
        """Whether times are compared as SQLite compares them."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def place(self) -> str:
        """The address for a person: no user, no password."""
        host = f"{self._url.host}/" if self._url.host else ""
        return f"{host}{self._url.database or ''}"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database and is rolled back at the end.

        Raises:
            Retryable: it cannot be reached, is locked, or took too long.
            Permanent: it refuses the login or the statement.
        """
        try:
            async with self._access.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError, sqlite3.Error) as error:
            raise self.explain(error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._access.engine.dispose()

    def explain(self, error: BaseException) -> Retryable | Permanent:
        """The error of ours for a driver's; the text is the driver's own first line without the password."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        said = self._hide(str(cause).strip().partition("\n")[0]) or type(cause).__name__
        said = re.sub(r"^<class '[^']*'>: ", "", said)
        reason, permanent = _reason_of(cause)
        if isinstance(cause, sqlite3.OperationalError) and reason is Reason.REFUSED:
            return self._cannot_open(said)
        kind = Permanent if permanent else Retryable
        return kind(f"{self.place}: {said}", reason=reason)

    def _cannot_open(self, said: str) -> Retryable:
        if not Path(self._url.database or "").exists():
            return Retryable(f"{self.place}: the file does not exist; it is read as soon as it does", reason=Reason.NOT_FOUND)
        return Retryable(f"{self.place}: {said}: is it readable for this user?", reason=Reason.REFUSED)

    def _hide(self, text: str) -> str:
        secret = str(self._url.password or "")
        return text.replace(secret, "***") if secret else text


def _reason_of(cause: BaseException) -> tuple[Reason, bool]:
    """The bounded reason, and whether repeating it unchanged is pointless."""
    if isinstance(cause, TimeoutError):
        return Reason.TIMEOUT, False
    if isinstance(cause, socket.gaierror):
        return Reason.DNS, False
    if isinstance(cause, ssl.SSLError):
        return Reason.TLS, False
    if isinstance(cause, ConnectionRefusedError):
        return Reason.REFUSED, False
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        reason = _SQLITE_REASONS.get(code & 0xFF)
        return (reason, False) if reason else (Reason.REJECTED, True)
    return _reason_of_state(cause)


def _reason_of_state(cause: BaseException) -> tuple[Reason, bool]:
    state = str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")
    for prefix, reason in _SQLSTATE_REASONS:
        if state.startswith(prefix):
            return reason, False
    if state.startswith("28"):
        return Reason.AUTH, True
    if state:
        return (Reason.NOT_FOUND if state == "3D000" else Reason.REJECTED), True
    return Reason.NETWORK if isinstance(cause, OSError) else Reason.SERVER_ERROR, False


def _engine(url: URL, **options: Any) -> AsyncEngine:
    # Half a second and 20 MB: only where a database is read, not where a configuration is checked.
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, **options)


class _Access(Protocol):
    """How one database is opened for reading."""

    engine: AsyncEngine

    def begin(self) -> Any:
        """An asynchronous context manager that gives a connection inside a transaction."""
        ...


class _Sqlite:
    """SQLite: a connection per transaction, so that a file replaced on disk is noticed."""

    def __init__(self, url: URL, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        path = quote(url.database or "", safe="/")
        self.engine = _engine(
            url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"}),
            poolclass=NullPool,
            connect_args={"timeout": timeout_seconds / 2, "isolation_level": None},
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        until, task = time.monotonic() + self._timeout_seconds, asyncio.current_task()

        def give_up() -> bool:
            return time.monotonic() > until or (task is not None and task.cancelling() > 0)

        async with self.engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None  # noqa: S101 - a connection just made
            # Text that is not UTF-8 costs its row, not the whole query.
            raw.text_factory = _text
            # The statement runs in a thread that no cancellation reaches: SQLite itself has to look whether to go on.
            await raw.set_progress_handler(give_up, PROGRESS_STEPS)
            await connection.exec_driver_sql("PRAGMA query_only=ON")
            await connection.exec_driver_sql("BEGIN")
            yield connection


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


class _Other:
    """A server: one pooled connection, asked whether it is alive before each use."""

    def __init__(self, url: URL, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self.engine = _engine(url, pool_size=1, max_overflow=1, pool_pre_ping=True)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.connect() as connection, connection.begin():
            yield connection


class _Postgresql(_Other):
    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(self._timeout_seconds * 1000)}")
                yield connection


class _Mysql(_Other):
    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ")
            await connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            await connection.commit()
            async with connection.begin():
                yield connection


_ACCESS: dict[str, Any] = {"sqlite": _Sqlite, "postgresql": _Postgresql, "mysql": _Mysql, "mariadb": _Mysql}
