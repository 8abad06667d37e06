"""The receiver's own metrics: declared once, in a registry the service makes; what the store knows is counted at each scrape.

No label holds text from an alert: severities are folded into those Prometheus users know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from deskwatch import __version__
from deskwatch.store import Statement, Work
from receiver import dead_letters, deliveries, runs
from receiver.message import Priority

_ACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DELIVERY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
ANSWERS = ("accepted", "not_json", "unauthorized", "too_large", "unusable", "unavailable")
RUNS = ("succeeded", "failed", "timed_out", "unresolved", "refused")
_PRIORITIES: tuple[Priority, ...] = ("P0", "P1", "P2", "INFO")
_SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Counts:
    """What the store holds at one moment."""

    journal_backlog: int
    episodes_open: Mapping[str, int]
    backlog: Mapping[tuple[str, str], int]
    dead: Mapping[str, int]
    unresolved: Mapping[str, int]
    awaiting_approval: int


def count() -> Work[Counts]:
    """Count it, on one snapshot."""
    waiting = yield Statement("SELECT count(*) AS entries FROM journal WHERE state = 'accepted'")
    severities = yield Statement(
        "SELECT severity, count(*) AS episodes FROM episodes WHERE resolved_at_us IS NULL GROUP BY severity"
    )
    episodes_open = dict.fromkeys((*_SEVERITIES, "other"), 0)
    for row in severities:
        episodes_open[row["severity"] if row["severity"] in _SEVERITIES else "other"] += row["episodes"]
    return Counts(
        journal_backlog=waiting[0]["entries"],
        episodes_open=episodes_open,
        backlog=(yield from deliveries.backlog()),
        dead=(yield from dead_letters.counts()),
        unresolved=(yield from runs.unresolved()),
        awaiting_approval=(yield from runs.awaiting_approval()),
    )


class Metrics:
    """Every family of the receiver, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.build_info = self._gauge("build_info", "Always 1; the version is a label", "version")
        self.build_info.labels(__version__).set(1)
        self.webhooks = self._counter("webhooks", f"Notifications answered, by outcome: {', '.join(ANSWERS)}", "outcome")
        self.alerts = self._counter("alerts_received", "Alerts in accepted notifications")
        self.ack_seconds = self._histogram("ack_seconds", "From a notification's last byte to its commit", _ACK_BUCKETS)
        self.notifications = self._counter(
            "notifications_processed",
            "Journaled notifications finished, by outcome: changed, repeat, duplicate, unchanged, test, failed",
            "outcome",
        )
        self.journal_backlog = self._gauge("journal_backlog", "Accepted notifications the worker has not finished")
        self.deliveries = self._counter(
            "deliveries", "Attempts at a delivery, by outcome: delivered, retry, dead", "channel", "outcome"
        )
        self.delivery_failures = self._counter(
            "delivery_failures", "Failed attempts at a delivery, by reason", "channel", "reason"
        )
        self.delivery_seconds = self._histogram(
            "delivery_seconds", "From planned to delivered", _DELIVERY_BUCKETS, "channel", "priority"
        )
        self.delivery_backlog = self._gauge(
            "delivery_backlog", "Deliveries neither delivered nor given up", "channel", "priority"
        )
        self.dead_letters = self._gauge("dead_letters", "Deliveries given up and not replayed", "channel")
        self.episodes_open = self._gauge("episodes_open", "Open episodes", "severity")
        self.hook_runs = self._counter("hook_runs", f"Runs of hooks, by outcome: {', '.join(RUNS)}", "hook", "outcome")
        self.unresolved = self._gauge("hook_runs_unresolved", "Interrupted runs an operator has to settle", "hook")
        self.approvals_pending = self._gauge("approvals_pending", "Live runs that wait for an operator")

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"deskwatch_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"deskwatch_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"deskwatch_{name}", meaning, labels, registry=self.registry, buckets=buckets)

    def expect(self, channels: Mapping[str, object], hooks: Mapping[str, object]) -> None:
        """Start every series of these channels and hooks at zero: a rate needs the zero before the first event."""
        for outcome in ANSWERS:
            self.webhooks.labels(outcome)
        for channel in channels:
            for outcome in ("delivered", "retry", "dead"):
                self.deliveries.labels(channel, outcome)
            for priority in _PRIORITIES:
                self.delivery_seconds.labels(channel, priority)
        for hook in hooks:
            for outcome in RUNS:
                self.hook_runs.labels(hook, outcome)

    def show(self, counts: Counts, channels: Mapping[str, object], hooks: Mapping[str, object]) -> None:
        """Set the gauges to what the store holds; a channel or hook with nothing shows 0."""
        self.journal_backlog.set(counts.journal_backlog)
        self.approvals_pending.set(counts.awaiting_approval)
        for severity, episodes in counts.episodes_open.items():
            self.episodes_open.labels(severity).set(episodes)
        for channel in {*channels, *counts.dead}:
            self.dead_letters.labels(channel).set(counts.dead.get(channel, 0))
        for channel in channels:
            for priority in _PRIORITIES:
                self.delivery_backlog.labels(channel, priority).set(counts.backlog.get((channel, priority), 0))
        for hook in {*hooks, *counts.unresolved}:
            self.unresolved.labels(hook).set(counts.unresolved.get(hook, 0))


def catalogue() -> list[Mapping[str, Any]]:
    """Every family of the receiver, for `deskwatch metrics`."""
    registry = CollectorRegistry()
    declared = vars(Metrics(registry)).values()
    return [_described(each) for each in declared if isinstance(each, MetricWrapperBase)]


def _described(collector: Any) -> Mapping[str, Any]:
    family = collector.describe()[0]
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return {"name": name, "type": family.type, "labels": list(collector._labelnames), "help": family.documentation}
