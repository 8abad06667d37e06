"""Which daily bars to ask for: all of what is new, an overlap of what is kept, nothing while no newer day has ended.

A day that has ended and has not appeared is asked for once an hour: its market may have stopped. Asks nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from deskwatch.clock import Clock
from exporter.snapshot import History

OVERLAP_DAYS = 5
"""Kept days that are asked for again: they show whether the venue has changed the past."""
ASK_AGAIN_SECONDS = 3600.0
SLACK_DAYS = 5
"""What is kept from so many days after the first wanted one on is taken as complete."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came of the last question: its bars, whether all were asked for, and monotonic time."""

    history: History | None
    currency: str
    whole: bool
    at: float


class DailyBars:
    """The bars of one source.

    Args:
        clock: monotonic time.
        history_days: calendar days wanted.
    """

    def __init__(self, clock: Clock, history_days: int) -> None:
        self._clock = clock
        self._history_days = history_days
        self._asked: dict[str, _Asked] = {}
        self._given: tuple[History, ...] = ()

    def due(self, currencies: Mapping[str, str], kept: Mapping[str, History], today: int) -> dict[str, int]:
        """The symbols to ask for now, and from which day on.

        Args:
            currencies: symbol to what its closes are in.
            kept: what the exporter has of them.
            today: the day that has not ended, counted from 1970.
        """
        first = today - self._history_days
        due: dict[str, int] = {}
        for symbol, currency in currencies.items():
            known = kept.get(symbol)
            if known is not None and (known.currency != currency or not known.days.size):
                known = None
            if self._is_due(symbol, currency, known, today):
                reaches = known is not None and _day(known, 0) <= first + SLACK_DAYS
                due[symbol] = _day(known, -min(OVERLAP_DAYS, known.days.size)) if known is not None and reaches else first
        return due

    def _is_due(self, symbol: str, currency: str, known: History | None, today: int) -> bool:
        asked = self._asked.get(symbol)
        if asked is None or asked.currency != currency:
            return True
        if known is None and not asked.whole:
            return True  # the past has changed: what is kept is not offered any more
        newest = None if asked.history is None else _day(asked.history, -1)
        return (newest is None or newest < today - 1) and self._clock.monotonic() - asked.at >= ASK_AGAIN_SECONDS

    def take(self, symbol: str, currency: str, history: History | None, first: int, today: int) -> None:
        """What came of a question."""
        whole = first <= today - self._history_days
        self._asked[symbol] = _Asked(history, currency, whole, self._clock.monotonic())

    def give(self, symbols: Iterable[str]) -> tuple[History, ...]:
        """The bars last read of these symbols; the same tuple while nothing changed."""
        wanted = set(symbols)
        self._asked = {symbol: asked for symbol, asked in self._asked.items() if symbol in wanted}
        given = tuple(asked.history for asked in self._asked.values() if asked.history is not None)
        if [*map(id, given)] != [*map(id, self._given)]:
            self._given = given
        return self._given


def _day(history: History, place: int) -> int:
    return int(history.days[place].astype("datetime64[D]").astype(np.int64))
