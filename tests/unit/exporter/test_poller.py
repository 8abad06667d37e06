"""The poller: interval, deadline, back-off, isolation, and what it says about each source."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.poller import Poller
from exporter.reading import Sample
from exporter.snapshot import Kind, Rejected, Snapshot
from exporter.source import Kept, Source, SourceConfig


class Config(SourceConfig):
    """A source made for a test."""

    type: Literal["made_up"] = "made_up"


Behaviour = Callable[[], Awaitable[None]]


class MadeUp(Source[Config]):
    """Does what the test says; counts its fetches and how many run at once."""

    kind = "exchange"

    def __init__(self, clock: ManualClock, name: str = "venue", **settings: Any) -> None:
        super().__init__(Config(name=name, **settings), clock)
        self.behaviour: Behaviour | None = None
        self.rejected: tuple[Rejected, ...] = ()
        self.begun: list[float] = []
        self.running = self.most_at_once = 0
        self.closed = False

    @property
    def provides(self) -> frozenset[Kind]:
        """Positions."""
        return frozenset({"positions"})

    async def fetch(self, kept: Kept) -> Snapshot:
        """Behave."""
        self.begun.append(self.clock.monotonic())
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            if self.behaviour:
                await self.behaviour()
            return Snapshot(self.clock.now(), rejected=self.rejected)
        finally:
            self.running -= 1

    async def close(self) -> None:
        """Remember it."""
        self.closed = True


class Always(random.Random):
    """Jitter without chance: always the given share of the bound."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def uniform(self, a: float, b: float) -> float:
        """The share of the span."""
        return a + self.share * (b - a)


async def raises(error: Exception) -> None:
    """A behaviour."""
    raise error


async def hangs() -> None:
    """A behaviour."""
    await asyncio.Event().wait()


@asynccontextmanager
async def polling(clock: ManualClock, *sources: MadeUp, share: float = 1.0) -> AsyncIterator[Poller]:
    """A running poller."""
    poller = Poller(sources, clock, Always(share))
    task = asyncio.ensure_future(poller.run())
    await clock.advance(0)
    try:
        yield poller
    finally:
        task.cancel()
        await asyncio.wait({task})


def value(samples: list[Sample], family: str, *labels: str) -> float | None:
    """One series."""
    return next((each.value for each in samples if (each.family.name, each.labels) == (family, labels)), None)


async def test_a_source_is_fetched_every_interval_from_start_to_start() -> None:
    """How long a fetch takes does not move the next."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=10)

    async def takes_three() -> None:
        await clock.sleep(3)

    source.behaviour = takes_three
    async with polling(clock, source):
        for _ in range(23):
            await clock.advance(1)
    assert source.begun == [0, 10, 20]


async def test_fetches_of_one_source_never_overlap() -> None:
    """One that takes longer than its interval is followed by the next, not joined by it."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, timeout_seconds=100)

    async def takes_three() -> None:
        await clock.sleep(3)

    source.behaviour = takes_three
    async with polling(clock, source) as poller:
        asking = asyncio.ensure_future(poller.inspect("venue"))
        for _ in range(9):
            await clock.advance(1)
        assert (await asking).attempts > 1
    assert source.most_at_once == 1


async def test_a_source_that_hangs_holds_up_no_other() -> None:
    """It fails with reason timeout at its deadline."""
    clock = ManualClock()
    slow, quick = MadeUp(clock, "slow", timeout_seconds=5), MadeUp(clock, "quick", interval_seconds=1)
    slow.behaviour = hangs
    async with polling(clock, slow, quick) as poller:
        for _ in range(6):
            await clock.advance(1)
        samples = poller.samples()
    assert len(quick.begun) == 7
    assert value(samples, "desk_source_up", "slow", "exchange") == 0
    assert value(samples, "desk_source_fetch_failures_total", "slow", "timeout") == 1
    assert value(samples, "desk_source_up", "quick", "exchange") == 1
    assert poller.sources["slow"].last_error == "no answer within timeout_seconds (5)"


