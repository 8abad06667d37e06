"""The flow of a notification: routed, enriched within a budget, planned in one transaction, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from deskwatch.clock import ManualClock
from deskwatch.errors import StoreUnavailable
from receiver import journal
from receiver.alerts import Alert, Notification
from receiver.enrich import Enrichers
from receiver.enricher import Enricher, EnricherConfig, Surroundings
from receiver.matchers import parse_matchers
from receiver.message import Enrichment, Link
from receiver.plan import Recipient
from receiver.route import Route
from receiver.runbooks import Runbooks
from tests.unit.receiver.bodies import T0, firing, group, resolved
from tests.unit.receiver.desk import CHAT, PAGER, TERMINAL, desk, planner


class Config(EnricherConfig):
    type: Literal["fake"] = "fake"


class Fake(Enricher[Config]):
    """Answers with a link, waits for ever, or fails."""

    def __init__(self, does: str) -> None:
        super().__init__(Config(), Surroundings(ManualClock(), Runbooks(Path("nowhere")), "http://receiver"))
        self._does = does

    async def enrich(self, alert: Alert, notification: Notification) -> Enrichment:
        """As told."""
        if self._does == "hangs":
            await asyncio.Event().wait()
        if self._does == "fails":
            raise RuntimeError("broken")
        return Enrichment(links=(Link(self._does, "http://x/"),), runbook_url=f"http://{self._does}/")


async def test_each_alert_goes_where_the_first_matching_route_says(tmp_path: Path) -> None:
    """`continue` looks further; what no route takes goes to the fallback."""
    routes = [
        Route(parse_matchers(['portfolio="a"']), ("pager",), then_continue=True),
        Route(parse_matchers(['portfolio=~"a|b"']), ("chat",)),
        Route(parse_matchers(['portfolio="b"']), ("pager",)),
    ]
    plan = planner(TERMINAL, CHAT, PAGER, routes=routes)
    async with desk(tmp_path, plan=plan) as receiver:
        await receiver.notify(group(*(firing(portfolio=name) for name in "abc")))
        told = {name: await receiver.messages(name) for name in ("terminal", "chat", "pager")}
    portfolios = {name: [view.labels["portfolio"] for m in messages for view in m.episodes] for name, messages in told.items()}
    assert portfolios == {"pager": ["a"], "chat": ["a", "b"], "terminal": ["c"]}


async def test_a_channel_is_not_told_what_it_does_not_take(tmp_path: Path) -> None:
    """One that cannot repeat hears the trigger and the resolve."""
    quiet = Recipient("quiet", "group", frozenset({"trigger", "resolve", "notice"}), 3)
    async with desk(tmp_path, plan=planner(quiet)) as receiver:
        await receiver.notify(group(firing()))
        await receiver.notify(group(firing()), seconds=4000)
        await receiver.notify(group(resolved(until=4100)), seconds=4200)
        assert await receiver.kinds("quiet") == ["trigger", "resolve"]


async def test_enrichment_joins_what_every_enricher_knows(tmp_path: Path) -> None:
    """Links of all, the runbook of the first."""
    enrichers = Enrichers([Fake("one"), Fake("two")], 1.0)
    async with desk(tmp_path, enrichers=enrichers) as receiver:
        await receiver.notify(group(firing()))
        (message,) = await receiver.messages()
    known = message.episodes[0].enrichment
    assert [link.title for link in known.links] == ["one", "two"]
    assert known.runbook_url == "http://one/"


@pytest.mark.parametrize("trouble", ["hangs", "fails"])
async def test_enrichment_that_fails_or_hangs_costs_its_knowledge_only(tmp_path: Path, trouble: str) -> None:
    """The message goes within the budget, with what the others know."""
    enrichers = Enrichers([Fake(trouble), Fake("good")], 0.05)
    async with desk(tmp_path, enrichers=enrichers) as receiver:
        async with asyncio.timeout(2):
            await receiver.notify(group(firing()))
        (message,) = await receiver.messages()
    assert [link.title for link in message.episodes[0].enrichment.links] == ["good"]


async def test_a_test_notification_reaches_only_what_takes_tests(tmp_path: Path) -> None:
    """Grafana's Test button pages nobody and opens no episode."""
    async with desk(tmp_path, plan=planner(PAGER, CHAT, TERMINAL)) as receiver:
        await receiver.notify(group(firing("TestAlert", instance="Grafana"), key="test"))
        assert await receiver.kinds("terminal") == ["test"]
        assert await receiver.kinds("chat") == await receiver.kinds("pager") == []
        assert await receiver.rows("SELECT * FROM episodes") == []
        assert await receiver.outcomes() == ["test"]


