"""Follows the exporter's readings, shows them as rows of the table, and lets others wait for one they need."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable

from deskwatch.clock import Clock
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.rates import Rates
from deskwatch.demo.replay import Schedule
from deskwatch.demo.watch import Breach, Reading, Service, read_exporter

LOOK_SECONDS = 0.5
ROW_DAYS = 7
"""Calendar days from one row to the next where nothing happens."""
SOURCE = "rates"
"""The source whose market time is the day of a reading."""


class Readings:
    """The latest reading, and the day of the last row shown.

    Args:
        exporter: asked twice a second.
        rates: for the franc's column.
        schedule: says which days get a row each.
        commentary: told of rows.
        clock: for waiting.
    """

    def __init__(self, exporter: Service, rates: Rates, schedule: Schedule, commentary: Commentary, clock: Clock) -> None:
        self.latest: Reading | None = None
        self._exporter = exporter
        self._rates = rates
        self._schedule = schedule
        self._commentary = commentary
        self._clock = clock
        self._changed = asyncio.Condition()
        self.row_day: dt.date | None = None

    @property
    def breaches(self) -> tuple[Breach, ...]:
        """Limits exceeded in the latest reading."""
        return self.latest.breaches if self.latest else ()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            reading = await read_exporter(self._exporter, SOURCE)
            if reading is not None:
                self.latest = reading
                if self._is_worth_a_row(reading.day):
                    self.show()
                async with self._changed:
                    self._changed.notify_all()
            await self._clock.sleep(LOOK_SECONDS)

    def show(self) -> None:
        """The latest reading as a row."""
        if self.latest is not None:
            self.row_day = self.latest.day
            franc = self._rates.per_euro_of("CHF", self._rates.index(self.latest.day))
            self._commentary.row(self.latest.day, franc, self.latest)

    async def until(self, seen: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds after a reading; False where it does not within so many seconds."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(seen)
        except TimeoutError:
            return seen()
        return True

    async def until_day(self, day: dt.date, seconds: float) -> bool:
        """Wait for a reading of this market day or a later one."""
        return await self.until(lambda: self.latest is not None and self.latest.day >= day, seconds)

    def _is_worth_a_row(self, day: dt.date) -> bool:
        if self.row_day is None or self._schedule.is_slow(day):
            return day != self.row_day
        return (day - self.row_day).days >= ROW_DAYS
