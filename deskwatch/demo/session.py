"""One demo from start to end: processes started, desk prepared, days replayed, all stopped. The order stands here."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import shutil
import sys
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deskwatch.clock import Clock
from deskwatch.demo import configuration, stack
from deskwatch.demo.alerts import Alerts, Place
from deskwatch.demo.bring import bring
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.configuration import CONSOLE, Files
from deskwatch.demo.database import TradingDatabase
from deskwatch.demo.desk import BOOKS, DESK, FRANC_BREAK, LIMITS, SECTORS, SYMBOLS
from deskwatch.demo.faults import Faults
from deskwatch.demo.processes import Child, Children, free_ports
from deskwatch.demo.rates import Rates, read_rates
from deskwatch.demo.readings import Readings
from deskwatch.demo.replay import Replay, Schedule, write_date
from deskwatch.demo.risk import RiskDesk
from deskwatch.demo.trading import Trading, backtest
from deskwatch.demo.watch import Service, alertmanager_alerts, prometheus_alerts, receiver_alerts
from deskwatch.errors import DeskwatchError

HISTORY = dt.timedelta(days=1600)
"""Calendar days of rates before the first day: sizing, backtest, track record."""
FIRST_READING_SECONDS = 60.0
READING_SECONDS = 20.0
OWN = ("exporter", "receiver")
FOR_NOBODY = "/INFO"
_WALL_TIME = re.compile(r"^[\d-]+ [\d:]+Z +")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was given.

    Args:
        first_day: the replay begins there, or on the next market day.
        last_day: the replay holds there.
        days_per_second: market days in one second.
        seconds: end after so many; None runs until stopped.
        direct: without Prometheus and Alertmanager.
        folder: where the files go and stay; None takes a temporary one.
    """

    first_day: dt.date
    last_day: dt.date
    days_per_second: float
    seconds: float | None
    direct: bool
    folder: Path | None


