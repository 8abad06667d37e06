"""Notifications as Alertmanager and Grafana send them: parsed, frozen, untrusted. Also the identity of an episode.

Only `alerts` is required; unknown keys are ignored (Alertmanager 0.32 and 0.34 add some, Grafana others) and an optional key
of the wrong type counts as absent: a custom payload must not cost the page. One alert that cannot be read is left out and
named in `faults`; the others count. Sources: prometheus.io/docs/alerting/configuration (webhook_config), alertmanager
template/template.go, grafana.com/docs webhook notifier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from deskwatch.errors import DeskwatchError

Status = Literal["firing", "resolved"]
MAX_ALERTS = 20_000
"""Alerts read of one group: bounds the transaction that stores them. More are named as faults."""
MAX_LABELS = 200
MAX_LABEL_CHARACTERS = 64 * 1024
MAX_ANNOTATIONS = 100
MAX_ANNOTATION_CHARACTERS = 16 * 1024
"""A longer annotation is cut: it is prose, the body is kept whole in the journal."""
DIRECT = "direct"
"""Value of the label `detector` on what the exporter posts without Prometheus and Alertmanager."""
_NEVER_ENDED_BEFORE = datetime(1971, 1, 1, tzinfo=UTC)
_FAR = datetime(9999, 1, 1, tzinfo=UTC)
"""Later times are cut to this: some have no equivalent in UTC."""


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

    @property
    def direct(self) -> bool:
        """Whether only the exporter's own detector says so."""
        return self.labels.get("detector") == DIRECT

    @property
    def is_test(self) -> bool:
        """Whether this is what the Test button of Grafana's contact point sends."""
        return self.name == "TestAlert" and self.labels.get("instance") == "Grafana"


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
    annotations: Any = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: Any = msgspec.field(default=None, name="generatorURL")
    fingerprint: Any = None


class _WireGroup(msgspec.Struct, rename="camel"):
    alerts: list[msgspec.Raw]
    receiver: Any = None
    group_key: Any = None
    group_labels: Any = None
    common_labels: Any = None
    common_annotations: Any = None
    external_url: Any = msgspec.field(default=None, name="externalURL")
    truncated_alerts: Any = None


class _WholeGroup(msgspec.Struct):
    alerts: list[_WireAlert]


_GROUP = msgspec.json.Decoder(_WireGroup)
_WHOLE = msgspec.json.Decoder(_WholeGroup, strict=False)
_ALERT = msgspec.json.Decoder(_WireAlert, strict=False)


class Examined(msgspec.Struct, frozen=True):
    """What the webhook must know before it answers: how many alerts are usable, and why others are not."""

    alerts: int
    faults: tuple[str, ...] = ()


def examine(body: bytes, received_at: datetime) -> Examined:
    """As `parse`, without building what only the worker needs: a fifth of the time where nothing is wrong.

    Raises:
        NotJson, NoAlertGroup: as `parse`.
    """
    try:
        wires = _WHOLE.decode(body).alerts
        for wire in wires:
            _check_labels(wire.labels)
        if 0 < len(wires) <= MAX_ALERTS:
            return Examined(len(wires))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
        pass  # the thorough way says what is wrong, and with which alert
    notification = parse(body, received_at)
    return Examined(len(notification.alerts), notification.faults)


def parse(body: bytes, received_at: datetime) -> Notification:
    """Read one webhook body.

    Args:
        body: the request's bytes.
        received_at: stands in for a start time the sender left out, UTC.

    Raises:
        NotJson: not a JSON document.
        NoAlertGroup: JSON without a usable alert.
    """
    group = _decode(body)
    alerts: list[Alert] = []
    faults: list[str] = []
    for index, raw in enumerate(group.alerts[:MAX_ALERTS]):
        try:
            alerts.append(_alert(_ALERT.decode(raw), received_at))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            faults.append(f"alerts[{index}]: {error}")
    if len(group.alerts) > MAX_ALERTS:
        faults.append(f"alerts[{MAX_ALERTS}:]: only the first {MAX_ALERTS} of {len(group.alerts)} alerts are read")
    if not alerts:
        raise NoAlertGroup("; ".join(faults[:3]) or "the group holds no alert")
    firing = any(alert.status == "firing" for alert in alerts)
    return Notification(
        alerts=tuple(alerts),
        status="firing" if firing else "resolved",
        receiver=_text(group.receiver),
        group_key=_text(group.group_key),
        group_labels=_texts(group.group_labels),
        common_labels=_texts(group.common_labels),
        common_annotations=_texts(group.common_annotations),
        external_url=_text(group.external_url),
        truncated=_count(group.truncated_alerts),
        faults=tuple(faults),
    )


def _decode(body: bytes) -> _WireGroup:
    try:
        return _GROUP.decode(body)
    except (msgspec.ValidationError, RecursionError) as error:
        _refuse_what_is_not_json(body)
        raise NoAlertGroup(f"the body is JSON but not an alert group: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"the body is not JSON: {error}") from error


def _refuse_what_is_not_json(body: bytes) -> None:
    """The typed decoder stops at the first wrong type; what follows may still not be JSON."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"the body is not JSON: {error}") from error
    except RecursionError:
        return


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    kept = [(name, text) for name, text in value.items() if isinstance(name, str) and isinstance(text, str)]
    return {name: text[:MAX_ANNOTATION_CHARACTERS] for name, text in kept[:MAX_ANNOTATIONS]}


def _count(value: Any) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def _alert(wire: _WireAlert, received_at: datetime) -> Alert:
    _check_labels(wire.labels)
    starts_at = _aware(wire.starts_at) or received_at
    ends_at = _aware(wire.ends_at)
    ended = wire.status == "resolved"
    return Alert(
        status=wire.status,
        labels=wire.labels,
        annotations=_texts(wire.annotations),
        starts_at=starts_at,
        ends_at=(ends_at or received_at) if ended else None,
        generator_url=_text(wire.generator_url),
        fingerprint=_text(wire.fingerprint),
    )


def _check_labels(labels: Mapping[str, str]) -> None:
    if not labels:
        raise ValueError("has no labels")
    if len(labels) > MAX_LABELS or sum(map(len, (*labels, *labels.values()))) > MAX_LABEL_CHARACTERS:
        raise ValueError(f"has more than {MAX_LABELS} labels or {MAX_LABEL_CHARACTERS} characters of them")


def _aware(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment < _NEVER_ENDED_BEFORE:
        return None
    return min(moment, _FAR).astimezone(UTC)


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
