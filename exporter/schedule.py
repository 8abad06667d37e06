"""When a source is fetched next: every interval with jitter, later after failures. Arithmetic only; waits for nothing.

Regular fetches stand on a grid of whole intervals, each moved by its own jitter: on average they are exactly an interval apart,
from start to start, and what one is late by is not handed on to the next.
"""

from __future__ import annotations

import random

from exporter.source import SourceConfig

FIRST_BACKOFF_SECONDS = 1.0
"""Upper bound of the wait after a first failure; doubles with each further one."""
LONGEST_BACKOFF_SECONDS = 60.0
"""Bound of the wait, unless the interval itself is longer."""
OPEN_SECONDS = 30.0
"""So long an open breaker leaves its source alone, where the configuration does not say."""


class Schedule:
    """The turns of one source. All times are seconds of the monotonic clock.

    Args:
        config: interval, jitter, breaker.
        chance: jitter.
        now: the first fetch is due at once.
    """

    def __init__(self, config: SourceConfig, chance: random.Random, now: float) -> None:
        self._config = config
        self._chance = chance
        self._slot = now
        self._asked_until = now
        self.due = now
        """When the next fetch is to begin."""

    def begin(self, now: float) -> None:
        """A fetch begins in its turn. One that is late by more than half an interval starts a new grid."""
        if now - self._slot > self._config.interval_seconds / 2:
            self._slot = now

    def succeeded(self, now: float) -> None:
        """The fetch of this turn succeeded: the next is due on the grid, or at once where it took longer than that."""
        self._slot += self._config.interval_seconds
        moved = self._config.jitter_ratio * self._config.interval_seconds / 2
        self.due = max(now, self._slot + self._chance.uniform(-moved, moved))

    def recovered(self, begun: float) -> None:
        """A fetch out of turn, begun then, ended a failure: the next is due an interval later."""
        self._slot = self.due = begun + self._config.interval_seconds

    def failed(self, now: float, failures: int, *, tripped: bool, asked_seconds: float | None) -> None:
        """The fetch failed: the next is due after the longest of all waits that apply.

        These are the back-off with full jitter, whose bound doubles with each failure, up to a minute and never beyond half
        the time after which the series disappear, unless the interval itself is longer; the breaker's open time; and what the
        venue asked for.
        Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

        Args:
            now: when it ended.
            failures: failures in a row, this one included.
            tripped: whether the breaker is open.
            asked_seconds: the wait the venue asked for.
        """
        config = self._config
        longest = max(config.interval_seconds, min(LONGEST_BACKOFF_SECONDS, config.stale_after_seconds / 2))
        first = min(FIRST_BACKOFF_SECONDS, config.interval_seconds)
        bound = min(longest, first * 2.0 ** min(failures - 1, 32))
        wait = max(self._chance.uniform(0.0, bound), open_seconds(config) if tripped else 0.0)
        self.held(now, max(wait, asked_seconds or 0.0))
        self._asked_until = now + (asked_seconds or 0.0)

    def held(self, now: float, seconds: float) -> None:
        """The next fetch is due in exactly so many seconds."""
        self._slot = self.due = now + seconds

    def hasten(self, now: float) -> None:
        """Something has changed that may help: the next fetch is due at once, but not before the venue wants to be asked."""
        self._slot = self.due = max(now, self._asked_until)


def open_seconds(config: SourceConfig) -> float:
    """How long an open breaker leaves the source alone: as configured, else so that it is asked before its series disappear."""
    if config.breaker.open_seconds is not None:
        return config.breaker.open_seconds
    return min(OPEN_SECONDS, config.stale_after_seconds / 2)
