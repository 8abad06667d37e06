"""Which daily bars are asked for, and when: days that have ended, an overlap of what is kept, and nothing twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from deskwatch.clock import ManualClock
from deskwatch.venues.alpaca_data import PAIRS, SHARES
from exporter.history import merge
from exporter.normal.alpaca_bars import DailyBars, Question
from exporter.records import Sheet
from exporter.snapshot import History
from tests.stand_ins.alpaca import bar, midnights

NOW = datetime(2026, 1, 7, 15, tzinfo=UTC)
"""A Wednesday, ten in the morning in New York."""
TUESDAY = date(2026, 1, 6)
DAYS = 100


class Desk:
    """The bars, a venue that has some, and a keeper that keeps them unless it is switched off."""

    def __init__(self, *symbols: str, keeps: bool = True, kept: Mapping[str, History] | None = None) -> None:
        self.clock = ManualClock(NOW)
        self.bars = DailyBars(self.clock, history_days=DAYS)
        self.symbols = dict.fromkeys(symbols or ("AAPL",), "USD")
        self.kept: dict[str, History] = dict(kept or {})
        self.keeps = keeps
        self.venue: dict[str, list[dict[str, Any]]] = {
            symbol: [bar(at, 100.0 + n) for n, at in enumerate(midnights(TUESDAY, 60, pair="/" in symbol))]
            for symbol in self.symbols
        }
        self.given: tuple[History, ...] = ()

    def fetch(self) -> list[Question]:
        """One fetch; what was asked."""
        questions = self.bars.due(self.symbols, self.kept)
        for question in questions:
            first, last = question.span(self.clock.now())
            found = {
                symbol: [each for each in self.venue.get(symbol, []) if first <= datetime.fromisoformat(each["t"]) <= last]
                for symbol in question.symbols
            }
            self.bars.take(question, {symbol: rows for symbol, rows in found.items() if rows}, Sheet())
        given = self.bars.give(self.symbols, self.kept)
        if self.keeps and given is not self.given:
            for history in given:
                merged, adjusted = merge(self.kept.get(history.symbol), history)
                self.kept[history.symbol] = merged
                if adjusted:
                    del self.kept[history.symbol]  # as the keeper no longer offers it
        self.given = given
        return questions

    async def wait(self, **time: float) -> None:
        """Let time pass."""
        await self.clock.advance(timedelta(**time).total_seconds())

    def add_day(self, day: date, close: float) -> None:
        """The venue has a new bar."""
        for symbol, rows in self.venue.items():
            rows.append(bar(midnights(day, 1, pair="/" in symbol)[0], close))


def last_days(history: History) -> tuple[date, date]:
    """First and last day."""
    found: tuple[date, date] = (history.days[0].astype(date), history.days[-1].astype(date))
    return found


def test_what_is_new_is_asked_for_whole() -> None:
    """All days wanted, up to the last that has ended in New York; symbols together."""
    desk = Desk("AAPL", "BRK.B")
    asked = desk.fetch()
    assert asked == [Question(SHARES, "USD", TUESDAY, TUESDAY - timedelta(days=DAYS), True, ("AAPL", "BRK.B"))]
    assert [each.symbol for each in desk.given] == ["AAPL", "BRK.B"]
    history = desk.given[0]
    assert history.closes.tolist() == [100.0 + n for n in range(60)]
    assert (history.currency, last_days(history)[1]) == ("USD", TUESDAY)
    assert history.days.dtype == np.dtype("datetime64[D]")
    assert history.closes.dtype == np.float64


async def test_nothing_is_asked_while_no_newer_day_has_ended() -> None:
    """Not at the next fetch, not in the evening; and what is kept is not delivered again."""
    desk = Desk()
    desk.fetch()
    assert desk.fetch() == []
    assert desk.given == ()
    await desk.wait(hours=13)
    assert desk.fetch() == []


async def test_a_bar_still_being_made_is_no_close() -> None:
    """Whatever the venue sends: today's is left out until midnight in New York."""
    desk = Desk()
    today = bar(midnights(NOW.date(), 1)[0], 999)
    question = desk.bars.due(desk.symbols, {})[0]
    desk.bars.take(question, {"AAPL": [*desk.venue["AAPL"], today]}, Sheet())
    assert last_days(desk.bars.give(desk.symbols, {})[0])[1] == TUESDAY
    await desk.wait(hours=13, minutes=59)
    assert desk.bars.due(desk.symbols, {}) == []
    await desk.wait(minutes=1)
    assert desk.bars.due(desk.symbols, {})[0].ended == NOW.date()


