"""An episode: one firing-to-resolved life of one alert identity, and what one notification says about identities. Pure.

Keeps nothing and decides nothing about opening and closing; that is `receiver.episodes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from deskwatch.clock import from_microseconds
from deskwatch.store import Row
from receiver.alerts import Alert, Notification, identity
from receiver.message import Enrichment, EpisodeView

NO_DATA_ALERTS = frozenset({"DatasourceNoData", "DatasourceError"})
"""What Grafana sends in a rule's place when its query returns nothing or fails; label `rulename` is the rule."""

What = Literal["opened", "closed", "repeated", "seen"]
"""What a notification did to an episode: `repeated` and `seen` both mean still firing, `repeated` is due to be said again."""

_TEXTS = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Sighting:
    """Everything one notification says about one identity: the alert that stands for it."""

    identity: str
    alert: Alert
    direct: bool
    """Whether only the exporter's own detector says so."""

    @property
    def rule_without_data(self) -> str:
        """The rule this alert stands in for because its query gave nothing; empty for any other alert."""
        return self.alert.labels.get("rulename", "") if self.alert.name in NO_DATA_ALERTS else ""


@dataclass(frozen=True, slots=True)
class Episode:
    """A row of `episodes`."""

    episode_id: str
    identity: str
    group_key: str
    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str
    external_url: str
    direct_only: bool
    starts_at: datetime
    last_starts_at: datetime
    opened_at: datetime
    said_at: datetime
    resolve_pending: datetime | None = None
    resolved_at: datetime | None = None

    def view(self, enrichment: Enrichment) -> EpisodeView:
        """As a message shows it."""
        return EpisodeView(
            episode_id=self.episode_id,
            identity=self.identity,
            status="firing" if self.resolved_at is None else "resolved",
            labels=self.labels,
            annotations=self.annotations,
            starts_at=self.starts_at,
            resolved_at=self.resolved_at,
            generator_url=self.generator_url,
            enrichment=enrichment,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """An episode after a notification, and what the notification did to it."""

    episode: Episode
    what: What


def sightings(alerts: Iterable[Alert], ignored: Collection[str]) -> list[Sighting]:
    """One sighting for each identity, in the order first met.

    Alerts that differ in ignored labels only are one identity; it fires while one of them does.
    """
    found: dict[str, list[Alert]] = {}
    for alert in alerts:
        found.setdefault(identity(alert.labels, ignored), []).append(alert)
    return [Sighting(key, _representative(same), all(alert.direct for alert in same)) for key, same in found.items()]


def _representative(alerts: list[Alert]) -> Alert:
    firing = [alert for alert in alerts if alert.status == "firing"]
    if firing:
        return max(firing, key=lambda alert: alert.starts_at)
    return max(alerts, key=lambda alert: alert.ends_at or alert.starts_at)


def group_key(notification: Notification) -> str:
    """What keeps messages about one alert group together and in order. 32 hex digits.

    Alertmanager's group key where there is one, else the receiver and what identifies its first alert.
    """
    basis: tuple[Any, ...] = (notification.group_key,)
    if not notification.group_key:
        labels = notification.group_labels or notification.alerts[0].labels
        basis = (notification.receiver, sorted(labels.items()))
    return hashlib.sha256(msgspec.json.encode(basis)).hexdigest()[:32]


def from_row(row: Row) -> Episode:
    """The episode in a row of `episodes`."""
    return Episode(
        episode_id=row["episode_id"],
        identity=row["identity"],
        group_key=row["group_key"],
        labels=_TEXTS.decode(row["labels"]),
        annotations=_TEXTS.decode(row["annotations"]),
        generator_url=row["generator_url"],
        external_url=row["external_url"],
        direct_only=bool(row["direct_only"]),
        starts_at=from_microseconds(row["starts_at_us"]),
        last_starts_at=from_microseconds(row["last_starts_at_us"]),
        opened_at=from_microseconds(row["opened_at_us"]),
        said_at=from_microseconds(row["said_at_us"]),
        resolve_pending=_moment(row["resolve_pending_us"]),
        resolved_at=_moment(row["resolved_at_us"]),
    )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)


def as_json(texts: dict[str, str]) -> str:
    """Labels or annotations as the store keeps them."""
    return msgspec.json.encode(texts).decode()
