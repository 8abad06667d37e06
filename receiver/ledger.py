"""The ledger: an append-only record of intents and outcomes. The intent is on disk before anything outside happens.

An intent without an outcome is a thing of which nobody knows whether it happened: a delivery is then sent again, marked as a
possible duplicate; a hook's run is never started again (`receiver.runs`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from deskwatch.clock import to_microseconds
from deskwatch.store import Row, Statement, Work

Subject = Literal["delivery", "run"]

_INSERT = "INSERT INTO ledger (at_us, subject, subject_id, event, attempt, outcome, detail) VALUES (?, ?, ?, ?, ?, ?, ?)"


def intent(at: datetime, subject: Subject, subject_id: int, attempt: int) -> Work[None]:
    """Record that the attempt is about to be made."""
    yield Statement(_INSERT, (to_microseconds(at), subject, subject_id, "intent", attempt, "", ""))


def outcome(at: datetime, subject: Subject, subject_id: int, attempt: int, result: str, detail: str = "") -> Work[None]:
    """Record what came of the attempt."""
    yield Statement(_INSERT, (to_microseconds(at), subject, subject_id, "outcome", attempt, result, detail[:2000]))


def decision(at: datetime, subject: Subject, subject_id: int, result: str, by: str) -> Work[None]:
    """Record what an operator decided, and who."""
    yield Statement(_INSERT, (to_microseconds(at), subject, subject_id, "decision", 0, result, by[:200]))


def of(subject: Subject, subject_id: int) -> Work[list[Row]]:
    """Every record of one delivery or run, oldest first."""
    return (
        yield Statement("SELECT * FROM ledger WHERE subject = ? AND subject_id = ? ORDER BY sequence", (subject, subject_id))
    )
