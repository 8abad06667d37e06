"""Notifications as Alertmanager and Grafana send them: parsed, frozen, untrusted. Also the identity of an episode.

Only `alerts` is required; unknown keys are ignored (Alertmanager 0.32 and 0.34 add some, Grafana others). One alert that
cannot be read is left out and named in `faults`; the others count. Sources: prometheus.io/docs/alerting/configuration
(webhook_config), alertmanager template/template.go, grafana.com/docs webhook notifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from deskwatch.errors import DeskwatchError

Status = Literal["firing", "resolved"]
MAX_LABELS = 200
MAX_LABEL_BYTES = 64 * 1024
_NEVER_ENDED_BEFORE = datetime(1971, 1, 1, tzinfo=UTC)


class NotJson(DeskwatchError):
    """The body is not JSON: answer 400."""


class NoAlertGroup(DeskwatchError):
    """The body is JSON but holds no alert group: answer 202, keep it, tell the fallback channel."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of a notification. `ends_at` is None while it fires (Alertmanager sends the year 1)."""

    status: Status
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime
    ends_at: datetime | None = None
    generator_url: str = ""
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """Label `alertname`."""
        return self.labels.get("alertname", "")


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One alert group as notified. `truncated` counts alerts the sender cut off: such a group closes nothing."""

    alerts: tuple[Alert, ...]
    status: Status
    receiver: str = ""
    group_key: str = ""
    group_labels: dict[str, str] = {}
    common_labels: dict[str, str] = {}
    common_annotations: dict[str, str] = {}
    external_url: str = ""
    truncated: int = 0
    faults: tuple[str, ...] = ()


class _WireAlert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    status: Status = "firing"
    annotations: dict[str, str] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""


class _WireGroup(msgspec.Struct, rename="camel"):
    alerts: list[msgspec.Raw]
    status: str = ""
    receiver: str = ""
    group_key: str = ""
    group_labels: dict[str, str] = {}
    common_labels: dict[str, str] = {}
    common_annotations: dict[str, str] = {}
    external_url: str = msgspec.field(default="", name="externalURL")
    truncated_alerts: int = 0


_GROUP = msgspec.json.Decoder(_WireGroup)
_ALERT = msgspec.json.Decoder(_WireAlert, strict=False)


def parse(body: bytes, received_at: datetime) -> Notification:
    """Read one webhook body.

    Args:
        body: the request's bytes.
        received_at: stands in for a start time the sender left out, UTC.

    Raises:
        NotJson: not a JSON document.
        NoAlertGroup: JSON without a usable alert.
    """
    try:
        group = _GROUP.decode(body)
    except (msgspec.ValidationError, RecursionError) as error:
        raise NoAlertGroup(f"the body is JSON but not an alert group: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"the body is not JSON: {error}") from error
    alerts: list[Alert] = []
    faults: list[str] = []
    for index, raw in enumerate(group.alerts):
        try:
            alerts.append(_alert(_ALERT.decode(raw), received_at))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            faults.append(f"alerts[{index}]: {error}")
    if not alerts:
        raise NoAlertGroup("; ".join(faults[:3]) or "the group holds no alert")
    firing = any(alert.status == "firing" for alert in alerts)
    return Notification(
        alerts=tuple(alerts),
        status="firing" if firing else "resolved",
        receiver=group.receiver,
        group_key=group.group_key,
        group_labels=group.group_labels,
        common_labels=group.common_labels,
        common_annotations=group.common_annotations,
        external_url=group.external_url,
        truncated=max(0, group.truncated_alerts),
        faults=tuple(faults),
    )


def _alert(wire: _WireAlert, received_at: datetime) -> Alert:
    if not wire.labels:
        raise ValueError("has no labels")
    if len(wire.labels) > MAX_LABELS or sum(len(k) + len(v) for k, v in wire.labels.items()) > MAX_LABEL_BYTES:
        raise ValueError(f"has more than {MAX_LABELS} labels or {MAX_LABEL_BYTES} bytes of them")
    starts_at = _aware(wire.starts_at) or received_at
    ends_at = _aware(wire.ends_at)
    ended = wire.status == "resolved"
    return Alert(
        status=wire.status,
        labels=wire.labels,
        annotations=wire.annotations,
        starts_at=starts_at,
        ends_at=(ends_at or received_at) if ended else None,
        generator_url=wire.generator_url,
        fingerprint=wire.fingerprint,
    )


def _aware(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None if moment < _NEVER_ENDED_BEFORE else moment.astimezone(UTC)


def identity(labels: Mapping[str, str], ignored: Collection[str]) -> str:
    """The identity of an episode: a digest of all labels but the ignored ones. 32 hex digits.

    The key of everything: PagerDuty's dedup key, Slack's thread, remediation, `alert_id`.
    """
    kept = sorted((name, value) for name, value in labels.items() if name not in ignored)
    return hashlib.sha256(msgspec.json.encode(kept)).hexdigest()[:32]


def notification_key(notification: Notification) -> str:
    """Equal for a retry or a peer's copy of the same notification: receiver and every alert's state. 32 hex digits."""
    state: list[Any] = [
        (sorted(alert.labels.items()), alert.status, alert.starts_at, alert.ends_at) for alert in notification.alerts
    ]
    # Sorted by text: peers list the alerts of a group in any order.
    texts = sorted(msgspec.json.encode(each) for each in state)
    digest = hashlib.sha256(msgspec.json.encode((notification.receiver, notification.truncated)))
    for text in texts:
        digest.update(b"\0" + text)
    return digest.hexdigest()[:32]
