"""The second detector: critical desk limits, checked without Prometheus and reported without it.

Breaches go to every Alertmanager under the labels Prometheus would give them, so that grouping, silences and inhibition apply
and both detectors make one alert. Only while no Alertmanager accepts them are they told to the receiver itself: first written
to disk, then posted until it takes them. Sending happens in tasks of its own and never delays a cycle.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeAlias

from deskwatch.clock import Clock, until_set
from deskwatch.errors import Permanent, Reason, Retryable, StoreUnavailable
from deskwatch.logs import get_logger
from exporter.config import AlertmanagerConfig, DetectorConfig, ReceiverAddress
from exporter.detection.breach import Breaches, Key, Verdict
from exporter.detection.rulefile import LimitRule
from exporter.detection.spool import Spool, Told
from exporter.detection.target import OK, Target
from exporter.detection.webhook import webhook_body, wire_time
from exporter.reading import Family, Reading, Sample

RULES = Family("deskwatch_detector_rules", "Critical desk-limit alerts of the rule files the second detector repeats")
POSTS = Family(
    "deskwatch_detector_posts_total",
    "Posts of the second detector to an Alertmanager or the receiver, by outcome: ok, or why not",
    ("target", "outcome"),
    "counter",
)
SPOOL_DEPTH = Family(
    "deskwatch_detector_spool_depth", "Messages of the second detector that wait on disk until the receiver takes them"
)
METRICS = (RULES, POSTS, SPOOL_DEPTH)

ALERTS, WEBHOOK = "/api/v2/alerts", "/api/v1/webhook"
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
KEPT_REPOSTS = 4
"""Alertmanager ends an alert that was not posted again for so many intervals."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
"""Bounds of the wait between two attempts at the receiver: after the first failure, and after many."""


