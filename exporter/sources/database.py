"""Reads the trading database: the canonical tables of `schema.sql`, or the operator's own SELECT for each kind of record.

Reads in one consistent read-only transaction and writes nothing. PostgreSQL (TimescaleDB too), MySQL, MariaDB, SQLite, and any
other dialect of SQLAlchemy with an asynchronous driver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, LoadedFile, Secret
from deskwatch.errors import Reason, Retryable
from exporter.snapshot import Kind, Snapshot
from exporter.source import Kept, Source, SourceConfig
from exporter.sql.access import Manner
from exporter.sql.address import parse_url, split_tls
from exporter.sql.asking import Asker
from exporter.sql.closes import newest_day
from exporter.sql.daily_closes import Wanted, read_bars
from exporter.sql.histories import Bars
from exporter.sql.increments import EPOCH, Fetched, How, Increments, settle_all
from exporter.sql.queries import Queries
from exporter.sql.questions import Bounds
from exporter.sql.readonly import PAGE_ROWS, Reading, ReadOnlyDatabase
from exporter.sql.rows import Records
from exporter.sql.tables import TABLES

TableKind = Literal[
    "instruments", "positions", "prices", "quotes", "histories", "fills", "orders", "signals", "accounts", "returns",
    "sessions", "aliases",
]  # fmt: skip


def _zone_name(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be a time zone of the IANA database such as Europe/Zurich or UTC") from None
    return name


class Config(SourceConfig):
    """A trading database."""

    type: Literal["database"]
    url: Secret
    """SQLAlchemy address, e.g. `sqlite:///trading.db` (relative to this file), `postgresql://reader@db/trading` or
    `mysql://reader@db/trading`. TLS as libpq says it: `?sslmode=verify-full&sslrootcert=ca.pem`, `sslcert`, `sslkey`."""
    ca_file: LoadedFile | None = None
    """PEM file of the authority that signed the server's certificate; then the connection is encrypted and its name checked."""
    pool_size: int = Field(default=1, ge=0, le=1)
    """Connections kept open between fetches: one, as a fetch is one transaction, or none where they are scarce."""
    tables: tuple[TableKind, ...] | None = None
    """Kinds read from the canonical tables. Left out: every canonical table there is, or none beside `queries`."""
    queries: Queries = Queries()
    """SELECTs of your own, one for each kind."""
    time_zone: Annotated[str, AfterValidator(_zone_name)] = "UTC"
    """Zone of times the database keeps without one; it also says when a day of daily closes has ended."""
    look_back_days: float = Field(default=7.0, gt=0, le=10_000)
    """Fills, orders and signals are read so far back from the newest of them."""
    overlap_seconds: float = Field(default=60.0, ge=0)
    """`:last_run` lies so long before the last good run, for what was written before it and committed after, and for the
    database's clock being behind ours."""
    history_days: int = Field(default=550, ge=2, le=10_000)
    """Calendar days of daily closes wanted."""
    history_interval_seconds: float = Field(default=900.0, gt=0)
    """Daily closes are read this often, the rest at every fetch."""
    maximum_rows: int = Field(default=100_000, ge=1)
    """A table or query with more rows is an error, not a slow exporter."""
    maximum_closes: int = Field(default=5_000_000, ge=1)
    """As `maximum_rows`, of daily closes."""

    @field_validator("url")
    @classmethod
    def _is_readable(cls, value: Secret, info: ValidationInfo) -> Secret:
        url = parse_url(value.get_secret_value(), (info.context or {}).get("folder", Path()))
        return Secret(url.render_as_string(hide_password=False))

    @model_validator(mode="after")
    def _tls_works(self) -> Self:
        try:
            split_tls(parse_url(self.url.get_secret_value(), Path()), self.ca_file)[1].context()
        except ValueError as error:
            raise CrossFault([(["ca_file" if self.ca_file else "url"], str(error))]) from None
        return self

    @model_validator(mode="after")
    def _each_kind_once(self) -> Self:
        twice = [kind for kind in self.tables or () if kind in self.queries.given]
        if twice:
            raise CrossFault([(["queries", kind], f"{kind} stands under tables too: keep one of the two") for kind in twice])
        if self.tables == () and not self.queries.given:
            raise CrossFault([(["tables"], "nothing is read: name a table or give a query")])
        return self

    @property
    def reading(self) -> How:
        """How rows become records."""
        return How(ZoneInfo(self.time_zone), timedelta(days=self.look_back_days), self.maximum_rows)


