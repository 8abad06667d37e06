"""The exporter as a process: builds it from the configuration, runs it, goes on with another, ends it on a signal.

Holds no logic of its own: in which order a reading comes about stands in `exporter.cycle`, what can change under a running
process in `Exporter.apply`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from deskwatch import __version__
from deskwatch.clock import Clock, SystemClock
from deskwatch.config import Loaded, load_all
from deskwatch.logs import configure, get_logger
from deskwatch.reload import Applied, Reloader
from deskwatch.server import Server
from deskwatch.web import LAST_RESORT_SECONDS, application, until_stopped
from deskwatch.web_access import Door
from exporter import cardinality, health, history
from exporter.analytic import load_analytics
from exporter.api import Api
from exporter.config import ExporterConfig
from exporter.cycle import FIRST_WAIT_SECONDS, Cycle
from exporter.detection.detector import METRICS as DETECTOR_METRICS
from exporter.detection.detector import Detector
from exporter.detection.spool import Spool
from exporter.exposition import Exposition
from exporter.history import PriceHistory
from exporter.poller import Poller
from exporter.runtime import WANTED, Runtime, build

METRICS = (*health.METRICS, *DETECTOR_METRICS, *history.METRICS, *cardinality.METRICS)
COMPONENT = "exporter"
SWITCH_SECONDS = 0.001
"""Longest a computing thread keeps the interpreter from the event loop; Python's own default is five times as long."""

SPARE_THREADS = 8


class Exporter:
    """The exporter, ready to run.

    Args:
        file: the configuration file, to be read again.
        loaded: what it says.
        runtime: built from that.
        keeper: the bars kept.
        spool: the second detector's way to the receiver; None where none is configured.
        opened: closes at the end what is opened on the way.
        clock: wall and monotonic time, and waiting.
    """

    def __init__(
        self,
        file: Path,
        loaded: Loaded,
        runtime: Runtime,
        keeper: PriceHistory,
        spool: Spool | None,
        opened: AsyncExitStack,
        clock: Clock,
    ) -> None:
        config = runtime.config
        self._started = config
        self._runtime = runtime
        self._keeper = keeper
        self._spool = spool
        self._opened = opened
        self._clock = clock
        self._threads: ThreadPoolExecutor | None = None
        self._room = 0
        keeper.know(config.sources)
        analytics = load_analytics()
        us = health.Health(self._configuration)
        self._detector = Detector(config.detector, runtime.rules, clock, spool)
        self._poller = Poller(runtime.sources, clock, keeper=keeper)
        self._exposition = Exposition(
            lambda: [*us.samples(), *self._detector.samples()], clock.monotonic, runtime.stale_page_seconds
        )
        self._cycle = Cycle(
            config, clock, self._poller, analytics, self._exposition, self._detector, us, others=(keeper.samples,)
        )
        self._reloader = Reloader(
            file, WANTED, loaded, self.apply, clock, lambda: self._runtime.watch_seconds, self._cycle.hasten
        )
        api = Api(clock, self._poller, self._cycle, self._exposition, analytics, keeper.bars)
        door = Door(config.web, runtime.token)
        app = application(door, (*api.routes(), self._reloader.route()), api.readiness)
        self._server = Server(app, config.web.listen, door)
        self._make_room(config)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`.

        Raises:
            ConfigError: the port is taken.
        """
        async with self._server:
            get_logger().info("exporter listens", address=self._server.url, version=__version__)
            beat = _beat(self._cycle, self._poller)
            parts = (self._poller.run(), self._detector.run(), beat, self._reloader.run())
            await _run_until(stop, *parts, self._server.keep_current(self._clock))

    async def apply(self, sections: Mapping[str, Any]) -> Applied:
        """Go on with another configuration: all of it between two readings, or, where it cannot be used, nothing.

        Raises:
            ConfigError: it cannot be used.
            Retryable: not now, because the cycle hangs.
        """
        new = await asyncio.to_thread(build, sections, self._clock, self._started.state_folder)
        config, spool = new.config, await self._spool_for(new.config)
        detect = await asyncio.to_thread(self._detector.prepare, config.detector, new.rules, spool)
        async with self._cycle.between():
            await self._server.renew(config.web, new.token)  # the one step that can fail comes first
            detect()
            self._keeper.know(config.sources)
            self._make_room(config)
            self._exposition.stale_seconds = new.stale_page_seconds
            self._cycle.replace(config)
            replacing = asyncio.ensure_future(self._poller.replace(new.sources))
            await asyncio.sleep(0)  # its first step shows the new sources; ending the old ones may take a while
        before, self._runtime = self._runtime, new
        configure(new.logs, component=COMPONENT)
        await replacing
        return Applied(new.changed_since(before), new.waits_for_a_start(self._started))

    async def _spool_for(self, config: ExporterConfig) -> Spool | None:
        """The spool, opened when a receiver is first configured and then kept: what waits in it is still to be told."""
        if self._spool is None and config.detector.receiver:
            self._spool = await Spool.open(self._started.state_folder)
            self._opened.push_async_callback(self._spool.close)
        return self._spool

    def _make_room(self, config: ExporterConfig) -> None:
        """Threads: a source that hangs holds one, and there must be some left for the cycle and the pages."""
        wanted, before = SPARE_THREADS + 2 * len(config.sources), self._threads
        if wanted <= self._room:
            return
        self._room, self._threads = wanted, ThreadPoolExecutor(wanted, thread_name_prefix="exporter")
        asyncio.get_running_loop().set_default_executor(self._threads)
        if before is not None:
            before.shutdown(wait=False)  # what runs in it runs on

    def _configuration(self) -> tuple[bool, float]:
        current = self._reloader.successful and self._server.web_file_current
        return current, self._reloader.succeeded_at.timestamp()


async def serve(file: Path, loaded: Loaded, stop: asyncio.Event) -> None:
    """Run the exporter until `stop` is set.

    Raises:
        ConfigError: the port is taken, the state folder cannot be used, or a rule is not understood.
        StoreUnavailable: the second detector's spool is damaged.
    """
    clock = SystemClock()
    config: ExporterConfig = loaded.sections["exporter"]
    runtime = build(loaded.sections, clock, config.state_folder)
    async with AsyncExitStack() as opened:
        keeper = await PriceHistory.open(config.state_folder, clock)
        opened.push_async_callback(keeper.close)
        spool = await Spool.open(config.state_folder) if config.detector.receiver else None
        if spool is not None:
            opened.push_async_callback(spool.close)
        await Exporter(file, loaded, runtime, keeper, spool, opened, clock).run(stop)


async def _run_until(stop: asyncio.Event, *parts: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def _beat(cycle: Cycle, poller: Poller) -> None:
    try:
        async with asyncio.timeout(FIRST_WAIT_SECONDS):
            await poller.all_tried()
    except TimeoutError:
        get_logger().info("the first reading does not wait for every source", after_seconds=FIRST_WAIT_SECONDS)
    await cycle.run()


@click.command("exporter", help="Run the exporter: sources in, gauges out.")
@click.option("--config", "file", required=True, type=click.Path(path_type=Path), help="The desk's configuration file.")
def command(file: Path) -> None:
    """Run the exporter until SIGTERM or SIGINT; SIGHUP has the configuration read again."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # one that comes before the loop runs must not end the process
    loaded = load_all(file, WANTED)
    configure(loaded.sections["logs"], component=COMPONENT)
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(until_stopped(partial(serve, file, loaded), last_resort_seconds=LAST_RESORT_SECONDS))
