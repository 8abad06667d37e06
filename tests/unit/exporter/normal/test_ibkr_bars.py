"""IBKR's daily bars: whole histories once, an overlap after, nothing twice, and never a day that is not over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent, Reason, Retryable
from exporter.normal.ibkr_bars import ASK_AGAIN_SECONDS, RETRY_SECONDS, DailyBars, Wanted
from exporter.records import Sheet
from exporter.snapshot import History
from tests.stand_ins.ibkr_bodies import milliseconds, weekdays

WEDNESDAY = datetime(2026, 3, 4, 15, tzinfo=UTC)
AAPL = Wanted("AAPL", "USD", 265598)
SPY = Wanted("SPY", "USD", 756733)
HOUR = timedelta(hours=1)
Question = tuple[int, int, str, str | None]


class Venue:
    """Answers with bars of its own from their beginnings, as IBKR does: so many days back from a moment, 1000 at most."""

    def __init__(self, **bars: Sequence[tuple[datetime, float]]) -> None:
        self.bars: dict[int, Sequence[tuple[datetime, float]]] = {int(name[1:]): found for name, found in bars.items()}
        self.questions: list[Question] = []
        self.failures: dict[int, Exception] = {}
        self.limit = 1000

    async def ask(self, conid: int, days: int, source: str, until: str | None) -> list[Any] | None:
        """One call."""
        if len(self.questions) >= self.limit:
            return None
        self.questions.append((conid, days, source, until))
        if conid in self.failures:
            raise self.failures[conid]
        bars = self.bars[conid]
        end = datetime.strptime(until, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC) if until else bars[-1][0]
        chosen = [each for each in bars if end - timedelta(days=days) <= each[0] <= end][-1000:]
        return [{"o": 1, "h": 1, "l": 1, "c": close, "v": 0, "t": milliseconds(at)} for at, close in chosen]


class Desk:
    """Bars, their venue, the time, and what is kept."""

    def __init__(self, venue: Venue, at: datetime = WEDNESDAY, history_days: int = 30) -> None:
        self.venue = venue
        self.clock = ManualClock(at)
        self.bars = DailyBars(self.clock, history_days=history_days, ask=venue.ask)
        self.kept: dict[str, History] = {}
        self.sheet = Sheet()

    async def read(self, *wanted: Wanted, keep: bool = False, seconds: float = 10.0) -> dict[str, History]:
        """One fetch; with `keep` the exporter keeps what came."""
        chosen = wanted or (AAPL,)
        self.sheet = Sheet()
        await self.bars.read(chosen, self.kept, self.sheet, self.clock.monotonic() + seconds)
        found = {each.symbol: each for each in self.bars.give(chosen, self.kept)}
        if keep:
            self.kept |= found
        return found


def apple(last: date = date(2026, 3, 4), count: int = 60, **more: Any) -> Venue:
    """One with bars of Apple up to a day."""
    return Venue(c265598=weekdays(last, count, **more))


def history(days: Sequence[str], symbol: str = "AAPL", currency: str = "USD") -> History:
    """What is kept."""
    return History(symbol, currency, np.array(days, "datetime64[D]"), np.arange(1.0, len(days) + 1.0))


def days_of(found: Mapping[str, History], symbol: str = "AAPL") -> list[str]:
    """The days of a history."""
    return [str(day) for day in found[symbol].days]


async def test_the_first_time_everything_is_asked_for() -> None:
    """History, currency and closes as told; the bar still being made is none."""
    desk = Desk(apple())
    found = await desk.read()
    assert desk.venue.questions == [(265598, 31, "Trades", None)]
    days = days_of(found)
    assert (days[0], days[-1], len(days)) == ("2026-02-02", "2026-03-03", 22)
    assert found["AAPL"].closes[-1] == desk.venue.bars[265598][-2][1]
    assert (found["AAPL"].currency, found["AAPL"].closes.dtype, found["AAPL"].days.dtype) == ("USD", np.float64, "<M8[D]")
    assert not found["AAPL"].closes.flags.writeable


async def test_nothing_is_asked_twice_in_a_day() -> None:
    """Whether what came is kept by the exporter or not."""
    for keep in (True, False):
        desk = Desk(apple())
        first = await desk.read(keep=keep)
        for _ in range(5):
            await desk.clock.advance(1.0)
            again = await desk.read(keep=keep)
            assert again == ({} if keep else first)
        assert len(desk.venue.questions) == 1


async def test_the_next_day_an_overlap_shows_whether_the_past_was_adjusted() -> None:
    """From five kept days before the newest on."""
    desk = Desk(apple())
    desk.kept = {"AAPL": history(["2026-02-03", "2026-02-24", "2026-02-25", "2026-02-26", "2026-02-27", "2026-03-02"])}
    found = await desk.read()
    assert desk.venue.questions == [(265598, 9, "Trades", None)]
    assert days_of(found)[0] == "2026-02-24"
    assert days_of(found)[-1] == "2026-03-03"


async def test_a_kept_history_of_less_than_five_days_is_asked_for_from_its_first() -> None:
    """And one that begins much later than wanted is asked for whole, once."""
    desk = Desk(apple(), history_days=5)
    desk.kept = {"AAPL": history(["2026-02-27", "2026-03-02"])}
    found = await desk.read()
    assert days_of(found)[0] == "2026-02-27"
    for newest, questions in (("2026-03-02", [61, 6]), ("2026-03-03", [61])):
        longer = Desk(apple(), history_days=60)
        longer.kept = {"AAPL": history(["2026-02-27", newest])}
        await longer.read()
        await longer.clock.advance(2 * ASK_AGAIN_SECONDS)
        await longer.read()
        assert [days for _, days, *_ in longer.venue.questions] == questions


async def test_a_day_that_has_not_appeared_is_asked_for_each_hour() -> None:
    """A holiday, a halted share; not each fetch."""
    desk = Desk(apple(date(2026, 3, 2)))
    await desk.read(keep=True)
    await desk.clock.advance(ASK_AGAIN_SECONDS - 1.0)
    await desk.read(keep=True)
    assert len(desk.venue.questions) == 1
    await desk.clock.advance(1.0)
    await desk.read(keep=True)
    assert len(desk.venue.questions) == 2


@pytest.mark.parametrize(
    ("at", "questions"),
    [
        (datetime(2026, 3, 7, 1, tzinfo=UTC), 0),
        (datetime(2026, 3, 9, 23, tzinfo=UTC), 0),
        (datetime(2026, 3, 10, 1, tzinfo=UTC), 1),
    ],
)
async def test_at_a_weekend_no_newer_day_can_have_ended(at: datetime, questions: int) -> None:
    """From Saturday to Monday night Friday is the newest; coins trade on."""
    desk = Desk(apple(date(2026, 3, 10)), at)
    desk.kept = {"AAPL": history(["2026-02-06", "2026-03-06"])}
    await desk.read()
    assert len(desk.venue.questions) == questions
    coin = Wanted("BTC", "USD", 265598, weekends=True)
    desk.kept = {"BTC": history(["2026-02-06", "2026-03-06"], "BTC")}
    await desk.read(coin)
    assert len(desk.venue.questions) == questions + (at.weekday() != 5)


@pytest.mark.parametrize(
    ("hour", "minute", "shift"), [(14, 30, 0), (0, 0, 0), (8, 0, 0), (19, 59, 0), (23, 0, 1), (22, 15, 1), (20, 0, 1)]
)
async def test_a_session_that_begins_in_the_evening_is_the_next_days(hour: int, minute: int, shift: int) -> None:
    """New York and Tokyo begin on their day, Sydney and currencies on the evening before, in UTC."""
    bars = [(datetime(2026, 3, 2, hour, minute, tzinfo=UTC), 7.0)]
    desk = Desk(Venue(c265598=bars))
    found = await desk.read()
    assert days_of(found) == [str(date(2026, 3, 2) + timedelta(days=shift))]


async def test_the_day_of_today_is_never_told() -> None:
    """Also just before midnight: only the next day says that it is over."""
    desk = Desk(apple(date(2026, 3, 4)), datetime(2026, 3, 4, 23, 59, tzinfo=UTC))
    assert days_of(await desk.read())[-1] == "2026-03-03"
    await desk.clock.advance(60.0)
    desk.bars = DailyBars(desk.clock, history_days=30, ask=desk.venue.ask)
    assert days_of(await desk.read())[-1] == "2026-03-04"


async def test_more_than_a_thousand_days_come_in_several_answers() -> None:
    """Backwards, each up to the oldest bar so far; a long history is whole."""
    desk = Desk(apple(count=1500), history_days=2000)
    found = await desk.read()
    oldest = desk.venue.bars[265598][0][0]
    assert [days for _, days, *_ in desk.venue.questions] == [1000, 1000]
    assert desk.venue.questions[1][3] == "20230608-14:30:00"
    first = WEDNESDAY.date() - timedelta(days=2000)
    assert days_of(found)[0] == str(max(first, oldest.date()))
    assert len(found["AAPL"].days) == sum(each.date() >= first for each, _ in desk.venue.bars[265598]) - 1
    assert list(found["AAPL"].days) == sorted(set(found["AAPL"].days))


async def test_a_venue_with_less_history_is_not_asked_for_ever() -> None:
    """An answer that brings nothing older is the last."""
    desk = Desk(apple(count=100), history_days=5000)
    found = await desk.read()
    assert len(desk.venue.questions) == 2
    assert len(found["AAPL"].days) == 99


async def test_an_inverse_pair_prices_the_other_currency() -> None:
    """USD.SGD at 1.25 is 0.8 dollars for one from Singapore."""
    desk = Desk(Venue(c37928772=[(datetime(2026, 3, 2, 22, 15, tzinfo=UTC), 1.25)]))
    found = await desk.read(Wanted("SGD", "USD", 37928772, source="Midpoint", inverse=True))
    assert desk.venue.questions[0][2] == "Midpoint"
    assert (days_of(found, "SGD"), found["SGD"].closes.tolist()) == (["2026-03-03"], [0.8])


async def test_bars_in_pence_are_told_in_pounds_or_refused() -> None:
    """As the magnifier says; and never in another unit than what is held."""
    venue = Venue(c35359=[(datetime(2026, 3, 2, 8, tzinfo=UTC), 71.2)])
    pence = Wanted("VOD", "GBP", 35359, magnifier=Decimal(100), mark=Decimal("0.70"))
    assert (await Desk(venue).read(pence))["VOD"].closes.tolist() == [0.712]
    wrong = Desk(venue)
    assert await wrong.read(Wanted("VOD", "GBP", 35359, mark=Decimal("0.70"))) == {}
    assert [each.reason for each in wrong.sheet.rejected] == ["unknown_unit"]


async def test_a_bar_that_cannot_be_read_leaves_the_others() -> None:
    """And is counted."""
    desk = Desk(apple(count=3))
    told = await desk.venue.ask(265598, 10, "Trades", None)
    assert told is not None
    told[0]["c"], told[1]["c"] = None, 0

    async def ask(*_: Any) -> list[Any]:
        return [*told, {"c": 5.0, "t": "?"}, None]

    desk.bars = DailyBars(desk.clock, history_days=30, ask=ask)
    assert await desk.read() == {}
    assert sorted(each.reason for each in desk.sheet.rejected) == ["missing", "not_a_number", "not_an_object", "not_positive"]


async def test_one_contract_that_fails_leaves_the_others_and_is_left_alone_a_while() -> None:
    """IBKR answers 500 for a contract without data."""
    desk = Desk(apple())
    desk.venue.failures[756733] = Retryable("No data.", reason=Reason.SERVER_ERROR)
    found = await desk.read(SPY, AAPL)
    assert set(found) == {"AAPL"}
    assert [each.reason for each in desk.sheet.rejected] == ["server_error"]
    assert desk.bars.pending == 1
    await desk.clock.advance(RETRY_SECONDS - 1.0)
    await desk.read(SPY, AAPL)
    assert [each[0] for each in desk.venue.questions] == [756733, 265598]
    await desk.clock.advance(1.0)
    await desk.read(SPY, AAPL)
    assert [each[0] for each in desk.venue.questions] == [756733, 265598, 756733]


async def test_two_failures_in_a_row_are_not_the_contracts() -> None:
    """The others are asked for with the next fetch, not one failure after the other now."""
    desk = Desk(apple())
    for number in range(5):
        desk.venue.failures[number] = Permanent("no", reason=Reason.NOT_FOUND)
    await desk.read(*(Wanted(f"S{number}", "USD", number) for number in range(5)), AAPL)
    assert [each[0] for each in desk.venue.questions] == [0, 1]
    assert desk.bars.pending == 6


@pytest.mark.parametrize("reason", [Reason.AUTH, Reason.RATE_LIMITED])
async def test_a_session_that_has_gone_ends_the_reading(reason: Reason) -> None:
    """And what was read before stays for the next fetch."""
    desk = Desk(apple())
    desk.venue.failures[756733] = Retryable("gone", reason=reason)
    with pytest.raises(Retryable):
        await desk.read(AAPL, SPY)
    assert {each.symbol for each in desk.bars.give([AAPL, SPY], {})} == {"AAPL"}


async def test_what_does_not_fit_into_the_limit_or_the_time_comes_later() -> None:
    """A large book takes several fetches; none of it is lost."""
    desk = Desk(Venue(c265598=weekdays(date(2026, 3, 4), 20), c756733=weekdays(date(2026, 3, 4), 20)))
    desk.venue.limit = 1
    assert set(await desk.read(AAPL, SPY)) == {"AAPL"}
    assert desk.bars.pending == 1
    desk.venue.limit = 2
    assert set(await desk.read(AAPL, SPY, seconds=0.0)) == {"AAPL"}
    assert set(await desk.read(AAPL, SPY)) == {"AAPL", "SPY"}
    assert desk.bars.pending == 0


async def test_the_same_histories_are_the_same_object() -> None:
    """So that the exporter sees at once that nothing is new; and what is not wanted any more is let go."""
    desk = Desk(apple())
    await desk.read()
    first = desk.bars.give([AAPL], {})
    assert desk.bars.give([AAPL], {}) is first
    assert desk.bars.give([], {}) == ()


async def test_a_history_in_another_currency_is_another_history() -> None:
    """What is kept of it is of no use."""
    desk = Desk(apple())
    desk.kept = {"AAPL": history(["2026-02-02", "2026-03-03"], currency="MXN")}
    assert len(days_of(await desk.read())) == 22
