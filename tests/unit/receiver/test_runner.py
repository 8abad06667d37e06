"""The runner: a hook in a process of its own, with nothing of ours but what it is told, and never longer than it may."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.hook_process import RunOrder
from receiver.runner import PASSED_ON, Ended, execute
from tests.unit.receiver.hook_samples import installed


@pytest.fixture(autouse=True)
def samples(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "hooks"):
        yield


def order(hook: str, **more: Any) -> RunOrder:
    """A dry run of the hook."""
    fields: dict[str, Any] = {
        "hook": hook,
        "mode": "dry_run",
        "idempotency_key": "1-identity-hook-firing",
        "fencing_token": 7,
        "episode_id": "1-identity",
        "labels": {"alertname": "VaRLimitExceeded", "severity": "critical", "hostile": "$(touch /tmp/x); `id`\n\0"},
        "annotations": {},
        "timeout_seconds": 10.0,
    }
    return RunOrder(**{**fields, **more})


async def test_what_the_hook_says_comes_back() -> None:
    """It is told mode, labels, idempotency key and fencing token."""
    assert await execute(order("says")) == Ended("succeeded", "dry_run VaRLimitExceeded 1-identity-hook-firing 7")


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ("refuses", "the broker is closed"),
        ("breaks", "the hook raised ValueError: unexpected"),
        ("exits", "the hook's process ended with code 3 and no result"),
        ("nowhere", "no deskwatch.hooks plug-in is called 'nowhere'"),
    ],
)
async def test_a_failure_comes_back_as_one(hook: str, text: str) -> None:
    """With a sentence for the operator."""
    ended = await execute(order(hook))
    assert ended.outcome == "failed"
    assert text in ended.text


async def test_what_a_hook_prints_is_not_its_result() -> None:
    """Not even ten megabytes of it, or what looks like a result; and it does not stop for a full pipe."""
    assert await execute(order("prints")) == Ended("succeeded", "quiet")


async def test_a_hook_has_none_of_our_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable that may hold a secret, and a folder of its own to work in."""
    monkeypatch.setenv("PAGERDUTY_KEY", "s3cr3t")
    ended = await execute(order("shows"))
    assert "PAGERDUTY_KEY" not in ended.text
    names, folder = ended.text.rsplit("]", 1)
    allowed = {*PASSED_ON, "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"}
    assert set(names.strip("[").replace("'", "").split(", ")) <= allowed
    assert "deskwatch-hook-" in folder
    assert not await asyncio.to_thread(os.path.exists, folder)


@pytest.mark.parametrize("hook", ["sleeps", "spawns"])
async def test_the_timeout_kills_the_whole_group(hook: str) -> None:
    """Also what the hook has started."""
    before = await asyncio.to_thread(sleepers)
    began = time.monotonic()
    ended = await execute(order(hook, timeout_seconds=1.5))
    assert ended == Ended("timed_out", "killed after 1.5 s; what it had begun may be done in part")
    assert time.monotonic() - began < 6
    assert await asyncio.to_thread(sleepers) <= before


async def test_what_a_hook_leaves_behind_is_killed_and_not_waited_for() -> None:
    """It has said its result; a process it forgot holds nothing up."""
    before = await asyncio.to_thread(sleepers)
    began = time.monotonic()
    assert await execute(order("leaves")) == Ended("succeeded", "left one behind")
    assert time.monotonic() - began < 8
    assert await asyncio.to_thread(sleepers) <= before


async def test_a_cancelled_run_is_killed(tmp_path: Path) -> None:
    """The receiver is told to stop."""
    before = await asyncio.to_thread(sleepers)
    running = asyncio.ensure_future(execute(order("spawns", timeout_seconds=60.0)))
    async with asyncio.timeout(20):
        await asyncio.to_thread(wait_for_more_than, before)
    running.cancel()
    await asyncio.wait([running])
    assert await asyncio.to_thread(sleepers) <= before


def wait_for_more_than(before: set[int]) -> None:
    """Until there is another one."""
    while sleepers() <= before:
        time.sleep(0.05)


def sleepers() -> set[int]:
    """Ids of `sleep 600` processes that run."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue
        if command.startswith(b"sleep\x00600") and state != "Z":
            found.add(int(folder.name))
    return found
