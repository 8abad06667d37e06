"""The poller gets another set of sources while it runs: who goes on, who ends, what stays to be seen."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.desk import Feed
from exporter.poller import Poller
from tests.unit.exporter.made_up import MadeUp, hangs, polling, raises, seconds, value

DOWN = Retryable("down", reason=Reason.REFUSED)
REFUSED = Permanent("wrong token", reason=Reason.AUTH)


async def replace(clock: ManualClock, poller: Poller, *sources: MadeUp) -> None:
    """Replace and let what follows from it happen."""
    await poller.replace(sources)
    await clock.advance(0)


def feed(poller: Poller, name: str = "venue") -> Feed:
    """One source's."""
    return next(each for each in poller.feeds() if each.source == name)


def held(feed: Feed) -> Any:
    """Whose position, and how much."""
    assert feed.snapshot is not None
    (position,) = feed.snapshot.positions
    return position.portfolio, position.quantity


async def test_a_source_whose_configuration_is_equal_goes_on_undisturbed() -> None:
    """Not even a fetch that is under way notices; the new object is closed and never asked."""
    clock = ManualClock()
    source, again = MadeUp(clock, interval_seconds=10), MadeUp(clock, interval_seconds=10)

    async def takes_three() -> None:
        await clock.sleep(3)

    source.behaviour = takes_three
    async with polling(clock, source) as poller:
        await seconds(clock, 11)
        tracked = poller.sources["venue"]
        await replace(clock, poller, again)
        assert poller.sources["venue"] is tracked
        await seconds(clock, 10)
        assert (again.closed, again.begun, source.closed) == (True, [], False)
    assert source.begun == [0, 10, 20]
    assert source.closed


async def test_sources_come_and_go() -> None:
    """One that went is cancelled and closed; one that came is fetched at once; the order is the new one."""
    clock = ManualClock()
    goes, stays, comes = MadeUp(clock, "goes"), MadeUp(clock, "stays"), MadeUp(clock, "comes")
    goes.behaviour = hangs
    async with polling(clock, goes, stays) as poller:
        await seconds(clock, 1)
        assert goes.running == 1
        await replace(clock, poller, comes, MadeUp(clock, "stays"))
        assert (goes.running, goes.closed, stays.closed) == (0, True, False)
        assert comes.begun == [1]
        assert [each.source for each in poller.feeds()] == ["comes", "stays"]
        assert {each.labels[0] for each in poller.samples()} == {"comes", "stays"}
        await seconds(clock, 60)
    assert len(goes.begun) == 1
    assert len(comes.begun) == len(stays.begun) == 5
    assert comes.closed


async def test_everything_shown_changes_in_one_step() -> None:
    """Before the replacing waits for anything: what its caller changes right before it changes in the same instant."""
    clock = ManualClock()
    old, new = MadeUp(clock, "old"), MadeUp(clock, "new")
    async with polling(clock, old) as poller:
        replacing = poller.replace([new])
        replacing.send(None)  # up to where it first waits
        assert [each.source for each in poller.feeds()] == ["new"]
        assert not old.closed
        replacing.close()


