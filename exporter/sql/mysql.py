"""Reads MySQL and MariaDB: READ ONLY, REPEATABLE READ WITH CONSISTENT SNAPSHOT, a time limit that either server keeps.

Only tables of an engine with transactions (InnoDB) are seen at one moment. What a cancelled fetch has begun is killed on the
server, which would not notice by itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from exporter.sql.access import APPLICATION, Access, capped

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

KILL_SECONDS = 0.8
"""How long the end of a cancelled fetch may wait for the server to take the order; its own time limit stands anyway."""
_GROUP_BYTES = 2**32 - 1
"""Most that `group_concat_max_len` may be on every server."""


class Mysql(Access):
    """A server. Its session is in UTC, so a TIMESTAMP comes with its zone; a DATETIME comes without, as it was written."""

    def options(self, url: URL) -> dict[str, Any]:
        """Of aiomysql; another driver takes its own from the address."""
        if url.get_driver_name() != "aiomysql":
            return {}
        context = self.manner.tls.context()
        return {
            "connect_timeout": self.manner.timeout_seconds,
            "program_name": APPLICATION,
            "conv": _decoders(),
            **({} if "charset" in url.query else {"charset": "utf8mb4"}),
            **({"ssl": context, "async_creator_fn": _connect_encrypted} if context else {}),
        }

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction; ended on the server too when its task is cancelled."""
        async with self.engine.connect() as connection:
            await connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await connection.exec_driver_sql(
                f"SET SESSION time_zone = '+00:00', sql_select_limit = DEFAULT, group_concat_max_len = {_GROUP_BYTES}, "
                f"{self._limit(connection)}"
            )
            connection.info["rows"] = None
            connection.info["number"] = (await connection.exec_driver_sql("SELECT CONNECTION_ID()")).scalar_one()
            await connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            number = int(connection.info["number"])
            try:
                yield connection
            except asyncio.CancelledError:
                with suppress(Exception):
                    async with asyncio.timeout(KILL_SECONDS):
                        await self._order(f"KILL {number}")
                raise

    def _limit(self, connection: AsyncConnection) -> str:
        seconds = self.manner.timeout_seconds
        if getattr(connection.dialect, "is_mariadb", False):
            return f"max_statement_time = {seconds:.3f}"
        return f"max_execution_time = {max(1, int(seconds * 1000))}"

    async def expect(self, connection: AsyncConnection, rows: int) -> None:
        """The server stops there by itself, unless the query has a LIMIT of its own."""
        if connection.info.get("rows") != rows:
            await connection.exec_driver_sql(f"SET SESSION sql_select_limit = {int(rows)}")
            connection.info["rows"] = rows

    async def stop(self, connection: AsyncConnection) -> bool:
        """The driver reads a result to its end before it does anything else: the server is told to end it."""
        await self._order(f"KILL QUERY {int(connection.info['number'])}")
        return True

    async def _order(self, statement: str) -> None:
        async with self.engine.connect() as other:
            await other.exec_driver_sql(statement)

    def grouped(self, query: str, columns: Mapping[str, str], limit: int) -> str | None:
        """By `GROUP_CONCAT`, which takes rows as they come, both columns alike. No collation: `abc` is not `ABC`."""
        exact = {
            name: f"CONVERT(CAST({columns[name]} AS CHAR) USING utf8mb4) COLLATE utf8mb4_bin" for name in ("symbol", "currency")
        }
        joined = {name: f"GROUP_CONCAT(COALESCE(CAST({columns[name]} AS CHAR), '') SEPARATOR ';')" for name in ("day", "close")}
        return (
            f"SELECT {exact['symbol']}, {exact['currency']}, COUNT(*), {joined['day']}, {joined['close']} "  # noqa: S608
            f"FROM {capped(query, limit)} GROUP BY 1, 2"
        )


def _decoders() -> dict[Any, Any]:
    """The driver's own, but a TIMESTAMP, which the server gives in the session's zone, says that it is UTC."""
    converters, types = import_module("pymysql.converters"), import_module("pymysql.constants.FIELD_TYPE")

    def timestamp(value: Any) -> Any:
        found = converters.convert_datetime(value)
        return found.replace(tzinfo=UTC) if isinstance(found, datetime) else found

    return {**converters.decoders, types.TIMESTAMP: timestamp}


async def _connect_encrypted(**options: Any) -> Any:
    """As `aiomysql.connect`, which goes on in the clear where the server offers no TLS."""
    driver, flags = import_module("aiomysql.connection"), import_module("pymysql.constants.CLIENT")

    class Encrypted(driver.Connection):  # type: ignore[misc, name-defined]
        async def _get_server_information(self) -> None:
            await super()._get_server_information()
            if not self.server_capabilities & flags.SSL:
                raise ssl.SSLError("the server offers no TLS")

    connection = Encrypted(**options)
    await connection._connect()
    return connection
