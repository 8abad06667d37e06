"""The poller: interval, deadline, back-off, breaker, isolation, and what it says about each source."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent, Reason, Retryable, Throttled
from exporter.poller import Poller
from exporter.snapshot import Rejected
from tests.unit.exporter.made_up import MadeUp, hangs, polling, raises, seconds, value

DOWN = Retryable("down", reason=Reason.REFUSED)


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
        ("source delivers", None), ("source failed", "refused"), ("source keeps failing and is left alone", None),
        ("source is back", None),
    ]  # fmt: skip
    assert logs[3]["failures"] > 5


async def test_a_failure_that_comes_back_is_logged_again() -> None:
    """After a success it is another outage."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1)

    async def every_third() -> None:
        if len(source.begun) % 3 == 0:
            raise DOWN

    source.behaviour = every_third
    with capture_logs() as logs:
        async with polling(clock, source):
            await seconds(clock, 12)
    failed = [turn for turn in range(1, len(source.begun) + 1) if turn % 3 == 0]
    assert [each["event"] for each in logs].count("source failed") == len(failed) > 2


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
    with capture_logs() as logs:
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
    assert [each["event"] for each in logs if "past its deadline" in each["event"]] == [
        "a fetch past its deadline does not end; its source waits for it", "a fetch past its deadline has ended",
    ]  # fmt: skip


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


async def test_jitter_moves_fetches_about_a_grid_that_never_drifts() -> None:
    """Each is at most half the share off its place, so on average they are exactly an interval apart."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=10, jitter_ratio=0.2)

    async def takes_three() -> None:
        await clock.sleep(3)

    source.behaviour = takes_three
    async with polling(clock, source, chance=random.Random(5)):  # noqa: S311 - seeded
        await clock.advance(2000)
    off = [begun - 10 * turn for turn, begun in enumerate(source.begun)]
    assert len(off) in (200, 201)
    assert max(abs(each) for each in off) <= 1 + 1e-6
    assert min(off) < -0.5
    assert max(off) > 0.5


async def test_a_fetch_longer_than_its_interval_is_followed_at_once() -> None:
    """And where that was one alone, the grid stands; never are two closer than half an interval for being late."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=10, timeout_seconds=100, stale_after_seconds=100)
    takes = iter([14.0, 1.0, 1.0, 27.0, 1.0, 1.0])

    async def takes_long() -> None:
        await clock.sleep(next(takes, 1.0))

    source.behaviour = takes_long
    async with polling(clock, source):
        await seconds(clock, 80)
    assert source.begun == [0, 14, 20, 30, 57, 67, 77]


async def test_the_breaker_leaves_a_failing_source_alone_and_tries_it_once() -> None:
    """Closed, open after so many failures in a row, half-open, open again, closed."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, breaker={"failures": 3, "open_seconds": 40})
    source.behaviour = lambda: raises(DOWN)
    async with polling(clock, source) as poller:
        states = []
        for _ in range(85):
            states.append(value(poller.samples(), "desk_source_breaker_open", "venue"))
            await clock.advance(1)
        assert source.begun == [0, 1, 3, 43, 83]
        assert states == [0] * 3 + [1] * 82
        source.behaviour = None
        await seconds(clock, 40)
        assert value(poller.samples(), "desk_source_breaker_open", "venue") == 0
    assert source.begun[4:] == [83, 123, 124, 125]


async def test_a_source_that_comes_and_goes_does_not_open_the_breaker() -> None:
    """Failures must follow one another."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, breaker={"failures": 2})

    async def every_other() -> None:
        if len(source.begun) % 2:
            raise DOWN

    source.behaviour = every_other
    async with polling(clock, source) as poller:
        await seconds(clock, 50)
        assert value(poller.samples(), "desk_source_breaker_open", "venue") == 0
    assert len(source.begun) == 51