class DatabaseSource(Source[Config]):
    """One database."""

    kind = "database"
    keeps_histories = True

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        url, tls = split_tls(parse_url(config.url.get_secret_value(), Path()), config.ca_file)
        self._database = ReadOnlyDatabase(url, Manner(config.timeout_seconds, config.reading.zone, config.pool_size, tls))
        self._discovers = config.tables is None and not config.queries.given
        self._tables: frozenset[Kind] = frozenset(config.tables or ())
        self._increments = Increments()
        self._bars: Bars | None = None

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
        async with self._database.transaction() as reading:
            tables = await self._existing(reading) if self._discovers else self._tables
            asker = Asker(self._database, reading, self.config.queries.given)
            wanted = [kind for kind in TABLES if kind in tables or kind in self.config.queries.given]
            fetched = [await self._ask(asker, kind, kept, at) for kind in wanted if kind != "histories"]
            bars = await self._daily_closes(asker, kept, at) if "histories" in wanted else None
        # Converting many rows takes longer than the event loop may wait.
        records, increments = await asyncio.to_thread(settle_all, fetched, self._increments, self.config.reading, at)
        snapshot = self._snapshot(at, records, bars)
        # Only now: a fetch that failed has read nothing, and the next one asks for all of it again.
        self._tables, self._increments, self._bars = tables, increments, bars
        return snapshot

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def _existing(self, reading: Reading) -> frozenset[Kind]:
        """The canonical tables there are. One that was there and is gone is an error: an empty book would be a lie."""
        names = await reading.relations()
        found = frozenset(kind for kind, table in TABLES.items() if table.name in names)
        gone = ", ".join(sorted(TABLES[kind].name for kind in self._tables - found))
        if gone:
            raise Retryable(f"{self._database.place}: the table {gone} was there and is gone", reason=Reason.NOT_FOUND)
        if not found:
            hint = "create those of exporter/sources/schema.sql, or give your own SELECTs under queries"
            raise Retryable(f"{self._database.place}: none of the canonical tables is there: {hint}", reason=Reason.NOT_FOUND)
        return found

    async def _ask(self, asker: Asker, kind: Kind, kept: Kept, at: datetime) -> Fetched:
        """One kind's rows; of an incremental one those since its last good run."""
        config = self.config
        incremental = config.queries.incremental(kind)
        overlap = timedelta(seconds=config.overlap_seconds)
        last_run = self._increments.last_run(kind, kept.succeeded_at, overlap) if incremental else None
        since = EPOCH if TABLES[kind].whole else at - config.reading.look_back
        question = await asker.question(kind, Bounds(since, last_run or since, at, config.reading.look_back))
        names: Sequence[str] = ()
        rows: list[Sequence[Any]] = []
        async with aclosing(asker.pages(question, config.maximum_rows, PAGE_ROWS)) as pages:
            async for names, page in pages:  # noqa: B007 - the last page's are those of all
                rows += page
        return Fetched(kind, names, rows, incremental, continues=last_run is not None)

    async def _daily_closes(self, asker: Asker, kept: Kept, at: datetime) -> Bars:
        config = self.config
        wanted = Wanted(
            incremental=config.queries.incremental("histories"),
            days=config.history_days,
            overlap=timedelta(seconds=config.overlap_seconds),
            limit=config.maximum_closes,
            zone=config.reading.zone,
            interval_seconds=config.history_interval_seconds,
        )
        return await read_bars(asker, wanted, self._bars, kept, at, self.clock.monotonic())

    def _snapshot(self, at: datetime, found: Sequence[Records], bars: Bars | None) -> Snapshot:
        notes = {"database": self._database.place}
        notes |= {each.kind: "; ".join((f"{len(each.records)} records", *each.notes)) for each in found}
        newest = [each.newest for each in found if each.newest is not None]
        rejected = [rejected for each in found for rejected in each.rejected]
        if bars is not None:
            notes["histories"] = bars.note
            newest += [day for day in (newest_day(bars.histories),) if day is not None]
            rejected += bars.rejected if bars is not self._bars else ()
        return Snapshot(
            fetched_at=at,
            data_at=max(newest, default=None),
            histories=bars.histories if bars is not None else (),
            rejected=tuple(rejected),
            notes=notes,
            **{each.kind: each.records for each in found},
        )
