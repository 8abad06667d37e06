"""Notifications as Alertmanager sends them, made short."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

T0 = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"


def at(seconds: float) -> datetime:
    """So many seconds after the first moment of the test."""
    return T0 + timedelta(seconds=seconds)


def rfc3339(moment: datetime) -> str:
    """As Go writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def firing(name: str = "VaRLimitExceeded", *, since: float = 0.0, **labels: str) -> dict[str, Any]:
    """A firing alert."""
    return {
        "status": "firing",
        "labels": {"alertname": name, "severity": "critical", **labels},
        "annotations": {"summary": f"{name} fires"},
        "startsAt": rfc3339(at(since)),
        "endsAt": NEVER,
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": "0123456789abcdef",
    }


def resolved(name: str = "VaRLimitExceeded", *, since: float = 0.0, until: float, **labels: str) -> dict[str, Any]:
    """The same alert, ended."""
    return firing(name, since=since, **labels) | {"status": "resolved", "endsAt": rfc3339(at(until))}


def group(*alerts: dict[str, Any], key: str = '{}:{alertname="VaRLimitExceeded"}', **more: Any) -> bytes:
    """A notification of these alerts."""
    firing_now = any(alert["status"] == "firing" for alert in alerts)
    return json.dumps(
        {
            "version": "4",
            "groupKey": key,
            "truncatedAlerts": 0,
            "status": "firing" if firing_now else "resolved",
            "receiver": "deskwatch",
            "groupLabels": {"alertname": "VaRLimitExceeded"},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager:9093",
            "alerts": list(alerts),
            **more,
        }
    ).encode()
