"""The second detector against a real Alertmanager: it takes our alerts, merges them with Prometheus's, and ends them itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deskwatch.clock import SystemClock
from deskwatch.config import validate
from exporter.config import DetectorConfig
from exporter.detection.breach import Verdict
from exporter.detection.detector import Detector
from exporter.detection.rulefile import read_rules
from exporter.detection.webhook import fingerprint
from exporter.limits import LIMIT, UTILIZATION
from exporter.reading import Reading
from tests.components import find

LABELS = ("carry", "expected_shortfall_0.975")
CONFIGURATION = "route: {receiver: nowhere}\nreceivers: [{name: nowhere}]\n"
REPOST_SECONDS = 0.5


@pytest.fixture
async def alertmanager(tmp_path: Path) -> AsyncIterator[str]:
    """Its address, once it is ready."""
    program = find("alertmanager")
    (tmp_path / "alertmanager.yml").write_text(CONFIGURATION)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(program), f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(20), httpx.AsyncClient() as client:
            while not await ready(client, url):  # noqa: ASYNC110 - another program
                await asyncio.sleep(0.05)
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ready(client: httpx.AsyncClient, url: str) -> bool:
    """Whether it answers."""
    try:
        return (await client.get(f"{url}/-/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def alerts(url: str, holds: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
    """What Alertmanager knows, once this holds of it."""
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while not holds(found := (await client.get(f"{url}/api/v2/alerts")).json()):  # noqa: ASYNC110 - another program
            await asyncio.sleep(0.05)
    return list(found)


def verdict_of(detector: Detector, value: float) -> Verdict:
    """A reading of this utilization."""
    samples = (LIMIT.sample(*LABELS, value=0.02), UTILIZATION.sample(*LABELS, value=value))
    return detector.judge(Reading(datetime.now(UTC), samples, ()))


@pytest.mark.stack
async def test_both_detectors_make_one_alert_that_ends_when_neither_posts(alertmanager: str) -> None:
    """The same labels merge; without a post it is gone after four intervals; we never end it while Prometheus sees it."""
    config = validate(DetectorConfig, {"alertmanagers": [{"base_url": alertmanager}], "repost_seconds": REPOST_SECONDS})
    assert isinstance(config, DetectorConfig)
    # The clock of `for` is turned by hand in the other tests; here every rule fires at once.
    rules = [rule for rule in read_rules() if rule.covers(*LABELS)]
    object.__setattr__(rules[0], "for_seconds", 0.0)
    detector = Detector(config, rules, SystemClock())
    task = asyncio.ensure_future(detector.run())
    try:
        detector.act(verdict_of(detector, 1.5))
        (ours,) = await alerts(alertmanager, bool)
        assert ours["labels"] == {
            "alertname": "ExpectedShortfallExceeded", "portfolio": "carry", "limit": "expected_shortfall_0.975",
            "severity": "critical", "priority": "P1", "category": "risk", "team": "risk",
        }  # fmt: skip
        assert ours["fingerprint"] == fingerprint(ours["labels"])
        assert ours["annotations"]["summary"] == "carry is over its expected-shortfall limit expected_shortfall_0.975"

        prometheus = {
            "labels": ours["labels"],
            "annotations": {"summary": "by Prometheus"},
            "generatorURL": "http://prometheus/x",
        }
        prometheus["endsAt"] = (datetime.now(UTC) + timedelta(seconds=8 * REPOST_SECONDS)).isoformat()
        async with httpx.AsyncClient() as client:
            await client.post(f"{alertmanager}/api/v2/alerts", json=[prometheus])
        await asyncio.sleep(2 * REPOST_SECONDS)
        assert len(await alerts(alertmanager, bool)) == 1

        detector.act(verdict_of(detector, 0.5))
        (still,) = await alerts(alertmanager, bool)
        assert still["status"]["state"] == "active"
        await alerts(alertmanager, lambda found: not found)
    finally:
        task.cancel()
        await asyncio.wait({task})
