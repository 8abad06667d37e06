"""Reads the trading database: the canonical tables of `schema.sql`, or the operator's own SELECT for each kind of record.

Reads in one consistent read-only transaction and writes nothing. Any dialect of SQLAlchemy with an asynchronous driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from sqlalchemy import inspect, text
from sqlalchemy.sql.elements import TextClause

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, Secret, Settings
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.cells import Unreadable, moment
from exporter.snapshot import Kind, Snapshot
from exporter.source import Kept, Source, SourceConfig
from exporter.sql.readonly import ReadOnlyDatabase, parse_url
from exporter.sql.rows import Records, read_rows
from exporter.sql.tables import TABLES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

TableKind = Literal["instruments", "positions", "prices", "fills", "orders", "signals", "accounts", "returns"]
SINCE = "since"
"""The one parameter an operator's SELECT may use: `:since`, the start of the look-back."""
_PAGE = 1000


class Queries(Settings):
    """One SELECT per kind of record; its columns are found by name (`schema.sql` lists them)."""

    instruments: str | None = None
    positions: str | None = None
    prices: str | None = None
    fills: str | None = None
    orders: str | None = None
    signals: str | None = None
    accounts: str | None = None
    returns: str | None = None

    @field_validator("*")
    @classmethod
    def _only_reads(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if value.split(None, 1)[:1] and value.split(None, 1)[0].upper() not in ("SELECT", "WITH", "VALUES", "TABLE"):
            raise ValueError("must be a SELECT (or WITH ... SELECT)")
        if not value.strip():
            raise ValueError("must be a SELECT, was empty")
        unknown = set(_parameters(value)) - {SINCE}
        if unknown:
            raise ValueError(f"knows the parameter :{SINCE} only, found :{', :'.join(sorted(unknown))} (write \\: for a colon)")
        return value

    @property
    def given(self) -> dict[Kind, str]:
        """The kinds with a query of their own."""
        return {kind: query for kind in TABLES if (query := getattr(self, kind)) is not None}


class Config(SourceConfig):
    """A trading database."""

    type: Literal["database"]
    url: Secret
    """SQLAlchemy address, e.g. `sqlite:///trading.db` (relative to this file) or `postgresql://reader@db/trading`."""
    tables: tuple[TableKind, ...] | None = None
    """Kinds read from the canonical tables. Left out: every canonical table there is, or none beside `queries`."""
    queries: Queries = Queries()
    """SELECTs of your own, one for each kind."""
    look_back_days: float = Field(default=7.0, gt=0)
    """Fills, orders and signals are read so far back from the newest of them."""
    maximum_rows: int = Field(default=100_000, ge=1)
    """A table or query with more rows is an error, not a slow exporter."""

    @field_validator("url")
    @classmethod
    def _is_readable(cls, value: Secret, info: ValidationInfo) -> Secret:
        url = parse_url(value.get_secret_value(), (info.context or {}).get("folder", Path()))
        return Secret(url.render_as_string(hide_password=False))

    @model_validator(mode="after")
    def _each_kind_once(self) -> Self:
        twice = [kind for kind in self.tables or () if kind in self.queries.given]
        if twice:
            raise CrossFault([(["queries", kind], f"{kind} stands under tables too: keep one of the two") for kind in twice])
        if self.tables == () and not self.queries.given:
            raise CrossFault([(["tables"], "nothing is read: name a table or give a query")])
        return self


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Rows of one kind as the database gave them."""

    kind: Kind
    names: Sequence[str]
    rows: Sequence[Sequence[Any]]


class DatabaseSource(Source[Config]):
    """One database."""

    kind = "database"

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._database = ReadOnlyDatabase(parse_url(config.url.get_secret_value(), Path()), config.timeout_seconds)
        self._discovers = config.tables is None and not config.queries.given
        self._tables: frozenset[Kind] = frozenset(config.tables or ())

    @property
    def provides(self) -> AbstractSet[Kind]:
        """The kinds queried. Before the canonical tables have been seen: all of them, so that nothing is taken for empty."""
        if self._discovers and not self._tables:
            return frozenset(TABLES)
        return self._tables | frozenset(self.config.queries.given)

    async def fetch(self, kept: Kept) -> Snapshot:
        """Read every kind in one transaction.

        Raises:
            Retryable: no such file yet, locked, unreachable, too slow.
            Permanent: a query or table is wrong, the login is refused.
        """
        at = self.clock.now()
        async with self._database.transaction() as connection:
            tables = await self._existing(connection) if self._discovers else self._tables
            fetched = [await self._table(connection, kind, at) for kind in TABLES if kind in tables]
            fetched += [await self._query(connection, kind, query, at) for kind, query in self.config.queries.given.items()]
        self._tables = tables
        # Converting many rows takes longer than the event loop may wait.
        records = await asyncio.to_thread(lambda: [self._records(each, at) for each in fetched])
        return self._snapshot(at, records)

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def _existing(self, connection: AsyncConnection) -> frozenset[Kind]:
        """The canonical tables there are. One that was there and is gone is an error: an empty book would be a lie."""
        names = {name.lower() for name in await connection.run_sync(_relations)}
        found = frozenset(kind for kind, table in TABLES.items() if table.name in names)
        gone = ", ".join(sorted(TABLES[kind].name for kind in self._tables - found))
        if gone:
            raise Retryable(f"{self._database.place}: the table {gone} was there and is gone", reason=Reason.NOT_FOUND)
        if not found:
            hint = "create those of exporter/sources/schema.sql, or give your own SELECTs under queries"
            raise Retryable(f"{self._database.place}: none of the canonical tables is there: {hint}", reason=Reason.NOT_FOUND)
        return found

    async def _table(self, connection: AsyncConnection, kind: Kind, at: datetime) -> _Fetched:
        table = TABLES[kind]
        query, parameters = f"SELECT * FROM {table.name}", {}  # noqa: S608 - the name is ours
        if table.at:
            newest = (await connection.execute(text(f"SELECT MAX({table.at}) FROM {table.name}"))).scalar()  # noqa: S608
            since = _since(newest, timedelta(days=self.config.look_back_days), at)
            if since is not None:
                # A missing time comes along, so that its row is counted as rejected.
                query += f" WHERE {table.at} >= :{SINCE} OR {table.at} IS NULL"
                parameters[SINCE] = since
        return await self._rows(connection, kind, text(query), parameters)

    async def _query(self, connection: AsyncConnection, kind: Kind, query: str, at: datetime) -> _Fetched:
        since = at - timedelta(days=self.config.look_back_days)
        bound: Any = since.strftime("%Y-%m-%d %H:%M:%S") if self._database.is_sqlite else since
        return await self._rows(connection, kind, text(query), {SINCE: bound} if SINCE in _parameters(query) else {})

    async def _rows(
        self, connection: AsyncConnection, kind: Kind, query: TextClause, parameters: Mapping[str, Any]
    ) -> _Fetched:
        limit = self.config.maximum_rows
        rows: list[Sequence[Any]] = []
        try:
            async with connection.stream(query, parameters) as result:
                names = list(result.keys())
                async for page in result.partitions(_PAGE):
                    rows += page
                    if len(rows) > limit:
                        break
        except Exception as error:
            raise self._about(kind, error) from error
        if len(rows) > limit:
            message = f"{self._where(kind)}: more than {limit} rows: narrow the query or raise maximum_rows"
            raise Permanent(message, reason=Reason.TOO_LARGE)
        return _Fetched(kind, names, rows)

    def _where(self, kind: Kind) -> str:
        return f"queries.{kind}" if kind in self.config.queries.given else f"table {TABLES[kind].name}"

    def _about(self, kind: Kind, error: Exception) -> Retryable | Permanent:
        explained = self._database.explain(error)
        return type(explained)(f"{self._where(kind)}: {explained}", reason=explained.reason)

    def _records(self, fetched: _Fetched, at: datetime) -> Records:
        look_back = timedelta(days=self.config.look_back_days)
        return read_rows(fetched.kind, fetched.names, fetched.rows, look_back=look_back, now=at)

    def _snapshot(self, at: datetime, found: Sequence[Records]) -> Snapshot:
        notes = {"database": self._database.place}
        notes |= {each.kind: "; ".join((f"{len(each.records)} records", *each.notes)) for each in found}
        return Snapshot(
            fetched_at=at,
            data_at=max((each.newest for each in found if each.newest is not None), default=None),
            rejected=tuple(rejected for each in found for rejected in each.rejected),
            notes=notes,
            **{each.kind: each.records for each in found},
        )


def _parameters(query: str) -> list[str]:
    return list(text(query)._bindparams)


def _relations(connection: Any) -> list[str]:
    found = inspect(connection)
    return [*found.get_table_names(), *found.get_view_names()]


def _since(newest: Any, look_back: timedelta, now: datetime) -> Any:
    """Start of the look-back in the column's own form, None where that cannot be told.

    Text is compared by its date, two days wider than asked: time zones and separators differ; `read_rows` cuts exactly.
    """
    try:
        latest = moment(newest)
    except Unreadable:
        return None
    start = min(latest, now) - look_back
    if isinstance(newest, str):
        return (start - timedelta(days=2)).strftime("%Y-%m-%d")
    if isinstance(newest, datetime):
        return start if newest.tzinfo else start.replace(tzinfo=None)
    if isinstance(newest, int | float | Decimal):
        return type(newest)(start.timestamp())
    return start.date()
