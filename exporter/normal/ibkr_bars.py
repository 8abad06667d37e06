"""IBKR's daily bars: which contracts to ask about now, and the answers as price histories.

The whole history of what is new, an overlap of a few days of what is kept, and nothing while no newer day can have ended; a day
that has not appeared is wanted once an hour. One contract a call, so a large book takes several fetches: what has been answered
stays until it is kept, should a fetch end early. Bars are adjusted for splits, not for dividends. Refuses days not over in UTC.
Source: IBKR Campus, Web API v1.0, "Historical Market Data".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable
from exporter import cells
from exporter.normal.ibkr_records import epoch, same_unit
from exporter.records import Fields, Sheet
from exporter.snapshot import History

OVERLAP_DAYS = 5
"""Kept days that are asked for again: they show whether the past has been adjusted."""
ASK_AGAIN_SECONDS = 3600.0
"""Time between two questions for a day that should be there and is not: a holiday, a halted share, a contract without bars."""
RETRY_SECONDS = 300.0
"""After a question about one contract that failed."""
MOST_FAILURES = 2
"""In a row: then it is not the contract."""
SLACK = timedelta(days=10)
"""A kept history that begins so much later than wanted is asked for whole, once: `history_days` may have been raised."""
MOST_DAYS = 1000
"""Of one answer."""
MOST_ANSWERS = 12
"""Of one history: enough for thirty years of trading days."""
SESSION_LEAD = timedelta(hours=4)
"""A bar is stamped with the beginning of its session. In Sydney and for currencies that is the evening before, in UTC: from
20:00 on a session is the next day's. No market's regular hours begin between 20:00 UTC and the end of its own UTC day."""
SATURDAY = 5

Ask: TypeAlias = Callable[[int, int, str, str | None], Awaitable[list[Any] | None]]
"""Bars of a contract: id, days back, `Trades` or `Midpoint`, until when; None where no more may be asked for now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One history.

    Args:
        symbol: what it is called here.
        currency: what its closes are in.
        conid: the contract.
        source: `Trades`, or `Midpoint` for currencies.
        inverse: the contract prices the currency in the symbol: closes are 1 over its own.
        magnifier: by what its prices are divided.
        weekends: whether it trades on Saturdays and Sundays too.
        mark: its price now, where it is held: bars of another unit are refused.
    """

    symbol: str
    currency: str
    conid: int
    source: str = "Trades"
    inverse: bool = False
    magnifier: Decimal = Decimal(1)
    weekends: bool = False
    mark: Decimal | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """When a history was last asked for: monotonic time, the newest day that had ended, whether all of it was wanted."""

    at: float
    ended: date
    whole: bool


class DailyBars:
    """The histories of one login's contracts.

    Args:
        clock: when days end, and when to ask again.
        history_days: calendar days wanted.
        ask: asks for bars.
    """

    def __init__(self, clock: Clock, *, history_days: int, ask: Ask) -> None:
        self._clock = clock
        self._history_days = history_days
        self._ask = ask
        self._asked: dict[str, _Asked] = {}
        self._not_before: dict[str, float] = {}
        self._fetched: dict[str, History] = {}
        self._given: tuple[History, ...] = ()
        self.pending = 0
        """Histories that are due and could not be asked for yet."""

    async def read(self, wanted: Sequence[Wanted], kept: Mapping[str, History], sheet: Sheet, until: float) -> None:
        """Ask for what is due, for as long as the limit and the time allow: never beyond `until` on the monotonic clock.

        Raises:
            Retryable: the session has gone, or we are in the penalty box; anything else concerns one contract only.
        """
        due = [(each, start) for each in wanted if (start := self._start(each, kept.get(each.symbol))) is not None]
        self.pending, failures = len(due), 0
        for each, start in due:
            if self._clock.monotonic() >= until or failures == MOST_FAILURES:
                break
            try:
                closes = await self._closes(each, start, sheet)
            except (Retryable, Permanent) as error:
                if error.reason in (Reason.AUTH, Reason.RATE_LIMITED):
                    raise
                failures += 1
                self._not_before[each.symbol] = self._clock.monotonic() + RETRY_SECONDS
                sheet.reject("histories", f"bars of {each.symbol}: {error}"[: cells.MAX_TEXT], error.reason.value)
                continue
            if closes is None:
                break
            failures = 0
            self._take(each, start, closes, sheet)
            self.pending -= 1

    def give(self, wanted: Iterable[Wanted], kept: Mapping[str, History]) -> tuple[History, ...]:
        """What has been read and is not kept yet; the same tuple while nothing changed."""
        symbols = {each.symbol for each in wanted}
        for symbol, history in list(self._fetched.items()):
            if symbol not in symbols or _covers(kept.get(symbol), history):
                del self._fetched[symbol]
        self._asked = {symbol: asked for symbol, asked in self._asked.items() if symbol in symbols}
        given = tuple(self._fetched.values())
        if [id(each) for each in given] != [id(each) for each in self._given]:
            self._given = given
        return self._given

    def _today(self) -> date:
        return self._clock.now().astimezone(UTC).date()

    def _start(self, wanted: Wanted, kept: History | None) -> date | None:
        """The first day to ask for now, None where nothing is due."""
        if self._clock.monotonic() < self._not_before.get(wanted.symbol, 0.0):
            return None
        today = self._today()
        ended = _last_day(today, weekends=wanted.weekends)
        first = today - timedelta(days=self._history_days)
        asked = self._asked.get(wanted.symbol)
        known = kept if kept is not None and kept.currency == wanted.currency and kept.days.size else None
        short = known is not None and _day(known, 0) > first + SLACK and (asked is None or not asked.whole)
        whole = known is None or short
        have = known or (self._fetched.get(wanted.symbol) if asked is not None and asked.whole else None)
        if have is not None and _day(have, -1) >= ended and not short:
            return None
        hour_over = asked is None or self._clock.monotonic() - asked.at >= ASK_AGAIN_SECONDS
        if asked is not None and (asked.whole or not whole) and asked.ended == ended and not hour_over:
            return None
        if known is None or whole:
            return first
        return _day(known, -min(OVERLAP_DAYS, known.days.size))

    async def _closes(self, wanted: Wanted, start: date, sheet: Sheet) -> dict[date, Decimal] | None:
        """Closes from `start` on, of days that are over, one answer of at most 1000 bars after the other, backwards.

        None where the first of them cannot be asked for now.
        """
        today, found, until = self._today(), dict[date, Decimal](), None
        for _ in range(MOST_ANSWERS):
            days = (min(found, default=today) - start).days + 1
            rows = await self._ask(wanted.conid, min(days, MOST_DAYS), wanted.source, until)
            if rows is None:
                return None
            bars = await asyncio.to_thread(sheet.read, "histories", rows, _bar)
            older = {_day_of(at): close for at, close in bars if _day_of(at) < min(found, default=today)}
            found |= older
            if days <= MOST_DAYS or not older or min(found) <= start:
                break
            until = min(at for at, _ in bars).strftime("%Y%m%d-%H:%M:%S")
        return {day: close for day, close in found.items() if day >= start}

    def _take(self, wanted: Wanted, start: date, closes: Mapping[date, Decimal], sheet: Sheet) -> None:
        today = self._today()
        ended = _last_day(today, weekends=wanted.weekends)
        whole = start == today - timedelta(days=self._history_days)
        self._asked[wanted.symbol] = _Asked(self._clock.monotonic(), ended, whole)
        self._fetched.pop(wanted.symbol, None)
        if not closes:
            return
        days = sorted(closes)
        prices = [closes[day] / wanted.magnifier for day in days]
        if wanted.mark is not None and not same_unit(prices[-1], wanted.mark):
            sheet.reject("histories", f"bars of {wanted.symbol}: {prices[-1]:g}, marked at {wanted.mark}", "unknown_unit")
            return
        values = np.array(prices, dtype=np.float64)
        values = 1.0 / values if wanted.inverse else values
        history = History(wanted.symbol, wanted.currency, np.array(days, "datetime64[D]"), values)
        history.days.setflags(write=False)
        history.closes.setflags(write=False)
        self._fetched[wanted.symbol] = history


def _covers(kept: History | None, history: History) -> bool:
    if kept is None or kept.currency != history.currency or not kept.days.size:
        return False
    return bool(kept.days[-1] >= history.days[-1] and kept.days[0] <= history.days[0])


def _bar(fields: Fields) -> tuple[datetime, Decimal]:
    return fields.get("t", epoch), fields.get("c", cells.positive)


def _day_of(at: datetime) -> date:
    return (at + SESSION_LEAD).date()


def _last_day(today: date, *, weekends: bool) -> date:
    """The newest day that is over and may have a bar."""
    ended = today - timedelta(days=1)
    return ended if weekends else ended - timedelta(days=max(0, ended.weekday() - SATURDAY + 1))


def _day(history: History, place: int) -> date:
    found: date = history.days[place].astype("datetime64[D]").astype(date)
    return found
