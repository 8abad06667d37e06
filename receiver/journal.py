"""The journal: every accepted notification, byte for byte, until the worker is done with it and after.

Works for the store; decides nothing about what a body means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from deskwatch.clock import from_microseconds, to_microseconds
from deskwatch.store import Row, Statement, Work

EntryKind = Literal["group", "unusable", "oversize"]
"""`group`: waits for the worker. `unusable`: JSON without an alert group. `oversize`: the first part of a body too large."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A body about to be journaled."""

    received_at: datetime
    correlation_id: str
    kind: EntryKind
    body: bytes
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A journaled group the worker has not finished."""

    entry_id: int
    received_at: datetime
    correlation_id: str
    body: bytes


def accept(arrival: Arrival) -> Work[int]:
    """Keep a body; its entry id. Ids grow in order of acceptance."""
    rows = yield Statement(
        """INSERT INTO journal (received_at_us, correlation_id, kind, body, state, detail)
           VALUES (?, ?, ?, ?, ?, ?) RETURNING entry_id""",
        (
            to_microseconds(arrival.received_at),
            arrival.correlation_id,
            arrival.kind,
            arrival.body,
            "accepted" if arrival.kind == "group" else "processed",
            arrival.detail,
        ),
    )
    return int(rows[0]["entry_id"])


def pending(limit: int, limit_bytes: int) -> Work[list[Entry]]:
    """The oldest unfinished groups, at most `limit` of them and about `limit_bytes` of bodies, at least one."""
    sizes = yield Statement(
        "SELECT entry_id, length(body) AS size FROM journal WHERE state = 'accepted' ORDER BY entry_id LIMIT ?", (limit,)
    )
    taken = 0
    last = -1
    for row in sizes:
        taken += row["size"]
        if taken > limit_bytes and last >= 0:
            break
        last = row["entry_id"]
    rows = yield Statement("SELECT * FROM journal WHERE state = 'accepted' AND entry_id <= ? ORDER BY entry_id", (last,))
    return [_entry(row) for row in rows]


def is_open(entry_id: int) -> Work[bool]:
    """Whether the entry still waits: the guard against processing it twice."""
    rows = yield Statement("SELECT 1 FROM journal WHERE entry_id = ? AND state = 'accepted'", (entry_id,))
    return bool(rows)


def seen_within(entry: Entry, notification_key: str, window_us: int) -> Work[bool]:
    """Whether the same notification came earlier, at most `window_us` before, and was not itself a duplicate."""
    at = to_microseconds(entry.received_at)
    rows = yield Statement(
        """SELECT 1 FROM journal WHERE notification_key = ? AND received_at_us >= ? AND entry_id < ?
           AND notification_key <> '' AND outcome <> 'duplicate' LIMIT 1""",
        (notification_key, at - window_us, entry.entry_id),
    )
    return bool(rows)


def finish(entry_id: int, outcome: str, detail: str, *, notification_key: str) -> Work[None]:
    """Record what came of a processed entry."""
    yield Statement(
        "UPDATE journal SET state = 'processed', outcome = ?, detail = ?, notification_key = ? WHERE entry_id = ?",
        (outcome, detail[:2000], notification_key, entry_id),
    )


def fail(entry_id: int, detail: str) -> Work[None]:
    """Record that an entry cannot be processed."""
    yield Statement(
        "UPDATE journal SET state = 'failed', outcome = 'failed', detail = ? WHERE entry_id = ?", (detail[:2000], entry_id)
    )


def entries(entry_ids: Sequence[int]) -> Work[list[Entry]]:
    """Entries by id, finished or not, in order of id."""
    marks = ", ".join("?" * len(entry_ids))
    rows = yield Statement(f"SELECT * FROM journal WHERE entry_id IN ({marks}) ORDER BY entry_id", tuple(entry_ids))  # noqa: S608 - placeholders only
    return [_entry(row) for row in rows]


def recent(limit: int, offset: int) -> Work[list[Row]]:
    """The newest entries without their bodies, for people."""
    return (
        yield Statement(
            """SELECT entry_id, received_at_us, correlation_id, kind, notification_key, length(body) AS size_bytes, state,
               outcome, detail FROM journal ORDER BY entry_id DESC LIMIT ? OFFSET ?""",
            (limit, offset),
        )
    )


def body(entry_id: int) -> Work[bytes | None]:
    """The kept bytes of one entry, None where there is no such entry."""
    rows = yield Statement("SELECT body FROM journal WHERE entry_id = ?", (entry_id,))
    return bytes(rows[0]["body"]) if rows else None


def _entry(row: Row) -> Entry:
    return Entry(
        entry_id=row["entry_id"],
        received_at=from_microseconds(row["received_at_us"]),
        correlation_id=row["correlation_id"],
        body=bytes(row["body"]),
    )
