"""Alpaca's daily bars: which days of which symbols to ask for now, and the answers as price histories.

Whole histories of what is new, an overlap of a few days of what is kept, and nothing while no newer day has ended; a day that
ended but has not appeared is wanted once an hour. What has been answered stays, so that a fetch cut short goes on from there.
Asks nothing itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from deskwatch.clock import Clock
from deskwatch.venues.alpaca_data import BARS_LIMIT, PAIRS, SHARES, Market
from exporter.records import Fields, Sheet
from exporter.snapshot import History

OVERLAP_DAYS = 5
"""Kept days that are asked for again: they show whether the venue has adjusted the past."""
ASK_AGAIN_SECONDS = 3600.0
"""Time between two questions for a day that should be there and is not: a holiday, a halted share."""
DELAY = timedelta(minutes=16)
"""The consolidated feed is open to every plan up to 15 minutes before now."""
SLACK = timedelta(days=10)
"""A kept history that begins so much later than wanted is asked for whole, once: `history_days` may have been raised."""
SYMBOLS = 200
"""Most symbols of one call."""
ZONES: Mapping[Market, str] = {SHARES: "America/New_York", PAIRS: "America/Chicago"}
"""Where the midnight is at which daily bars begin: of pairs in Chicago (github.com/alpacahq/alpaca-py/issues/169)."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """When a symbol was last asked for: monotonic time, the newest day that had ended, whether all was wanted, then or ever."""

    at: float
    ended: date
    whole: bool
    ever_whole: bool


@dataclass(frozen=True, slots=True)
class Question:
    """Symbols of one market whose closes in `currency` are wanted from day `start` to day `ended`, `whole` if that is all."""

    market: Market
    currency: str
    ended: date
    start: date = date.min
    whole: bool = False
    symbols: tuple[str, ...] = ()

    def portions(self, symbols: Sequence[str]) -> Iterator[Sequence[str]]:
        """So many symbols at a time that their bars fit on a page."""
        size = max(1, min(SYMBOLS, BARS_LIMIT // ((self.ended - self.start).days + 1)))
        for first in range(0, len(symbols), size):
            yield symbols[first : first + size]

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """The first and last moment a bar may begin at: within days that have ended, and open to every plan."""
        zone = ZoneInfo(ZONES[self.market])
        today = datetime.combine(now.astimezone(zone).date(), time(), zone)
        return datetime.combine(self.start, time(), zone), min(today - timedelta(seconds=1), now - DELAY)


class DailyBars:
    """The histories of one account's symbols.

    Args:
        clock: when days end, and when to ask again.
        history_days: calendar days wanted.
    """

    def __init__(self, clock: Clock, *, history_days: int) -> None:
        self._clock = clock
        self._history_days = history_days
        self._asked: dict[str, _Asked] = {}
        self._fetched: dict[str, History] = {}
        self._given: tuple[History, ...] = ()

    def due(self, symbols: Mapping[str, str], kept: Mapping[str, History]) -> list[Question]:
        """What to ask now, in portions of about a page.

        Args:
            symbols: symbol to the currency its closes are wanted in.
            kept: what the exporter has of them.
        """
        ended = {market: _last_trading_day(self._clock.now(), market) for market in ZONES}
        due: dict[Question, list[str]] = defaultdict(list)
        for symbol, currency in symbols.items():
            market = PAIRS if "/" in symbol else SHARES
            known = kept.get(symbol)
            if known is not None and (known.currency != currency or not known.days.size):
                known = None
            question = self._question(symbol, Question(market, currency, ended[market]), known)
            if question is not None:
                due[question].append(symbol)
        return [replace(question, symbols=tuple(some)) for question, names in due.items() for some in question.portions(names)]

    def take(self, question: Question, answer: Mapping[str, Sequence[Any]], sheet: Sheet) -> None:
        """Read the bars that came; `sheet` takes those that cannot be read."""
        today = self._clock.now().astimezone(ZoneInfo(ZONES[question.market])).date()
        found = _histories(answer, question.currency, today, sheet)
        for symbol in question.symbols:
            before = self._asked.get(symbol)
            ever_whole = question.whole or (before is not None and before.ever_whole)
            self._asked[symbol] = _Asked(self._clock.monotonic(), question.ended, question.whole, ever_whole)
            self._fetched.pop(symbol, None)
            if symbol in found:
                self._fetched[symbol] = found[symbol]

    def give(self, symbols: Mapping[str, str], kept: Mapping[str, History]) -> tuple[History, ...]:
        """What has been read of the symbols and is not kept yet; the same tuple while nothing changed."""
        self._forget(symbols, kept)
        given = tuple(self._fetched[symbol] for symbol in symbols if symbol in self._fetched)
        if [id(each) for each in given] != [id(each) for each in self._given]:
            self._given = given
        return self._given

    def _question(self, symbol: str, question: Question, known: History | None) -> Question | None:
        """From when on to ask for a symbol now, None for not at all."""
        asked = self._asked.get(symbol)
        first = question.ended - timedelta(days=self._history_days)
        short = known is not None and _day(known, 0) > first + SLACK and not (asked is not None and asked.ever_whole)
        whole = known is None or short
        have = known or (self._fetched.get(symbol) if asked is not None and asked.whole else None)
        if have is not None and _day(have, -1) >= question.ended and not short:
            return None
        if asked is not None and (asked.whole or not whole) and asked.ended == question.ended and not self._hour_over(asked):
            return None
        if known is None or whole:
            return replace(question, start=first, whole=True)
        return replace(question, start=_day(known, -min(OVERLAP_DAYS, known.days.size)))

    def _hour_over(self, asked: _Asked) -> bool:
        return self._clock.monotonic() - asked.at >= ASK_AGAIN_SECONDS

    def _forget(self, symbols: Mapping[str, str], kept: Mapping[str, History]) -> None:
        """Let go of what the exporter keeps by now and of symbols that are not wanted any more."""
        for symbol, history in list(self._fetched.items()):
            known = kept.get(symbol)
            covered = known is not None and known.days.size and known.days[-1] >= history.days[-1]
            newly = known is not None and known.days.size and known.days[0] > history.days[0]
            if symbol not in symbols or (covered and not newly):
                del self._fetched[symbol]
        self._asked = {symbol: asked for symbol, asked in self._asked.items() if symbol in symbols}


def _last_trading_day(now: datetime, market: Market) -> date:
    """The newest day that has ended where the market is and may have a bar: shares have none at weekends."""
    ended = now.astimezone(ZoneInfo(ZONES[market])).date() - timedelta(days=1)
    return ended - timedelta(days=max(0, ended.weekday() - 4)) if market is SHARES else ended


def _day(history: History, place: int) -> date:
    found: date = history.days[place].astype("datetime64[D]").astype(date)
    return found


def _histories(found: Mapping[str, Sequence[Any]], currency: str, today: date, sheet: Sheet) -> dict[str, History]:
    """Closes of days that have ended, by symbol. A bar's day is the date its midnight has in UTC: both zones are behind it."""

    def bar(fields: Fields) -> tuple[date, float] | None:
        day = fields.moment("t").astimezone(UTC).date()
        return (day, float(fields.positive("c"))) if day < today else None

    histories: dict[str, History] = {}
    for symbol, bars in found.items():
        closes = dict(sheet.read("histories", bars, bar))
        if closes:
            days = sorted(closes)
            history = History(
                symbol, currency, np.array(days, "datetime64[D]"), np.array([closes[day] for day in days], dtype=np.float64)
            )
            history.days.setflags(write=False)
            history.closes.setflags(write=False)
            histories[symbol] = history
    return histories
