"""IBKR's limits are kept before they are broken, and an endpoint that is not due answers from memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.errors import Reason, Retryable
from deskwatch.venues.ibkr_pacing import SLOW_SECONDS, Burst, Rota, Spacing


async def test_a_burst_lets_the_first_calls_through_and_spaces_the_others() -> None:
    """At most three in any second, in order, without waiting before it must."""
    clock = ManualClock()
    burst = Burst(clock, 3, 1.0)
    at: list[float] = []

    async def call() -> None:
        await burst.turn()
        at.append(clock.monotonic())

    calls = [asyncio.ensure_future(call()) for _ in range(7)]
    await clock.advance(0.0)
    assert at == [0.0, 0.0, 0.0]
    await clock.advance(0.75)
    assert len(at) == 3
    await clock.advance(5.0)
    await asyncio.gather(*calls)
    assert at == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0]


async def test_a_burst_counts_any_second_not_the_clocks() -> None:
    """Calls at the end of one second and the beginning of the next are within one second of each other."""
    clock = ManualClock()
    burst = Burst(clock, 2, 1.0)
    await clock.advance(0.9)
    await burst.turn()
    await burst.turn()
    late = asyncio.ensure_future(burst.turn())
    await clock.advance(0.5)
    assert not late.done()
    await clock.advance(0.5)
    assert late.done()


async def test_spacing_never_waits() -> None:
    """Who is early does without, and is told how long."""
    clock = ManualClock()
    spacing = Spacing(clock, 5.0)
    assert (spacing.take(), spacing.take(), spacing.wait_seconds) == (True, False, 5.0)
    await clock.advance(4.0)
    assert (spacing.take(), spacing.wait_seconds) == (False, 1.0)
    await clock.advance(1.0)
    assert (spacing.wait_seconds, spacing.take()) == (0.0, True)


class Endpoint:
    """Answers with the account and how many times it was asked; None where it is told to say nothing."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.silent = False
        self.error: Exception | None = None

    async def ask(self, account: str) -> Any:
        """One call."""
        self.calls.append(account)
        if self.error is not None:
            raise self.error
        return None if self.silent else f"{account} {len(self.calls)}"


async def test_accounts_take_turns_and_keep_their_last_answer() -> None:
    """One call each time the endpoint is due, to the account that has waited longest; the others' answers stay."""
    clock, endpoint = ManualClock(), Endpoint()
    rota = Rota(clock, SLOW_SECONDS, endpoint.ask)
    for _ in range(3):
        await rota.turn(["A", "B"])
        await rota.turn(["A", "B"])
        await clock.advance(SLOW_SECONDS)
    assert endpoint.calls == ["A", "B", "A"]
    assert rota.answer("A", 60.0) == "A 3"
    assert rota.answer("B", 60.0) == "B 2"
    assert rota.answer("C", 60.0) is None


async def test_an_answer_is_good_for_a_while_only() -> None:
    """Older than asked for is no answer."""
    clock, endpoint = ManualClock(), Endpoint()
    rota = Rota(clock, 5.0, endpoint.ask)
    await rota.turn(["A"])
    await clock.advance(60.0)
    assert rota.answer("A", 60.0) == "A 1"
    await clock.advance(0.5)
    assert rota.answer("A", 60.0) is None


async def test_a_call_that_only_primes_is_no_answer_and_a_failed_one_leaves_the_last() -> None:
    """Both count against the limit."""
    clock, endpoint = ManualClock(), Endpoint()
    rota = Rota(clock, 5.0, endpoint.ask)
    endpoint.silent = True
    await rota.turn(["A"])
    assert rota.answer("A", 60.0) is None
    endpoint.silent = False
    await clock.advance(5.0)
    await rota.turn(["A"])
    endpoint.error = Retryable("no", reason=Reason.TIMEOUT)
    await clock.advance(5.0)
    with pytest.raises(Retryable):
        await rota.turn(["A"])
    await rota.turn(["A"])
    assert endpoint.calls == ["A", "A", "A"]
    assert rota.answer("A", 60.0) == "A 2"
    endpoint.error, endpoint.silent = None, True
    await clock.advance(5.0)
    await rota.turn(["A"])
    assert rota.answer("A", 60.0) == "A 2"


async def test_a_new_session_forgets_answers_not_limits() -> None:
    """The endpoint is due no sooner because the session is another."""
    clock, endpoint = ManualClock(), Endpoint()
    rota = Rota(clock, 5.0, endpoint.ask)
    await rota.turn(["A"])
    rota.clear()
    await rota.turn(["A"])
    assert (endpoint.calls, rota.answer("A", 60.0)) == (["A"], None)
