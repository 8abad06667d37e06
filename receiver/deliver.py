"""The delivery engine: the only caller of `Channel.send`.

One task for each channel takes the deliveries whose turn has come, most urgent first, several at once but never two of one
dedup key. For each: ledger intent on disk, send within the deadline, ledger outcome. A failed attempt is due again later, by
the far side's `Retry-After` or by exponential back-off with full jitter; it becomes a dead letter when it is permanent or the
attempts are used up. Nothing sleeps with a delivery in hand, and no channel waits for another.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable, StoreUnavailable
from deskwatch.failpoint import failpoint
from deskwatch.logs import correlated, get_logger
from deskwatch.store import Store, Work
from receiver import deliveries
from receiver.channel import Channel
from receiver.deliveries import Delivery, Failure
from receiver.message import Message
from receiver.metrics import Metrics
from receiver.notices import gave_up
from receiver.plan import Planner

BACKOFF_SECONDS = 2.0
BACKOFF_LIMIT_SECONDS = 900.0
"""Longest wait, also where the far side asks for more: asking again once too early is better than a page hours late."""
STORE_RETRY_SECONDS = 1.0
GRACE_SECONDS = 1.5
"""What is under way may take so long to end when the process is told to stop."""
SLOW_LOOK_SECONDS = 0.02
REST_RATIO = 3.0
POLL_SECONDS = 30.0
"""Longest time without a look at the store: nothing depends on it but a clock that was set back."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every channel's task is given."""

    store: Store
    metrics: Metrics
    planner: Planner
    clock: Clock
    on_planned: Callable[[], None]
    jitter: Callable[[], float] = random.random
    """Uniform in [0, 1)."""


