"""What the receiver is told directly: the bodies, and that none is lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deskwatch.errors import ConfigError, StoreUnavailable
from exporter.detection.spool import Spool, Told
from exporter.detection.webhook import fingerprint, webhook_body

ALERT = Told(
    {"alertname": "VaRLimitExceeded", "portfolio": "carry", "limit": "var_0.99"}, {"summary": "x"}, "2015-01-15T10:00:00.000Z"
)
OTHER = Told({"alertname": "VaRLimitExceeded", "portfolio": "desk", "limit": "var_0.99"}, {}, "2015-01-15T10:00:00.000Z")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [({}, 14695981039346656037), ({"name": "garland, briggs", "fear": "love is not enough"}, 5799056148416392346)],
)
def test_the_fingerprint_is_alertmanagers(labels: dict[str, str], expected: int) -> None:
    """Values of prometheus/common model/signature_test.go."""
    assert int(fingerprint(labels), 16) == expected


def test_the_body_is_an_alert_group_of_version_4() -> None:
    """As the receiver's own parser reads Alertmanager's, marked as direct evidence."""
    body = json.loads(webhook_body(ALERT))
    assert (body["version"], body["status"], body["truncatedAlerts"]) == ("4", "firing", 0)
    (alert,) = body["alerts"]
    assert alert["labels"] == {**ALERT.labels, "detector": "direct"}
    assert (alert["status"], alert["startsAt"], alert["endsAt"]) == ("firing", ALERT.starts_at, "0001-01-01T00:00:00Z")
    assert body["commonLabels"] == alert["labels"]


def test_the_end_carries_its_time() -> None:
    """Labels, annotations and start as when it fired."""
    body = json.loads(webhook_body(ALERT, datetime(2015, 1, 15, 11, tzinfo=UTC)))
    (alert,) = body["alerts"]
    assert (body["status"], alert["status"], alert["endsAt"]) == ("resolved", "resolved", "2015-01-15T11:00:00.000Z")
    assert (alert["startsAt"], alert["annotations"]) == (ALERT.starts_at, {"summary": "x"})


async def test_what_is_spooled_survives_a_restart_in_order(tmp_path: Path) -> None:
    """And so does what was told and has not ended."""
    spool = await Spool.open(tmp_path)
    await spool.add(ALERT, "one", ended=False)
    await spool.add(OTHER, "two", ended=False)
    await spool.add(ALERT, "three", ended=True)
    await spool.close()
    spool = await Spool.open(tmp_path)
    assert (spool.depth, list(spool.told.values())) == (3, [OTHER])
    bodies = []
    while entry := await spool.oldest():
        bodies.append(entry.body)
        await spool.remove(entry)
    assert (bodies, spool.depth) == (["one", "two", "three"], 0)
    await spool.close()


async def test_an_alert_is_told_once_until_it_ended(tmp_path: Path) -> None:
    """Then it may be told anew."""
    spool = await Spool.open(tmp_path)
    for body, ended in [("one", False), ("again", False), ("end", True), ("new", False)]:
        await spool.add(ALERT, body, ended=ended)
    assert spool.depth == 3
    await spool.close()


async def test_two_exporters_cannot_share_a_state_folder(tmp_path: Path) -> None:
    """The second says so at its start."""
    spool = await Spool.open(tmp_path)
    with pytest.raises(ConfigError, match=r"detector\.db is in use by another deskwatch process"):
        await Spool.open(tmp_path)
    await spool.close()


async def test_a_damaged_spool_says_so(tmp_path: Path) -> None:
    """It is not silently replaced."""
    (tmp_path / "detector.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailable, match="damaged"):
        await Spool.open(tmp_path)
