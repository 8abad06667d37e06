"""Daily closes beside those the exporter keeps: when they are read again, from which day on, and whether the past still stands.

A query that uses `:since` or `:last_run` is asked for the newest days only; where anything it says of a known day has changed,
or a symbol is new, everything is read again at once. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

from exporter.snapshot import History, Rejected

OVERLAP_DAYS = 7
"""Calendar days asked for again: five trading days. A close that has changed among them shows that the past was adjusted."""
LATE_DAYS = 30
"""A symbol whose newest close is older than this before the newest of all is not waited for: it is not quoted any more."""
SAME_RATIO = 1e-9
"""Two closes of one day closer than this are one close."""


@dataclass(frozen=True, slots=True)
class Bars:
    """What was read last.

    Args:
        histories: of every symbol read; the same tuple until it is read again.
        whole: whether these are all days wanted.
        began_at: wall time when that read began.
        due: monotonic time of the next.
        rejected: what could not be read.
        note: for a person.
    """

    histories: tuple[History, ...]
    whole: bool
    began_at: datetime
    due: float
    rejected: tuple[Rejected, ...] = ()
    note: str = ""

    def must_be_whole(self, kept: Mapping[str, History]) -> bool:
        """Whether something read is not kept (any more), so that only everything will do."""
        if not kept:
            return not self.whole
        return any(history.symbol not in kept for history in self.histories)


def first_day(kept: Mapping[str, History], earliest: date) -> date:
    """From which day on news are asked for: some days before the oldest of the newest closes."""
    newest: list[date] = [history.days[-1].astype(date) for history in kept.values() if history.days.size]
    if not newest:
        return earliest
    late = max(newest) - timedelta(days=LATE_DAYS)
    return max(earliest, min(day for day in newest if day >= late) - timedelta(days=OVERLAP_DAYS))


def past_stands(kept: Mapping[str, History], read: Sequence[History]) -> bool:
    """Whether every symbol read is known, in the same currency, and with the same closes on the days both have."""
    return all(history.symbol in kept and _agree(kept[history.symbol], history) for history in read)


def _agree(known: History, read: History) -> bool:
    _, at_known, at_read = np.intersect1d(known.days, read.days, assume_unique=True, return_indices=True)
    ratios = read.closes[at_read] / known.closes[at_known]
    return known.currency == read.currency and bool((np.abs(ratios - 1.0) <= SAME_RATIO).all())


def filled(kept: Mapping[str, History], read: Sequence[History]) -> tuple[History, ...]:
    """What was read without gaps: between its first and last day, days that are known and were not asked for again."""
    return tuple(_filled(kept[history.symbol], history) for history in read)


def _filled(known: History, read: History) -> History:
    between = (known.days > read.days[0]) & (known.days < read.days[-1]) & ~np.isin(known.days, read.days)
    if not between.any():
        return read
    days = np.concatenate([read.days, known.days[between]])
    order = np.argsort(days)
    closes = np.concatenate([read.closes, known.closes[between]])[order]
    days = days[order]
    days.setflags(write=False)
    closes.setflags(write=False)
    return History(read.symbol, read.currency, days, closes)
