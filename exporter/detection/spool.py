"""What the second detector has to tell the receiver itself, kept on disk until the receiver has taken it.

Also remembers which alerts were told directly and not yet ended, so that their end is told directly too, after a restart as
well. Sends nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deskwatch.store import Migration, Statement, Store, Work
from deskwatch.store.sqlite import SqliteStore

FILE = "detector.db"
_MIGRATIONS = (
    Migration(
        1,
        (
            "CREATE TABLE spool (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL)",
            "CREATE TABLE told (identity TEXT PRIMARY KEY, alert TEXT NOT NULL)",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Told:
    """An alert the receiver was told of directly: labels, annotations and start as they were told."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: str

    @property
    def identity(self) -> str:
        """The same for the same labels."""
        return json.dumps(sorted(self.labels.items()))


@dataclass(frozen=True, slots=True)
class Entry:
    """One webhook body that waits."""

    id: int
    body: str


class Spool:
    """The spool on disk."""

    def __init__(self, store: Store, depth: int, told: Sequence[Told]) -> None:
        self._store = store
        self.depth = depth
        """Bodies that wait."""
        self.told = {each.identity: each for each in told}
        """Alerts told and not ended, by identity."""

    @classmethod
    async def open(cls, folder: Path) -> Spool:
        """Open or create it.

        Raises:
            ConfigError: another exporter uses the folder, or it cannot be written.
            StoreUnavailable: the file is damaged.
        """
        store = await SqliteStore.open(folder / FILE, _MIGRATIONS)
        depth, told = await store.read(_kept())
        return cls(store, depth, told)

    async def add(self, alert: Told, body: str, *, ended: bool) -> None:
        """Keep a body that says the alert fires, or that it ended. One that fires is told once.

        Raises:
            StoreUnavailable: it is not on disk.
        """
        if await self._store.write(_end(alert, body) if ended else _tell(alert, body)):
            self.depth += 1
        self.remember(alert, ended=ended)

    def remember(self, alert: Told, *, ended: bool) -> None:
        """The receiver was, or will be, told of the alert, or of its end."""
        if ended:
            self.told.pop(alert.identity, None)
        else:
            self.told[alert.identity] = alert

    async def oldest(self) -> Entry | None:
        """The body to send next: strictly one after the other, so that no end overtakes its beginning."""
        return await self._store.read(_oldest())

    async def remove(self, entry: Entry) -> None:
        """The receiver has taken it."""
        await self._store.write(_remove(entry.id))
        self.depth -= 1

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()


def _kept() -> Work[tuple[int, list[Told]]]:
    counted = yield Statement("SELECT count(*) AS entries FROM spool")
    rows = yield Statement("SELECT alert FROM told ORDER BY identity")
    return counted[0]["entries"], [Told(**json.loads(row["alert"])) for row in rows]


def _tell(alert: Told, body: str) -> Work[bool]:
    known = yield Statement("SELECT 1 FROM told WHERE identity = ?", (alert.identity,))
    if known:
        return False
    content = json.dumps({"labels": alert.labels, "annotations": alert.annotations, "starts_at": alert.starts_at})
    yield Statement("INSERT INTO told (identity, alert) VALUES (?, ?)", (alert.identity, content))
    yield Statement("INSERT INTO spool (body) VALUES (?)", (body,))
    return True


def _end(alert: Told, body: str) -> Work[bool]:
    yield Statement("DELETE FROM told WHERE identity = ?", (alert.identity,))
    yield Statement("INSERT INTO spool (body) VALUES (?)", (body,))
    return True


def _oldest() -> Work[Entry | None]:
    rows = yield Statement("SELECT id, body FROM spool ORDER BY id LIMIT 1")
    return Entry(rows[0]["id"], rows[0]["body"]) if rows else None


def _remove(number: int) -> Work[None]:
    yield Statement("DELETE FROM spool WHERE id = ?", (number,))