class ChannelTask:
    """Delivers to one channel until cancelled."""

    def __init__(self, channel: Channel[Any], tools: Tools) -> None:
        self.name: str = channel.config.name
        self._channel = channel
        self._tools = tools
        self._underway: dict[int, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._paused_until: datetime | None = None

    def wake(self) -> None:
        """There may be something to deliver."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver for ever; on cancellation an attempt under way that does not end soon stands as an intent without outcome."""
        try:
            while True:
                self._woken.clear()
                try:
                    wait_seconds = await self.step()
                except StoreUnavailable as error:
                    get_logger().error("a channel waits for the store", channel=self.name, error=str(error))
                    wait_seconds = STORE_RETRY_SECONDS
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), wait_seconds)
        finally:
            if self._underway:
                await asyncio.wait(set(self._underway.values()), timeout=GRACE_SECONDS)
            for task in self._underway.values():
                task.cancel()
            await asyncio.gather(*self._underway.values(), return_exceptions=True)

    async def step(self) -> float:
        """Begin what is due; seconds until something else may be."""
        now = self._tools.clock.now()
        if self._paused_until is not None and now < self._paused_until:
            return (self._paused_until - now).total_seconds()
        free = self._channel.config.concurrency - len(self._underway)
        if free <= 0:
            return POLL_SECONDS  # the end of an attempt wakes us
        underway = list(self._underway)
        began = self._tools.clock.monotonic()
        due, later = await self._tools.store.read(self._look(now, free, underway))
        took = self._tools.clock.monotonic() - began
        for delivery in due:
            task = asyncio.create_task(self._attempt(delivery), name=f"deliver-{self.name}-{delivery.delivery_id}")
            self._underway[delivery.delivery_id] = task
            task.add_done_callback(partial(self._ended, delivery.delivery_id))
        if took > SLOW_LOOK_SECONDS:
            # A long backlog behind a channel that is down: looking through it for every new delivery would help nobody.
            await self._tools.clock.sleep(REST_RATIO * took)
        if later is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.0, (later - now).total_seconds()))

    def _look(self, now: datetime, free: int, underway: list[int]) -> Work[tuple[list[Delivery], datetime | None]]:
        due = yield from deliveries.due(self.name, now, free, underway)
        later = yield from deliveries.next_due(self.name, now)
        return due, later

    def _ended(self, delivery_id: int, task: asyncio.Task[None]) -> None:
        del self._underway[delivery_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A fault of ours: the delivery is pending still and comes again, but not in a tight loop.
            get_logger().error("an attempt broke off", channel=self.name, delivery_id=delivery_id, exc_info=error)
            self._paused_until = self._tools.clock.now() + timedelta(seconds=STORE_RETRY_SECONDS)
        self._woken.set()

    async def _attempt(self, delivery: Delivery) -> None:
        with correlated(delivery.correlation_id):
            attempt = await self._until_stored(lambda: deliveries.begin(delivery, self._tools.clock.now()))
            if attempt is None:
                return
            failpoint("deliver.after_intent")
            message = msgspec.structs.replace(delivery.message, delivery_id=f"d-{delivery.delivery_id}", attempt=attempt)
            try:
                reference = await self._send(message)
            except (Retryable, Permanent) as error:
                await self._failed(delivery, attempt, error)
                return
            failpoint("deliver.after_send")
            await self._until_stored(lambda: deliveries.delivered(delivery, attempt, reference, self._tools.clock.now()))
            failpoint("deliver.after_outcome")
            self._count_delivered(delivery)

    async def _send(self, message: Message) -> str:
        """One attempt within the deadline; whatever goes wrong comes out as Retryable or Permanent."""
        deadline = self._channel.config.timeout_seconds
        try:
            async with asyncio.timeout(deadline):
                return await self._channel.send(message)
        except TimeoutError:
            raise Retryable(f"{self.name} did not answer within {deadline:g} s", reason=Reason.TIMEOUT) from None
        except (Retryable, Permanent):
            raise
        except Exception as error:
            # A bug in a channel; its text may hold what the channel must not tell, so only its type is kept.
            get_logger().error("a channel failed", channel=self.name, error_type=type(error).__name__)
            raise Retryable(f"{self.name} failed: {type(error).__name__}", reason=Reason.INTERNAL) from error

    async def _failed(self, delivery: Delivery, attempt: int, error: Retryable | Permanent) -> None:
        failure = Failure(attempt, error.reason.value, str(error))
        self._tools.metrics.delivery_failures.labels(self.name, failure.reason).inc()
        if isinstance(error, Permanent) or delivery.attempts + 1 >= delivery.attempts_limit:
            await self._bury(delivery, failure)
            return
        now = self._tools.clock.now()
        until = now + timedelta(seconds=self._wait_seconds(delivery, error))
        if error.retry_after_seconds is not None:
            self._paused_until = until  # the far side's wait concerns everything sent there
        self._tools.metrics.deliveries.labels(self.name, "retry").inc()
        get_logger().warning(
            "delivery failed, will be tried again",
            channel=self.name,
            attempt=attempt,
            until=until.isoformat(),
            error=str(error),
        )
        await self._until_stored(lambda: deliveries.postpone(delivery, failure, now, until))

    def _wait_seconds(self, delivery: Delivery, error: Retryable) -> float:
        if error.retry_after_seconds is not None:
            return min(error.retry_after_seconds, BACKOFF_LIMIT_SECONDS)
        most = min(BACKOFF_LIMIT_SECONDS, BACKOFF_SECONDS * 2.0**delivery.attempts)
        return most * self._tools.jitter()

    async def _bury(self, delivery: Delivery, failure: Failure) -> None:
        now = self._tools.clock.now()
        notice = gave_up(self._tools.planner, delivery, failure.error)

        def work() -> Work[None]:
            yield from deliveries.bury(delivery, failure, now)
            yield from deliveries.plan([notice] if notice else [], delivery.correlation_id, now)

        await self._until_stored(work)
        self._tools.metrics.deliveries.labels(self.name, "dead").inc()
        get_logger().error("delivery given up, it is a dead letter", channel=self.name, error=failure.error)
        self._tools.on_planned()

    def _count_delivered(self, delivery: Delivery) -> None:
        took = (self._tools.clock.now() - delivery.created_at).total_seconds()
        self._tools.metrics.deliveries.labels(self.name, "delivered").inc()
        self._tools.metrics.delivery_seconds.labels(self.name, delivery.message.priority).observe(max(0.0, took))

    async def _until_stored(self, work: Callable[[], Work[Any]]) -> Any:
        """Write, however long the store fails: an outcome that is known must not be forgotten and the message sent twice."""
        while True:
            try:
                return await self._tools.store.write(work())
            except StoreUnavailable as error:
                get_logger().error("a delivery waits for the store", channel=self.name, error=str(error))
                await self._tools.clock.sleep(STORE_RETRY_SECONDS)
