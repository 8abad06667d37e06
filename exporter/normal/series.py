"""Series of a time series database as records of the desk: labels are columns by name, the value is one of them. Pure.

What each kind's columns are, and how a cell is read, stands in `exporter.sql.tables`. Refuses a value that is no finite number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field

from deskwatch.config import Settings
from deskwatch.errors import Permanent
from deskwatch.venues.prometheus import LONGEST_EXPRESSION, Point
from exporter.cells import Unreadable, number
from exporter.snapshot import Kind, Rejected
from exporter.sql.rows import Records, read_rows
from exporter.sql.tables import TABLES

Expression = Annotated[str, Field(min_length=1, max_length=LONGEST_EXPRESSION)]
Label = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=64)]
KeyPath = list[str | int]
VALUE_COLUMNS: Mapping[Kind, str] = {
    "instruments": "multiplier",
    "positions": "quantity",
    "prices": "price",
    "signals": "target_quantity",
    "accounts": "cash",
    "returns": "return_ratio",
}
"""The kinds that can be read, and the column the value is unless the configuration says otherwise."""
EVERYTHING = timedelta(days=36500)
"""A look-back that leaves nothing out: the expression says what is wanted."""


class RecordQuery(Settings):
    """An expression whose series are records. Labels are columns by name, of those `exporter/sources/schema.sql` lists."""

    expr: Expression
    value: str | None = None
    """The column the value is; by default `quantity` of positions, `price` of prices, `cash` of accounts, `multiplier` of
    instruments, `target_quantity` of signals, `return_ratio` of returns."""
    constants: dict[str, str] = Field(default_factory=dict)
    """Columns that are the same in every record; they win over labels."""
    rename: dict[Label, str] = Field(default_factory=dict)
    """Label to column, where they are called differently."""
    may_be_empty: bool = False
    """Whether no series means no records. By default it is an error: what exported them may be gone, and an empty book would
    be a lie."""


class RecordQueries(Settings):
    """One expression per kind of record."""

    instruments: RecordQuery | None = None
    positions: RecordQuery | None = None
    prices: RecordQuery | None = None
    signals: RecordQuery | None = None
    accounts: RecordQuery | None = None
    returns: RecordQuery | None = None
    """A range, one return each step: `strategy_return_ratio[90d:1d]`."""

    @property
    def given(self) -> dict[Kind, RecordQuery]:
        """The kinds with an expression."""
        return {kind: query for kind in VALUE_COLUMNS if (query := getattr(self, kind)) is not None}

    def faults(self) -> Iterator[tuple[KeyPath, str]]:
        """Columns that do not exist or stand there twice, by key path."""
        for kind, query in self.given.items():
            for path, message in _column_faults(kind, query):
                yield [kind, *path], message


def _column_faults(kind: Kind, query: RecordQuery) -> Iterator[tuple[KeyPath, str]]:
    known = TABLES[kind].columns
    used: dict[str, str] = {query.value or VALUE_COLUMNS[kind]: "value"}
    if query.value is not None and query.value not in known:
        yield ["value"], f"must be a column of {kind} ({', '.join(known)}), was {query.value!r}"
    for key, columns in (("constants", {column: column for column in query.constants}), ("rename", query.rename)):
        for entry, column in columns.items():
            if column not in known:
                yield [key, entry], f"must be a column of {kind} ({', '.join(known)}), was {column!r}"
            elif column in used:
                yield [key, entry], f"the column {column} stands under {used[column]} already"
            used.setdefault(column, key)


def records_of(kind: Kind, query: RecordQuery, points: Sequence[Point], now: datetime) -> Records:
    """Every point as a record. Where the kind has a column `at` that no label fills, it is the point's time.

    Args:
        kind: what the records are.
        query: how labels and value become columns.
        points: what the expression evaluated to.
        now: wall time, UTC.

    Raises:
        Permanent: neither a label nor a constant fills a required column.
    """
    rows: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    for point in points:
        row = _row(kind, query, point)
        try:
            number(point.value)
        except Unreadable as unreadable:
            said = f"{kind}{dict(point.labels)}={point.value[:40]}"
            rejected.append(Rejected(said, str(unreadable), kind, row.get("portfolio")))
        else:
            rows.append(row)
    if not rows:
        return Records(kind, (), tuple(rejected))
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        found = read_rows(kind, names, [[row.get(name) for name in names] for row in rows], look_back=EVERYTHING, now=now)
    except Permanent as error:
        hint = f"give it in records.{kind}.constants, or name the label it is in records.{kind}.rename"
        raise Permanent(f"{str(error).partition('. Give it')[0]}: {hint}", reason=error.reason) from None
    return Records(kind, found.records, (*rejected, *found.rejected), found.notes, found.newest)


def _row(kind: Kind, query: RecordQuery, point: Point) -> dict[str, Any]:
    labels = {label: value for label, value in point.labels.items() if label != "__name__"}
    row: dict[str, Any] = {"at": point.at} if "at" in TABLES[kind].columns else {}
    row |= {label: value for label, value in labels.items() if label not in query.rename}
    row |= {query.rename[label]: value for label, value in labels.items() if label in query.rename}
    return row | query.constants | {query.value or VALUE_COLUMNS[kind]: point.value}
