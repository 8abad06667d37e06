"""Deliveries: one message to one channel, from planned to delivered or dead. Works for the store.

Within a channel, deliveries with the same dedup key leave in the order they were planned: one is due only when no earlier one
of its key is pending. So a resolve never overtakes its trigger, and neither does a replay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from deskwatch.clock import from_microseconds, to_microseconds
from deskwatch.store import Row, Statement, Work
from receiver import ledger
from receiver.message import Message, decode, encode, urgency

_COLUMNS = """delivery_id, channel, dedup_key, kind, priority, title, correlation_id, state, attempts, attempts_limit,
    created_at_us, next_attempt_at_us, finished_at_us, reference, reason, error"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A delivery about to be stored."""

    channel: str
    message: Message
    attempts_limit: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A pending delivery whose turn has come. `attempts` counts those begun before, since it was last replayed."""

    delivery_id: int
    channel: str
    message: Message
    correlation_id: str
    attempts: int
    attempts_limit: int
    created_at: datetime


def plan(planned: Sequence[Planned], correlation_id: str, at: datetime) -> Work[None]:
    """Store deliveries, due at once."""
    now = to_microseconds(at)
    for each in planned:
        message = each.message
        yield Statement(
            """INSERT INTO deliveries (channel, dedup_key, kind, priority, urgency, title, message, correlation_id, state,
               attempts_limit, created_at_us, next_attempt_at_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)""",
            (
                each.channel,
                message.dedup_key,
                message.kind,
                message.priority,
                urgency(message),
                message.title[:300],
                encode(message),
                correlation_id,
                each.attempts_limit,
                now,
                now,
            ),
        )


def due(channel: str, now: datetime, limit: int, underway: Collection[int]) -> Work[list[Delivery]]:
    """The most urgent deliveries of the channel whose turn and time have come, `underway` ones left out."""
    marks = ", ".join("?" * len(underway))
    # The + keeps SQLite from finding rows by time and sorting them all: in order of urgency it can stop at the limit.
    rows = yield Statement(
        f"""SELECT * FROM deliveries AS d WHERE channel = ? AND state = 'pending' AND +next_attempt_at_us <= ?
            AND delivery_id NOT IN ({marks}) AND NOT EXISTS (
                SELECT 1 FROM deliveries AS earlier WHERE earlier.channel = d.channel
                AND earlier.dedup_key = d.dedup_key AND earlier.state = 'pending' AND earlier.delivery_id < d.delivery_id)
            ORDER BY urgency, delivery_id LIMIT ?""",  # noqa: S608 - placeholders only
        (channel, to_microseconds(now), *underway, limit),
    )
    return [_delivery(row) for row in rows]


def next_due(channel: str, now: datetime) -> Work[datetime | None]:
    """When the next pending delivery of the channel that waits for its time may be attempted."""
    rows = yield Statement(
        """SELECT next_attempt_at_us FROM deliveries WHERE channel = ? AND state = 'pending' AND next_attempt_at_us > ?
           ORDER BY next_attempt_at_us LIMIT 1""",
        (channel, to_microseconds(now)),
    )
    return from_microseconds(rows[0]["next_attempt_at_us"]) if rows else None


def begin(delivery: Delivery, at: datetime) -> Work[int | None]:
    """Commit the intent; the number of the attempt, or None where the delivery is no longer pending."""
    rows = yield Statement(
        "UPDATE deliveries SET attempts = attempts + 1 WHERE delivery_id = ? AND state = 'pending' RETURNING attempts",
        (delivery.delivery_id,),
    )
    if not rows:
        return None
    attempt = int(rows[0]["attempts"])
    yield from ledger.intent(at, "delivery", delivery.delivery_id, attempt)
    return attempt


def delivered(delivery: Delivery, attempt: int, reference: str, at: datetime) -> Work[None]:
    """Record success and the far side's reference."""
    yield from ledger.outcome(at, "delivery", delivery.delivery_id, attempt, "delivered", reference)
    yield Statement(
        """UPDATE deliveries SET state = 'delivered', finished_at_us = ?, reference = ?, reason = '', error = ''
           WHERE delivery_id = ?""",
        (to_microseconds(at), reference[:300], delivery.delivery_id),
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed; `error` is for a person and holds no secret."""

    attempt: int
    reason: str
    error: str


def postpone(delivery: Delivery, failure: Failure, at: datetime, until: datetime) -> Work[None]:
    """Record a failed attempt; the next one is due at `until`."""
    yield from ledger.outcome(at, "delivery", delivery.delivery_id, failure.attempt, failure.reason, failure.error)
    yield Statement(
        "UPDATE deliveries SET next_attempt_at_us = ?, reason = ?, error = ? WHERE delivery_id = ?",
        (to_microseconds(until), failure.reason, failure.error[:2000], delivery.delivery_id),
    )


def bury(delivery: Delivery, failure: Failure, at: datetime) -> Work[None]:
    """Record the last failed attempt: the delivery is a dead letter."""
    yield from ledger.outcome(at, "delivery", delivery.delivery_id, failure.attempt, "dead", failure.error)
    yield Statement(
        "UPDATE deliveries SET state = 'dead', finished_at_us = ?, reason = ?, error = ? WHERE delivery_id = ?",
        (to_microseconds(at), failure.reason, failure.error[:2000], delivery.delivery_id),
    )


def bury_orphans(channels: Collection[str], at: datetime) -> Work[Mapping[str, int]]:
    """Give up what is pending for channels that are no longer configured: how many, by channel."""
    marks = ", ".join("?" * len(channels))
    rows = yield Statement(
        f"""UPDATE deliveries SET state = 'dead', finished_at_us = ?, reason = 'rejected',
            error = 'the channel is not configured'
            WHERE state = 'pending' AND channel NOT IN ({marks}) RETURNING channel, delivery_id, attempts""",  # noqa: S608
        (to_microseconds(at), *channels),
    )
    found: dict[str, int] = {}
    for row in rows:
        found[row["channel"]] = found.get(row["channel"], 0) + 1
        yield from ledger.outcome(at, "delivery", row["delivery_id"], row["attempts"], "dead", "the channel is not configured")
    return found


def notices_since(at: datetime, dedup_key: str) -> Work[tuple[int, int]]:
    """How many notices were planned since, and how many of them with this key."""
    rows = yield Statement(
        """SELECT count(*) AS total, count(*) FILTER (WHERE dedup_key = ?) AS same FROM deliveries
           WHERE kind = 'notice' AND created_at_us >= ?""",
        (dedup_key, to_microseconds(at)),
    )
    return int(rows[0]["total"]), int(rows[0]["same"])


def recent(state: str, limit: int, offset: int) -> Work[list[Row]]:
    """Deliveries without their messages, newest first, for people. `state`: one of them, or empty for all."""
    where = "WHERE state = ?" if state else ""
    return (
        yield Statement(
            f"SELECT {_COLUMNS} FROM deliveries {where} ORDER BY delivery_id DESC LIMIT ? OFFSET ?",  # noqa: S608 - constants
            (*([state] if state else []), limit, offset),
        )
    )


def backlog() -> Work[Mapping[tuple[str, str], int]]:
    """How many deliveries are pending, by channel and priority."""
    rows = yield Statement(
        "SELECT channel, priority, count(*) AS pending FROM deliveries WHERE state = 'pending' GROUP BY channel, priority"
    )
    return {(row["channel"], row["priority"]): row["pending"] for row in rows}


def _delivery(row: Row) -> Delivery:
    return Delivery(
        delivery_id=row["delivery_id"],
        channel=row["channel"],
        message=decode(row["message"]),
        correlation_id=row["correlation_id"],
        attempts=row["attempts"] - row["attempts_before_replay"],
        attempts_limit=row["attempts_limit"],
        created_at=from_microseconds(row["created_at_us"]),
    )
