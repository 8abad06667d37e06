"""Rows of a table or query as records of the desk: columns by name, money by Decimal, times aware. Pure; reads no database.

A row whose required column is missing, not finite or of the wrong type is rejected and counted; the others stand. An optional
value that cannot be read counts as unknown and is noted: it must not cost the position it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deskwatch.errors import Permanent, Reason
from exporter.cells import Unreadable
from exporter.snapshot import Kind, Rejected, Sample, StrategyReturns
from exporter.sql.tables import REJECT, TABLES, Return, Table


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
    kind: Kind, names: Sequence[str], rows: Iterable[Sequence[Any]], *, look_back: timedelta, now: datetime
) -> Records:
    """Read every row.

    Args:
        kind: what the rows are.
        names: column names as the database gives them.
        rows: values in that order.
        look_back: fills, orders and signals older than this before the newest of them are left out. Counted from the
            newest and not from now, so that a replay of the past, or a desk after a holiday, still has its last trades.
        now: wall time, UTC: a record dated later does not move the look-back.

    Raises:
        Permanent: a required column is missing.
    """
    table = TABLES[kind]
    places, notes = _places(kind, table, names)
    records: list[Any] = []
    rejected: list[Rejected] = []
    absent: dict[str, int] = {}
    for index, row in enumerate(rows):
        try:
            records.append(table.record(**_values(table, places, row, absent)))
        except _Refused as refused:
            rejected.append(Rejected(f"{kind}[{index}].{refused}", refused.reason, kind, _portfolio(places, row)))
    notes += [f"{column}: {count} values cannot be read and count as unknown" for column, count in absent.items()]
    if table.at:
        records = _recent(records, table.at, look_back, now)
    newest = max((each for each in map(_time_of, records) if each is not None), default=None)
    found = _grouped(records) if kind == "returns" else tuple(records)
    return Records(kind, found, tuple(rejected), tuple(notes), newest)


class _Refused(Exception):
    """A row is rejected: its column and value, and the bounded reason."""

    def __init__(self, column: str, value: Any, reason: str) -> None:
        shown = repr(value)
        super().__init__(f"{column}={shown if len(shown) <= 60 else shown[:57] + '...'}")
        self.reason = reason


def _places(kind: Kind, table: Table, names: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Where each known column stands in a row, and what was ignored."""
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


def _values(table: Table, places: Mapping[str, int], row: Sequence[Any], absent: dict[str, int]) -> dict[str, Any]:
    values = {}
    for name, column in table.columns.items():
        value = row[places[name]] if name in places else None
        if not column.required and (value is None or value == ""):
            values[name] = column.default
            continue
        try:
            values[name] = column.read(value)
        except Unreadable as unreadable:
            if column.broken is REJECT:
                raise _Refused(name, value, "missing" if value is None else str(unreadable)) from None
            absent[name] = absent.get(name, 0) + 1
            values[name] = column.broken
    return values


def _portfolio(places: Mapping[str, int], row: Sequence[Any]) -> str | None:
    """Whose record a rejected row is, None where that cannot be read either."""
    name = row[places["portfolio"]] if "portfolio" in places else None
    return name.strip() or None if isinstance(name, str) else None


def _time_of(record: Any) -> datetime | None:
    return getattr(record, "at", None) or getattr(record, "submitted_at", None)


def _recent(records: list[Any], at: str, look_back: timedelta, now: datetime) -> list[Any]:
    newest = max((time for record in records if (time := getattr(record, at)) <= now), default=now)
    return [record for record in records if getattr(record, at) >= newest - look_back]


def _grouped(rows: Sequence[Return]) -> tuple[StrategyReturns, ...]:
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
