"""What the database is asked for each kind of record: its canonical table or the operator's own SELECT, from a lower bound on.

A bound is always in the form the column or the dialect compares by, and never later than meant: what comes too early is cut
exactly once it has been read. Sends only the one small question for the newest time of a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Date, DateTime, bindparam
from sqlalchemy.sql.elements import BindParameter

from exporter.cells import Unreadable, moment_in
from exporter.snapshot import Kind
from exporter.sql.access import Access, earliest
from exporter.sql.readonly import Reading
from exporter.sql.statement import LAST_RUN, SINCE, parameters_of
from exporter.sql.tables import TABLES


@dataclass(frozen=True, slots=True)
class Question:
    """A SELECT for one kind, and where it stands, for messages."""

    kind: Kind
    query: str
    parameters: tuple[BindParameter[Any], ...]
    where: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """From when on records are wanted.

    Args:
        since: start of the look-back, counted from now.
        last_run: the last good run; `since` before the first.
        now: wall time.
        look_back: its length.
    """

    since: datetime
    last_run: datetime
    now: datetime
    look_back: timedelta


def own(access: Access, kind: Kind, query: str, bounds: Bounds) -> Question:
    """The operator's SELECT with the parameters it uses."""
    used = parameters_of(query)
    parameters = []
    if SINCE in used:
        is_day = kind == "histories"
        parameters.append(access.bound_day(SINCE, bounds.since.date()) if is_day else access.bound(SINCE, bounds.since))
    if LAST_RUN in used:
        parameters.append(access.bound(LAST_RUN, bounds.last_run))
    return Question(kind, query, tuple(parameters), f"queries.{kind}")


async def canonical(access: Access, reading: Reading, kind: Kind, bounds: Bounds) -> Question:
    """The canonical table, from the look-back before its newest record on."""
    table = TABLES[kind]
    query, where = f"SELECT * FROM {table.name}", f"table {table.name}"  # noqa: S608 - the name is ours
    if table.at is None or table.whole:
        return Question(kind, query, (), where)
    newest = await reading.scalar(f"SELECT MAX({table.at}) FROM {table.name}")  # noqa: S608
    bound = _start(newest, bounds, access)
    if bound is None:
        return Question(kind, query, (), where)
    # A missing time comes along, so that its row is counted as rejected.
    return Question(kind, f"{query} WHERE {table.at} >= :{SINCE} OR {table.at} IS NULL", (bound,), where)


def _start(newest: Any, bounds: Bounds, access: Access) -> BindParameter[Any] | None:
    """Start of the look-back in the column's own form, None where that cannot be told.

    Text is compared by its date, two days wider than asked: time zones and separators differ.
    """
    try:
        latest: datetime = moment_in(access.manner.zone)(newest)
    except Unreadable:
        return None
    start = min(latest, bounds.now) - bounds.look_back
    if isinstance(newest, str):
        return bindparam(SINCE, (start - timedelta(days=2)).strftime("%Y-%m-%d"))
    if isinstance(newest, datetime):
        # A column that carries zones compares with it as with a time of the session's zone.
        return bindparam(SINCE, earliest(start, access.manner.zone), type_=DateTime())
    if isinstance(newest, int | float | Decimal):
        return bindparam(SINCE, type(newest)(start.timestamp()))
    return bindparam(SINCE, start.date(), type_=Date())


def grouped(access: Access, question: Question, columns: Mapping[str, str], limit: int) -> Question | None:
    """The question for daily closes with the server putting them together, None where it cannot."""
    query = access.grouped(question.query, columns, limit + 1)
    return None if query is None else Question(question.kind, query, question.parameters, question.where)