async def test_refused_credentials_open_the_breaker_too() -> None:
    """Asking with a wrong key again and again gets accounts locked."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, breaker={"failures": 2, "open_seconds": 50})
    source.behaviour = lambda: raises(Permanent("wrong key", reason=Reason.AUTH))
    async with polling(clock, source):
        await seconds(clock, 50)
    assert source.begun == [0, 1]


async def test_an_open_breaker_waits_as_long_as_the_venue_asks() -> None:
    """The longest of open time, back-off and `Retry-After` counts."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, breaker={"failures": 1, "open_seconds": 10})
    source.behaviour = lambda: raises(Retryable("banned", reason=Reason.RATE_LIMITED, retry_after_seconds=25))
    async with polling(clock, source):
        await seconds(clock, 60)
    assert source.begun == [0, 25, 50]


@pytest.mark.parametrize(("stale_after", "alone"), [(200, 30), (20, 10)])
async def test_an_open_breaker_asks_again_before_the_series_disappear(stale_after: float, alone: float) -> None:
    """30 seconds by default, or half the time after which the data is stale."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, stale_after_seconds=stale_after, breaker={"failures": 1})
    source.behaviour = lambda: raises(DOWN)
    async with polling(clock, source):
        await seconds(clock, 65)
    assert source.begun[:3] == [0, alone, 2 * alone]


async def test_our_own_quota_is_waited_for_exactly_and_is_no_failure_of_the_venue() -> None:
    """No back-off on top, no breaker; counted as rate_limited."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, breaker={"failures": 1, "open_seconds": 1000})
    source.behaviour = lambda: raises(Throttled("quota", retry_after_seconds=7.25))
    async with polling(clock, source) as poller:
        for _ in range(30):
            await clock.advance(0.5)
        samples = poller.samples()
    assert source.begun == [0, 7.25, 14.5]
    assert value(samples, "desk_source_fetch_failures_total", "venue", "rate_limited") == 3
    assert value(samples, "desk_source_breaker_open", "venue") == 0
    assert value(samples, "desk_source_up", "venue", "exchange") == 0


async def test_a_half_open_fetch_that_asked_nothing_decides_nothing() -> None:
    """Our own quota is used up when the breaker's time has come: it stays open, and the next fetch decides."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, breaker={"failures": 1, "open_seconds": 10})
    source.behaviour = lambda: raises(DOWN)
    async with polling(clock, source) as poller:
        source.behaviour = lambda: raises(Throttled("quota", retry_after_seconds=3))
        await seconds(clock, 11)
        assert poller.sources["venue"].breaker.state == "open"
        source.behaviour = None
        await seconds(clock, 3)
        assert poller.sources["venue"].breaker.state == "closed"
    assert source.begun == [0, 10, 13, 14]


async def test_an_operators_fetch_closes_the_breaker_and_the_regular_ones_go_on() -> None:
    """The task that waited for the breaker's time wakes; the next fetch is an interval after the operator's."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=5, breaker={"failures": 1, "open_seconds": 1000})
    source.behaviour = lambda: raises(DOWN)
    async with polling(clock, source) as poller:
        await seconds(clock, 20)
        source.behaviour = None
        assert (await poller.inspect("venue")).up
        assert value(poller.samples(), "desk_source_breaker_open", "venue") == 0
        await seconds(clock, 11)
    assert source.begun == [0, 20, 25, 30]


async def test_an_operators_fetch_of_a_source_that_is_well_moves_nothing() -> None:
    """The others' turns stay where they are, and so do its own."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=10)
    async with polling(clock, source) as poller:
        await seconds(clock, 7)
        await poller.inspect("venue")
        await seconds(clock, 15)
    assert source.begun == [0, 7, 10, 20]


async def test_what_the_venue_asks_an_operators_fetch_the_regular_ones_keep() -> None:
    """Also one that was due meanwhile and waited for the operator's to end."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=10, breaker={"failures": 100})

    async def banned() -> None:
        await clock.sleep(4)
        raise Retryable("banned", reason=Reason.RATE_LIMITED, retry_after_seconds=20)

    async with polling(clock, source) as poller:
        await seconds(clock, 8)
        source.behaviour = banned
        asking = asyncio.ensure_future(poller.inspect("venue"))
        await clock.advance(0)
        await seconds(clock, 5)
        assert not (await asking).up
        source.behaviour = None
        await seconds(clock, 30)
    assert source.begun == [0, 8, 32, 42]


