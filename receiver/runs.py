"""Runs of hooks: works for the store. At most one run for each episode, hook and occasion, ever; started at most once.

States: `refused` by the guard; `awaiting_approval`; `queued`; `started` (the intent is on disk); then `succeeded`, `failed`,
`timed_out`; or `unresolved`, where the receiver ended between intent and outcome and nobody knows what the hook did. An
unresolved run is never started again and blocks its hook for that alert identity until an operator settles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from deskwatch.clock import to_microseconds
from deskwatch.hook import Mode, Occasion
from deskwatch.store import Row, Statement, Work
from receiver import ledger
from receiver.episode import Episode, from_row

RunState = Literal[
    "refused",
    "awaiting_approval",
    "queued",
    "started",
    "succeeded",
    "failed",
    "timed_out",
    "rejected",
    "unresolved",
    "settled",
]
STATES: tuple[str, ...] = get_args(RunState)
Outcome = Literal["succeeded", "failed", "timed_out", "unresolved"]


@dataclass(frozen=True, slots=True)
class Proposed:
    """A run the guard has considered."""

    episode: Episode
    hook: str
    occasion: Occasion
    mode: Mode
    state: Literal["refused", "awaiting_approval", "queued"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it stands, with its episode."""

    run_id: int
    hook: str
    occasion: Occasion
    mode: Mode
    state: RunState
    correlation_id: str
    episode: Episode

    @property
    def over(self) -> bool:
        """Whether the alert this run was meant for has ended."""
        return self.occasion == "firing" and self.episode.resolved_at is not None


def propose(proposed: Proposed, correlation_id: str, at: datetime) -> Work[bool]:
    """Store what the guard decided; False where this episode, hook and occasion already has a run."""
    rows = yield Statement(
        """INSERT INTO runs (episode_id, identity, hook, occasion, mode, state, detail, correlation_id, created_at_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (episode_id, hook, occasion) DO NOTHING RETURNING run_id""",
        (
            proposed.episode.episode_id,
            proposed.episode.identity,
            proposed.hook,
            proposed.occasion,
            proposed.mode,
            proposed.state,
            proposed.detail,
            correlation_id,
            to_microseconds(at),
        ),
    )
    return bool(rows)


@dataclass(frozen=True, slots=True)
class History:
    """What the guard asks about a hook's past."""

    unresolved: bool
    """Whether a run of it for this identity was interrupted and is not settled."""
    last_run_at_us: int | None
    """When it last ran or was queued for this identity."""
    runs: int
    """Runs of it since the given time, queued and waiting ones included, over all identities."""


def history(hook: str, identity: str, since: datetime) -> Work[History]:
    """The hook's past for one identity and, since a time, over all."""
    rows = yield Statement(
        """SELECT count(*) FILTER (WHERE state = 'unresolved' AND identity = ?) AS unresolved,
                  max(CASE WHEN identity = ? THEN coalesce(started_at_us, created_at_us) END) AS last_run_at_us,
                  count(*) FILTER (WHERE coalesce(started_at_us, created_at_us) >= ?) AS runs
           FROM runs WHERE hook = ? AND state NOT IN ('refused', 'rejected')""",
        (identity, identity, to_microseconds(since), hook),
    )
    row = rows[0]
    return History(row["unresolved"] > 0, row["last_run_at_us"], row["runs"])


def get(run_id: int) -> Work[StoredRun | None]:
    """One run with its episode."""
    rows = yield Statement("SELECT * FROM runs WHERE run_id = ?", (run_id,))
    if not rows:
        return None
    episodes = yield Statement("SELECT * FROM episodes WHERE episode_id = ?", (rows[0]["episode_id"],))
    return _run(rows[0], from_row(episodes[0]))


def queued(limit: int) -> Work[list[int]]:
    """Ids of the oldest runs that wait to be started."""
    rows = yield Statement("SELECT run_id FROM runs WHERE state = 'queued' ORDER BY run_id LIMIT ?", (limit,))
    return [row["run_id"] for row in rows]


def begin(run_id: int, at: datetime) -> Work[bool]:
    """Commit the intent; False where the run is not queued (any more): then it must not be started."""
    rows = yield Statement(
        "UPDATE runs SET state = 'started', started_at_us = ? WHERE run_id = ? AND state = 'queued' RETURNING run_id",
        (to_microseconds(at), run_id),
    )
    if rows:
        yield from ledger.intent(at, "run", run_id, 1)
    return bool(rows)


def refuse(run_id: int, why: str, at: datetime) -> Work[bool]:
    """A queued run that is not to be started after all."""
    rows = yield Statement(
        """UPDATE runs SET state = 'refused', detail = ?, finished_at_us = ?
           WHERE run_id = ? AND state = 'queued' RETURNING run_id""",
        (why, to_microseconds(at), run_id),
    )
    return bool(rows)


def finish(run_id: int, outcome: Outcome, text: str, at: datetime) -> Work[bool]:
    """Record what came of a started run; False where it is not started."""
    rows = yield Statement(
        "UPDATE runs SET state = ?, detail = ?, finished_at_us = ? WHERE run_id = ? AND state = 'started' RETURNING run_id",
        (outcome, text[:4000], to_microseconds(at), run_id),
    )
    if rows:
        yield from ledger.outcome(at, "run", run_id, 1, outcome, text)
    return bool(rows)


def started() -> Work[list[StoredRun]]:
    """Runs with an intent and no outcome: at the start of the process, those its predecessor left."""
    rows = yield Statement("SELECT run_id FROM runs WHERE state = 'started' ORDER BY run_id")
    found = []
    for row in rows:
        run = yield from get(row["run_id"])
        if run is not None:
            found.append(run)
    return found


def decide(run_id: int, expected: RunState, state: RunState, by: str, at: datetime) -> Work[bool]:
    """An operator's decision; False where the run is not in the expected state, so each decision counts once."""
    rows = yield Statement(
        "UPDATE runs SET state = ? WHERE run_id = ? AND state = ? RETURNING run_id", (state, run_id, expected)
    )
    if rows:
        yield from ledger.decision(at, "run", run_id, state, by)
    return bool(rows)


def recent(state: str, limit: int, offset: int) -> Work[list[Row]]:
    """Runs for people, newest first. `state`: one of them, or empty for all."""
    where = "WHERE state = ?" if state else ""
    return (
        yield Statement(
            f"""SELECT runs.*, episodes.alert_name, episodes.labels, episodes.direct_only
                FROM runs JOIN episodes USING (episode_id) {where} ORDER BY run_id DESC LIMIT ? OFFSET ?""",  # noqa: S608 - constants
            (*([state] if state else []), limit, offset),
        )
    )


def unresolved() -> Work[Mapping[str, int]]:
    """How many runs wait for an operator to settle them, by hook."""
    rows = yield Statement("SELECT hook, count(*) AS runs FROM runs WHERE state = 'unresolved' GROUP BY hook")
    return {row["hook"]: row["runs"] for row in rows}


def awaiting_approval() -> Work[int]:
    """How many runs wait for an operator's approval."""
    rows = yield Statement("SELECT count(*) AS runs FROM runs WHERE state = 'awaiting_approval'")
    return int(rows[0]["runs"])


def _run(row: Row, episode: Episode) -> StoredRun:
    return StoredRun(
        run_id=row["run_id"],
        hook=row["hook"],
        occasion=row["occasion"],
        mode=row["mode"],
        state=row["state"],
        correlation_id=row["correlation_id"],
        episode=episode,
    )
