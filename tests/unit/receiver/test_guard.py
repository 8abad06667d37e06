"""The guard: what may run, and why the rest may not. Every refusal is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deskwatch.hook import HookSpec
from receiver import runs
from receiver.guard import Guard, Policy
from receiver.matchers import parse_matchers
from tests.unit.receiver.bodies import firing, group, resolved
from tests.unit.receiver.desk import Desk, desk

SPEC = HookSpec(('severity="critical"',), 20.0, 900.0, 4, "required", "firing", "Reduce.", True)


def policy(**changes: Any) -> Policy:
    """A dry-run hook for critical alerts: fifteen minutes' cooldown, four runs an hour."""
    spec = replace(SPEC, **{key: changes.pop(key) for key in ("on", "approval") if key in changes})
    matchers = parse_matchers(changes.pop("matchers", spec.matchers))
    basis: dict[str, Any] = {"mode": "dry_run", "cooldown": timedelta(minutes=15), "max_runs_per_hour": 4}
    return Policy(**{"name": "reduce", "spec": spec, "matchers": matchers, **basis, **changes})


@asynccontextmanager
async def guarded(folder: Path, *policies: Policy) -> AsyncIterator[Desk]:
    """A desk with these hooks enabled."""
    async with desk(folder, policies=policies) as receiver:
        yield receiver


async def decided(receiver: Desk) -> list[tuple[str, str]]:
    """State and reason of each run, in order."""
    return [(row["state"], row["detail"]) for row in await receiver.rows("SELECT * FROM runs ORDER BY run_id")]


async def run_all(receiver: Desk, outcome: str = "succeeded") -> None:
    """Start and finish everything queued."""
    for run_id in await receiver.store.read(runs.queued(100)):
        assert await receiver.store.write(runs.begin(run_id, receiver.clock.now()))
        if outcome != "crash":
            assert await receiver.store.write(runs.finish(run_id, outcome, "done", receiver.clock.now()))  # type: ignore[arg-type]


async def test_a_matching_alert_that_begins_is_queued_once(tmp_path: Path) -> None:
    """Repeats and copies of the same episode run nothing more."""
    async with guarded(tmp_path, policy()) as receiver:
        for seconds in (0, 5, 4000):
            await receiver.notify(group(firing()), seconds=seconds)
        assert await decided(receiver) == [("queued", "")]


@pytest.mark.parametrize(
    ("matchers", "runs_it"),
    [(['portfolio="carry"'], True), (['portfolio="desk"'], False), (['portfolio=~"c.*"', 'limit=""'], True)],
)
async def test_every_matcher_must_hold(tmp_path: Path, matchers: list[str], runs_it: bool) -> None:
    """A hook for one portfolio does not run for another."""
    async with guarded(tmp_path, policy(matchers=matchers)) as receiver:
        await receiver.notify(group(firing(portfolio="carry")))
        assert bool(await decided(receiver)) is runs_it


async def test_a_hook_on_resolved_runs_at_the_end(tmp_path: Path) -> None:
    """And one on firing does not."""
    async with guarded(tmp_path, policy(name="begin"), policy(name="end", on="resolved")) as receiver:
        await receiver.notify(group(firing()))
        await receiver.notify(group(resolved(until=50)), seconds=60)
        rows = await receiver.rows("SELECT hook, occasion FROM runs ORDER BY run_id")
        assert [(row["hook"], row["occasion"]) for row in rows] == [("begin", "firing"), ("end", "resolved")]


async def refire(receiver: Desk, seconds: float, **labels: str) -> None:
    """The alert ends and begins anew."""
    await receiver.notify(group(resolved(until=seconds - 2, **labels)), seconds=seconds - 1)
    await receiver.notify(group(firing(since=seconds, **labels)), seconds=seconds)


async def test_the_cooldown_is_per_identity(tmp_path: Path) -> None:
    """A flapping alert is not remediated again and again; another one is."""
    async with guarded(tmp_path, policy()) as receiver:
        await receiver.notify(group(firing(portfolio="a")))
        await run_all(receiver)
        await refire(receiver, 600, portfolio="a")
        await receiver.notify(group(firing(portfolio="b"), key="b"), seconds=601)
        await refire(receiver, 901, portfolio="a")
        assert await decided(receiver) == [
            ("succeeded", "done"),
            ("refused", "cooldown: it ran for this alert less than 900 s ago"),
            ("queued", ""),
            ("queued", ""),
        ]


async def test_runs_per_hour_are_bounded_over_all_identities(tmp_path: Path) -> None:
    """A storm of alerts is not answered by a storm of orders."""
    async with guarded(tmp_path, policy(max_runs_per_hour=2)) as receiver:
        await receiver.notify(group(*(firing(portfolio=name) for name in "abc")))
        await receiver.notify(group(firing(portfolio="d"), key="d"), seconds=3700)
        assert await decided(receiver) == [
            ("queued", ""),
            ("queued", ""),
            ("refused", "rate: it already ran 2 times within the hour, the most is 2"),
            ("queued", ""),
        ]


async def test_an_interrupted_run_blocks_its_hook_for_that_alert_until_settled(tmp_path: Path) -> None:
    """Nobody knows what it did. Other alerts go on."""
    async with guarded(tmp_path, policy(cooldown=timedelta(0), max_runs_per_hour=100)) as receiver:
        await receiver.notify(group(firing(portfolio="a")))
        await run_all(receiver, "crash")
        assert await receiver.store.write(runs.finish(1, "unresolved", "", receiver.clock.now()))
        await refire(receiver, 7200, portfolio="a")
        await receiver.notify(group(firing(portfolio="b"), key="b"), seconds=7201)
        assert [state for state, _ in await decided(receiver)] == ["unresolved", "refused", "queued"]
        assert (await decided(receiver))[1][1] == "an earlier run for this alert was interrupted: settle it first"
        assert await receiver.store.write(runs.decide(1, "unresolved", "settled", "anna", receiver.clock.now()))
        await refire(receiver, 9000, portfolio="a")
        assert (await decided(receiver))[-1] == ("queued", "")


@pytest.mark.parametrize(
    ("mode", "approval", "direct", "state"),
    [
        ("dry_run", "required", True, "queued"),
        ("live", "required", False, "awaiting_approval"),
        ("live", "none", False, "queued"),
        ("live", "none", True, "awaiting_approval"),
    ],
)
async def test_a_live_run_waits_for_approval(tmp_path: Path, mode: str, approval: str, direct: bool, state: str) -> None:
    """Where the hook asks for it, and always where only the exporter's own detector saw the breach."""
    async with guarded(tmp_path, policy(mode=mode, approval=approval)) as receiver:
        await receiver.notify(group(firing(**({"detector": "direct"} if direct else {}))))
        assert [found for found, _ in await decided(receiver)] == [state]


async def test_what_was_decided_is_looked_at_again_before_it_starts(tmp_path: Path) -> None:
    """The alert may have ended, the hook may have been switched off or out of live mode meanwhile."""
    live = policy(mode="live", approval="none")
    async with guarded(tmp_path, live) as receiver:
        await receiver.notify(group(firing()))
        run = await receiver.store.read(runs.get(1))
        assert run is not None
        assert Guard((live,)).still_allows(run) == ""
        assert Guard(()).still_allows(run) == "the hook is no longer enabled"
        assert Guard((replace(live, mode="dry_run"),)).still_allows(run) == "the hook is no longer live"
        await receiver.notify(group(resolved(until=5)), seconds=10)
        ended = await receiver.store.read(runs.get(1))
        assert ended is not None
        assert Guard((live,)).still_allows(ended) == "the alert ended before the run began"
