"""The process `deskwatch receiver`: opens the store, starts the server, the worker, a task for each channel and the hooks,
and stops them in that order. It wires; what happens in which order to a notification stands in `receiver.pipeline`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import prometheus_client

from deskwatch.clock import Clock, SystemClock
from deskwatch.config import load
from deskwatch.errors import DeskwatchError
from deskwatch.logs import LogConfig, configure, get_logger
from deskwatch.server import Server
from deskwatch.store.sqlite import SqliteStore
from deskwatch.web import LAST_RESORT_SECONDS, Readiness, Route, application, change_token, until_stopped
from deskwatch.web_access import Door
from receiver import deliveries
from receiver.api import Api
from receiver.channel import CHANNELS, Channel
from receiver.config import ReceiverConfig
from receiver.deliver import ChannelTask, Tools
from receiver.enrich import Enrichers
from receiver.enricher import ENRICHERS, Surroundings
from receiver.guard import Guard, Policy
from receiver.hook_room import hook_spec
from receiver.matchers import parse_matchers
from receiver.metrics import Metrics
from receiver.pages.views import Pages
from receiver.pipeline import Pipeline, Windows
from receiver.plan import Planner, Recipient
from receiver.remediate import Remediator
from receiver.route import Route as RoutingRow
from receiver.route import RoutingTable
from receiver.runbooks import Runbooks
from receiver.schema import MIGRATIONS
from receiver.webhook import Intake, Webhook
from receiver.worker import Worker

SWITCH_SECONDS = 0.0005
STOP_SECONDS = 2.0
"""What work under way may take once the process is told to stop."""


@dataclass(slots=True)
class Wakers:
    """Who is told that there is something to do; filled once everything is built."""

    worker: Worker | None = None
    channels: tuple[ChannelTask, ...] = ()
    remediator: Remediator | None = None

    def accepted(self) -> None:
        """A notification was journaled."""
        if self.worker is not None:
            self.worker.wake()

    def planned(self) -> None:
        """Deliveries or runs were committed."""
        for task in self.channels:
            task.wake()
        if self.remediator is not None:
            self.remediator.wake()


class Service:
    """The receiver, ready to run."""

    def __init__(self, config: ReceiverConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._runbooks = Runbooks(config.runbooks)
        # A series' creation time is of no use to anyone here and doubles the output.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.metrics = Metrics(prometheus_client.CollectorRegistry())
        self.metrics.expect({channel.name: None for channel in config.channels}, config.hooks)
        self.planner = Planner(_recipients(config), _routing(config))
        self.guard = Guard(_policies(config))
        self._wakers = Wakers()
        self._intake = Intake()

    async def run(self, stop: asyncio.Event, started: asyncio.Future[str] | None = None) -> None:
        """Serve until `stop`; `started` is given the address once the server listens."""
        config = self._config
        token = change_token(config.web, config.state_folder)
        store = await SqliteStore.open(config.state_folder / "receiver.sqlite", MIGRATIONS)
        channels = {each.name: CHANNELS.plugin(each.type)(each, self._clock) for each in config.channels}
        try:
            await self._bury_orphans(store)
            await self._serve(store, channels, token, stop, started)
        finally:
            for channel in channels.values():
                await channel.close()
            await store.close()

    async def _serve(
        self,
        store: SqliteStore,
        channels: Mapping[str, Channel[Any]],
        token: str,
        stop: asyncio.Event,
        started: asyncio.Future[str] | None,
    ) -> None:
        tools = Tools(store, self.metrics, self.planner, self._clock, on_planned=self._wakers.planned)
        door = Door(self._config.web, token)
        app = application(door, self._routes(store), lambda: _readiness(store))
        async with Server(app, self._config.web.listen, door, shutdown_seconds=STOP_SECONDS) as server:
            remediator = self._remediator(store)
            await remediator.recover()
            pipeline = self._pipeline(self._config.public_url or server.url)
            worker = Worker(
                store,
                pipeline,
                self.metrics,
                self._clock,
                on_planned=self._wakers.planned,
                intake_busy=lambda: self._intake.busy,
            )
            tasks = tuple(ChannelTask(channel, tools) for channel in channels.values())
            self._wakers.worker, self._wakers.remediator, self._wakers.channels = worker, remediator, tasks
            self._announce(server.url, started)
            current = server.keep_current(self._clock)
            await _until_first_ends(stop, worker.run(), remediator.run(), current, *(task.run() for task in tasks))

    def _announce(self, url: str, started: asyncio.Future[str] | None) -> None:
        get_logger().info("receiver listens", url=url, webhook=f"{url}/api/v1/webhook", runbooks=f"{url}/runbooks/")
        if started is not None:
            started.set_result(url)

    def _remediator(self, store: SqliteStore) -> Remediator:
        return Remediator(
            store,
            self.planner,
            self.guard,
            self.metrics,
            self._clock,
            exporter=self._config.exporter.access() if self._config.exporter else None,
            on_planned=self._wakers.planned,
        )

    def _pipeline(self, public_url: str) -> Pipeline:
        config = self._config
        surroundings = Surroundings(self._clock, self._runbooks, public_url)
        enrichers = [ENRICHERS.plugin(each.type)(each, surroundings) for each in config.enrichers]
        windows = Windows(
            duplicate=timedelta(seconds=config.duplicate_window_seconds),
            late_firing_hold=timedelta(seconds=config.late_firing_hold_seconds),
        )
        enrich = Enrichers(enrichers, config.enrich_budget_seconds)
        return Pipeline(enrich, self.planner, self.guard, windows, config.identity_ignore)

    def _routes(self, store: SqliteStore) -> list[Route]:
        config = self._config
        webhook = Webhook(
            store,
            self.planner,
            self.metrics,
            self._clock,
            config.webhook_token,
            config.ack_deadline_seconds,
            on_accepted=self._wakers.accepted,
            on_noticed=self._wakers.planned,
            intake=self._intake,
        )
        names = tuple(channel.name for channel in config.channels)
        api = Api(store, self.metrics, self._clock, names, tuple(config.hooks), on_changed=self._wakers.planned)
        pages = Pages(store, self._runbooks, self._clock, names)
        return [
            Route("POST", "/api/v1/webhook", webhook.receive, "own"),
            # Grafana's contact point may be set to PUT.
            Route("PUT", "/api/v1/webhook", webhook.receive, "own"),
            *api.routes(),
            *pages.routes(),
        ]

    async def _bury_orphans(self, store: SqliteStore) -> None:
        names = [channel.name for channel in self._config.channels]
        for channel, count in (await store.write(deliveries.bury_orphans(names, self._clock.now()))).items():
            get_logger().error(
                "deliveries for a channel that is no longer configured are dead letters", channel=channel, count=count
            )


async def _until_first_ends(stop: asyncio.Event, *loops: Any) -> None:
    """Run the loops until told to stop; one that ends by itself is a fault and ends the process: a supervisor restarts it."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    broken = next((task for task in tasks if task.done()), None)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=STOP_SECONDS)
    if broken is not None:
        broken.result()
        raise DeskwatchError("a part of the receiver ended by itself")


