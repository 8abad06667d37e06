"""Reads daily closes as seldom and as little as possible: whole at first, then only the newest days where the query can.

The server puts them together where its dialect can, so that a million closes are a thousand rows on the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from exporter.snapshot import History
from exporter.source import Kept
from exporter.sql import histories
from exporter.sql.asking import Asker, too_many
from exporter.sql.closes import Closes
from exporter.sql.histories import Bars
from exporter.sql.questions import Bounds
from exporter.sql.readonly import PAGE_ROWS
from exporter.sql.rows import places
from exporter.sql.tables import TABLES

GROUPS = 20
"""Symbols in a page of closes the server has put together: some 20,000 closes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the closes, from the configuration.

    Args:
        incremental: whether the query can be asked for the newest days only.
        days: calendar days of history.
        overlap: how long before the last good run `:last_run` lies.
        limit: most closes read.
        zone: zone of times that carry none, in which days end.
        interval_seconds: how often they are read.
    """

    incremental: bool
    days: int
    overlap: timedelta
    limit: int
    zone: tzinfo
    interval_seconds: float


async def read_bars(asker: Asker, wanted: Wanted, before: Bars | None, kept: Kept, at: datetime, monotonic: float) -> Bars:
    """The closes, read again if they are due; `before` itself where they are not.

    Args:
        asker: the transaction.
        wanted: from the configuration.
        before: what this process read last.
        kept: what the exporter keeps.
        at: wall time, UTC.
        monotonic: monotonic time.

    Raises:
        Retryable: they cannot be read now.
        Permanent: the query is wrong, or there are too many.
    """
    due = monotonic + wanted.interval_seconds
    if before is not None and not before.must_be_whole(kept.histories):
        if monotonic < before.due:
            return before
        if wanted.incremental and kept.histories and kept.succeeded_at is not None:
            last_run = min(before.began_at, kept.succeeded_at) - wanted.overlap
            first = histories.first_day(kept.histories, _first(wanted, at))
            closes = await _read(asker, wanted, at, _bounds(wanted, at, first, last_run))
            if (news := await asyncio.to_thread(_news, closes, kept.histories)) is not None:
                return _bars(closes, news, at, due, whole=False)
    closes = await _read(asker, wanted, at, _bounds(wanted, at, _first(wanted, at)))
    return _bars(closes, await asyncio.to_thread(closes.histories), at, due, whole=True)


def _first(wanted: Wanted, at: datetime) -> date:
    return at.astimezone(wanted.zone).date() - timedelta(days=wanted.days)


def _bounds(wanted: Wanted, at: datetime, first: date, last_run: datetime | None = None) -> Bounds:
    since = datetime.combine(first, time(), UTC)
    return Bounds(since, last_run or since, at, timedelta(days=wanted.days))


def _news(closes: Closes, kept: Mapping[str, History]) -> tuple[History, ...] | None:
    """What was read, without gaps; None where it shows that the past is another."""
    read = closes.histories()
    return histories.filled(kept, read) if histories.past_stands(kept, read) else None


def _bars(closes: Closes, found: tuple[History, ...], at: datetime, due: float, *, whole: bool) -> Bars:
    count = sum(history.days.size for history in found)
    notes = [f"{count} closes of {len(found)} symbols, {'all' if whole else 'the newest'} read at {at:%Y-%m-%dT%H:%M:%SZ}"]
    if closes.unended:
        notes.append(f"{closes.unended} of days that have not ended are left out")
    if closes.unlisted:
        notes.append(f"{closes.unlisted} more cannot be read than are listed")
    return Bars(found, whole, at, due, tuple(closes.rejected), "; ".join(notes))


async def _read(asker: Asker, wanted: Wanted, at: datetime, bounds: Bounds) -> Closes:
    """All closes the question gives from the bounds on. Each page is converted in a thread and forgotten."""
    question = await asker.question("histories", bounds)
    names = await asker.names(question)
    where, _ = places("histories", TABLES["histories"], names)
    closes = Closes(at.astimezone(wanted.zone).date(), wanted.days, wanted.zone)
    together = asker.grouped(question, {ours: names[place] for ours, place in where.items()}, wanted.limit)
    if together is None:
        async with aclosing(asker.pages(question, wanted.limit, PAGE_ROWS)) as pages:
            async for _, rows in pages:
                await asyncio.to_thread(closes.add_rows, rows, where)
        return closes
    total = 0
    async with aclosing(asker.pages(together, wanted.limit, GROUPS)) as pages:
        async for _, rows in pages:
            total += sum(row[2] for row in rows)
            if total > wanted.limit:
                raise too_many(question, wanted.limit)
            await asyncio.to_thread(_add, closes, rows)
    return closes


def _add(closes: Closes, rows: Sequence[Sequence[Any]]) -> None:
    for row in rows:
        closes.add_joined(*row)
