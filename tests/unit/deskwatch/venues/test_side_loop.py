"""Work in a loop of its own: results come back, cancelling ends it over there, and the loop that serves goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from deskwatch.venues.side_loop import SideLoop


@pytest.fixture
async def side() -> AsyncIterator[SideLoop]:
    """A loop that is closed afterwards."""
    found = SideLoop("side")
    yield found
    await found.close()


async def test_the_work_is_done_elsewhere_and_its_result_comes_back(side: SideLoop) -> None:
    """One thread for all of it."""

    async def where() -> str:
        return threading.current_thread().name

    assert {await side.run(where), await side.run(where)} == {"side"}
    assert threading.current_thread().name != "side"


async def test_what_the_work_raises_is_raised_here(side: SideLoop) -> None:
    """And the next piece of work is done."""

    async def fail() -> None:
        raise LookupError("gone")

    async def work() -> int:
        return 1

    with pytest.raises(LookupError, match="gone"):
        await side.run(fail)
    assert await side.run(work) == 1


async def test_what_was_cancelled_has_ended_before_the_next_begins(side: SideLoop) -> None:
    """There are never two of one source."""
    begun, told = asyncio.Event(), []
    here = asyncio.get_running_loop()

    async def hang() -> None:
        here.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            told.append("ended")

    async def after() -> list[str]:
        return [*told, "after"]

    running = asyncio.ensure_future(side.run(hang))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await side.run(after) == ["ended", "after"]


async def test_what_a_piece_of_work_leaves_running_is_ended_with_it() -> None:
    """Of several requests made at once one has failed: the others are nobody's any more. What is named may last."""
    told: list[str] = []

    async def left(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append(name)

    async def lasting() -> None:
        await left("lasting")

    tasks = []

    async def fail() -> None:
        tasks.extend(asyncio.ensure_future(each) for each in (left("left"), lasting()))
        await asyncio.sleep(0)
        raise LookupError

    side = SideLoop("side", lasting=[lasting.__qualname__])
    with pytest.raises(LookupError):
        await side.run(fail)
    assert told == ["left"]
    await side.close()
    assert told == ["left", "lasting"]


async def test_closing_ends_what_still_runs_and_the_thread() -> None:
    """Nothing is left for the interpreter to complain of; afterwards it starts anew."""
    side, begun, ended = SideLoop("closed"), asyncio.Event(), []
    here = asyncio.get_running_loop()

    async def hang() -> None:
        here.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    running = asyncio.ensure_future(side.run(hang))
    await begun.wait()
    await side.close()
    assert ended == [True]
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "closed" not in {thread.name for thread in threading.enumerate()}

    async def work() -> int:
        return 2

    assert await side.run(work) == 2
    await side.close()
    await side.close()


async def test_computing_over_there_does_not_stop_the_loop_here(side: SideLoop) -> None:
    """Beside the same work done here, in the same run."""

    async def compute() -> None:
        until = time.thread_time() + 0.4
        while time.thread_time() < until:
            sum(range(500))

    aside = await longest_wait(side.run(compute))
    control = await longest_wait(compute())
    assert control > 0.3
    assert aside < control / 3


async def longest_wait(work: object) -> float:
    """The most this process computed while its loop wanted to go on and could not, in seconds: other processes do not count."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            begun = time.process_time()
            await asyncio.sleep(0.001)
            lags.append(time.process_time() - begun)

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await work  # type: ignore[misc]
    await asyncio.sleep(0.005)
    watching.cancel()
    return max(lags)
