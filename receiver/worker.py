"""The worker: takes journaled notifications in order of acceptance and puts them through the pipeline.

One that cannot be processed is marked failed and told to the fallback channel with its body: it blocks nobody and is not
lost. While the store fails, nothing is taken; the same entries come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

from deskwatch.clock import Clock
from deskwatch.errors import StoreUnavailable
from deskwatch.failpoint import failpoint
from deskwatch.logs import correlated, get_logger
from deskwatch.store import Store, Work
from receiver import deliveries, episodes, journal
from receiver.journal import Entry
from receiver.metrics import Metrics
from receiver.notices import failed_processing
from receiver.pipeline import Pipeline, Prepared, Settled

BATCH_ENTRIES = 32
BATCH_BYTES = 512 * 1024
WRITE_SECONDS = 60.0
"""A group of thousands of alerts may take seconds; nobody waits for this answer."""
RETRY_SECONDS = 1.0
REST_RATIO = 3.0
"""While notifications are coming in thick, a batch is followed by a rest of so many times what it took: an answer that comes
late makes Alertmanager send again, a delivery waits on disk."""
REST_SECONDS_MOST = 0.25
IDLE_SECONDS = 1.0
"""Held firings are looked for this often."""


class Worker:
    """Runs until cancelled. `wake` it when something was journaled."""

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        metrics: Metrics,
        clock: Clock,
        *,
        on_planned: Callable[[], None],
        intake_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._pipeline = pipeline
        self._metrics = metrics
        self._clock = clock
        self._on_planned = on_planned
        self._intake_busy = intake_busy
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something in the journal."""
        self._woken.set()

    async def run(self) -> None:
        """Process the journal for ever."""
        while True:
            self._woken.clear()
            began = self._clock.monotonic()
            try:
                worked = [await self.process_batch(), await self.release_held()]
            except StoreUnavailable as error:
                get_logger().error("the worker waits for the store", error=str(error))
                await self._clock.sleep(RETRY_SECONDS)
                continue
            if self._intake_busy():
                took = self._clock.monotonic() - began
                await self._clock.sleep(min(REST_SECONDS_MOST, REST_RATIO * took))
            elif not any(worked):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), IDLE_SECONDS)

    async def process_batch(self) -> bool:
        """Process the oldest entries; whether there were any."""
        batch = await self._store.read(journal.pending(BATCH_ENTRIES, BATCH_BYTES))
        prepared = await asyncio.gather(*(self._prepare(entry) for entry in batch))
        # Handed to the store in order of acceptance, so the changes of one notification are seen by the next.
        works = [self._settle(entry, ready) for entry, ready in zip(batch, prepared, strict=True)]
        for result in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return bool(batch)

    async def release_held(self) -> bool:
        """Open the episodes of held firings that nothing resolved in time; whether there were any."""
        due = await self._store.read(episodes.held_due(self._clock.now()))
        for entry in await self._store.read(journal.entries(list(due))) if due else []:
            await self._settle(entry, await self._prepare(entry, due[entry.entry_id]))
        return bool(due)

    async def _prepare(self, entry: Entry, released: Collection[str] = ()) -> Prepared | Exception:
        with correlated(entry.correlation_id):
            try:
                return await self._pipeline.prepare(entry, released)
            except Exception as error:
                get_logger().exception("a notification cannot be read", entry_id=entry.entry_id)
                return error

    async def _settle(self, entry: Entry, ready: Prepared | Exception) -> None:
        with correlated(entry.correlation_id):
            if isinstance(ready, Exception):
                await self._give_up(entry, ready)
                return
            failpoint("worker.before_settle")
            try:
                work = self._pipeline.settle(ready, self._clock.now())
                settled = await self._store.write(work, deadline_seconds=WRITE_SECONDS)
            except StoreUnavailable:
                raise
            except Exception as error:
                get_logger().exception("a notification cannot be processed", entry_id=entry.entry_id)
                await self._give_up(entry, error)
                return
            failpoint("worker.after_settle")
            self._count(settled)

    def _count(self, settled: Settled) -> None:
        if settled.outcome == "already_done":
            return
        self._metrics.notifications.labels(settled.outcome).inc()
        for hook in settled.refused_hooks:
            self._metrics.hook_runs.labels(hook, "refused").inc()
        if settled.planned or settled.proposed:
            self._on_planned()

    async def _give_up(self, entry: Entry, error: Exception) -> None:
        await self._store.write(self._mark_failed(entry, error), deadline_seconds=WRITE_SECONDS)
        self._metrics.notifications.labels("failed").inc()
        self._on_planned()

    def _mark_failed(self, entry: Entry, error: Exception) -> Work[None]:
        yield from episodes.drop_held(entry.entry_id)
        yield from journal.fail(entry.entry_id, f"{type(error).__name__}: {error}")
        notice = failed_processing(self._pipeline.planner, entry, error)
        yield from deliveries.plan([notice] if notice else [], entry.correlation_id, self._clock.now())
