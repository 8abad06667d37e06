"""The pace at which IBKR's Client Portal may be asked, and what an endpoint that is not due answered last.

A limit that is broken once puts the whole address into a penalty box, the trader's programs on it too: so nothing here is
tried before its time. Refuses to make one endpoint's turn wait for another's.
Source: IBKR Campus, Web API v1.0, "Pacing Limitations".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from deskwatch.clock import Clock

CALLS_A_SECOND = 10
"""Limit of everything together, for one login."""
BARS_A_MINUTE = 50
"""Limit of `/iserver/marketdata/history`; earlier editions of the page say 5 at a time."""
PENALTY_SECONDS = 600.0
"""How long an address that has broken a limit is refused; one edition of the page says 15 minutes: then it is told again."""
SLOW_SECONDS = 5.5
"""Orders, trades, P&L and the list of accounts: one call in 5 seconds. A little more, because they count when it arrives."""


class Burst:
    """At most `calls` in any `seconds`: `await turn()` before each; the first ones do not wait."""

    def __init__(self, clock: Clock, calls: int, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._slots: deque[float] = deque(maxlen=calls)

    async def turn(self) -> None:
        """Wait for the next free slot. Callers are served in order."""
        now = self._clock.monotonic()
        full = len(self._slots) == self._slots.maxlen
        slot = max(now, self._slots[0] + self._seconds) if full else now
        self._slots.append(slot)
        if slot > now:
            await self._clock.sleep(slot - now)


class Spacing:
    """One call in `seconds`. Never waits: who is early does without."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._next = float("-inf")

    @property
    def wait_seconds(self) -> float:
        """How long until the next call may be made; 0 where it may be made now."""
        return max(0.0, self._next - self._clock.monotonic())

    def take(self) -> bool:
        """Whether the call may be made now; if so, it is counted."""
        if self.wait_seconds > 0.0:
            return False
        self._next = self._clock.monotonic() + self._seconds
        return True


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and when by the monotonic clock."""

    content: Any
    at: float


class Rota:
    """A slow endpoint that is asked for one account at a time: the accounts take turns, and each keeps its last answer.

    Args:
        clock: monotonic time.
        seconds: one call in so long, whatever the account.
        ask: makes the call for one account; None where the answer was none yet (a call that only primes).
    """

    def __init__(self, clock: Clock, seconds: float, ask: Callable[[str], Awaitable[Any]]) -> None:
        self._clock = clock
        self._spacing = Spacing(clock, seconds)
        self._ask = ask
        self._asked: dict[str, float] = {}
        self._answers: dict[str, Answer] = {}

    async def turn(self, accounts: Iterable[str]) -> None:
        """Ask for the account that has waited longest, where the endpoint is due. Raises what `ask` raises."""
        waiting = sorted(accounts, key=lambda account: self._asked.get(account, float("-inf")))
        if not waiting or not self._spacing.take():
            return
        account = waiting[0]
        self._asked[account] = self._clock.monotonic()
        content = await self._ask(account)
        if content is not None:
            self._answers[account] = Answer(content, self._clock.monotonic())

    def answer(self, account: str, within_seconds: float) -> Any:
        """The account's last answer, None where there is none or it is older than that."""
        known = self._answers.get(account)
        if known is None or self._clock.monotonic() - known.at > within_seconds:
            return None
        return known.content

    def clear(self) -> None:
        """Forget every answer: they were another session's. The endpoint is due no sooner."""
        self._asked.clear()
        self._answers.clear()
