"""A short, seeded soak of the fetching; `make soak` does all of it (`tests.soak.fetching`)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.soak import fetching
from tests.soak.fetching import judge, plug_ins, soak, table

CYCLES = 120
SHORT = 8.0
"""The run is so short that what a process still learns in its first minute is not told apart from what it loses."""
REASONS = {
    "timeout", "refused", "tls", "network", "auth", "rate_limited", "rejected", "server_error", "bad_response", "missing_field",
}  # fmt: skip


async def test_nothing_piles_up_whatever_the_sources_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory, objects, tasks, sockets, files, threads: no more than in a control without faults."""
    caplog.set_level(logging.CRITICAL, "aiohttp.server")
    monkeypatch.setenv("PYTHONPATH", str(plug_ins(tmp_path)))
    monkeypatch.setattr(fetching, "LOOK_SECONDS", 0.4)
    monkeypatch.setattr(fetching, "RELOAD_SECONDS", 2.0)
    seen = await soak(CYCLES, 1, tmp_path)
    verdicts = judge(seen, SHORT)
    print("\n".join(table(seen, verdicts)))
    failures = seen[0].total("desk_source_fetch_failures_total", "reason")
    assert {reason for reason in REASONS if not failures[reason]} == set(), "a fault that never happened shows nothing"
    assert seen[0].total("desk_records_rejected_total")[""] > 0
    assert seen[0].reloads > 2
    assert [each.errors for each in seen] == [{}, {}]
    assert {each.title for each in verdicts if not each.holds} == set()
