"""The replay: which market day comes when, and what is written when it comes. Knows neither alerts nor processes.

The rates become visible first, then the books that traded at them: a desk sees the fixing before it deals. Between the two the
exporter sees yesterday's positions at today's rates, which is what they are worth at that moment.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from deskwatch.clock import Clock
from deskwatch.demo.database import TradingDatabase
from deskwatch.demo.desk import FRANC_BREAK
from deskwatch.demo.trader import Dealing
from deskwatch.demo.trading import Trading, Update

SLOW_FROM = FRANC_BREAK - dt.timedelta(days=2)
SLOW_TO = FRANC_BREAK + dt.timedelta(days=4)
"""Around the break every day is worth looking at; the week-end lies between."""
SLOWER = 12.0
"""How much longer such a day lasts."""
Gate = Callable[[dt.date], Awaitable[None]]
"""Called with the day the replay stands at; returns when it may go on."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long each market day lasts. `days_per_second`: market days in one second of the demo."""

    days_per_second: float

    def seconds(self, day: dt.date) -> float:
        """How long the replay stands at this day, at least."""
        return (SLOWER if self.is_slow(day) else 1.0) / self.days_per_second

    def is_slow(self, day: dt.date) -> bool:
        """Whether the day is one of those around the break."""
        return SLOW_FROM <= day <= SLOW_TO


class Replay:
    """Moves the desk through the days.

    Args:
        trading: the desk, standing at the first day.
        database: where it is written.
        date_file: tells the exporter which rates it may see.
        schedule: how long each day lasts.
        last_day: the replay ends there and stays.
        clock: for waiting.
    """

    def __init__(
        self,
        trading: Trading,
        database: TradingDatabase,
        date_file: Path,
        schedule: Schedule,
        last_day: dt.date,
        clock: Clock,
    ) -> None:
        self._trading = trading
        self._database = database
        self._date_file = date_file
        self._schedule = schedule
        self._last_day = last_day
        self._clock = clock

    @property
    def day(self) -> dt.date:
        """The market day the desk stands at."""
        return self._trading.day

    async def run(self, gates: Sequence[Gate]) -> None:
        """Replay until the last day; the gates are passed in order when a day has come, before its time runs."""
        while True:
            for gate in gates:
                await gate(self.day)
            if self._at_end():
                return
            await self._clock.sleep(self._schedule.seconds(self.day))
            self._advance()

    def cut(self, portfolio: str, changes: Mapping[str, Decimal]) -> Dealing:
        """Have the trader do what risk asks for, today."""
        update = self._trading.cut(portfolio, changes)
        self._database.record(update)
        return update.dealings[0]

    def _at_end(self) -> bool:
        days = self._trading.rates.days
        return self._trading.at + 1 >= len(days) or days[self._trading.at + 1] > self._last_day

    def _advance(self) -> Update:
        update = self._trading.advance()
        write_date(self._date_file, update.day)
        self._database.record(update)
        return update


def write_date(file: Path, day: dt.date) -> None:
    """Replace the file in one step: a reader sees the old date or the new one."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{day.isoformat()}\n", encoding="utf-8")
    fresh.replace(file)