def _readiness(store: SqliteStore) -> Readiness:
    return Readiness(() if store.failure is None else ("the store",))


def _recipients(config: ReceiverConfig) -> dict[str, Recipient]:
    found = {}
    for each in config.channels:
        plugin = CHANNELS.plugin(each.type)
        found[each.name] = Recipient(each.name, plugin.grouping, plugin.takes, each.max_attempts)
    return found


def _routing(config: ReceiverConfig) -> RoutingTable:
    rows = [RoutingRow(parse_matchers(each.matchers), each.channels, each.then_continue) for each in config.routes]
    everyone = RoutingRow((), tuple(channel.name for channel in config.channels))
    return RoutingTable(rows or [everyone], config.fallback)


def _policies(config: ReceiverConfig) -> tuple[Policy, ...]:
    found = []
    for name, each in config.hooks.items():
        spec = hook_spec(name)
        if each.enabled:
            cooldown = spec.cooldown_seconds if each.cooldown_seconds is None else each.cooldown_seconds
            most = spec.max_runs_per_hour if each.max_runs_per_hour is None else each.max_runs_per_hour
            found.append(Policy(name, spec, parse_matchers(spec.matchers), each.mode, timedelta(seconds=cooldown), most))
    return tuple(found)


@click.command("receiver")
@click.option("--config", "path", required=True, type=click.Path(path_type=Path), help="The desk's configuration file.")
def command(path: Path) -> None:
    """Receive notifications, enrich them, deliver them, propose remediations."""
    loaded = load(path, {"logs": LogConfig, "receiver": ReceiverConfig})
    configure(loaded["logs"], component="receiver")
    service = Service(loaded["receiver"], SystemClock())
    # The store's writing thread must not wait out the default 5 ms for its turn while the event loop is busy.
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(until_stopped(service.run, last_resort_seconds=LAST_RESORT_SECONDS))


if __name__ == "__main__":
    command()
