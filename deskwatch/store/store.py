"""The store's interface: a unit of work is a generator that yields SQL statements and is handed their rows.

::

    def open_episode(identity: str) -> Work[bool]:
        rows = yield Statement("SELECT 1 FROM episodes WHERE identity = ? AND resolved_at_us IS NULL", (identity,))
        if rows:
            return False
        yield Statement("INSERT INTO episodes ...", (...))
        return True

    await store.write(open_episode("..."))     # returns once the transaction is durable

The work does no I/O itself, so the same work runs on a thread that owns a SQLite connection and on an asynchronous driver,
and a back end may put many works into one commit. A work must not keep state outside itself: it is run once, but what it
returned counts only when `write` returns.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class Statement(NamedTuple):
    """SQL with `?` placeholders and the values for them. Values never become part of the SQL text."""

    sql: str
    parameters: Sequence[Value] = ()


Work: TypeAlias = Generator[Statement, list[Row], T]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: statements run once, in order of `number`."""

    number: int
    statements: tuple[str, ...]


class Store(Protocol):
    """Durable transactions."""

    async def write(self, work: Work[T], *, deadline_seconds: float = 10.0) -> T:
        """Run the work in a transaction and return its result once it is on disk.

        Raises:
            StoreUnavailable: not committed, or not known to be within the deadline.
            Exception: whatever the work raised; nothing of it was committed.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """Run a work that only selects, on a consistent snapshot.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        ...

    async def close(self) -> None:
        """Finish what was accepted, then close."""
        ...


def query(sql: str, *parameters: Value) -> Work[list[Row]]:
    """A work of one statement: its rows."""
    return (yield Statement(sql, parameters))
