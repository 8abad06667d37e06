"""Fetches every source in the background: the only caller of `Source.fetch`.

One task per source, so that one that hangs or fails holds up no other: interval, deadline, back-off with full jitter, never
two fetches of one source at a time. Keeps each source's last good snapshot; how old that is, is measured by the monotonic
clock, which no operator and no NTP sets back.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.logs import correlated, get_logger
from exporter.desk import Feed
from exporter.reading import Family, Sample
from exporter.snapshot import Snapshot
from exporter.source import Kept, Source, SourceConfig

UP = Family("desk_source_up", "Whether the last fetch of the source succeeded, 0 or 1", ("source", "kind"))
LAST_SUCCESS = Family(
    "desk_source_last_success_timestamp_seconds",
    "When the source was last fetched successfully, Unix time; absent before the first time",
    ("source",),
)
DURATION = Family(
    "desk_source_fetch_duration_seconds", "How long the last fetch of the source took, failed ones included", ("source",)
)
FETCHES = Family("desk_source_fetches_total", "Fetches of the source begun", ("source",), "counter")
FAILURES = Family(
    "desk_source_fetch_failures_total", "Fetches of the source that failed, by reason", ("source", "reason"), "counter"
)
STALE_AFTER = Family("desk_source_stale_after_seconds", "Age of the source's data at which its series disappear", ("source",))
REJECTED = Family(
    "desk_records_rejected_total",
    "Records of the source that could not be read and were left out, counted at each fetch, by reason",
    ("source", "reason"),
    "counter",
)
METRICS = (UP, LAST_SUCCESS, DURATION, FETCHES, FAILURES, STALE_AFTER, REJECTED)

FIRST_BACKOFF_SECONDS = 1.0
"""Upper bound of the wait after a first failure; doubles with each further one."""
LONGEST_BACKOFF_SECONDS = 60.0
"""Bound of the wait, unless the interval itself is longer."""
CANCEL_SECONDS = 1.0
"""How long a fetch past its deadline may take to end; a longer one still blocks the next fetch of its source."""


@dataclass(slots=True)
class Tracked:
    """One source and what became of its fetches. Written by the poller only."""

    source: Source[Any]
    snapshot: Snapshot | None = None
    succeeded_at: datetime | None = None
    succeeded_monotonic: float = 0.0
    up: bool = False
    duration_seconds: float | None = None
    attempts: int = 0
    failures_in_a_row: int = 0
    failures: Counter[Reason] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    last_error: str = ""
    logged: set[Reason] = field(default_factory=set)
    """Reasons logged since the last success: the repeats are counted only."""
    failing_since: float = 0.0
    tried: bool = False
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def config(self) -> SourceConfig:
        """The source's configuration."""
        config: SourceConfig = self.source.config
        return config

    @property
    def name(self) -> str:
        """Label `source`."""
        return self.config.name

    def age_seconds(self, monotonic: float) -> float | None:
        """Age of the last good snapshot, None before the first."""
        return None if self.snapshot is None else monotonic - self.succeeded_monotonic

    def is_stale(self, monotonic: float) -> bool:
        """Whether the last good snapshot is too old to be used, or there is none."""
        age = self.age_seconds(monotonic)
        return age is None or age > self.config.stale_after_seconds


