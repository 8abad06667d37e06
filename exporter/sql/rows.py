"""Rows of a table or query as records of the desk: columns by name, money by Decimal, times aware. Pure; reads no database.

A row whose required column is missing, not finite or of the wrong type is rejected and counted; the others stand. An optional
value that cannot be read counts as unknown and is noted: it must not cost the position it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deskwatch.errors import Permanent, Reason
from exporter.cells import Reader, Unreadable
from exporter.snapshot import Kind, Quote, Rejected, Sample, Session, StrategyReturns
from exporter.sql.tables import REJECT, TABLES, MarketHours, Return, Table

SHOWN = 60
"""Characters of a rejected value that are shown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one row became.

    Args:
        found: the record, or why there is none.
        key: what tells it from others, as far as it can be read.
        at: its time, for kinds with a look-back; None where it cannot be read.
    """

    found: Any | Rejected
    key: tuple[Any, ...]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """What rows of one kind became."""

    kind: Kind
    records: tuple[Any, ...]
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    newest: datetime | None = None
    """Newest time among the records, None where the kind has no times."""


def read_rows(
    kind: Kind, names: Sequence[str], rows: Iterable[Sequence[Any]], *, look_back: timedelta, now: datetime, zone: tzinfo = UTC
) -> Records:
    """Read every row.

    Args:
        kind: what the rows are.
        names: column names as the database gives them.
        rows: values in that order.
        look_back: fills, orders and signals older than this before the newest of them are left out. Counted from the
            newest and not from now, so that a replay of the past, or a desk after a holiday, still has its last trades.
        now: wall time, UTC: a record dated later does not move the look-back.
        zone: zone of times that carry none.

    Raises:
        Permanent: a required column is missing.
    """
    reader = RowReader(kind, names, zone)
    return settle(kind, [reader.entry(index, row) for index, row in enumerate(rows)], reader.notes, look_back, now)


class RowReader:
    """Reads rows of one kind.

    Args:
        kind: what the rows are.
        names: column names as the database gives them.
        zone: zone of times that carry none.

    Raises:
        Permanent: a required column is missing.
    """

    def __init__(self, kind: Kind, names: Sequence[str], zone: tzinfo = UTC) -> None:
        self._kind = kind
        self._table = TABLES[kind]
        self._places, self._unused = places(kind, self._table, names)
        self._readers: dict[str, Reader] = {name: column.reader(zone) for name, column in self._table.columns.items()}
        self._absent: dict[str, int] = {}

    @property
    def notes(self) -> list[str]:
        """What a person should know of the rows read so far."""
        unknown = [f"{column}: {count} values cannot be read and count as unknown" for column, count in self._absent.items()]
        return self._unused + unknown

    def entry(self, index: int, row: Sequence[Any]) -> Entry:
        """What the row is; `index` is its place, for the message."""
        try:
            values = self._values(row)
        except _Refused as refused:
            rejected = Rejected(f"{self._kind}[{index}].{refused}", refused.reason, self._kind, self._portfolio(row))
            return Entry(rejected, self._key(row), self._readable(self._table.at, row) if self._table.at else None)
        at = values[self._table.at] if self._table.at else None
        return Entry(self._table.record(**values), tuple(values[name] for name in self._table.key), at)

    def _values(self, row: Sequence[Any]) -> dict[str, Any]:
        values = {}
        for name, column in self._table.columns.items():
            value = row[self._places[name]] if name in self._places else None
            if column.may_be_null and (value is None or value == ""):
                values[name] = column.default
                continue
            try:
                values[name] = self._readers[name](value)
            except Unreadable as unreadable:
                if column.broken is REJECT:
                    raise _Refused(name, value, "missing" if value is None else str(unreadable)) from None
                self._absent[name] = self._absent.get(name, 0) + 1
                values[name] = column.broken
        return values

    def _key(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """The key of a row that is no record, so that a later, better one takes its place; the row itself where it has none."""
        key = [self._readable(name, row) or self._table.columns[name].default for name in self._table.key]
        return tuple(key) if key and None not in key else ("unreadable", repr(tuple(row)))

    def _readable(self, name: str, row: Sequence[Any]) -> Any:
        try:
            return self._readers[name](row[self._places[name]]) if name in self._places else None
        except Unreadable:
            return None

    def _portfolio(self, row: Sequence[Any]) -> str | None:
        """Whose record a rejected row is, None where that cannot be read either."""
        name = row[self._places["portfolio"]] if "portfolio" in self._places else None
        return name.strip() or None if isinstance(name, str) else None


class _Refused(Exception):
    """A row is rejected: its column and value, and the bounded reason."""

    def __init__(self, column: str, value: Any, reason: str) -> None:
        shown = repr(value)
        super().__init__(f"{column}={shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + '...'}")
        self.reason = reason


def places(kind: Kind, table: Table, names: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Where each known column stands in a row, and what was ignored.

    Raises:
        Permanent: a required column is missing.
    """
    found = {name.lower(): place for place, name in enumerate(names)}
    missing = [name for name, column in table.columns.items() if column.required and name not in found]
    if missing:
        have = ", ".join(names) or "none"
        raise Permanent(
            f"{kind}: the required column {', '.join(missing)} is missing; there are: {have}. Give it a name in "
            f"queries.{kind}, e.g. SELECT ... AS {missing[0]}",
            reason=Reason.MISSING_FIELD,
        )
    unknown = sorted(name for name in found if name not in table.columns)
    notes = [f"columns not used: {', '.join(unknown)}"] if unknown else []
    return {name: found[name] for name in table.columns if name in found}, notes


