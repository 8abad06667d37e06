"""What the poller asks of whoever keeps daily bars, and what it shows of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from deskwatch.errors import Reason, Retryable
from exporter.poller import Poller
from exporter.snapshot import History, Snapshot
from exporter.source import Kept
from tests.unit.exporter.desks import history
from tests.unit.exporter.made_up import MadeUp, hangs, polling, raises, seconds, value

BEFORE = datetime(2025, 12, 31, tzinfo=UTC)


class Book:
    """Keeps in memory; remembers what it was asked."""

    def __init__(self, *bars: History) -> None:
        self.found = bars
        self.stale = False
        self.kept_of: list[tuple[str, Snapshot, bool]] = []
        self.fails = False

    def kept(self, source: str) -> Kept:
        """As of an earlier process."""
        return Kept(BEFORE, {each.symbol: each for each in self.found} if source == "venue" else {})

    async def keep(self, source: str, snapshot: Snapshot, *, bars: bool = True) -> None:
        """Remember it."""
        self.kept_of.append((source, snapshot, bars))
        if self.fails:
            raise OSError("disk full")

    def bars(self, source: str) -> tuple[History, ...]:
        """The same for every source that asks."""
        return self.found

    def is_stale(self, source: str) -> bool:
        """As told."""
        return self.stale

    def before(self, source: str) -> frozenset[str] | None:
        """As of an earlier process."""
        return frozenset({"AAPL"}) if source == "venue" else None


class Venue(MadeUp):
    """One with daily bars."""

    keeps_histories = True


async def test_a_source_is_told_what_is_kept_before_each_fetch() -> None:
    """Bars by symbol and the time of the last success, of an earlier process too."""
    clock, book = ManualClock(), Book(history("AAPL", [1, 2, 3]))
    source = Venue(clock, interval_seconds=1)
    async with polling(clock, source, keeper=book):
        book.found = (history("AAPL", [1, 2, 3, 4]),)
        await seconds(clock, 1)
    assert [each.succeeded_at for each in source.kept] == [BEFORE, BEFORE]
    assert [each.histories["AAPL"].closes.size for each in source.kept] == [3, 4]


async def test_the_last_success_of_an_earlier_process_is_shown_until_there_is_a_newer_one() -> None:
    """A restart does not make old data look new, nor a source that was heard yesterday one that never was."""
    clock, book = ManualClock(), Book()
    venue = Venue(clock, interval_seconds=5)
    venue.behaviour = lambda: raises(Retryable("down", reason=Reason.REFUSED))
    async with polling(clock, venue, keeper=book) as poller:
        shown = "desk_source_last_success_timestamp_seconds"
        assert value(poller.samples(), shown, "venue") == BEFORE.timestamp()
        assert poller.feeds()[0].snapshot is None
        venue.behaviour = None
        await seconds(clock, 1)
        assert value(poller.samples(), shown, "venue") == clock.now().timestamp()


async def test_without_a_keeper_a_source_is_told_its_last_success_in_this_process() -> None:
    """None before the first."""
    clock = ManualClock()
    source, first = MadeUp(clock, interval_seconds=1), clock.now()
    async with polling(clock, source) as poller:
        await seconds(clock, 1)
        assert [each.succeeded_at for each in source.kept] == [None, first]
        assert poller.feeds()[0].kept is None


async def test_every_good_fetch_is_kept_and_no_failed_one() -> None:
    """Of a source without bars too: the time of its success outlives the process."""
    clock, book = ManualClock(), Book()
    venue, database = Venue(clock, interval_seconds=1), MadeUp(clock, "database", interval_seconds=2)
    async with polling(clock, venue, database, keeper=book) as poller:
        venue.behaviour = lambda: raises(Retryable("down", reason=Reason.REFUSED))
        await clock.advance(1)
        await clock.advance(1)
        assert [(name, bars) for name, _, bars in book.kept_of] == [("venue", True), ("database", False), ("database", False)]
        assert book.kept_of[-1][1] is poller.sources["database"].snapshot


async def test_the_bars_kept_are_shown_before_the_first_fetch() -> None:
    """And whether they are too old, apart from the snapshot's age; only of a source that has bars."""
    clock, book = ManualClock(), Book(history("AAPL", [1, 2, 3]))
    venue = Venue(clock)
    venue.behaviour = hangs
    async with polling(clock, venue, MadeUp(clock, "database"), keeper=book) as poller:
        of_venue, of_database = poller.feeds()
        assert (of_venue.snapshot, of_venue.stale, of_venue.kept, of_venue.kept_stale) == (None, True, book.found, False)
        assert (of_venue.before, of_database.before) == ({"AAPL"}, None)
        assert (of_database.kept, of_database.kept_stale) == (None, False)
        assert poller.feeds()[0].kept is of_venue.kept
        book.stale = True
        assert poller.feeds()[0].kept_stale


async def test_what_cannot_be_kept_is_logged_and_counts_all_the_same() -> None:
    """A full disk does not stop the reading of positions."""
    clock, book = ManualClock(), Book()
    book.fails = True
    source = Venue(clock, interval_seconds=1)
    with capture_logs() as logs:
        async with polling(clock, source, keeper=book) as poller:
            await seconds(clock, 3)
            assert (poller.sources["venue"].up, poller.feeds()[0].stale) == (True, False)
    assert len(source.begun) == 4
    assert [each["source"] for each in logs if each["log_level"] == "error"] == ["venue"] * 4


async def test_the_first_reading_waits_until_the_first_bars_are_kept() -> None:
    """A desk whose prices come from its venue alone has its numbers in the first reading."""
    clock, kept = ManualClock(), asyncio.Event()

    class Slow(Book):
        async def keep(self, source: str, snapshot: Snapshot, *, bars: bool = True) -> None:
            await kept.wait()

    poller = Poller([Venue(clock)], clock, keeper=Slow())
    running = asyncio.ensure_future(poller.run())
    tried = asyncio.ensure_future(poller.all_tried())
    await clock.advance(0)
    assert poller.feeds()[0].snapshot is not None
    assert not tried.done()
    kept.set()
    await clock.advance(0)
    assert tried.done()
    running.cancel()
    await asyncio.wait({running})