@pytest.mark.parametrize(
    "changed",
    [
        {"token": "second"},
        {"interval_seconds": 3},
        {"timeout_seconds": 3},
        {"breaker": {"failures": 9}},
        {"url": "postgresql://reader:two@db/trading"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_rotation_leaves_no_gap(changed: dict[str, Any]) -> None:
    """The last good snapshot, its age and `desk_source_up` stay until the new source delivers, or the snapshot is stale."""
    clock = ManualClock()
    old, new = MadeUp(clock), MadeUp(clock, **changed)
    async with polling(clock, old) as poller:
        await seconds(clock, 20)
        new.behaviour = lambda: raises(REFUSED)
        replacing = asyncio.ensure_future(poller.replace([new]))
        for _ in range(10):
            assert held(feed(poller)) == ("main", 2)
            assert not feed(poller).stale
            await asyncio.sleep(0)
        await replacing
        await clock.advance(0)
        assert (old.closed, new.begun) == (True, [20])
        assert poller.sources["venue"].age_seconds(clock.monotonic()) == 5
        await seconds(clock, 54)
        assert not feed(poller).stale
        await seconds(clock, 2)
        assert feed(poller).stale
        new.behaviour = None
        await seconds(clock, 60)
        assert not feed(poller).stale


async def test_a_rotation_of_a_source_that_is_well_does_not_show_it_down() -> None:
    """No alert for every new password."""
    clock = ManualClock()
    new = MadeUp(clock, token="second")
    new.behaviour = hangs
    async with polling(clock, MadeUp(clock)) as poller:
        await replace(clock, poller, new)
        assert value(poller.samples(), "desk_source_up", "venue", "exchange") == 1
        assert new.running == 1


@pytest.mark.parametrize(
    "changed",
    [{"account": "other"}, {"rename": {"AAPL": "APPLE"}}, {"url": "postgresql://reader:one@elsewhere/trading"}],
    ids=lambda changed: next(iter(changed)),
)
async def test_what_was_read_from_elsewhere_is_not_shown(changed: dict[str, Any]) -> None:
    """Another account's positions under this one's name would be a lie, if only for a second."""
    clock = ManualClock()
    new = MadeUp(clock, **changed)
    new.behaviour = lambda: raises(DOWN)
    async with polling(clock, MadeUp(clock)) as poller:
        await replace(clock, poller, new)
        assert feed(poller).snapshot is None
        assert value(poller.samples(), "desk_source_up", "venue", "exchange") == 0
        assert value(poller.samples(), "desk_source_last_success_timestamp_seconds", "venue") is None


async def test_counts_go_on_under_the_same_name() -> None:
    """A counter that starts again hides what happened between two scrapes."""
    clock = ManualClock()
    old, new = MadeUp(clock, interval_seconds=1), MadeUp(clock, account="other")
    async with polling(clock, old) as poller:
        await seconds(clock, 3)
        old.behaviour = lambda: raises(DOWN)
        await seconds(clock, 1)
        await replace(clock, poller, new)
        samples = poller.samples()
    assert value(samples, "desk_source_fetches_total", "venue") == 6
    assert value(samples, "desk_source_fetch_failures_total", "venue", "refused") == 1


async def test_an_open_breaker_is_tried_at_once() -> None:
    """The operator has corrected something, perhaps at the venue, and reloads: the source need not wait for its time."""
    clock = ManualClock()
    source = MadeUp(clock, interval_seconds=5, breaker={"failures": 1, "open_seconds": 1000})
    well = MadeUp(clock, "well", interval_seconds=10)
    source.behaviour = lambda: raises(DOWN)
    async with polling(clock, source, well) as poller:
        await seconds(clock, 7)
        source.behaviour = None
        same = MadeUp(clock, interval_seconds=5, breaker={"failures": 1, "open_seconds": 1000})
        await replace(clock, poller, same, MadeUp(clock, "well", interval_seconds=10))
        assert value(poller.samples(), "desk_source_breaker_open", "venue") == 0
        await seconds(clock, 5)
    assert source.begun == [0, 7, 12]
    assert well.begun == [0, 10]


async def test_a_reload_asks_no_venue_that_asked_to_be_left_alone() -> None:
    """A ban is not shortened by SIGHUP."""
    clock = ManualClock()
    settings: dict[str, Any] = {"interval_seconds": 5, "breaker": {"failures": 1, "open_seconds": 100}}
    source = MadeUp(clock, **settings)
    source.behaviour = lambda: raises(Retryable("banned", reason=Reason.RATE_LIMITED, retry_after_seconds=20))
    async with polling(clock, source) as poller:
        await seconds(clock, 7)
        await replace(clock, poller, MadeUp(clock, **settings))
        await seconds(clock, 20)
    assert source.begun == [0, 20]


async def test_an_old_fetch_that_does_not_end_holds_up_no_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled, waited for a moment, and left; the log says so. The others change at once."""
    monkeypatch.setattr("exporter.poller.CANCEL_SECONDS", 0.02)
    clock = ManualClock()
    stubborn, release, other = MadeUp(clock, "stubborn"), asyncio.Event(), MadeUp(clock, "other", token="second")

    async def does_not_end() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    stubborn.behaviour = does_not_end
    new = MadeUp(clock, "stubborn", token="second")
    with capture_logs() as logs:
        async with polling(clock, stubborn, MadeUp(clock, "other")) as poller:
            replacing = asyncio.ensure_future(poller.replace([new, other]))
            await clock.advance(0)
            assert (len(other.begun), new.begun) == (1, [])
            await replacing
            await clock.advance(0)
            assert len(new.begun) == 1
            release.set()
            await clock.advance(0)
    assert stubborn.closed
    assert [each["source"] for each in logs if each["log_level"] == "error"] == ["stubborn"]


async def test_replacing_while_an_operator_fetches_ends_that_fetch() -> None:
    """It answers what became of it; one that waited for it asks the new source."""
    clock = ManualClock()
    old, new = MadeUp(clock), MadeUp(clock, token="second")
    async with polling(clock, old) as poller:
        old.behaviour = hangs
        first = asyncio.ensure_future(poller.inspect("venue"))
        await clock.advance(0)
        second = asyncio.ensure_future(poller.inspect("venue"))
        await clock.advance(0)
        await replace(clock, poller, new)
        assert (await first).last_error == "the fetch cancelled itself"
        assert (await second).source is new
        assert (old.running, old.closed) == (0, True)


async def test_replacing_a_name_that_went_makes_a_waiting_operators_fetch_fail() -> None:
    """No such source any more."""
    clock = ManualClock()
    old = MadeUp(clock)
    async with polling(clock, old) as poller:
        old.behaviour = hangs
        asking = [asyncio.ensure_future(poller.inspect("venue")) for _ in range(2)]
        await clock.advance(0)
        await replace(clock, poller, MadeUp(clock, "other"))
        with pytest.raises(KeyError):
            await asking[1]
        await asking[0]


async def test_replacing_again_and_again_leaves_one_task_and_one_open_source() -> None:
    """Every object made is closed in the end, however quickly the reloads follow one another."""
    clock = ManualClock()
    made = [MadeUp(clock, token=str(turn // 2)) for turn in range(40)]
    tasks = len(asyncio.all_tasks())
    async with polling(clock, made[0]) as poller:
        during = len(asyncio.all_tasks())
        await asyncio.gather(*(poller.replace([each]) for each in made[1:]))
        await clock.advance(0)
        assert len(asyncio.all_tasks()) == during
        assert [each for each in made if not each.closed] == [made[-2]]
        assert held(feed(poller))[1] == Decimal(len(made[-2].begun))
    assert len(asyncio.all_tasks()) == tasks
    assert all(each.closed for each in made)


async def test_replacing_before_the_first_fetch_is_taken_up_by_run() -> None:
    """A reload that comes early is not lost."""
    clock = ManualClock()
    old, new = MadeUp(clock, "old"), MadeUp(clock, "new")
    poller = Poller([old], clock)
    await poller.replace([new])
    running = asyncio.ensure_future(poller.run())
    await clock.advance(0)
    assert (old.closed, old.begun, len(new.begun)) == (True, [], 1)
    running.cancel()
    await asyncio.wait({running})
    assert new.closed


async def test_all_tried_does_not_wait_for_a_source_that_went() -> None:
    """The first cycle begins once those there are have been tried."""
    clock = ManualClock()
    slow, quick = MadeUp(clock, "slow"), MadeUp(clock, "quick")
    slow.behaviour = hangs
    async with polling(clock, slow, quick) as poller:
        await replace(clock, poller, MadeUp(clock, "quick"))
        async with asyncio.timeout(1):
            await poller.all_tried()


async def test_ending_in_the_middle_of_a_replacement_closes_old_and_new() -> None:
    """SIGTERM right after SIGHUP."""
    clock = ManualClock()
    old, new = MadeUp(clock), MadeUp(clock, token="second")
    old.behaviour = hangs
    async with polling(clock, old) as poller:
        slow = asyncio.Event()
        old.close = lambda: _closes_when(old, slow)  # type: ignore[method-assign]
        replacing = asyncio.ensure_future(poller.replace([new]))
        await clock.advance(0)
        asyncio.get_running_loop().call_later(0.05, slow.set)
    assert (old.running, old.closed, new.closed) == (0, True, True)
    await replacing


async def _closes_when(source: MadeUp, event: asyncio.Event) -> None:
    await event.wait()
    source.closed = True


async def test_a_poller_left_without_sources_takes_up_new_ones() -> None:
    """It does not end."""
    clock = ManualClock()
    new = MadeUp(clock)
    async with polling(clock, MadeUp(clock, "old")) as poller:
        await replace(clock, poller)
        assert poller.feeds() == ()
        await seconds(clock, 5)
        await replace(clock, poller, new)
        assert new.begun == [5]