class Session:
    """One demo.

    Args:
        options: what the command was given.
        commentary: where it is told.
        clock: for waiting.
    """

    def __init__(self, options: Options, commentary: Commentary, clock: Clock) -> None:
        self._options = options
        self._commentary = commentary
        self._clock = clock
        self._schedule = Schedule(options.days_per_second)
        usual = {name: port for name, port in stack.USUAL_PORTS.items() if name in OWN or not options.direct}
        self._ports = free_ports(usual)
        self._files = Files(_make_folder(options.folder))
        self._children = Children(self._files.folder)
        self._addresses = {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}
        self._exporter, self._receiver = Service(self._addresses["exporter"]), Service(self._addresses["receiver"])
        self._stack: tuple[Service, ...] = ()
        self._alerts = Alerts(commentary, clock)
        self._stack_decided = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, or for `options.seconds`.

        Raises:
            DeskwatchError: a process died, or something needed is missing.
        """
        tasks: list[asyncio.Task[Any]] = []
        keep = self._options.folder is not None
        try:
            await self._play(stop, tasks)
        except DeskwatchError:
            keep = True
            self._commentary.event("FAILED", f"logs and configuration stay in {self._files.folder}", "bad")
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._children.stop()
            for service in (self._exporter, self._receiver, *self._stack):
                await service.close()
            if not keep:
                shutil.rmtree(self._files.folder, ignore_errors=True)

    async def _play(self, stop: asyncio.Event, tasks: list[asyncio.Task[Any]]) -> None:
        def begin(work: Coroutine[Any, Any, Any]) -> None:
            tasks.append(asyncio.create_task(work))

        begin(_after(self._options.seconds, stop))
        begin(self._children.watch())
        begin(Faults({name: self._children.log(name) for name in OWN}, self._commentary, self._clock).run())
        self._introduce()
        stack.write_rules(self._files.rules, self._addresses)
        configuration.write(self._files, self._addresses, direct=self._options.direct)
        # Both load their modules while the desk is being prepared here.
        for name in OWN:
            child = await self._children.start(name, self._own_command(name), output=name == "receiver")
            if name == "receiver":
                begin(self._relay(child))
        begin(self._bring_stack())
        begin(self._trade())
        await _until(stop, tasks)

    def _introduce(self) -> None:
        for name, port in self._ports.items():
            if port != stack.USUAL_PORTS[name]:
                self._commentary.line(f"Port {stack.USUAL_PORTS[name]} is taken, so {name} uses {port}.")
        kept = "kept" if self._options.folder else "removed at the end"
        self._commentary.listing(
            [
                *((book.portfolio, f"{book.about}; {_limits_of(book.portfolio)}") for book in BOOKS),
                (DESK, f"all of them; {_limits_of(DESK)}"),
                ("exporter", f"{self._exporter.url}/metrics"),
                ("receiver", f"{self._receiver.url}/"),
                ("files", f"{self._files.folder} ({kept})"),
            ]
        )

    def _own_command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "deskwatch", name, "--config", str(self._files.config)]

    async def _relay(self, receiver: Child) -> None:
        """Show what the receiver's console channel prints, message by message."""
        block: list[str] = []
        async for line in receiver.lines():
            if line:
                block.append(line)
            elif block:
                await self._alerts.look()  # what is delivered fires already: told in this order
                self._commentary.event(CONSOLE.upper(), _WALL_TIME.sub("", block[0]), "notice")
                # What asks nobody to do anything needs no steps.
                self._commentary.block(block[1:2] if block[0].endswith(FOR_NOBODY) else block[1:])
                block = []

    async def _bring_stack(self) -> None:
        """Prometheus and Alertmanager, or one line saying why not."""
        try:
            if self._options.direct:
                return
            for each in await bring(self._children, self._files, self._addresses, self._commentary, self._clock):
                self._commentary.event("STACK", f"{each.name} {each.version} at {each.page}")
            self._stack = (Service(self._addresses["Prometheus"]), Service(self._addresses["Alertmanager"]))
        except DeskwatchError as error:
            self._commentary.event("STACK", f"{error}. So without them: the exporter reports to the receiver itself")
        finally:
            self._stack_decided.set()

    def _places(self) -> tuple[Place, ...]:
        """Where alerts pass."""
        if not self._stack:
            return (Place("the receiver", partial(receiver_alerts, self._receiver)),)
        prometheus, alertmanager = self._stack
        return (
            Place("Prometheus", partial(prometheus_alerts, prometheus)),
            Place("Alertmanager", partial(alertmanager_alerts, alertmanager)),
        )

    async def _trade(self) -> None:
        """Prepare the desk, then replay."""
        rates = read_rates(SYMBOLS, self._options.first_day - HISTORY)
        start = rates.index(self._options.first_day)
        if start >= len(rates.days):
            raise DeskwatchError(f"--from {self._options.first_day}: the rates installed end before; choose an earlier day")
        database = TradingDatabase(self._files.database)
        try:
            trading = Trading(BOOKS, rates, start)
            database.open_desk(SECTORS, backtest(BOOKS, rates, start), trading.track_record())
            write_date(self._files.date, trading.day)
            replay = Replay(trading, database, self._files.date, self._schedule, self._options.last_day, self._clock)
            readings = Readings(self._exporter, rates, self._schedule, self._commentary, self._clock)
            await _all(readings.run(), self._alerts.run(), self._replay(replay, readings, rates))
        finally:
            database.close()

    async def _replay(self, replay: Replay, readings: Readings, rates: Rates) -> None:
        if not await readings.until_day(replay.day, FIRST_READING_SECONDS):
            raise DeskwatchError(
                f"the exporter gave no reading within {FIRST_READING_SECONDS:g} s: see {self._children.log('exporter')}"
            )
        risk = RiskDesk(readings, self._alerts, replay, self._exporter, self._receiver, self._commentary, self._clock)

        async def seen(day: dt.date) -> None:
            if day == FRANC_BREAK:
                self._commentary.event("NEWS", _news(rates), "strong")
            if self._schedule.is_slow(day):
                await readings.until_day(day, READING_SECONDS)

        async def alerting(day: dt.date) -> None:
            if self._schedule.is_slow(day) and not self._stack_decided.is_set():
                self._commentary.event("WAIT", "until Prometheus and Alertmanager are there")
                await self._stack_decided.wait()
            if self._stack_decided.is_set():
                self._alerts.follow(*self._places())

        await replay.run((seen, alerting, risk.gate))
        await readings.until_day(replay.day, READING_SECONDS)
        if readings.row_day != replay.day:
            readings.show()
        self._commentary.event("END", f"the replay holds {replay.day}, everything goes on running; Ctrl-C ends it", "strong")


def _limits_of(portfolio: str) -> str:
    own = [f"{each.limit} {each.value * 100:.3g} %" for each in LIMITS if each.portfolio == portfolio]
    return f"limits: {', '.join(own)}"


def _news(rates: Rates) -> str:
    at = rates.index(FRANC_BREAK)
    before, after = rates.per_euro_of("CHF", at - 1), rates.per_euro_of("CHF", at)
    return f"the Swiss National Bank gives up its floor: EUR/CHF {before:.4f} yesterday, {after:.4f} today"


def _make_folder(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="deskwatch-demo-"))
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise DeskwatchError(f"--folder {wanted} is not empty: name a new one")
    except OSError as error:
        raise DeskwatchError(f"--folder {wanted} cannot be used: {error.strerror}") from error
    return wanted.resolve()


async def _after(seconds: float | None, stop: asyncio.Event) -> None:
    if seconds is not None:
        await asyncio.sleep(seconds)
        stop.set()


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for `stop`; a task that fails before is raised."""
    working = asyncio.gather(*tasks)
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: working.cancel())
    try:
        await working
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        stopping.cancel()


async def _all(*works: Coroutine[Any, Any, None]) -> None:
    """Run all; the first that fails ends the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