async def test_of_what_is_kept_a_few_days_are_asked_for_again() -> None:
    """Five kept days before the new one; only those rows are delivered."""
    desk = Desk()
    desk.fetch()
    desk.add_day(NOW.date(), 170)
    await desk.wait(hours=24)
    assert desk.fetch() == [Question(SHARES, "USD", NOW.date(), date(2025, 12, 31), False, ("AAPL",))]
    assert desk.given[0].closes.tolist() == [155, 156, 157, 158, 159, 170]
    assert desk.kept["AAPL"].closes.size == 61
    desk.fetch()
    assert desk.given == ()


async def test_a_day_that_has_not_appeared_is_asked_for_once_an_hour() -> None:
    """A holiday, a halted share; a newer day that ends meanwhile is asked for at once."""
    desk = Desk()
    desk.fetch()
    await desk.wait(hours=14, minutes=30)
    assert len(desk.fetch()) == 1
    await desk.wait(minutes=59)
    assert desk.fetch() == []
    await desk.wait(minutes=1)
    assert len(desk.fetch()) == 1
    await desk.wait(hours=22)
    assert len(desk.fetch()) == 1, "an hour was over long ago"
    await desk.wait(minutes=30)
    assert [question.ended for question in desk.fetch()] == [date(2026, 1, 8)]


async def test_shares_have_no_bars_at_weekends_and_pairs_have() -> None:
    """On Sunday Friday's bar is the newest of a share: there is nothing to ask for."""
    desk = Desk("AAPL", "BTC/USD")
    for day in range(7, 11):
        desk.add_day(date(2026, 1, day), 200 + day)
    desk.venue["AAPL"] = desk.venue["AAPL"][:-1]
    await desk.wait(days=3)
    assert {question.market: question.ended for question in desk.fetch()} == {SHARES: date(2026, 1, 9), PAIRS: date(2026, 1, 9)}
    await desk.wait(days=1)
    assert [(question.market, question.ended) for question in desk.fetch()] == [(PAIRS, date(2026, 1, 10))]
    assert last_days(desk.kept["BTC/USD"])[1] == date(2026, 1, 10)


def test_days_end_where_the_market_is() -> None:
    """At 05:30 UTC it is tomorrow in New York and still today in Chicago, where days of pairs begin."""
    desk = Desk("AAPL", "BTC/USD")
    desk.clock.jump((datetime(2026, 1, 8, 5, 30, tzinfo=UTC) - NOW).total_seconds())
    assert {question.market: question.ended for question in desk.fetch()} == {SHARES: NOW.date(), PAIRS: TUESDAY}


@pytest.mark.parametrize("moment", [datetime(2026, 7, 7, 4, 5, tzinfo=UTC), datetime(2026, 1, 7, 5, 5, tzinfo=UTC)])
def test_no_more_is_asked_than_every_plan_may_see(moment: datetime) -> None:
    """The consolidated feed is open up to 15 minutes before now, also five minutes after midnight, in summer and in winter."""
    desk = Desk()
    desk.clock.jump((moment - NOW).total_seconds())
    question = desk.bars.due(desk.symbols, {})[0]
    last = question.span(moment)[1]
    assert last == moment - timedelta(minutes=16)
    assert datetime.fromisoformat(midnights(question.ended, 1)[0]) < last
    later = question.span(moment + timedelta(hours=8))[1]
    assert later < datetime.fromisoformat(midnights(moment.date(), 1)[0])


async def test_a_changed_past_is_fetched_whole_at_once() -> None:
    """A split shows in the overlap: the keeper offers the symbol no more, and all of it is asked for, not an hour later."""
    desk = Desk()
    desk.fetch()
    desk.add_day(NOW.date(), 170)
    desk.venue["AAPL"] = [replace_close(each, each["c"] / 2) for each in desk.venue["AAPL"]]
    await desk.wait(hours=24)
    assert [question.whole for question in desk.fetch()] == [False]
    assert [question.whole for question in desk.fetch()] == [True]
    assert desk.kept["AAPL"].closes.tolist() == [each["c"] for each in desk.venue["AAPL"]]
    assert desk.fetch() == []


def replace_close(row: dict[str, Any], close: float) -> dict[str, Any]:
    """The bar with another close."""
    return {**row, "c": close}