async def test_the_wait_after_failures_doubles_up_to_a_bound_and_is_jittered() -> None:
    """1, 2, 4, ... seconds at most, and never beyond half of `stale_after_seconds`."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=2, stale_after_seconds=20)
    source.behaviour = lambda: raises(Retryable("down", reason=Reason.REFUSED))
    async with polling(clock, source):
        for _ in range(40):
            await clock.advance(1)
    assert source.begun == [0, 1, 3, 7, 15, 25, 35]
    half = MadeUp(clock, interval_seconds=2)
    half.behaviour = source.behaviour
    async with polling(clock, half, share=0.5):
        for _ in range(8):
            await clock.advance(0.5)
    assert [at - half.begun[0] for at in half.begun] == [0, 0.5, 1.5, 3.5]


async def test_what_the_venue_asks_for_is_waited() -> None:
    """`Retry-After` of a ban."""
    clock = ManualClock()
    source = MadeUp(clock)
    source.behaviour = lambda: raises(Retryable("banned", reason=Reason.RATE_LIMITED, retry_after_seconds=120))
    async with polling(clock, source):
        for _ in range(130):
            await clock.advance(1)
    assert source.begun == [0, 120]


async def test_success_ends_the_back_off() -> None:
    """The next fetch is an interval later."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=5)
    source.behaviour = lambda: raises(Permanent("wrong", reason=Reason.AUTH))
    async with polling(clock, source) as poller:
        source.behaviour = None
        for _ in range(8):
            await clock.advance(1)
        assert poller.sources["venue"].failures_in_a_row == 0
    assert source.begun == [0, 1, 6]


async def test_staleness_follows_the_monotonic_clock() -> None:
    """An operator who sets the wall clock an hour ahead or back does not make fresh data stale, nor stale data fresh."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=10, stale_after_seconds=60)
    async with polling(clock, source) as poller:
        assert not poller.feeds()[0].stale
        clock.jump(3600)
        assert not poller.feeds()[0].stale
        source.behaviour = hangs
        for _ in range(70):
            await clock.advance(1)
        clock.jump(-7200)
        feed = poller.feeds()[0]
    assert feed.stale
    assert feed.snapshot is not None


async def test_before_the_first_success_there_is_no_snapshot_and_no_timestamp() -> None:
    """Absent, not zero: the rule StaleData tells "never" by it."""
    clock = ManualClock()
    source = MadeUp(clock)
    source.behaviour = lambda: raises(Retryable("down", reason=Reason.REFUSED))
    async with polling(clock, source) as poller:
        feed, samples = poller.feeds()[0], poller.samples()
    assert (feed.snapshot, feed.stale, feed.provides) == (None, True, {"positions"})
    assert value(samples, "desk_source_last_success_timestamp_seconds", "venue") is None
    assert value(samples, "desk_source_up", "venue", "exchange") == 0
    assert value(samples, "desk_source_fetches_total", "venue") == 1
    assert value(samples, "desk_source_stale_after_seconds", "venue") == 60


async def test_every_reason_is_there_from_the_start() -> None:
    """An increase from nothing is no increase to Prometheus."""
    samples = Poller([MadeUp(ManualClock())], ManualClock()).samples()
    reasons = {each.labels[1] for each in samples if each.family.name == "desk_source_fetch_failures_total"}
    assert reasons == {reason.value for reason in Reason}


async def test_the_time_of_the_last_success_is_wall_time() -> None:
    """`time() - desk_source_last_success_timestamp_seconds` is its age."""
    clock = ManualClock()
    async with polling(clock, MadeUp(clock)) as poller:
        stamp = value(poller.samples(), "desk_source_last_success_timestamp_seconds", "venue")
    assert stamp == clock.now().timestamp()


async def test_an_unforeseen_error_is_counted_logged_and_survived() -> None:
    """With its traceback in the log and nothing of it in the message."""
    clock = ManualClock()
    source = MadeUp(clock)
    source.behaviour = lambda: raises(ZeroDivisionError("token=s3cr3t"))
    with capture_logs() as logs:
        async with polling(clock, source) as poller:
            await clock.advance(2)
            tracked = poller.sources["venue"]
    assert len(source.begun) > 1
    assert tracked.failures[Reason.INTERNAL] == len(source.begun)
    assert tracked.last_error == "ZeroDivisionError; see the log"
    assert logs[0]["log_level"] == "error"


async def test_only_the_first_failure_and_the_recovery_are_logged() -> None:
    """A venue down for an hour is two lines."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1)
    with capture_logs() as logs:
        async with polling(clock, source):
            source.behaviour = lambda: raises(Retryable("down", reason=Reason.REFUSED))
            for _ in range(60):
                await clock.advance(1)
            source.behaviour = None
            for _ in range(60):
                await clock.advance(1)
    assert [(each["event"], each.get("reason")) for each in logs] == [
        ("source delivers", None), ("source failed", "refused"), ("source is back", None),
    ]  # fmt: skip
    assert logs[2]["failures"] > 1


