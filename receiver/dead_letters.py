"""Dead letters: deliveries that were given up. Kept with their message until an operator has them sent again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Literal

from deskwatch.clock import to_microseconds
from deskwatch.store import Row, Statement, Work
from receiver import ledger
from receiver.message import Message, decode

Replay = Literal["replayed", "unknown", "not_dead", "outdated", "unknown_channel"]


def recent(limit: int, offset: int) -> Work[list[Row]]:
    """Dead letters with what they wanted to say, newest first."""
    return (
        yield Statement(
            """SELECT delivery_id, channel, dedup_key, kind, priority, title, correlation_id, attempts, created_at_us,
               finished_at_us, reason, error FROM deliveries WHERE state = 'dead' ORDER BY delivery_id DESC LIMIT ? OFFSET ?""",
            (limit, offset),
        )
    )


def counts() -> Work[Mapping[str, int]]:
    """How many there are, by channel."""
    rows = yield Statement("SELECT channel, count(*) AS dead FROM deliveries WHERE state = 'dead' GROUP BY channel")
    return {row["channel"]: row["dead"] for row in rows}


def replay(delivery_id: int, channels: Collection[str], by: str, at: datetime) -> Work[Replay]:
    """Make a dead letter pending again, with a fresh count of attempts.

    A trigger whose episodes have all ended is `outdated`: sent now, after the resolve, it would open an incident nobody
    closes.
    """
    rows = yield Statement("SELECT * FROM deliveries WHERE delivery_id = ?", (delivery_id,))
    if not rows:
        return "unknown"
    if rows[0]["state"] != "dead":
        return "not_dead"
    if rows[0]["channel"] not in channels:
        return "unknown_channel"
    if (yield from _is_outdated(decode(rows[0]["message"]))):
        return "outdated"
    yield Statement(
        """UPDATE deliveries SET state = 'pending', attempts_before_replay = attempts, next_attempt_at_us = ?,
           finished_at_us = NULL WHERE delivery_id = ?""",
        (to_microseconds(at), delivery_id),
    )
    yield from ledger.decision(at, "delivery", delivery_id, "replayed", by)
    return "replayed"


def _is_outdated(message: Message) -> Work[bool]:
    if message.kind not in ("trigger", "repeat"):
        return False
    for episode in message.episodes:
        if episode.status == "firing":
            rows = yield Statement(
                "SELECT 1 FROM episodes WHERE episode_id = ? AND resolved_at_us IS NULL", (episode.episode_id,)
            )
            if rows:
                return False
    return True
