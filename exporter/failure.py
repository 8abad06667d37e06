"""What an exception that ended a fetch means: a bounded reason, words for a person, the wait. Every exception has a reason.

A source maps what it knows itself; what escapes it - of a library, of a task group - is read here. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deskwatch.errors import Permanent, Reason, Retryable, Throttled
from deskwatch.http import transport_reason
from exporter.cells import Unreadable
from exporter.records import FieldUnreadable


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a fetch failed.

    Args:
        reason: label `reason`.
        message: for a person; holds no secret.
        asked_seconds: the wait the other side asked for, None where it named none.
        throttled: nothing was asked: our own share of the rate limit is used up for exactly `asked_seconds`.
        unforeseen: no source raises this on purpose: the log needs the traceback.
    """

    reason: Reason
    message: str
    asked_seconds: float | None = None
    throttled: bool = False
    unforeseen: bool = False


def failure_of(error: Exception) -> Failure:
    """What the exception means. Of several at once, which a task group raises, the one that keeps us away longest counts."""
    return max((_single(each) for each in _leaves(error)), key=_weight)


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _weight(failure: Failure) -> tuple[bool, bool, float]:
    """A mistake of ours first, it must be seen; then a real failure before one that asked nothing; then the longest wait."""
    return failure.unforeseen, not failure.throttled, failure.asked_seconds or 0.0


def _single(error: Exception) -> Failure:
    if isinstance(error, Throttled):
        return Failure(error.reason, str(error), error.wait_seconds, throttled=True)
    if isinstance(error, Retryable):
        return Failure(error.reason, str(error), error.retry_after_seconds)
    if isinstance(error, Permanent):
        return Failure(error.reason, str(error))
    if isinstance(error, Unreadable):
        return _unreadable(error)
    reason = transport_reason(error) or Reason.INTERNAL
    # Its own words may hold an address with a password.
    return Failure(reason, f"{type(error).__name__}; see the log", unforeseen=True)


def _unreadable(error: Unreadable) -> Failure:
    """A value outside a list of records, which are rejected one by one: the answer as a whole cannot be used."""
    reason = Reason.MISSING_FIELD if str(error) == "missing" else Reason.BAD_RESPONSE
    said = f"{error.said}: " if isinstance(error, FieldUnreadable) else ""
    return Failure(reason, f"the answer cannot be used: {said}{error}")