async def test_rejected_records_are_counted_and_each_reason_logged_once() -> None:
    """A broken row is there at every fetch."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1)
    source.rejected = tuple(Rejected(f"positions[{row}].quantity=None", "missing", "positions") for row in (3, 4))
    with capture_logs() as logs:
        async with polling(clock, source) as poller:
            await clock.advance(1)
            samples = poller.samples()
    assert value(samples, "desk_records_rejected_total", "venue", "missing") == 4
    assert [each["example"] for each in logs if "reason" in each] == ["positions[3].quantity=None"]


async def test_all_tried_waits_for_the_slowest_first_fetch() -> None:
    """Successful or not."""
    clock = ManualClock()
    good, slow = MadeUp(clock, "good"), MadeUp(clock, "slow", timeout_seconds=3)
    slow.behaviour = hangs
    async with polling(clock, good, slow) as poller:
        tried = asyncio.ensure_future(poller.all_tried())
        await clock.advance(2)
        assert not tried.done()
        await clock.advance(1)
        assert tried.done()


async def test_a_fetch_that_ignores_its_cancellation_blocks_its_source_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are never two of one source; the source is down meanwhile, and recovers when the fetch ends."""
    monkeypatch.setattr("exporter.poller.CANCEL_SECONDS", 0.01)
    clock = ManualClock()
    source, release = MadeUp(clock, timeout_seconds=1), asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    source.behaviour = stubborn
    async with polling(clock, source) as poller:
        await clock.advance(1)
        await asyncio.sleep(0.05)
        assert poller.sources["venue"].last_error == "a fetch past its deadline does not end"
        assert len(source.begun) == 1
        source.behaviour = None
        release.set()
        await asyncio.sleep(0.05)
        await clock.advance(1)
        assert poller.sources["venue"].up
    assert source.most_at_once == 1


async def test_ending_cancels_what_runs_and_closes_every_source() -> None:
    """Also one that hangs, and one that cannot be closed."""
    clock = ManualClock()
    one, other = MadeUp(clock, "one"), MadeUp(clock, "other")
    one.behaviour = hangs
    other.close = lambda: raises(RuntimeError("stuck"))  # type: ignore[method-assign]
    async with polling(clock, one, other):
        assert one.running == 1
    assert (one.running, one.closed) == (0, True)


async def test_inspect_fetches_now_and_keeps_the_outcome() -> None:
    """For `/debug/source`."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1000, stale_after_seconds=2000)
    async with polling(clock, source) as poller:
        await clock.advance(500)
        tracked = await poller.inspect("venue")
        assert source.begun == [0, 500]
        assert tracked.age_seconds(clock.monotonic() + 1) == 1
        assert tracked.succeeded_at == clock.now() - timedelta(0)
        with pytest.raises(KeyError):
            await poller.inspect("nowhere")
