"""Remediation: starts the runs the guard has queued, each once, and says what came of them.

Intent on disk, isolated run, outcome on disk together with the messages about it. A run found `started` when the process
starts was interrupted: nobody knows what it did, so it becomes `unresolved`, is told to people, and is never started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from deskwatch.clock import Clock
from deskwatch.errors import StoreUnavailable
from deskwatch.failpoint import failpoint
from deskwatch.hook import ExporterAccess
from deskwatch.logs import correlated, get_logger
from deskwatch.store import Store, Work
from receiver import deliveries, runs
from receiver.guard import Guard
from receiver.hook_process import RunOrder
from receiver.metrics import Metrics
from receiver.plan import Planner, Remediation
from receiver.runner import Ended, execute
from receiver.runs import StoredRun

AT_ONCE = 4
"""Runs under way at the same time."""
STORE_RETRY_SECONDS = 1.0
GRACE_SECONDS = 1.5
"""What is under way may take so long to end when the process is told to stop."""
IDLE_SECONDS = 30.0
INTERRUPTED = "The receiver ended while it ran. Nobody knows what it did: look, then settle the run."


class Remediator:
    """Runs hooks until cancelled. `wake` it when a run was queued."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        guard: Guard,
        metrics: Metrics,
        clock: Clock,
        *,
        exporter: ExporterAccess | None,
        on_planned: Callable[[], None],
    ) -> None:
        self._store = store
        self._planner = planner
        self._guard = guard
        self._metrics = metrics
        self._clock = clock
        self._exporter = exporter
        self._on_planned = on_planned
        self._woken = asyncio.Event()
        self._underway: dict[int, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """There may be a run to start."""
        self._woken.set()

    async def recover(self) -> None:
        """Once, before `run`: mark what the predecessor left started as unresolved and tell people."""
        for run in await self._store.read(runs.started()):
            await self._conclude(run, Ended("unresolved", INTERRUPTED))

    async def run(self) -> None:
        """Start queued runs for ever; when cancelled, those that do not end soon are killed and recorded as unresolved."""
        try:
            while True:
                self._woken.clear()
                try:
                    await self._start_queued()
                    wait_seconds = IDLE_SECONDS
                except StoreUnavailable as error:
                    get_logger().error("remediation waits for the store", error=str(error))
                    wait_seconds = STORE_RETRY_SECONDS
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), wait_seconds)
        finally:
            if self._underway:
                await asyncio.wait(set(self._underway.values()), timeout=GRACE_SECONDS)
            for task in self._underway.values():
                task.cancel()
            await asyncio.gather(*self._underway.values(), return_exceptions=True)

    async def _start_queued(self) -> None:
        free = AT_ONCE - len(self._underway)
        waiting = await self._store.read(runs.queued(AT_ONCE * 2)) if free > 0 else []
        for run_id in [run_id for run_id in waiting if run_id not in self._underway][:free]:
            task = asyncio.create_task(self._remediate(run_id), name=f"run-{run_id}")
            self._underway[run_id] = task
            task.add_done_callback(partial(self._ended, run_id))

    def _ended(self, run_id: int, task: asyncio.Task[None]) -> None:
        del self._underway[run_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            get_logger().error("a run broke off", run_id=run_id, exc_info=error)
        self._woken.set()

    async def _remediate(self, run_id: int) -> None:
        run = await self._store.read(runs.get(run_id))
        if run is None:
            return
        with correlated(run.correlation_id):
            why_not = self._guard.still_allows(run)
            if why_not:
                await self._store.write(runs.refuse(run_id, why_not, self._clock.now()))
                self._metrics.hook_runs.labels(run.hook, "refused").inc()
                return
            if not await self._begin(run):
                return
            failpoint("remediate.after_intent")
            try:
                ended = await execute(self._order(run))
            except asyncio.CancelledError:
                await asyncio.shield(self._conclude(run, Ended("unresolved", INTERRUPTED)))
                raise
            except OSError as error:
                ended = Ended("failed", f"its process could not be started: {error.strerror}")
            failpoint("remediate.after_run")
            await self._conclude(run, ended)
            failpoint("remediate.after_outcome")

    async def _begin(self, run: StoredRun) -> bool:
        """Commit the intent; whether the run may start."""
        try:
            return await self._store.write(runs.begin(run.run_id, self._clock.now()))
        except StoreUnavailable as error:
            # The intent may be on disk all the same: then this run is over. Otherwise it is queued still and comes again.
            await self._conclude(run, Ended("failed", f"not started: {error}"))
            return False

    def _order(self, run: StoredRun) -> RunOrder:
        return RunOrder(
            hook=run.hook,
            mode=run.mode,
            idempotency_key=f"{run.episode.episode_id}-{run.hook}-{run.occasion}",
            fencing_token=run.run_id,
            episode_id=run.episode.episode_id,
            labels=run.episode.labels,
            annotations=run.episode.annotations,
            exporter=self._exporter,
            timeout_seconds=self._guard.timeout_seconds(run.hook),
        )

    async def _conclude(self, run: StoredRun, ended: Ended) -> None:
        """Record the outcome and plan the messages about it, for as long as the store takes to do it."""
        while True:
            try:
                if not await self._store.write(self._outcome(run, ended)):
                    return
                break
            except StoreUnavailable as error:
                get_logger().error("a run's outcome waits for the store", run_id=run.run_id, error=str(error))
                await self._clock.sleep(STORE_RETRY_SECONDS)
        self._metrics.hook_runs.labels(run.hook, ended.outcome).inc()
        get_logger().info("hook ran", hook=run.hook, mode=run.mode, outcome=ended.outcome, text=ended.text)
        self._on_planned()

    def _outcome(self, run: StoredRun, ended: Ended) -> Work[bool]:
        now = self._clock.now()
        if not (yield from runs.finish(run.run_id, ended.outcome, ended.text, now)):
            return False
        said = Remediation(run.hook, run.mode, ended.outcome, ended.text)
        yield from deliveries.plan(self._planner.remediation(run.episode, said), run.correlation_id, now)
        return True