async def test_the_quota_is_shown_where_it_is_known() -> None:
    """A source that cannot say is no reason to fail; infinity is no share."""
    clock = ManualClock()
    knows, knows_not, fails, wrong = (MadeUp(clock, name) for name in ("knows", "knows_not", "fails", "wrong"))
    knows.quota, fails.quota, wrong.quota = (lambda: 0.25), (lambda: 1 // 0), (lambda: float("inf"))
    async with polling(clock, knows, knows_not, fails, wrong) as poller:
        shown = {each.labels: each.value for each in poller.samples() if each.family.name == "desk_source_quota_used_ratio"}
    assert shown == {("knows",): 0.25}


async def test_a_source_that_returns_no_snapshot_fails() -> None:
    """A plug-in's mistake is its own failure, not the poller's end."""
    clock = ManualClock()
    wrong, good = MadeUp(clock, "wrong"), MadeUp(clock, "good", interval_seconds=1)
    wrong.delivers = {"positions": []}
    async with polling(clock, wrong, good) as poller:
        await clock.advance(1)
        assert poller.sources["wrong"].failures[Reason.INTERNAL] == len(wrong.begun)
        assert poller.sources["wrong"].last_error == "TypeError; see the log"
    assert len(good.begun) == 2


async def test_an_unforeseen_failure_is_logged_with_its_traceback_once() -> None:
    """Not at each of a night's retries; another kind of failure is news."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1)
    with capture_logs() as logs:
        async with polling(clock, source):
            source.behaviour = lambda: raises(ZeroDivisionError())
            await seconds(clock, 60)
            source.behaviour = lambda: raises(KeyError("x"))
            await seconds(clock, 60)
    traced = [each["exc_info"] for each in logs if each["log_level"] == "error"]
    assert [type(each) for each in traced] == [ZeroDivisionError, KeyError]


async def test_a_rejected_record_that_went_away_and_came_back_is_logged_again() -> None:
    """Once each time; the counter goes on."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1)
    broken = (Rejected("positions[0].quantity=None", "missing", "positions"),)
    with capture_logs() as logs:
        async with polling(clock, source) as poller:
            for rejected in (broken, broken, (), broken, broken):
                source.rejected = rejected
                await clock.advance(1)
            assert value(poller.samples(), "desk_records_rejected_total", "venue", "missing") == 4
    assert len([each for each in logs if each.get("reason") == "missing"]) == 2


async def test_reasons_of_rejected_records_stay_bounded() -> None:
    """A plug-in that puts the record into its reason makes no series without end."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1)
    async with polling(clock, source) as poller:
        for fetch in range(3):
            source.rejected = tuple(Rejected("x", f"bad row {fetch}-{row}", "fills") for row in range(50))
            await clock.advance(1)
        counted = {each.labels[1]: each.value for each in poller.samples() if each.family.name == "desk_records_rejected_total"}
    assert len(counted) == 31
    assert sum(counted.values()) == 150
    assert counted["other"] == 120


async def test_an_operators_fetch_that_is_given_up_decides_nothing() -> None:
    """The operator closes the connection: the fetch is cancelled, nothing else."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=1, breaker={"failures": 1, "open_seconds": 10})
    source.behaviour = lambda: raises(DOWN)
    async with polling(clock, source) as poller:
        source.behaviour = hangs
        asking = asyncio.ensure_future(poller.inspect("venue"))
        await clock.advance(0)
        assert source.running == 1
        asking.cancel()
        await clock.advance(0)
        assert (source.running, poller.sources["venue"].breaker.tripped) == (0, True)
        source.behaviour = None
        await seconds(clock, 10)
        assert poller.sources["venue"].up
    assert source.begun == [0, 0, 10]
