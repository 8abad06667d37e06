"""The desk day by day: three traders, their track record and backtest, and what each day adds to the trading database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from deskwatch.demo.desk import BACKTEST_DAYS, TRACK_RECORD_DAYS, BookPlan
from deskwatch.demo.rates import Rates
from deskwatch.demo.trader import Book, Dealing, Trader


@dataclass(frozen=True, slots=True)
class DayReturn:
    """A strategy's simple return of one market day, fees deducted."""

    strategy: str
    day: dt.date
    ratio: Decimal


@dataclass(frozen=True, slots=True)
class Update:
    """What the trading database has to take over: dealings, the books after them, the day's returns."""

    day: dt.date
    dealings: tuple[Dealing, ...]
    returns: tuple[DayReturn, ...]


class _Run:
    """One trader and the value its day's return counts from."""

    def __init__(self, plan: BookPlan, rates: Rates) -> None:
        self.trader = Trader(plan, rates)
        self._rates = rates
        self._opened_at: Decimal | None = None
        self._closed_at = self.trader.book.cash

    def day(self, at: int) -> tuple[Dealing, DayReturn | None]:
        """Deal; the return is None on the first day, which has only fees."""
        first, self._opened_at = self._opened_at is None, self._closed_at
        dealing = self.trader.deal(at)
        result = self.day_return(at)
        return dealing, None if first else result

    def day_return(self, at: int) -> DayReturn:
        """The return of the running day as things stand."""
        self._closed_at = self.trader.book.net_asset_value(self._rates, at)
        opened_at = self._opened_at or self._closed_at
        return DayReturn(self.trader.plan.portfolio, self._rates.days[at], self._closed_at / opened_at - 1)


def backtest(plans: Sequence[BookPlan], rates: Rates, start: int) -> Iterator[DayReturn]:
    """What the strategies would have earned over `BACKTEST_DAYS` before the track record, at the same rates and fees.

    Args:
        plans: the books.
        rates: with enough days before.
        start: day number at which the replay begins.
    """
    live_from = start - TRACK_RECORD_DAYS
    for plan in plans:
        run = _Run(plan, rates)
        for at in range(live_from - BACKTEST_DAYS, live_from):
            _, result = run.day(at)
            if result:
                yield result


class Trading:
    """The live desk. Call `advance` once for every market day, `cut` for what risk asks for in between.

    Args:
        plans: the books.
        rates: reference rates.
        start: day number at which the replay begins; the desk has traded for `TRACK_RECORD_DAYS` before it.
    """

    def __init__(self, plans: Sequence[BookPlan], rates: Rates, start: int) -> None:
        self.rates = rates
        self.at = start - TRACK_RECORD_DAYS - 1
        self._start = start
        self._runs = {plan.portfolio: _Run(plan, rates) for plan in plans}

    @property
    def day(self) -> dt.date:
        """The market day the books stand at."""
        return self.rates.days[self.at]

    @property
    def books(self) -> Mapping[str, Book]:
        """The books as they stand."""
        return {name: run.trader.book for name, run in self._runs.items()}

    def track_record(self) -> list[Update]:
        """The days before the replay and its first day."""
        return [self.advance() for _ in range(self.at, self._start)]

    def advance(self) -> Update:
        """The next market day: new rates, then the strategies deal at them."""
        self.at += 1
        days = [run.day(self.at) for run in self._runs.values()]
        return Update(self.day, tuple(dealing for dealing, _ in days), tuple(result for _, result in days if result))

    def cut(self, portfolio: str, changes: Mapping[str, Decimal]) -> Update:
        """Trade what risk asks for in one book, today; the day's return is what it is after that."""
        run = self._runs[portfolio]
        dealing = run.trader.cut(changes, self.at)
        return Update(self.day, (dealing,), (run.day_return(self.at),))