async def test_an_alert_that_is_only_called_testalert_is_an_alert(tmp_path: Path) -> None:
    """The desk may name its rules as it likes."""
    async with desk(tmp_path) as receiver:
        await receiver.notify(group(firing("TestAlert", instance="exporter")))
        assert await receiver.kinds() == ["trigger"]


async def test_entries_are_processed_in_order_of_acceptance(tmp_path: Path) -> None:
    """A whole life in one batch: trigger, resolve, trigger, and the episode is open at the end."""
    async with desk(tmp_path) as receiver:
        await receiver.journal(group(firing()))
        await receiver.journal(group(resolved(until=10)), seconds=10)
        await receiver.journal(group(firing(since=20)), seconds=20)
        assert await receiver.worker.process_batch()
        assert not await receiver.worker.process_batch()
        assert await receiver.kinds("pager") == ["trigger", "resolve", "trigger"]


async def test_an_entry_is_settled_once(tmp_path: Path) -> None:
    """Run again after a crash whose commit was not heard of, nothing is planned twice."""
    async with desk(tmp_path) as receiver:
        await receiver.journal(group(firing()))
        (entry,) = await receiver.store.read(journal.pending(10, 10**6))
        prepared = await receiver.pipeline.prepare(entry)
        outcomes = [
            (await receiver.store.write(receiver.pipeline.settle(prepared, receiver.clock.now()))).outcome for _ in range(2)
        ]
        assert outcomes == ["changed", "already_done"]
        assert await receiver.kinds() == ["trigger"]


async def test_an_entry_that_cannot_be_processed_is_told_and_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours becomes a notice with the body, on the fallback channel; the next entry is processed."""
    async with desk(tmp_path) as receiver:
        await receiver.journal(group(firing("Poison")))
        await receiver.journal(group(firing("Healthy")), seconds=1)
        plan = type(receiver.pipeline.planner).messages

        def fails_for_poison(self: Any, changes: Any, *rest: Any) -> Any:
            if changes[0].episode.labels["alertname"] == "Poison":
                raise RuntimeError("a fault")
            return plan(self, changes, *rest)

        monkeypatch.setattr(type(receiver.pipeline.planner), "messages", fails_for_poison)
        await receiver.worker.process_batch()
        notice, trigger = sorted(await receiver.messages("chat"), key=lambda message: message.kind)
        assert (notice.kind, trigger.episodes[0].name) == ("notice", "Healthy")
        assert "Poison" in notice.text
        assert "GET /api/v1/journal/1" in notice.text
        states = await receiver.rows("SELECT state FROM journal ORDER BY entry_id")
        assert [row["state"] for row in states] == ["failed", "processed"]
        assert [row["alert_name"] for row in await receiver.rows("SELECT alert_name FROM episodes")] == ["Healthy"]


async def test_while_the_store_fails_the_worker_waits_and_then_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is marked failed for the store's sake."""
    async with desk(tmp_path) as receiver:
        await receiver.journal(group(firing()))
        write, failures = receiver.store.write, iter([True, True])

        async def unavailable_twice(work: Any, **options: Any) -> Any:
            if next(failures, False):
                raise StoreUnavailable("disk full")
            return await write(work, **options)

        monkeypatch.setattr(receiver.store, "write", unavailable_twice)
        running = asyncio.ensure_future(receiver.worker.run())
        async with asyncio.timeout(10):
            while not receiver.planned.is_set():
                await receiver.clock.advance(1.0)
        running.cancel()
        assert await receiver.kinds() == ["trigger"]


class SlowClock(ManualClock):
    """Everything takes ten milliseconds, and who sleeps is noted."""

    def __init__(self) -> None:
        super().__init__(T0)
        self.sleeping = asyncio.Event()
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Ten milliseconds later at each look."""
        self._monotonic += 0.01
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Note it and wait for ever."""
        self.slept.append(seconds)
        self.sleeping.set()
        await asyncio.Event().wait()


async def test_the_worker_rests_while_notifications_come_in_thick(tmp_path: Path) -> None:
    """Answers come before deliveries: a late answer makes Alertmanager send again."""
    clock = SlowClock()
    async with desk(tmp_path, clock=clock, intake_busy=lambda: True) as receiver:
        await receiver.journal(group(firing()))
        running = asyncio.ensure_future(receiver.worker.run())
        async with asyncio.timeout(5):
            await clock.sleeping.wait()
        running.cancel()
        assert receiver.planned.is_set()  # it works all the same
        assert clock.slept == [pytest.approx(3 * 0.01)]