class Detector:
    """The second detector.

    Args:
        config: section `exporter.detector`.
        rules: from `read_rules`.
        clock: wall and monotonic time, and waiting.
        spool: the durable way to the receiver; None where no receiver is configured.
        chance: jitter.
    """

    def __init__(
        self,
        config: DetectorConfig,
        rules: Sequence[LimitRule],
        clock: Clock,
        spool: Spool | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._config = config
        self._rules = rules
        self._clock = clock
        self._spool = spool
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._breaches = Breaches(rules, config.hold_seconds)
        self._alertmanagers = [Target(each, ALERTS) for each in config.alertmanagers]
        self._receiver = Target(config.receiver, WEBHOOK) if config.receiver else None
        self._verdict = Verdict()
        self._direct = asyncio.Event()
        self._spooled = asyncio.Event()
        self._replaced = asyncio.Event()

    def prepare(self, config: DetectorConfig, rules: Sequence[LimitRule], spool: Spool | None) -> Callable[[], None]:
        """How to go on by another configuration: call what is returned between two readings.

        What is pending, fires or was told goes on: nothing ends and nothing is told again because of it. An address that
        stays, stays with its counts, also under other credentials; a new one is posted all that fires.
        """
        kept = {each.config.base_url: each for each in self._alertmanagers}
        swaps: list[Callable[[], None]] = []

        def target(before: Target | None, address: AlertmanagerConfig | ReceiverAddress, path: str) -> Target:
            if before is None:
                return Target(address, path)
            swaps.append(before.prepare(address))
            return before

        alertmanagers = [target(kept.get(each.base_url), each, ALERTS) for each in config.alertmanagers]
        before = self._receiver
        same = before is not None and config.receiver is not None and before.config.base_url == config.receiver.base_url
        receiver = target(before if same else None, config.receiver, WEBHOOK) if config.receiver else None

        def swap() -> None:
            for each in swaps:
                each()
            self._config, self._rules, self._spool = config, rules, spool
            self._alertmanagers, self._receiver = alertmanagers, receiver
            self._breaches.replace(rules, config.hold_seconds)
            self._replaced.set()

        return swap

    def judge(self, reading: Reading) -> Verdict:
        """What this reading means; once per reading, in order. Pure work: may run in a thread."""
        return self._breaches.step(reading, self._clock.monotonic())

    def act(self, verdict: Verdict) -> None:
        """See to it that the verdict is reported. Returns at once."""
        before, self._verdict = {breach.key for breach in self._verdict.firing}, verdict
        for breach in verdict.firing:
            if breach.key not in before:
                found = {"alert": breach.key.alert, "portfolio": breach.key.portfolio, "limit": breach.key.limit}
                get_logger().warning("limit breached", **found, utilization=breach.value)
                for target in self._alertmanagers:
                    target.accepts = None
                    target.news.set()
        self._direct.set()

    def samples(self) -> list[Sample]:
        """The families `METRICS` as of now."""
        targets = [*self._alertmanagers, *([self._receiver] if self._receiver else [])]
        outcomes = (OK, *(reason.value for reason in Reason))
        return [
            RULES.sample(value=float(len(self._rules))),
            *(
                POSTS.sample(each.name, outcome, value=float(each.outcomes[outcome]))
                for each in targets
                for outcome in outcomes
            ),
            SPOOL_DEPTH.sample(value=float(self._spool.depth if self._spool else 0)),
        ]

    async def run(self) -> None:
        """Report until cancelled, then close the connections. Addresses come and go (`prepare`)."""
        running: dict[Target, list[asyncio.Task[None]]] = {}
        try:
            while True:
                self._replaced.clear()
                wanted = self._works()
                if not wanted:
                    get_logger().warning("the second detector has neither an Alertmanager nor a receiver to report to")
                for target in running.keys() - wanted.keys():
                    await _end(target, running.pop(target))
                for target in wanted.keys() - running.keys():
                    running[target] = [asyncio.create_task(self._unbroken(work)) for work in wanted[target]]
                for target in running:
                    await target.close_retired()
                await self._replaced.wait()
        finally:
            for target, tasks in running.items():
                await _end(target, tasks)

    def _works(self) -> dict[Target, list[Work]]:
        """What is to be done for each address, for ever."""
        works: dict[Target, list[Work]] = {target: [partial(self._keep_posting, target)] for target in self._alertmanagers}
        if self._receiver is not None and self._spool is not None:
            direct = (self._receiver, self._spool)
            works[self._receiver] = [partial(self._keep_telling, *direct), partial(self._keep_draining, *direct)]
        return works

    async def _unbroken(self, work: Work) -> None:
        """Run a loop that never ends, and again after an error nobody foresaw: it must not end the exporter."""
        while True:
            try:
                await work()
            except Exception:
                get_logger().exception("the second detector failed; it goes on", again_in_seconds=FIRST_WAIT_SECONDS)
                await self._clock.sleep(FIRST_WAIT_SECONDS)

    async def _keep_posting(self, target: Target) -> None:
        """Post all that fires to one Alertmanager, at once where something is new, else every `repost_seconds`.

        The end of a breach is never posted: it would override a Prometheus that still sees one. Alertmanager ends the alert
        when nobody posts it any more.
        """
        while True:
            target.news.clear()
            if self._verdict.firing:
                await self._post_all(target)
                self._direct.set()
            await until_set(self._clock, target.news, self._config.repost_seconds)

    async def _post_all(self, target: Target) -> None:
        now = self._clock.now()
        ends_at = now + timedelta(seconds=KEPT_REPOSTS * self._config.repost_seconds)
        alerts = [
            {
                "labels": breach.labels(self._config.external_labels),
                "annotations": breach.annotations(self._config.external_labels),
                "startsAt": wire_time(breach.since),
                "endsAt": wire_time(ends_at),
            }
            for breach in self._verdict.firing
        ]
        try:
            await target.post(json.dumps(alerts))
        except (Retryable, Permanent):
            return  # counted and logged by the target; the direct way looks at `accepts`

    async def _keep_telling(self, receiver: Target, spool: Spool) -> None:
        while True:
            await self._direct.wait()
            self._direct.clear()
            try:
                await self._tell(receiver, spool)
            except (Retryable, Permanent):
                continue  # logged by the target; tried again with the next reading

    async def _tell(self, receiver: Target, spool: Spool) -> None:
        """Tell the receiver what fires while no Alertmanager accepts it, and the end of what it was told before."""
        verdict, external = self._verdict, self._config.external_labels
        if all(target.accepts is False for target in self._alertmanagers):
            for breach in verdict.firing:
                alert = Told(breach.labels(external), breach.annotations(external), wire_time(breach.since))
                if alert.identity not in spool.told:
                    message = "no Alertmanager accepts alerts; the receiver is told directly"
                    get_logger().warning(message, **breach.key._asdict())
                    await self._keep_or_post(receiver, spool, alert, ends_at=None)
        for alert in list(spool.told.values()):
            key = Key(*(alert.labels.get(name, "") for name in ("alertname", "portfolio", "limit")))
            if key in verdict.inside or key not in verdict.watched:
                await self._keep_or_post(receiver, spool, alert, ends_at=self._clock.now())

    async def _keep_or_post(self, receiver: Target, spool: Spool, alert: Told, ends_at: datetime | None) -> None:
        """Write to disk what is to be told, or, where the disk fails, tell it at once: it must not keep a critical back."""
        body = webhook_body(alert, ends_at)
        try:
            await spool.add(alert, body, ended=ends_at is not None)
            self._spooled.set()
        except StoreUnavailable as error:
            get_logger().error("the second detector cannot write its spool; it posts without", error=str(error))
            await receiver.post(body)
            spool.remember(alert, ended=ends_at is not None)

    async def _keep_draining(self, receiver: Target, spool: Spool) -> None:
        """Post what is spooled, oldest first, each until the receiver has taken it."""
        failures = 0
        while True:
            wanted = 0.0
            try:
                while entry := await spool.oldest():
                    await receiver.post(entry.body)
                    await spool.remove(entry)
                    failures = 0
                await self._spooled.wait()
                self._spooled.clear()
                continue
            except Retryable as error:
                wanted = error.retry_after_seconds or 0.0
            except Permanent:
                wanted = LONGEST_WAIT_SECONDS  # someone has to correct an address or a token first
            except StoreUnavailable as error:
                get_logger().error("the second detector cannot read its spool", error=str(error))
            failures += 1
            bound = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 16))
            receiver.news.clear()
            await until_set(self._clock, receiver.news, max(wanted, self._chance.uniform(0.0, bound)))


async def _end(target: Target, tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await target.close()
