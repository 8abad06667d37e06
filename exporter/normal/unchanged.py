"""Records of rows that are still the same objects: a log of orders or executions is not read anew at every fetch. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from exporter.records import Fields, Sheet
from exporter.snapshot import Kind

T = TypeVar("T")


class Unchanged(Generic[T]):
    """What was made of each row, kept as long as the row comes again.

    A row that cannot be read is tried, and rejected, each time: what it leaves a gap in stays undefined.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, T]] = {}

    def read(
        self, sheet: Sheet, kind: Kind, rows: Iterable[Any], make: Callable[[Fields], T | None], *, portfolio: str | None = None
    ) -> tuple[T, ...]:
        """As `Sheet.read`, `make` being the same every time."""
        made: dict[int, tuple[Any, T]] = {}
        for row in rows:
            known = self._made.get(id(row))  # the row is kept with it, so that no other can have its id
            if known is None:
                found = sheet.read(kind, (row,), make, portfolio=portfolio)
                if not found:
                    continue
                known = row, found[0]
            made[id(row)] = known
        self._made = made
        return tuple(record for _, record in made.values())
