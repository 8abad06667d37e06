"""An alert as Alertmanager's webhook would tell it, for the receiver the second detector tells directly. Sends nothing.

Source: prometheus.io/docs/alerting/latest/configuration, webhook_config, version 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from exporter.detection.spool import Told

DIRECT = {"detector": "direct"}
"""Label on what the receiver is told directly: evidence nobody else has confirmed."""


def wire_time(moment: datetime) -> str:
    """RFC 3339."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def webhook_body(alert: Told, ends_at: datetime | None = None) -> str:
    """The body Alertmanager would send the receiver for a group of this one alert; it fires unless it has ended."""
    status = "firing" if ends_at is None else "resolved"
    labels = {**alert.labels, **DIRECT}
    annotations = dict(alert.annotations)
    group = {"alertname": alert.labels.get("alertname", "")}
    one: dict[str, Any] = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": alert.starts_at,
        "endsAt": "0001-01-01T00:00:00Z" if ends_at is None else wire_time(ends_at),
        "generatorURL": "",
        "fingerprint": fingerprint(labels),
    }
    return json.dumps(
        {
            "version": "4",
            "groupKey": f"second-detector:{fingerprint(labels)}",
            "truncatedAlerts": 0,
            "status": status,
            "receiver": "second-detector",
            "groupLabels": group,
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": "",
            "alerts": [one],
        }
    )


def fingerprint(labels: Mapping[str, str]) -> str:
    """Alertmanager's fingerprint of a label set: FNV-1a, 64 bits, over names and values, each followed by the byte 255.

    Source: prometheus/common model/signature.go, labelSetToFingerprint.
    """
    digest = 0xCBF29CE484222325
    for name, value in sorted(labels.items()):
        for byte in (*name.encode(), 255, *value.encode(), 255):
            digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"
