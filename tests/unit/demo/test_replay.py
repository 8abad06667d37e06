"""The days pass as scheduled, the date before the books, and no day is left before its gates."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from deskwatch.clock import ManualClock
from deskwatch.demo.database import TradingDatabase
from deskwatch.demo.desk import BOOKS, FIRST_DAY, FRANC_BREAK
from deskwatch.demo.rates import Rates
from deskwatch.demo.replay import SLOWER, Replay, Schedule
from deskwatch.demo.trading import Trading, Update


class Recorder(TradingDatabase):
    """Remembers what the date file said when each update came."""

    def __init__(self, date_file: Path) -> None:
        self.file = date_file
        self.seen: list[tuple[dt.date, str]] = []

    def record(self, update: Update) -> None:
        """Note instead of writing."""
        self.seen.append((update.day, self.file.read_text().strip()))


async def drive(clock: ManualClock, running: asyncio.Task[None], seconds: float = 60.0) -> None:
    """Let so much time pass, or less where the task ends before."""
    for _ in range(int(seconds / 0.25)):
        await clock.advance(0.25)
        if running.done():
            return


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    """A database that only takes notes."""
    return Recorder(tmp_path / "date")


def replay_of(rates: Rates, recorder: Recorder, last_day: dt.date, clock: ManualClock) -> Replay:
    """A replay from the first day at two days a second."""
    trading = Trading(BOOKS, rates, rates.index(FIRST_DAY))
    trading.track_record()
    return Replay(trading, recorder, recorder.file, Schedule(2.0), last_day, clock)


def test_days_around_the_break_last_longer() -> None:
    """Two days a second elsewhere, six seconds a day from 2015-01-13 to the Monday after."""
    schedule = Schedule(2.0)
    assert schedule.seconds(FIRST_DAY) == 0.5
    assert schedule.seconds(FRANC_BREAK) == SLOWER / 2
    slow = [day for day in (dt.date(2015, 1, number) for number in range(1, 32)) if schedule.is_slow(day)]
    assert (slow[0], slow[-1]) == (dt.date(2015, 1, 13), dt.date(2015, 1, 19))


def test_the_break_comes_within_a_minute_and_the_slow_days_end_soon_after(rates: Rates) -> None:
    """At the default speed the replay reaches 2015-01-15 in 45 s and 2015-01-20 in another half minute, reactions apart."""
    schedule = Schedule(2.0)

    def until(day: dt.date) -> float:
        return sum(schedule.seconds(each) for each in rates.days if FIRST_DAY <= each < day)

    assert 30 < until(FRANC_BREAK) < 45
    assert until(dt.date(2015, 1, 20)) - until(FRANC_BREAK) < 30


async def test_rates_become_visible_before_the_books_that_traded_at_them(rates: Rates, recorder: Recorder) -> None:
    """The exporter may see yesterday's positions at today's rates, never today's positions at yesterday's."""
    clock = ManualClock()
    replay = replay_of(rates, recorder, dt.date(2014, 11, 6), clock)
    running = asyncio.create_task(replay.run(()))
    await drive(clock, running)
    await running
    days = [dt.date(2014, 11, 4), dt.date(2014, 11, 5), dt.date(2014, 11, 6)]
    assert recorder.seen == [(day, day.isoformat()) for day in days]
    assert replay.day == days[-1]


async def test_a_day_is_not_left_before_its_gates_open(rates: Rates, recorder: Recorder) -> None:
    """The desk deals with a breach on the day it happens, however long that takes."""
    clock, opened, asked = ManualClock(), asyncio.Event(), []

    async def gate(day: dt.date) -> None:
        asked.append(day)
        await opened.wait()

    replay = replay_of(rates, recorder, dt.date(2014, 11, 5), clock)
    running = asyncio.create_task(replay.run((gate,)))
    await drive(clock, running)
    assert asked == [FIRST_DAY]
    assert recorder.seen == []
    opened.set()
    await drive(clock, running)
    await running
    assert asked == [FIRST_DAY, dt.date(2014, 11, 4), dt.date(2014, 11, 5)]


async def test_the_replay_holds_the_last_day_of_the_rates(rates: Rates, recorder: Recorder) -> None:
    """Where no more rates are known it ends, whatever day was asked for."""
    trading = Trading(BOOKS, rates, len(rates.days) - 3)
    trading.track_record()
    clock = ManualClock()
    replay = Replay(trading, recorder, recorder.file, Schedule(2.0), dt.date(2030, 1, 1), clock)
    running = asyncio.create_task(replay.run(()))
    await drive(clock, running)
    await running
    assert replay.day == rates.days[-1]
