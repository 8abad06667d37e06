"""One source and what became of its fetches: last good snapshot, age, counts, and the metrics that say so.

Written by the poller only, from the event loop. Asks nothing and waits for nothing.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from deskwatch.errors import Reason
from deskwatch.logs import get_logger
from exporter.breaker import Breaker
from exporter.failure import Failure
from exporter.reading import Family, Sample
from exporter.schedule import Schedule
from exporter.snapshot import Snapshot
from exporter.source import Source, SourceConfig

UP = Family("desk_source_up", "Whether the last fetch of the source succeeded, 0 or 1", ("source", "kind"))
LAST_SUCCESS = Family(
    "desk_source_last_success_timestamp_seconds",
    "When the source was last fetched successfully, before a restart too, Unix time; absent before the first time",
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
BREAKER_OPEN = Family(
    "desk_source_breaker_open",
    "Whether the source is left alone because it failed several times in a row, 0 or 1; 1 until a fetch succeeds",
    ("source",),
)
QUOTA = Family(
    "desk_source_quota_used_ratio",
    "Share of the venue's rate limit used now, by everybody as far as known; absent where the source knows no limit",
    ("source",),
)
METRICS = (UP, LAST_SUCCESS, DURATION, FETCHES, FAILURES, STALE_AFTER, REJECTED, BREAKER_OPEN, QUOTA)

MOST_REJECTED_REASONS = 30
"""Reasons are bounded by their readers; a plug-in that forgets it becomes `other` from here on."""


class Tracked:
    """One source and what became of its fetches.

    Args:
        source: what is fetched.
        now: monotonic seconds.
        chance: jitter.
    """

    def __init__(self, source: Source[Any], now: float, chance: random.Random) -> None:
        self.source = source
        self.config: SourceConfig = source.config
        self.schedule = Schedule(source.config, chance, now)
        self.breaker = Breaker(source.config.breaker.failures)
        self.snapshot: Snapshot | None = None
        self.succeeded_at: datetime | None = None
        self.succeeded_monotonic = 0.0
        self.up = False
        self.duration_seconds: float | None = None
        self.attempts = 0
        self.failures_in_a_row = 0
        self.failures: Counter[Reason] = Counter()
        self.rejected: Counter[str] = Counter()
        self.last_error = ""
        self.failed_monotonic: float | None = None
        """When a fetch last failed, None where none has."""
        self.tried = False
        self.busy = asyncio.Lock()
        """Held during a fetch: there are never two of one source."""
        self.moved = asyncio.Event()
        """Set when the next fetch is due at another time than its task is waiting for."""
        self.fetching: asyncio.Task[Snapshot] | None = None
        self.task: asyncio.Task[None] | None = None
        self._failing_since = 0.0
        self._logged: set[tuple[Reason, str]] = set()
        """Failures logged since the last success: the repeats are counted only."""
        self._rejecting: frozenset[str] = frozenset()
        """Reasons for which the last snapshot left records out, which the log has already."""

    @property
    def name(self) -> str:
        """Label `source`."""
        return self.config.name

    @property
    def quota_used_ratio(self) -> float | None:
        """Share of the rate limit used, None where it is not known; a source that cannot say is no reason to fail."""
        try:
            ratio = self.source.quota_used_ratio
        except Exception:
            return None
        return ratio if ratio is not None and math.isfinite(ratio) else None

    def age_seconds(self, monotonic: float) -> float | None:
        """Age of the last good snapshot, None before the first."""
        return None if self.snapshot is None else monotonic - self.succeeded_monotonic

    def is_stale(self, monotonic: float) -> bool:
        """Whether the last good snapshot is too old to be used, or there is none."""
        age = self.age_seconds(monotonic)
        return age is None or age > self.config.stale_after_seconds

    def inherit(self, before: Tracked, *, snapshot: bool) -> None:
        """Go on where a source of this name left off: its counts, and its last good snapshot where that is still ours."""
        self.attempts, self.duration_seconds = before.attempts, before.duration_seconds
        self.failures, self.rejected = Counter(before.failures), Counter(before.rejected)
        self.last_error, self.failed_monotonic = before.last_error, before.failed_monotonic
        if snapshot:
            self.snapshot, self.up = before.snapshot, before.up
            self.succeeded_at, self.succeeded_monotonic = before.succeeded_at, before.succeeded_monotonic

    def begin(self, now: float, *, in_turn: bool) -> None:
        """A fetch begins."""
        self.attempts += 1
        self.breaker.begin()
        if in_turn:
            self.schedule.begin(now)

    def succeeded(self, snapshot: Snapshot, at: datetime, begun: float, now: float, *, in_turn: bool) -> None:
        """A fetch succeeded.

        Args:
            snapshot: what it returned.
            at: wall time.
            begun: monotonic seconds.
            now: monotonic seconds.
            in_turn: whether it was due, or an operator's.
        """
        self._log_success(snapshot, now)
        self._count_rejected(snapshot)
        if in_turn:
            self.schedule.succeeded(now)
        elif self.failures_in_a_row:
            self.schedule.recovered(begun)
        self.breaker.succeeded()
        self.snapshot = snapshot
        self.succeeded_at, self.succeeded_monotonic = at, now
        self.up, self.failures_in_a_row, self.duration_seconds = True, 0, now - begun
        self._logged.clear()

    def failed(self, failure: Failure, begun: float, now: float) -> None:
        """A fetch failed: it is counted, and decided when the next is due."""
        if not self.failures_in_a_row:
            self._failing_since = begun
        self.failures_in_a_row += 1
        self.failures[failure.reason] += 1
        self.failed_monotonic = now
        self.duration_seconds = now - begun
        if failure.throttled:
            self.breaker.abstained()
            self.schedule.held(now, failure.asked_seconds or 0.0)
        else:
            self.breaker.failed()
            tripped, failures = self.breaker.tripped, self.breaker.failures
            self.schedule.failed(now, failures, tripped=tripped, asked_seconds=failure.asked_seconds)
        self.down(failure.message)

    def down(self, message: str) -> None:
        """The source does not deliver now."""
        self.up, self.last_error = False, message

    def is_news(self, failure: Failure) -> bool:
        """Whether a failure like this has not been logged since the last success. The next one like it is none."""
        kind = (failure.reason, failure.message if failure.unforeseen else "")
        known = kind in self._logged
        self._logged.add(kind)
        return not known

    def samples(self) -> Iterator[Sample]:
        """The families `METRICS` as of now."""
        name = self.name
        yield UP.sample(name, self.source.kind, value=float(self.up))
        if self.succeeded_at is not None:
            yield LAST_SUCCESS.sample(name, value=self.succeeded_at.timestamp())
        if self.duration_seconds is not None:
            yield DURATION.sample(name, value=self.duration_seconds)
        yield FETCHES.sample(name, value=float(self.attempts))
        # All reasons from the start: an increase from nothing is no increase to Prometheus.
        for reason in Reason:
            yield FAILURES.sample(name, reason.value, value=float(self.failures[reason]))
        yield STALE_AFTER.sample(name, value=self.config.stale_after_seconds)
        for why, count in sorted(self.rejected.items()):
            yield REJECTED.sample(name, why, value=float(count))
        yield BREAKER_OPEN.sample(name, value=float(self.breaker.tripped))
        quota = self.quota_used_ratio
        if quota is not None:
            yield QUOTA.sample(name, value=quota)

    def _log_success(self, snapshot: Snapshot, now: float) -> None:
        if self.failures_in_a_row:
            lost = round(now - self._failing_since, 3)
            get_logger().info("source is back", source=self.name, failures=self.failures_in_a_row, after_seconds=lost)
        elif self.snapshot is None:
            get_logger().info("source delivers", source=self.name, notes=dict(snapshot.notes))

    def _count_rejected(self, snapshot: Snapshot) -> None:
        """Count what was left out; log each reason once, until it has gone away and comes back."""
        counts: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for each in snapshot.rejected:
            known = self.rejected.keys() | counts.keys()
            reason = each.reason if each.reason in known or len(known) < MOST_REJECTED_REASONS else "other"
            counts[reason] += 1
            examples.setdefault(reason, each.record)
        for reason, count in counts.items():
            if reason not in self._rejecting:
                message = "records of the source cannot be read and are left out"
                get_logger().warning(message, source=self.name, reason=reason, records=count, example=examples[reason])
        self._rejecting = frozenset(counts)
        self.rejected.update(counts)