def settle(kind: Kind, entries: Iterable[Entry], notes: Sequence[str], look_back: timedelta, now: datetime) -> Records:
    """The records of one kind, of what rows became. Arguments as those of `read_rows`."""
    kept = tuple(entries)
    table = TABLES[kind]
    if table.at and not table.whole:
        kept = recent(kept, look_back, now)
    records = [entry.found for entry in kept if not isinstance(entry.found, Rejected)]
    rejected = tuple(entry.found for entry in kept if isinstance(entry.found, Rejected))
    newest = max((each for each in map(_time_of, records) if each is not None), default=None)
    return Records(kind, _shaped(kind, records, now), rejected, tuple(notes), newest)


def recent(entries: Sequence[Entry], look_back: timedelta, now: datetime) -> tuple[Entry, ...]:
    """Those within the look-back, which ends with the newest record not dated in the future. One without a time stays."""
    times = [entry.at for entry in entries if entry.at is not None and not isinstance(entry.found, Rejected)]
    newest = max((time for time in times if time <= now), default=now)
    return tuple(entry for entry in entries if entry.at is None or newest - entry.at <= look_back)


def _time_of(record: Any) -> datetime | None:
    return getattr(record, "at", None) or getattr(record, "submitted_at", None)


def _shaped(kind: Kind, records: list[Any], now: datetime) -> tuple[Any, ...]:
    """As the snapshot holds them: most kinds as they are, some put together."""
    if kind == "returns":
        return _returns(records)
    if kind == "sessions":
        return _sessions(records, now)
    return _newest_quotes(records) if kind == "quotes" else tuple(records)


def _returns(rows: Sequence[Return]) -> tuple[StrategyReturns, ...]:
    """One array per strategy and sample, oldest first."""
    groups: dict[tuple[str, Sample], list[Return]] = {}
    for row in rows:
        groups.setdefault((row.strategy, row.sample), []).append(row)
    return tuple(
        StrategyReturns(strategy, sample, _values_by_time(group)) for (strategy, sample), group in sorted(groups.items())
    )


def _values_by_time(rows: list[Return]) -> NDArray[np.float64]:
    values = np.array([row.return_ratio for row in sorted(rows, key=lambda row: row.at)], dtype=np.float64)
    values.setflags(write=False)
    return values


def _sessions(hours: Sequence[MarketHours], now: datetime) -> tuple[Session, ...]:
    """What each calendar says of now. One whose hours have all ended says nothing: its table has run out, it is not closed."""
    found = []
    for calendar in sorted({each.calendar for each in hours}):
        ahead = [each for each in hours if each.calendar == calendar and each.closes_at > now]
        if ahead:
            opens = min((each.opens_at for each in ahead if each.opens_at > now), default=None)
            closes = min((each.closes_at for each in ahead if each.opens_at <= now), default=None)
            found.append(Session(calendar, closes is not None, now, opens, closes))
    return tuple(found)


def _newest_quotes(quotes: Sequence[Quote]) -> tuple[Quote, ...]:
    """The latest of each symbol and venue."""
    newest: dict[tuple[str, str], Quote] = {}
    for quote in quotes:
        known = newest.get((quote.symbol, quote.venue))
        if known is None or quote.at >= known.at:
            newest[quote.symbol, quote.venue] = quote
    return tuple(newest.values())
