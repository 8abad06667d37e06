"""Remediation: intent, isolated run, outcome and message; started once, never again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deskwatch.errors import StoreUnavailable
from deskwatch.hook import ExporterAccess
from receiver import remediate, runs
from receiver.guard import Guard, Policy
from receiver.hook_process import RunOrder
from receiver.hook_room import hook_spec
from receiver.matchers import parse_matchers
from receiver.remediate import Remediator
from receiver.runner import Ended
from tests.unit.receiver.bodies import firing, group, resolved
from tests.unit.receiver.desk import Desk, desk
from tests.unit.receiver.hook_samples import installed


@dataclass
class Clinic:
    """A desk with a remediator whose runner is replaced by what `ends` says."""

    desk: Desk
    remediator: Remediator
    orders: list[RunOrder]
    ends: Any

    async def run_queued(self) -> None:
        """Start what is queued and wait for its end."""
        await self.remediator._start_queued()
        await asyncio.gather(*self.remediator._underway.values(), return_exceptions=True)

    async def state(self) -> list[tuple[str, str]]:
        """State and text of each run."""
        return [(row["state"], row["detail"]) for row in await self.desk.rows("SELECT * FROM runs ORDER BY run_id")]


def policy(name: str = "says", **changes: Any) -> Policy:
    """The sample hook, enabled."""
    spec = hook_spec(name)
    basis = Policy(name, spec, parse_matchers(spec.matchers), "dry_run", timedelta(0), 1000)
    return replace(basis, **changes)


@asynccontextmanager
async def clinic(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, real: bool = False, allowed: Guard | None = None, **changes: Any
) -> AsyncIterator[Clinic]:
    """A clinic; `real` runs the sample hook's process."""
    with installed(folder / "hooks"):
        policies = [policy(**changes)]
        async with desk(folder, policies=policies) as receiver:
            guard = allowed or Guard(tuple(policies))
            remediator = Remediator(
                receiver.store,
                receiver.pipeline.planner,
                guard,
                receiver.metrics,
                receiver.clock,
                exporter=ExporterAccess("http://exporter:9877"),
                on_planned=receiver.planned.set,
            )
            made = Clinic(receiver, remediator, [], lambda: Ended("succeeded", "would sell 5 CHF"))

            async def execute(order: RunOrder) -> Ended:
                made.orders.append(order)
                result = made.ends()
                return await result if asyncio.iscoroutine(result) else result

            if not real:
                monkeypatch.setattr(remediate, "execute", execute)
            yield made


async def test_a_queued_run_is_executed_recorded_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledger intent and outcome; a message to the channels that take it, behind the trigger of the same key."""
    async with clinic(tmp_path, monkeypatch) as at:
        await at.desk.notify(group(firing(portfolio="carry")))
        await at.run_queued()
        (order,) = at.orders
        assert (order.hook, order.mode, order.fencing_token) == ("says", "dry_run", 1)
        assert order.idempotency_key == f"{order.episode_id}-says-firing"
        assert order.labels["portfolio"] == "carry"
        assert order.exporter == ExporterAccess("http://exporter:9877")
        assert await at.state() == [("succeeded", "would sell 5 CHF")]
        ledger = await at.desk.rows("SELECT event, outcome FROM ledger WHERE subject = 'run' ORDER BY sequence")
        assert [(row["event"], row["outcome"]) for row in ledger] == [("intent", ""), ("outcome", "succeeded")]
        trigger, proposal = await at.desk.messages("chat")
        assert (proposal.kind, proposal.hook, proposal.run_mode) == ("remediation", "says", "dry_run")
        assert proposal.text == "would sell 5 CHF"
        assert proposal.dedup_key == trigger.dedup_key
        assert await at.desk.kinds("pager") == ["trigger"]
        assert at.desk.metrics.hook_runs.labels("says", "succeeded")._value.get() == 1
        assert at.desk.planned.is_set()


async def test_the_real_process_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end: what the hook says is the message."""
    async with clinic(tmp_path, monkeypatch, real=True) as at:
        await at.desk.notify(group(firing()))
        await at.run_queued()
        (message,) = [each for each in await at.desk.messages("chat") if each.kind == "remediation"]
        assert message.text.startswith("dry_run VaRLimitExceeded 1-")


@pytest.mark.parametrize("outcome", ["failed", "timed_out"])
async def test_a_failure_is_told_too_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    """A hook is not a delivery."""
    async with clinic(tmp_path, monkeypatch) as at:
        at.ends = lambda: Ended(outcome, "no")
        await at.desk.notify(group(firing()))
        for _ in range(3):
            await at.run_queued()
        assert len(at.orders) == 1
        assert (await at.desk.messages("chat"))[-1].run_outcome == outcome