class Poller:
    """The background fetching of all sources.

    Args:
        sources: in the order of the configuration.
        clock: wall and monotonic time, and waiting.
        chance: jitter.
    """

    def __init__(self, sources: Sequence[Source[Any]], clock: Clock, chance: random.Random | None = None) -> None:
        self.sources = {source.config.name: Tracked(source) for source in sources}
        self._clock = clock
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._tried = asyncio.Event()

    async def run(self) -> None:
        """Fetch until cancelled, then close every source."""
        try:
            async with asyncio.TaskGroup() as group:
                for tracked in self.sources.values():
                    group.create_task(self._keep_fetching(tracked), name=f"source {tracked.name}")
        finally:
            await asyncio.gather(*(self._close(tracked) for tracked in self.sources.values()))

    async def all_tried(self) -> None:
        """Return once every source has been fetched, successfully or not, for the first time."""
        await self._tried.wait()

    async def inspect(self, name: str) -> Tracked:
        """Fetch one source now, outside its turn, and return what is known of it afterwards.

        Raises:
            KeyError: no such source.
        """
        tracked = self.sources[name]
        await self._fetch(tracked)
        return tracked

    def feeds(self) -> tuple[Feed, ...]:
        """Every source as the desk sees it now."""
        now = self._clock.monotonic()
        return tuple(
            Feed(
                source=tracked.name,
                kind=tracked.source.kind,
                provides=frozenset(tracked.source.provides),
                snapshot=tracked.snapshot,
                stale=tracked.is_stale(now),
            )
            for tracked in self.sources.values()
        )

    def samples(self) -> list[Sample]:
        """The families `METRICS` as of now."""
        return [sample for tracked in self.sources.values() for sample in _samples(tracked)]

    async def _keep_fetching(self, tracked: Tracked) -> None:
        while True:
            begun = self._clock.monotonic()
            wanted = await self._fetch(tracked)
            tracked.tried = True
            if all(each.tried for each in self.sources.values()):
                self._tried.set()
            await self._clock.sleep(self._wait(tracked, begun, wanted))

    def _wait(self, tracked: Tracked, begun: float, wanted: float | None) -> float:
        """Seconds to the next fetch: the rest of the interval, or a back-off with full jitter.

        The bound doubles with each failure, up to a minute and never beyond half the time after which the series disappear,
        unless the interval itself is longer; what the venue asked for is always kept.
        Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        config = tracked.config
        failures = tracked.failures_in_a_row
        if not failures:
            return max(0.0, begun + config.interval_seconds - self._clock.monotonic())
        longest = max(config.interval_seconds, min(LONGEST_BACKOFF_SECONDS, config.stale_after_seconds / 2))
        first = min(FIRST_BACKOFF_SECONDS, config.interval_seconds)
        bound = min(longest, first * 2.0 ** min(failures - 1, 32))
        return max(self._chance.uniform(0.0, bound), wanted or 0.0)

    async def _fetch(self, tracked: Tracked) -> float | None:
        """One fetch within its deadline; its outcome is kept. The wait the source asked for, if it failed and named one."""
        async with tracked.busy:
            tracked.attempts += 1
            with correlated(f"fetch-{tracked.name}-{secrets.token_hex(4)}"):
                begun = self._clock.monotonic()
                try:
                    snapshot = await self._within_deadline(tracked)
                except (Retryable, Permanent) as error:
                    tracked.duration_seconds = self._clock.monotonic() - begun
                    self._failed(tracked, error.reason, str(error), begun)
                    return error.retry_after_seconds if isinstance(error, Retryable) else None
                except Exception as error:
                    tracked.duration_seconds = self._clock.monotonic() - begun
                    get_logger().exception("a source failed in an unforeseen way", source=tracked.name)
                    self._failed(tracked, Reason.INTERNAL, f"{type(error).__name__}; see the log", begun)
                    return None
                tracked.duration_seconds = self._clock.monotonic() - begun
                self._succeeded(tracked, snapshot)
                return None

    async def _within_deadline(self, tracked: Tracked) -> Snapshot:
        """The snapshot, or Retryable with reason `timeout`."""
        fetching = asyncio.ensure_future(tracked.source.fetch(Kept(tracked.succeeded_at)))
        deadline = asyncio.ensure_future(self._clock.sleep(tracked.config.timeout_seconds))
        try:
            await asyncio.wait({fetching, deadline}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                await self._end(tracked, fetching)
                seconds = tracked.config.timeout_seconds
                raise Retryable(f"no answer within timeout_seconds ({seconds:g})", reason=Reason.TIMEOUT)
        except asyncio.CancelledError:
            await _cancel(fetching)
            raise
        finally:
            deadline.cancel()
        if fetching.cancelled():
            raise Retryable("the fetch cancelled itself", reason=Reason.INTERNAL)
        return fetching.result()

    async def _end(self, tracked: Tracked, fetching: asyncio.Future[Snapshot]) -> None:
        """Cancel a fetch and wait until it has ended: there are never two of one source."""
        await _cancel(fetching)
        if not fetching.done():
            get_logger().error("a fetch past its deadline does not end; its source waits for it", source=tracked.name)
            tracked.up, tracked.last_error = False, "a fetch past its deadline does not end"
            await asyncio.wait({fetching})

    def _succeeded(self, tracked: Tracked, snapshot: Snapshot) -> None:
        now = self._clock.monotonic()
        if tracked.failures_in_a_row:
            lost = now - tracked.failing_since
            get_logger().info(
                "source is back", source=tracked.name, failures=tracked.failures_in_a_row, after_seconds=round(lost, 3)
            )
        elif tracked.snapshot is None:
            get_logger().info("source delivers", source=tracked.name, notes=dict(snapshot.notes))
        for rejected in snapshot.rejected:
            if rejected.reason not in tracked.rejected:
                message = "records of the source cannot be read and are left out"
                get_logger().warning(message, source=tracked.name, reason=rejected.reason, example=rejected.record)
            tracked.rejected[rejected.reason] += 1
        tracked.snapshot = snapshot
        tracked.succeeded_at, tracked.succeeded_monotonic = self._clock.now(), now
        tracked.up, tracked.failures_in_a_row = True, 0
        tracked.logged.clear()

    def _failed(self, tracked: Tracked, reason: Reason, message: str, begun: float) -> None:
        if not tracked.failures_in_a_row:
            tracked.failing_since = begun
        if reason not in tracked.logged:
            tracked.logged.add(reason)
            get_logger().warning("source failed", source=tracked.name, reason=reason.value, error=message)
        tracked.up, tracked.last_error = False, message
        tracked.failures_in_a_row += 1
        tracked.failures[reason] += 1

    async def _close(self, tracked: Tracked) -> None:
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await tracked.source.close()
        except Exception:
            get_logger().exception("a source could not be closed", source=tracked.name)


async def _cancel(fetching: asyncio.Future[Snapshot]) -> None:
    fetching.cancel()
    await asyncio.wait({fetching}, timeout=CANCEL_SECONDS)
    if fetching.done() and not fetching.cancelled():
        fetching.exception()  # seen: what a cancelled fetch raises interests nobody


def _samples(tracked: Tracked) -> Iterator[Sample]:
    name = tracked.name
    yield UP.sample(name, tracked.source.kind, value=float(tracked.up))
    if tracked.succeeded_at is not None:
        yield LAST_SUCCESS.sample(name, value=tracked.succeeded_at.timestamp())
    if tracked.duration_seconds is not None:
        yield DURATION.sample(name, value=tracked.duration_seconds)
    yield FETCHES.sample(name, value=float(tracked.attempts))
    # All reasons from the start: an increase from nothing is no increase to Prometheus.
    for reason in Reason:
        yield FAILURES.sample(name, reason.value, value=float(tracked.failures[reason]))
    yield STALE_AFTER.sample(name, value=tracked.config.stale_after_seconds)
    for why, count in sorted(tracked.rejected.items()):
        yield REJECTED.sample(name, why, value=float(count))
