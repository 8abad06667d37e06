"""The runbook's address and first steps."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.alerts import parse
from receiver.enrichers.runbook import Config, Runbook
from receiver.message import Enrichment
from tests.unit.receiver.bodies import firing, group
from tests.unit.receiver.enrichers.surroundings import surroundings


async def known(folder: Path, name: str, annotations: dict[str, Any]) -> Enrichment:
    """What the enricher knows about an alert with these annotations."""
    notification = parse(group(firing(name) | {"annotations": annotations}), datetime.now(UTC))
    return await Runbook(Config(), surroundings(folder)).enrich(notification.alerts[0], notification)


async def test_the_annotation_wins_and_the_steps_are_ours(tmp_path: Path) -> None:
    """The desk may keep its runbooks elsewhere."""
    found = await known(tmp_path, "VaRLimitExceeded", {"runbook_url": "https://wiki/var"})
    assert found == Enrichment(runbook_url="https://wiki/var", steps=("First.", "Second."))


@pytest.mark.parametrize("url", ["", "javascript:alert(1)", "runbooks/VaR"])
async def test_without_a_usable_annotation_it_is_this_receivers_page(tmp_path: Path, url: str) -> None:
    """Only http(s) counts."""
    found = await known(tmp_path, "VaRLimitExceeded", {"runbook_url": url})
    assert found.runbook_url == "http://receiver:9878/runbooks/VaRLimitExceeded"


@pytest.mark.parametrize("name", ["Unknown", "../VaRLimitExceeded", "/etc/passwd", "VaRLimitExceeded/../VaRLimitExceeded"])
async def test_an_alert_without_a_runbook_gets_none(tmp_path: Path, name: str) -> None:
    """Whatever its name looks like."""
    assert await known(tmp_path, name, {}) == Enrichment()
