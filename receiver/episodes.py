"""Opening and closing episodes: works for the store, run inside the transaction that finishes a journal entry.

- At most one open episode for each identity; `startsAt` may drift between peers and opens no second one.
- A resolve closes; a firing after it opens a new episode with a new id.
- A firing with the `startsAt` of an episode already resolved may be a late copy, or Alertmanager may have lost sight of an
  alert that never stopped. It is held: resolved meanwhile, it was a copy; otherwise it opens. It is never dropped.
- A truncated group closes nothing. A resolve older than the open episode closes nothing.
- While Grafana says a rule has no data, a resolve of that rule's alert waits: lost data is not recovery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from deskwatch.clock import from_microseconds, to_microseconds
from deskwatch.store import Row, Statement, Work
from receiver.episode import Change, Episode, Sighting, as_json, from_row
from receiver.journal import Entry

_CHUNK = 400
"""Identities in one look-up: below the least number of placeholders a SQLite may allow (999)."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """The notification the sightings come from, as far as episodes care."""

    entry: Entry
    group_key: str
    external_url: str
    truncated: bool
    hold: timedelta
    """How long after a resolve a firing with the old `startsAt` is held back."""
    releasing: bool = False
    """Whether these sightings were held and are now due."""


@dataclass(slots=True)
class Applied:
    """What a notification did: changed or still firing episodes, and how many sightings were set aside for which reason."""

    changes: list[Change] = field(default_factory=list)
    set_aside: Counter[str] = field(default_factory=Counter)


def apply(occasion: Occasion, sightings: Sequence[Sighting]) -> Work[Applied]:
    """Bring the episodes up to date with what was seen."""
    applied = Applied()
    open_episodes = yield from _open_episodes([sighting.identity for sighting in sightings])
    for sighting in sightings:
        episode = open_episodes.get(sighting.identity)
        if sighting.alert.status == "firing":
            yield from _fire(occasion, sighting, episode, applied)
        elif episode is None:
            if not occasion.truncated:
                yield from _forget_held(sighting.identity)
            applied.set_aside["resolved without an open episode"] += 1
        else:
            yield from _resolve(occasion, sighting, episode, applied)
    return applied


def _open_episodes(identities: Sequence[str]) -> Work[dict[str, Episode]]:
    found: dict[str, Episode] = {}
    for start in range(0, len(identities), _CHUNK):
        chunk = identities[start : start + _CHUNK]
        marks = ", ".join("?" * len(chunk))
        rows = yield Statement(
            f"SELECT * FROM episodes WHERE resolved_at_us IS NULL AND identity IN ({marks})",  # noqa: S608 - placeholders only
            chunk,
        )
        found |= {row["identity"]: from_row(row) for row in rows}
    return found


def _fire(occasion: Occasion, sighting: Sighting, episode: Episode | None, applied: Applied) -> Work[None]:
    if episode is not None:
        seen = yield from _see_again(occasion, sighting, episode)
        applied.changes.append(Change(seen, "seen"))
        return
    due = None if occasion.releasing else (yield from _held_until(occasion, sighting))
    if due is not None:
        yield Statement(
            "INSERT INTO held_firings (identity, entry_id, due_at_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (sighting.identity, occasion.entry.entry_id, to_microseconds(due)),
        )
        applied.set_aside["firing with the startsAt of a resolved episode, held"] += 1
        return
    yield from _forget_held(sighting.identity)
    opened = yield from _open(occasion, sighting)
    applied.changes.append(Change(opened, "opened"))


def _see_again(occasion: Occasion, sighting: Sighting, episode: Episode) -> Work[Episode]:
    """The open episode, brought up to date."""
    alert = sighting.alert
    seen = replace(
        episode,
        annotations=alert.annotations,
        generator_url=alert.generator_url or episode.generator_url,
        external_url=occasion.external_url or episode.external_url,
        direct_only=episode.direct_only and sighting.direct,
        last_starts_at=max(episode.last_starts_at, alert.starts_at),
        resolve_pending=None,
    )
    yield Statement(
        """UPDATE episodes SET annotations = ?, generator_url = ?, external_url = ?, direct_only = ?, last_starts_at_us = ?,
           resolve_pending_us = NULL, seen_at_us = ? WHERE episode_id = ?""",
        (
            as_json(seen.annotations),
            seen.generator_url,
            seen.external_url,
            int(seen.direct_only),
            to_microseconds(seen.last_starts_at),
            to_microseconds(occasion.entry.received_at),
            seen.episode_id,
        ),
    )
    return seen


def _held_until(occasion: Occasion, sighting: Sighting) -> Work[datetime | None]:
    """Until when to hold a firing that may be a late copy; None where it is none."""
    starts_at = to_microseconds(sighting.alert.starts_at)
    rows = yield Statement(
        """SELECT closed_at_us FROM episodes WHERE identity = ? AND resolved_at_us IS NOT NULL
           AND starts_at_us <= ? AND last_starts_at_us >= ? ORDER BY closed_at_us DESC LIMIT 1""",
        (sighting.identity, starts_at, starts_at),
    )
    if not rows:
        return None
    due = from_microseconds(rows[0]["closed_at_us"]) + occasion.hold
    return due if due > occasion.entry.received_at else None


def _open(occasion: Occasion, sighting: Sighting) -> Work[Episode]:
    alert, at = sighting.alert, occasion.entry.received_at
    episode = Episode(
        # An entry opens at most one episode of an identity, so this is unique, and the same when the work is run again.
        episode_id=f"{occasion.entry.entry_id}-{sighting.identity}",
        identity=sighting.identity,
        group_key=occasion.group_key,
        labels=alert.labels,
        annotations=alert.annotations,
        generator_url=alert.generator_url,
        external_url=occasion.external_url,
        direct_only=sighting.direct,
        starts_at=alert.starts_at,
        last_starts_at=alert.starts_at,
        opened_at=at,
        said_at=at,
    )
    yield Statement(
        """INSERT INTO episodes (episode_id, identity, group_key, alert_name, severity, labels, annotations, generator_url,
           external_url, rule_without_data, direct_only, starts_at_us, last_starts_at_us, opened_at_us, seen_at_us, said_at_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            episode.episode_id,
            episode.identity,
            episode.group_key,
            alert.name,
            alert.labels.get("severity", ""),
            as_json(alert.labels),
            as_json(alert.annotations),
            alert.generator_url,
            occasion.external_url,
            sighting.rule_without_data,
            int(sighting.direct),
            *(to_microseconds(moment) for moment in (alert.starts_at, alert.starts_at, at, at, at)),
        ),
    )
    return episode


