"""What the receiver has to say about itself, to the fallback channel: a body it could not use, a delivery it gave up.

Neither a 413 nor a 202 is repeated by Alertmanager, so whoever is on call must hear of it now, with what was received.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from deskwatch.store import Work
from receiver import deliveries, journal
from receiver.deliveries import Delivery, Planned
from receiver.journal import Arrival, Entry
from receiver.plan import Planner

EXCERPT_CHARACTERS = 1500
WINDOW = timedelta(minutes=1)
MOST_IN_WINDOW = 10
"""Notices planned within the window; more bodies are journaled and counted, not paged one by one."""


def unusable_body(planner: Planner, arrival: Arrival, why: str) -> Planned | None:
    """A notification that holds no usable alert, or one that is too large, or alerts left out of a group."""
    when = f"{arrival.received_at:%Y-%m-%d %H:%M:%S} UTC"
    text = f"{why}\nIt came at {when} and is kept: GET /api/v1/journal.\n{_excerpt(arrival.body)}"
    return planner.notice(text, f"notice-{hashlib.sha256(arrival.body).hexdigest()[:24]}")


def failed_processing(planner: Planner, entry: Entry, error: Exception) -> Planned | None:
    """A journaled notification the receiver failed on."""
    text = (
        f"A notification could not be processed: {type(error).__name__}.\n"
        f"It is kept: GET /api/v1/journal/{entry.entry_id}. Its alerts have reached nobody.\n{_excerpt(entry.body)}"
    )
    return planner.notice(text, f"notice-failed-{entry.entry_id}")


def gave_up(planner: Planner, delivery: Delivery, error: str) -> Planned | None:
    """A delivery that became a dead letter; nothing where the fallback channel itself, or a notice, is what failed."""
    message, channel = delivery.message, delivery.channel
    if message.kind == "notice":
        return None
    how = f"Send it again with POST /api/v1/dead-letters/{delivery.delivery_id}/replay."
    text = f"Channel {channel} did not take: {message.title}\n{error}\n{how}"
    return planner.notice(text, f"notice-dead-{delivery.delivery_id}", at_fault=channel)


def keep(arrival: Arrival, notice: Planned | None, now: datetime) -> Work[tuple[int, bool]]:
    """Journal a body together with the notice about it: entry id, and whether the notice was planned.

    The same body again within the window, or too many in it, is journaled without another notice.
    """
    entry_id = yield from journal.accept(arrival)
    if notice is None:
        return entry_id, False
    total, same = yield from deliveries.notices_since(now - WINDOW, notice.message.dedup_key)
    if same or total >= MOST_IN_WINDOW:
        return entry_id, False
    yield from deliveries.plan([notice], arrival.correlation_id, now)
    return entry_id, True


def _excerpt(body: bytes) -> str:
    text = body[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
    return text[:EXCERPT_CHARACTERS] + ("…" if len(text) > EXCERPT_CHARACTERS else "")