async def test_without_a_keeper_every_delivery_is_whole() -> None:
    """The snapshot's own histories count then; the same tuple while nothing changed."""
    desk = Desk(keeps=False)
    desk.fetch()
    first = desk.given
    assert desk.fetch() == []
    assert desk.given is first
    desk.add_day(NOW.date(), 170)
    await desk.wait(hours=24)
    assert [question.whole for question in desk.fetch()] == [True]
    assert desk.given[0].closes.size == 61


def test_a_restart_asks_for_nothing_that_is_kept() -> None:
    """What an earlier process kept is as good as one's own."""
    desk = Desk()
    desk.fetch()
    again = Desk(kept=desk.kept)
    again.bars = DailyBars(again.clock, history_days=80)
    assert again.fetch() == []
    assert again.given == ()


def test_more_history_days_than_kept_are_asked_for_once() -> None:
    """Raised in the configuration; where the venue has no more, it is not asked every time."""
    desk = Desk()
    desk.fetch()
    desk.bars = DailyBars(desk.clock, history_days=500)
    assert [(question.whole, question.start) for question in desk.fetch()] == [(True, TUESDAY - timedelta(days=500))]
    assert desk.fetch() == []


async def test_a_young_share_is_asked_for_whole_once_only() -> None:
    """Its history begins later than wanted, and always will."""
    desk = Desk()
    desk.venue["AAPL"] = desk.venue["AAPL"][-10:]
    desk.fetch()
    desk.add_day(NOW.date(), 170)
    await desk.wait(hours=24)
    assert [question.whole for question in desk.fetch()] == [False]
    assert desk.fetch() == []
    restarted = Desk(kept=desk.kept)
    restarted.venue = desk.venue
    restarted.clock.jump(24 * 3600)
    assert [question.whole for question in restarted.fetch()] == [True]
    assert restarted.fetch() == []


async def test_a_symbol_without_bars_is_asked_for_once_an_hour() -> None:
    """And has no history; one no longer wanted is forgotten."""
    desk = Desk("AAPL", "NONE")
    desk.venue["NONE"] = []
    desk.fetch()
    assert [each.symbol for each in desk.given] == ["AAPL"]
    assert desk.fetch() == []
    await desk.wait(hours=1)
    assert [question.symbols for question in desk.fetch()] == [("NONE",)]
    desk.symbols = {"NONE": "USD"}
    assert desk.fetch() == []


def test_another_currency_is_another_history() -> None:
    """What is kept in dollars says nothing of closes in euro."""
    desk = Desk()
    desk.fetch()
    desk.symbols = {"AAPL": "EUR"}
    desk.bars = DailyBars(desk.clock, history_days=DAYS)
    assert [(question.currency, question.whole) for question in desk.bars.due(desk.symbols, desk.kept)] == [("EUR", True)]


def test_a_fetch_cut_short_goes_on_from_there() -> None:
    """Portions of a page each; what has been answered is not asked for again."""
    desk = Desk(*(f"S{n}" for n in range(250)))
    questions = desk.bars.due(desk.symbols, {})
    assert [len(question.symbols) for question in questions] == [99, 99, 52]
    desk.bars.take(questions[0], {}, Sheet())
    assert [question.symbols[0] for question in desk.bars.due(desk.symbols, {})] == ["S99", "S198"]


def test_a_bar_that_cannot_be_read_costs_its_day_only() -> None:
    """Counted; a day that comes twice is one day, the last word counts."""
    desk = Desk()
    good = desk.venue["AAPL"][-3:]
    sheet = Sheet()
    rows = [good[2], {"t": good[0]["t"]}, {"t": "x", "c": 1}, bar(good[1]["t"], 0), good[0], bar(good[2]["t"], 7)]
    desk.bars.take(desk.bars.due(desk.symbols, {})[0], {"AAPL": rows}, sheet)
    history = desk.bars.give(desk.symbols, {})[0]
    assert history.closes.tolist() == [157.0, 7.0]
    assert [each.reason for each in sheet.rejected] == ["missing", "not_a_time", "not_positive"]
    assert {each.kind for each in sheet.rejected} == {"histories"}


def test_a_question_is_asked_as_it_stands() -> None:
    """Start and end in the market's own midnights."""
    question = Question(PAIRS, "USD", TUESDAY, date(2025, 7, 1), True)
    assert question.span(NOW) == (datetime(2025, 7, 1, 5, tzinfo=UTC), datetime(2026, 1, 7, 5, 59, 59, tzinfo=UTC))
    assert replace(question, market=SHARES).span(NOW)[0] == datetime(2025, 7, 1, 4, tzinfo=UTC)