def _resolve(occasion: Occasion, sighting: Sighting, episode: Episode, applied: Applied) -> Work[None]:
    alert = sighting.alert
    ends_at = alert.ends_at or occasion.entry.received_at
    if occasion.truncated:
        applied.set_aside["resolved in a truncated group"] += 1
    elif ends_at <= episode.starts_at and alert.starts_at < episode.starts_at:
        applied.set_aside["resolved before the open episode began"] += 1
    elif (yield from _lacks_data(alert.name)):
        yield Statement(
            "UPDATE episodes SET resolve_pending_us = ? WHERE episode_id = ?", (to_microseconds(ends_at), episode.episode_id)
        )
        applied.set_aside["resolved while its rule has no data"] += 1
    else:
        closed = yield from _close(occasion, episode, ends_at)
        applied.changes.append(Change(closed, "closed"))
        if sighting.rule_without_data:
            yield from _close_pending(occasion, sighting.rule_without_data, applied)


def _lacks_data(alert_name: str) -> Work[bool]:
    rows = yield Statement(
        "SELECT 1 FROM episodes WHERE rule_without_data = ? AND rule_without_data <> '' AND resolved_at_us IS NULL LIMIT 1",
        (alert_name,),
    )
    return bool(rows)


def _close_pending(occasion: Occasion, rule: str, applied: Applied) -> Work[None]:
    """The rule has data again: its alerts that resolved meanwhile and did not fire again since are over."""
    if (yield from _lacks_data(rule)):
        return
    rows = yield Statement(
        "SELECT * FROM episodes WHERE alert_name = ? AND resolved_at_us IS NULL AND resolve_pending_us IS NOT NULL", (rule,)
    )
    for episode in map(from_row, rows):
        closed = yield from _close(occasion, episode, episode.resolve_pending or occasion.entry.received_at)
        applied.changes.append(Change(closed, "closed"))


def _close(occasion: Occasion, episode: Episode, ends_at: datetime) -> Work[Episode]:
    yield Statement(
        "UPDATE episodes SET resolved_at_us = ?, closed_at_us = ?, seen_at_us = ? WHERE episode_id = ?",
        (
            to_microseconds(ends_at),
            *(to_microseconds(occasion.entry.received_at),) * 2,
            episode.episode_id,
        ),
    )
    return replace(episode, resolved_at=ends_at)


def _forget_held(identity: str) -> Work[None]:
    yield Statement("DELETE FROM held_firings WHERE identity = ?", (identity,))


def drop_held(entry_id: int) -> Work[None]:
    """Forget the held firings of an entry that cannot be processed."""
    yield Statement("DELETE FROM held_firings WHERE entry_id = ?", (entry_id,))


def said(episode_ids: Sequence[str], at: datetime) -> Work[None]:
    """Remember when messages about these episodes were last planned."""
    for episode_id in episode_ids:
        yield Statement("UPDATE episodes SET said_at_us = ? WHERE episode_id = ?", (to_microseconds(at), episode_id))


def held_due(now: datetime) -> Work[dict[int, list[str]]]:
    """Held firings whose time has come: journal entry id to identities."""
    rows = yield Statement("SELECT * FROM held_firings WHERE due_at_us <= ?", (to_microseconds(now),))
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(row["entry_id"], []).append(row["identity"])
    return found


def get(episode_id: str) -> Work[Episode | None]:
    """One episode."""
    rows = yield Statement("SELECT * FROM episodes WHERE episode_id = ?", (episode_id,))
    return from_row(rows[0]) if rows else None


def recent(status: str, limit: int, offset: int) -> Work[list[Episode]]:
    """Episodes for people: open ones first, then the newest. `status`: firing, resolved or empty for both."""
    wanted = {"firing": ("NULL",), "resolved": ("NOT NULL",)}.get(status, ("NULL", "NOT NULL"))
    rows: list[Row] = []
    for condition in wanted:
        rows += yield Statement(
            f"SELECT * FROM episodes WHERE resolved_at_us IS {condition} ORDER BY opened_at_us DESC LIMIT ?",  # noqa: S608
            (offset + limit,),
        )
    return [from_row(row) for row in rows[offset : offset + limit]]
