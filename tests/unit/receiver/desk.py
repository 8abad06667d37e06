"""A receiver without its server: notifications in, planned messages out, time turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import prometheus_client

from deskwatch.clock import ManualClock
from deskwatch.store import Row, query
from deskwatch.store.sqlite import SqliteStore
from receiver.enrich import Enrichers
from receiver.guard import Guard, Policy
from receiver.journal import Arrival, accept
from receiver.message import Message, MessageKind, decode
from receiver.metrics import Metrics
from receiver.pipeline import Pipeline, Windows
from receiver.plan import Planner, Recipient
from receiver.route import Route, RoutingTable
from receiver.schema import MIGRATIONS
from receiver.worker import Worker
from tests.unit.receiver.bodies import T0, at

EVERY_KIND: frozenset[MessageKind] = frozenset({"trigger", "resolve", "repeat", "remediation", "notice"})
CHAT = Recipient("chat", "group", EVERY_KIND, 12)
PAGER = Recipient("pager", "episode", frozenset({"trigger", "resolve", "repeat", "notice"}), 12)
TERMINAL = Recipient("terminal", "group", EVERY_KIND | {"test"}, 12)


def planner(*recipients: Recipient, routes: Sequence[Route] = ()) -> Planner:
    """A planner for these recipients; every alert goes to all of them unless routes say otherwise."""
    chosen = recipients or (CHAT, PAGER)
    everyone = Route((), tuple(each.name for each in chosen))
    return Planner({each.name: each for each in chosen}, RoutingTable(list(routes) or [everyone], chosen[0].name))


@dataclass
class Desk:
    """The parts, and what tests ask of them."""

    store: SqliteStore
    pipeline: Pipeline
    worker: Worker
    metrics: Metrics
    clock: ManualClock
    planned: asyncio.Event
    """Set when the worker has planned something."""

    async def notify(self, body: bytes, *, seconds: float = 0.0) -> None:
        """Journal a body as received so many seconds after the beginning, and process it."""
        await self.journal(body, seconds=seconds)
        await self.worker.process_batch()

    async def journal(self, body: bytes, *, seconds: float = 0.0) -> None:
        """Journal a body."""
        self.clock.jump((at(seconds) - self.clock.now()).total_seconds())
        await self.store.write(accept(Arrival(self.clock.now(), f"req-{seconds}", "group", body)))

    async def messages(self, channel: str = "chat") -> list[Message]:
        """What was planned for the channel, in order."""
        rows = await self.store.read(query("SELECT message FROM deliveries WHERE channel = ? ORDER BY delivery_id", channel))
        return [decode(row["message"]) for row in rows]

    async def kinds(self, channel: str = "chat") -> list[str]:
        """Kinds of what was planned for the channel, in order."""
        return [message.kind for message in await self.messages(channel)]

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """Whatever the store holds."""
        return await self.store.read(query(sql, *values))

    async def outcomes(self) -> list[str]:
        """What came of each notification."""
        return [row["outcome"] for row in await self.rows("SELECT outcome FROM journal ORDER BY entry_id")]


@asynccontextmanager
async def desk(
    folder: Path,
    *,
    plan: Planner | None = None,
    policies: Sequence[Policy] = (),
    enrichers: Enrichers | None = None,
    hold: float = 330.0,
    clock: ManualClock | None = None,
    intake_busy: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Desk]:
    """A desk with its store in the folder."""
    store = await SqliteStore.open(folder / "receiver.sqlite", MIGRATIONS)
    clock = clock or ManualClock(T0)
    metrics = Metrics(prometheus_client.CollectorRegistry())
    pipeline = Pipeline(
        enrichers or Enrichers((), 1.0),
        plan or planner(),
        Guard(tuple(policies)),
        Windows(timedelta(seconds=60), timedelta(seconds=hold)),
        ("detector", "replica", "prometheus", "monitor"),
    )
    planned = asyncio.Event()
    worker = Worker(store, pipeline, metrics, clock, on_planned=planned.set, intake_busy=intake_busy)
    try:
        yield Desk(store, pipeline, worker, metrics, clock, planned)
    finally:
        await store.close()
