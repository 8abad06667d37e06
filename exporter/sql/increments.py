"""What queries that ask only for news (`:last_run`) have read so far: old and new together are always complete.

A run that fails changes nothing here, so the next one asks from the last good run again. Pure; lives as long as its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeAlias

from deskwatch.errors import Permanent, Reason
from exporter.snapshot import Kind
from exporter.sql.rows import Entry, Records, RowReader, recent, settle
from exporter.sql.tables import TABLES

Known: TypeAlias = Mapping[tuple[object, ...], Entry]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class How:
    """How rows become records: zone of times that carry none, look-back, and how many records of a kind there may be."""

    zone: tzinfo
    look_back: timedelta
    limit: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """Rows of one kind as the database gave them.

    Args:
        kind: what they are.
        names: names of the columns.
        rows: values in that order.
        incremental: whether the kind is read bit by bit.
        continues: whether these rows are only what is new since the last good run.
    """

    kind: Kind
    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    incremental: bool = False
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Increments:
    """The state after the last good run.

    Args:
        read_at: when that run began to read; None before the first.
        known: what was read by kind and key, so far as it is still wanted.
    """

    read_at: datetime | None = None
    known: Mapping[Kind, Known] = field(default_factory=dict)

    def last_run(self, kind: Kind, succeeded_at: datetime | None, overlap: timedelta) -> datetime | None:
        """From when on the kind is to be asked; None for from the start: nothing was read, or no run has succeeded.

        Args:
            kind: which records.
            succeeded_at: the last good run as the exporter knows it: what was read in a run it has not counted is read again.
            overlap: so much earlier, for what is written with an earlier time and committed late.
        """
        if self.read_at is None or succeeded_at is None or kind not in self.known:
            return None
        return min(self.read_at, succeeded_at) - overlap


def merge(kind: Kind, known: Known, entries: Iterable[Entry], look_back: timedelta, now: datetime, limit: int) -> Known:
    """What is known and what is new of one kind, the new in place of the old, without what has left the look-back.

    Raises:
        Permanent: more than `limit` records.
    """
    merged = dict(known)
    for entry in entries:
        # A row whose time cannot be read leaves the look-back with the run that gave it last.
        merged[entry.key] = entry if entry.at is not None else replace(entry, at=now)
    kept = merged.values() if TABLES[kind].whole else recent(tuple(merged.values()), look_back, now)
    if len(kept) > limit:
        raise Permanent(
            f"queries.{kind}: more than {limit} rows by now: narrow the query or raise maximum_rows", reason=Reason.TOO_LARGE
        )
    return {entry.key: entry for entry in kept}


def settle_all(fetched: Iterable[Fetched], before: Increments, how: How, at: datetime) -> tuple[list[Records], Increments]:
    """The records of every kind, and the state to go on from.

    Args:
        fetched: what was read, by kind.
        before: the state after the last good run.
        how: how rows become records.
        at: when this run began.

    Raises:
        Permanent: a required column is missing, or there are too many records.
    """
    found: list[Records] = []
    known: dict[Kind, Known] = {}
    for each in fetched:
        reader = RowReader(each.kind, each.names, how.zone)
        entries: Iterable[Entry] = [reader.entry(index, row) for index, row in enumerate(each.rows)]
        if each.incremental:
            old = before.known.get(each.kind, {}) if each.continues else {}
            known[each.kind] = merge(each.kind, old, entries, how.look_back, at, how.limit)
            entries = known[each.kind].values()
        found.append(settle(each.kind, entries, reader.notes, how.look_back, at))
    return found, Increments(at, known)
