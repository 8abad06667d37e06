"""Planning: from what changed to what is said to which channel. Pure.

A channel that groups by `group` gets one message for an alert group, one that groups by `episode` one for each episode that
changed. Nothing is planned where nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from receiver.alerts import Alert, Notification
from receiver.deliveries import Planned
from receiver.episode import Change, Episode
from receiver.message import (
    Enrichment,
    EpisodeView,
    Message,
    MessageKind,
    most_severe,
    most_urgent,
    priority_of,
)
from receiver.route import RoutingTable

_KIND: dict[str, MessageKind] = {"opened": "trigger", "closed": "resolve", "repeated": "repeat"}
_UNKNOWN = Enrichment()


@dataclass(frozen=True, slots=True)
class Recipient:
    """What planning knows of a channel."""

    name: str
    grouping: Literal["group", "episode"]
    takes: frozenset[MessageKind]
    attempts_limit: int


@dataclass(frozen=True, slots=True)
class Planner:
    """The desk's channels and routes."""

    recipients: Mapping[str, Recipient]
    routing: RoutingTable

    def messages(
        self, changes: Sequence[Change], notification: Notification, enrichments: Mapping[str, Enrichment]
    ) -> list[Planned]:
        """What to say about a notification.

        Args:
            changes: every episode the notification concerns and what it did to it.
            notification: the notification.
            enrichments: by identity; an identity without one is said plainly.
        """
        routed: dict[str, list[Change]] = {}
        for change in changes:
            for name in self.routing.channels(change.episode.labels):
                routed.setdefault(name, []).append(change)
        planned = []
        for name, concerned in routed.items():
            recipient = self.recipients[name]
            bundles = _by_group(concerned) if recipient.grouping == "group" else [[change] for change in concerned]
            for bundle in bundles:
                message = _message(bundle, recipient, notification, enrichments)
                if message is not None:
                    planned.append(self._to(recipient, message))
        return planned

    def remediation(self, episode: Episode, said: Remediation) -> list[Planned]:
        """What a hook did or would do, to the channels its alert goes to; it follows the trigger by the same dedup key."""
        view = episode.view(_UNKNOWN)
        recipients = [self.recipients[name] for name in self.routing.channels(episode.labels)]
        return [
            self._to(
                recipient,
                Message(
                    kind="remediation",
                    dedup_key=_dedup_key(episode, recipient),
                    priority=priority_of(episode.labels),
                    severity=episode.labels.get("severity", "info"),
                    episodes=(view,),
                    changed=(episode.episode_id,),
                    external_url=episode.external_url,
                    text=said.text,
                    hook=said.hook,
                    run_mode=said.mode,
                    run_outcome=said.outcome,
                ),
            )
            for recipient in recipients
            if "remediation" in recipient.takes
        ]

    def notice(self, text: str, dedup_key: str, *, at_fault: str = "") -> Planned | None:
        """Tell the fallback channel that the receiver itself needs a person; None where the fallback itself is at fault."""
        recipient = self.recipients[self.routing.fallback]
        if recipient.name == at_fault:
            return None
        message = Message(kind="notice", dedup_key=dedup_key, priority="P0", severity="critical", episodes=(), text=text)
        return self._to(recipient, message)

    def test(self, alerts: Iterable[Alert]) -> list[Planned]:
        """Somebody pressed a Test button: only channels that take tests say so."""
        views = tuple(
            EpisodeView(
                episode_id="test",
                identity="test",
                status=alert.status,
                labels=alert.labels,
                annotations=alert.annotations,
                starts_at=alert.starts_at,
                resolved_at=alert.ends_at,
            )
            for alert in alerts
        )
        message = Message(kind="test", dedup_key="test", priority="INFO", severity="info", episodes=views)
        return [self._to(recipient, message) for recipient in self.recipients.values() if "test" in recipient.takes]

    def _to(self, recipient: Recipient, message: Message) -> Planned:
        return Planned(recipient.name, message, recipient.attempts_limit)


@dataclass(frozen=True, slots=True)
class Remediation:
    """What came of a hook's run, to be said to people."""

    hook: str
    mode: str
    outcome: str
    text: str


def mark_repeats(changes: Sequence[Change], now: datetime, window: timedelta) -> list[Change]:
    """Where a notification changed nothing, the episodes last spoken of more than `window` ago are due to be said again.

    Alertmanager decides how often (`repeat_interval`); the exporter's own detector, which posts every few seconds, does not.
    """
    if any(change.what != "seen" for change in changes):
        return list(changes)
    return [
        replace(change, what="repeated")
        if now - change.episode.said_at >= window and not change.episode.direct_only
        else change
        for change in changes
    ]


def _by_group(changes: Sequence[Change]) -> list[list[Change]]:
    """Apart by the group an episode was opened in: its messages stay with one key for its whole life, hence in order."""
    bundles: dict[str, list[Change]] = {}
    for change in changes:
        bundles.setdefault(change.episode.group_key, []).append(change)
    return list(bundles.values())


def _message(
    bundle: Sequence[Change],
    recipient: Recipient,
    notification: Notification,
    enrichments: Mapping[str, Enrichment],
) -> Message | None:
    did = {change.what for change in bundle}
    kind = next((_KIND[what] for what in ("opened", "closed", "repeated") if what in did), None)
    if kind is None or kind not in recipient.takes:
        return None
    ordered = sorted(bundle, key=_firing_first)
    labels = [change.episode.labels for change in ordered]
    view: Callable[[Episode], EpisodeView] = lambda episode: episode.view(enrichments.get(episode.identity, _UNKNOWN))  # noqa: E731
    return Message(
        kind=kind,
        dedup_key=_dedup_key(ordered[0].episode, recipient),
        priority=most_urgent(priority_of(each) for each in labels),
        severity=most_severe(each.get("severity", "info") for each in labels),
        episodes=tuple(view(change.episode) for change in ordered),
        changed=tuple(change.episode.episode_id for change in ordered if change.what != "seen"),
        group_labels=notification.group_labels,
        truncated=notification.truncated,
        external_url=notification.external_url,
    )


def _dedup_key(episode: Episode, recipient: Recipient) -> str:
    return episode.group_key if recipient.grouping == "group" else episode.identity


def _firing_first(change: Change) -> tuple[bool, str]:
    return change.episode.resolved_at is not None, change.episode.labels.get("alertname", "")
