"""The exporter as a process: builds it from the configuration, runs it, ends it on a signal. Holds no logic of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from deskwatch import __version__
from deskwatch.clock import SystemClock
from deskwatch.config import load
from deskwatch.logs import LogConfig, configure, get_logger
from deskwatch.web import LAST_RESORT_SECONDS, Server, application, change_token, until_stopped
from exporter import health
from exporter.analytic import load_analytics
from exporter.api import Api
from exporter.config import ExporterConfig
from exporter.cycle import FIRST_WAIT_SECONDS, Cycle
from exporter.detection.detector import METRICS as DETECTOR_METRICS
from exporter.detection.detector import Detector
from exporter.detection.rulefile import read_rules
from exporter.detection.spool import Spool
from exporter.exposition import Exposition
from exporter.poller import Poller
from exporter.source import SOURCES

METRICS = (*health.METRICS, *DETECTOR_METRICS)
SWITCH_SECONDS = 0.001
"""Longest a computing thread keeps the interpreter from the event loop; Python's own default is five times as long."""

SPARE_THREADS = 8


def stale_page_seconds(cycle_seconds: float) -> float:
    """Age at which the last page is served no longer: three missed cycles and half a minute of patience."""
    return 3 * cycle_seconds + 30.0


async def serve(config: ExporterConfig, stop: asyncio.Event) -> None:
    """Run the exporter until `stop` is set.

    Raises:
        ConfigError: the port is taken, the state folder cannot be used, or a rule is not understood.
        StoreUnavailable: the second detector's spool is damaged.
    """
    clock = SystemClock()
    # A source that hangs holds a thread: with one for each there are still some for the cycle and the pages.
    threads = ThreadPoolExecutor(SPARE_THREADS + 2 * len(config.sources), thread_name_prefix="exporter")
    asyncio.get_running_loop().set_default_executor(threads)
    rules = read_rules(config.detector.rules)
    token = change_token(config.web, config.state_folder)
    analytics = load_analytics()
    async with AsyncExitStack() as stack:
        spool = await Spool.open(config.state_folder) if config.detector.receiver else None
        if spool is not None:
            stack.push_async_callback(spool.close)
        us = health.Health()
        detector = Detector(config.detector, rules, clock, spool)
        poller = Poller([SOURCES.plugin(each.type)(each, clock) for each in config.sources], clock)
        exposition = Exposition(
            lambda: [*us.samples(), *detector.samples()], clock.monotonic, stale_page_seconds(config.cycle_seconds)
        )
        cycle = Cycle(config, clock, poller, analytics, exposition, detector, us)
        api = Api(clock, poller, cycle, exposition, analytics)
        server = Server(application(config.web, api.routes(), api.readiness, token), config.web.listen)
        await stack.enter_async_context(server)
        get_logger().info("exporter listens", address=server.url, version=__version__)
        await _run_until(stop, poller.run(), detector.run(), _beat(cycle, poller))


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
    """Run the exporter until SIGTERM or SIGINT."""
    loaded = load(file, {"logs": LogConfig, "exporter": ExporterConfig})
    configure(loaded["logs"], component="exporter")
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(until_stopped(partial(serve, loaded["exporter"]), last_resort_seconds=LAST_RESORT_SECONDS))
