"""What the enrichers of these tests lean on."""

from __future__ import annotations

from pathlib import Path

from deskwatch.clock import ManualClock
from receiver.enricher import Surroundings
from receiver.runbooks import Runbooks


def surroundings(folder: Path) -> Surroundings:
    """A folder with one runbook."""
    (folder / "VaRLimitExceeded.md").write_text("## Mitigation\n\n1. First.\n2. Second.\n")
    return Surroundings(ManualClock(), Runbooks(folder), "http://receiver:9878")
