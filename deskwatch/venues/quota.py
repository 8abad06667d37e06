"""A venue's rate limit as far as it is known here: what is used of it, and how much of it this process may use.

Refuses to wait: what does not fit now is Throttled with the time until it does, so that the poller decides.
"""

from __future__ import annotations

import asyncio
import math

from deskwatch.clock import Clock
from deskwatch.errors import Throttled


class Quota:
    """Weight used in the current window, ours and, where the venue's headers tell, everybody's.

    Args:
        what: the venue, for messages.
        clock: monotonic time.
        limit: weight allowed in one window.
        window_seconds: length of a window.
        headroom_ratio: share of the limit that is left to the trader: a call that would eat into it is refused here.
    """

    def __init__(self, what: str, clock: Clock, *, limit: float, window_seconds: float, headroom_ratio: float) -> None:
        self._what = what
        self._clock = clock
        self._limit = limit
        self._window_seconds = window_seconds
        self._headroom_ratio = headroom_ratio
        self._used = 0.0
        self._ends = 0.0
        self._blocked_until = 0.0

    @property
    def used_ratio(self) -> float:
        """Share of the venue's limit used in this window, by everybody as far as known; 1 while the venue refuses us."""
        now = self._clock.monotonic()
        if now < self._blocked_until:
            return 1.0
        return self._used / self._limit if now < self._ends else 0.0

    def take(self, weight: float = 1.0) -> None:
        """Use so much of it.

        Raises:
            Throttled: it would eat into the headroom, or the venue has told us to wait; carries how long.
        """
        now = self._clock.monotonic()
        if now < self._blocked_until:
            self._refuse("has told us to wait", self._blocked_until - now)
        self._turn(now)
        allowed = self._limit * (1.0 - self._headroom_ratio)
        # A call heavier than all we may use still goes through in a window nobody has used.
        if self._used and self._used + weight > allowed:
            self._refuse(f"{self._used:g} of {self._limit:g} used, {allowed:g} are ours to use", self._ends - now)
        self._used += weight

    def learn(self, *, used: float | None = None, limit: float | None = None, resets_in_seconds: float | None = None) -> None:
        """What the venue said in an answer's headers: it counts the trader's calls too. Nonsense is passed over."""
        now = self._clock.monotonic()
        self._turn(now)
        if limit is not None and 0.0 < limit < math.inf:
            self._limit = limit
        if used is not None and 0.0 <= used < math.inf:
            self._used = used
        if resets_in_seconds is not None and 0.0 <= resets_in_seconds < math.inf:
            # Further away than a whole window is a clock that is wrong, ours or theirs.
            self._ends = now + min(resets_in_seconds, self._window_seconds)

    def block(self, seconds: float) -> None:
        """The venue refuses us for so long."""
        self._blocked_until = max(self._blocked_until, self._clock.monotonic() + seconds)

    def _turn(self, now: float) -> None:
        if now >= self._ends:
            self._used, self._ends = 0.0, now + self._window_seconds

    def _refuse(self, why: str, seconds: float) -> None:
        raise Throttled(f"{self._what}: rate limit: {why}", retry_after_seconds=seconds)


class Pace:
    """At most one call each `interval_seconds`: `await turn()` before it. Callers are served in order.

    One who gives up waiting takes no turn: fetches cut off at their deadline do not put off those after them.
    """

    def __init__(self, clock: Clock, interval_seconds: float) -> None:
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._waiting = asyncio.Lock()
        self._next = -math.inf

    async def turn(self) -> None:
        """Wait for the next turn."""
        async with self._waiting:
            left = self._next - self._clock.monotonic()
            if left > 0.0:
                await self._clock.sleep(left)
            self._next = self._clock.monotonic() + self._interval_seconds