async def test_a_run_left_started_is_never_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash it is unresolved: told, counted, and waiting for a person."""
    async with clinic(tmp_path, monkeypatch) as at:
        await at.desk.notify(group(firing()))
        assert await at.desk.store.write(runs.begin(1, at.desk.clock.now()))
        await at.remediator.recover()
        await at.run_queued()
        assert at.orders == []
        assert [state for state, _ in await at.state()] == ["unresolved"]
        message = (await at.desk.messages("chat"))[-1]
        assert (message.run_outcome, message.text.startswith("The receiver ended while it ran")) == ("unresolved", True)
        await at.remediator.recover()
        assert await at.desk.kinds("chat") == ["trigger", "remediation"]


async def test_only_one_of_two_who_begin_may_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent is a compare-and-swap."""
    async with clinic(tmp_path, monkeypatch) as at:
        await at.desk.notify(group(firing()))
        begun = await asyncio.gather(*(at.desk.store.write(runs.begin(1, at.desk.clock.now())) for _ in range(5)))
        assert sorted(begun) == [False, False, False, False, True]


async def test_an_alert_that_has_ended_is_not_remediated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver was down while the run was queued."""
    async with clinic(tmp_path, monkeypatch) as at:
        await at.desk.notify(group(firing()))
        await at.desk.notify(group(resolved(until=5)), seconds=10)
        await at.run_queued()
        assert at.orders == []
        assert await at.state() == [("refused", "the alert ended before the run began")]


async def test_a_stop_during_a_run_leaves_it_unresolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed after a short grace, and recorded before the store closes."""
    async with clinic(tmp_path, monkeypatch) as at:
        monkeypatch.setattr(remediate, "GRACE_SECONDS", 0.05)
        begun = asyncio.Event()

        async def never() -> Ended:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        at.ends = never
        await at.desk.notify(group(firing()))
        running = asyncio.ensure_future(at.remediator.run())
        async with asyncio.timeout(5):
            await begun.wait()
            running.cancel()
            await asyncio.wait([running])
        assert [state for state, _ in await at.state()] == ["unresolved"]


async def test_without_a_confirmed_intent_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store failed when the intent was to be written; it is tried again once the store works."""
    async with clinic(tmp_path, monkeypatch) as at:
        await at.desk.notify(group(firing()))
        write, troubles = at.desk.store.write, iter([True])

        async def troubled(work: Any, **options: Any) -> Any:
            if next(troubles, False):
                work.close()
                raise StoreUnavailable("disk full")
            return await write(work, **options)

        monkeypatch.setattr(at.desk.store, "write", troubled)
        await at.run_queued()
        assert at.orders == []
        await at.run_queued()
        assert len(at.orders) == 1


async def test_an_intent_that_was_committed_unheard_is_closed_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit came after the deadline: we know we did not start it, and say so."""
    async with clinic(tmp_path, monkeypatch) as at:
        await at.desk.notify(group(firing()))
        write, troubles = at.desk.store.write, iter([True])

        async def unheard(work: Any, **options: Any) -> Any:
            result = await write(work, **options)
            if next(troubles, False):
                raise StoreUnavailable("too late")
            return result

        monkeypatch.setattr(at.desk.store, "write", unheard)
        await at.run_queued()
        await at.run_queued()
        assert at.orders == []
        assert await at.state() == [("failed", "not started: too late")]


async def test_a_process_that_cannot_be_started_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of processes or memory."""
    async with clinic(tmp_path, monkeypatch) as at:

        def out_of_processes() -> Ended:
            raise OSError(11, "Resource temporarily unavailable")

        at.ends = out_of_processes
        await at.desk.notify(group(firing()))
        await at.run_queued()
        assert await at.state() == [("failed", "its process could not be started: Resource temporarily unavailable")]


async def test_no_more_run_at_once_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm does not become a storm of processes."""
    async with clinic(tmp_path, monkeypatch) as at:
        gate, full, now = asyncio.Event(), asyncio.Event(), [0, 0]

        async def wait() -> Ended:
            now[0] += 1
            now[1] = max(now)
            if now[0] == remediate.AT_ONCE:
                full.set()
            await gate.wait()
            now[0] -= 1
            return Ended("succeeded", "")

        at.ends = wait
        await at.desk.notify(group(*(firing(portfolio=str(number)) for number in range(9))))
        running = asyncio.ensure_future(at.remediator.run())
        async with asyncio.timeout(10):
            await full.wait()
            gate.set()
            while len(at.orders) < 9:
                at.desk.planned.clear()
                await at.desk.planned.wait()
        running.cancel()
        await asyncio.wait([running])
        assert now[1] == remediate.AT_ONCE
