"""Killed at any moment, the receiver loses nothing acknowledged, marks what it may have sent twice, and runs no hook twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from receiver.alerts import identity
from tests.flows.receiver.running import Process, section
from tests.stand_ins.pagerduty import ROUTING_KEY, PagerDuty
from tests.stand_ins.webhook import GenericWebhook
from tests.unit.receiver.bodies import firing, group, resolved
from tests.unit.receiver.hook_samples import install

KILLS = int(os.environ.get("DESKWATCH_KILLS", "20"))
"""`make soak` sets it."""
SEED = int(os.environ.get("DESKWATCH_SEED", "20150115"))
PATH = "/api/v1/webhook"
HOOKED = 15
"""Every so manieth alert is critical and starts a hook, which costs a process."""
IGNORED = ("detector", "replica", "prometheus", "monitor")


@dataclass
class Crashing:
    """A receiver to be killed, and those it tells."""

    process: Process
    pagerduty: PagerDuty
    webhook: GenericWebhook
    notes: Path
    store: Path
    acknowledged: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0

    def labels(self, number: int) -> dict[str, str]:
        """Labels of one of many alerts; the hook writes its idempotency key into the file they name."""
        severity = "critical" if number % HOOKED == 1 else "warning"
        return {"alertname": "VaRLimitExceeded", "severity": severity, "n": str(number), "file": str(self.notes)}

    def body(self, number: int, *, ended: bool = False) -> bytes:
        """A notification about it."""
        more = {name: value for name, value in self.labels(number).items() if name != "alertname"}
        return group(resolved(until=5, **more) if ended else firing(**more), key=f"group {number}")

    async def post(self, session: aiohttp.ClientSession, number: int, *, ended: bool = False) -> bool:
        """Post it; whether it was acknowledged."""
        try:
            async with session.post(f"{self.process.url}{PATH}", data=self.body(number, ended=ended)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def rows(self, sql: str) -> list[Any]:
        """What the store of the ended process holds."""
        with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    def noted(self) -> list[str]:
        """Idempotency keys the hook has written."""
        return self.notes.read_text().split() if self.notes.exists() else []


@pytest.fixture
async def crashing(tmp_path: Path) -> AsyncIterator[Crashing]:
    async with PagerDuty() as pagerduty, GenericWebhook() as webhook:
        channels = [
            {"type": "pagerduty", "routing_key": ROUTING_KEY, "base_url": pagerduty.url, "concurrency": 8},
            {"type": "webhook", "url": webhook.webhook_url, "concurrency": 8},
        ]
        configuration = section(tmp_path, channels=channels, hooks={"notes": {}})
        process = Process(tmp_path, configuration, {"PYTHONPATH": str(install(tmp_path / "hooks"))})
        yield Crashing(process, pagerduty, webhook, tmp_path / "notes", tmp_path / "state" / "receiver.sqlite")
        process.end()


async def started(crashing: Crashing, **environment: str) -> None:
    """Start the process; the event loop, which serves the stand-ins, goes on."""
    await asyncio.to_thread(lambda: crashing.process.start(**environment))


async def load(crashing: Crashing, numbers: Iterator[int], stop: asyncio.Event) -> None:
    """Post new alerts, and the end of every third, until told to stop."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        while not stop.is_set():
            number = next(numbers)
            if not await crashing.post(session, number):
                crashing.refused += 1
                await asyncio.sleep(0.01)
                continue
            crashing.acknowledged.append(crashing.labels(number))
            await asyncio.sleep(0.01)
            if number % 3 == 0:
                await crashing.post(session, number, ended=True)


async def test_kills_under_load_lose_nothing_and_run_no_hook_twice(crashing: Crashing) -> None:
    """Every acknowledged alert becomes an episode and reaches PagerDuty and the webhook, duplicates are marked."""
    chance = random.Random(SEED)  # noqa: S311 - a seeded sample
    numbers = iter(range(10**9))
    stop = asyncio.Event()
    await started(crashing)
    loads = [asyncio.ensure_future(load(crashing, numbers, stop)) for _ in range(4)]
    for _ in range(KILLS):
        seen = len(crashing.acknowledged)
        wanted = seen + chance.randint(1, 12)
        async with asyncio.timeout(30):
            while len(crashing.acknowledged) < wanted:  # noqa: ASYNC110 - and then at a random moment
                await asyncio.sleep(0.005)
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        await asyncio.to_thread(crashing.process.kill)
        await started(crashing)
    stop.set()
    await asyncio.gather(*loads)
    expected = {identity(labels, IGNORED) for labels in crashing.acknowledged}
    await crashing.pagerduty.until(lambda: expected <= triggered(crashing.pagerduty), seconds=60)
    await crashing.webhook.until(lambda: expected <= told(crashing.webhook), seconds=60)
    await hooks_at_rest(crashing)
    assert await asyncio.to_thread(crashing.process.terminate) == 0

    assert len(expected) >= KILLS
    assert expected <= {row["identity"] for row in crashing.rows("SELECT identity FROM episodes")}
    assert crashing.rows("SELECT * FROM journal WHERE state = 'failed'") == []
    assert_duplicates_are_marked(crashing.webhook)
    assert_order(crashing.pagerduty)
    assert_hooks_ran_at_most_once(crashing)
    print(summary(crashing, len(expected)))


def summary(crashing: Crashing, expected: int) -> str:
    """The counts of a run that lost nothing; `make soak` shows them."""
    deliveries = Counter(request.headers["Idempotency-Key"] for request in crashing.webhook.requests)
    twice = sum(count > 1 for count in deliveries.values())
    states = {row["state"]: row["n"] for row in crashing.rows("SELECT state, count(*) AS n FROM runs GROUP BY state")}
    return (
        f"{KILLS} kills (seed {SEED}): {expected} alerts acknowledged, {crashing.refused} refused, 0 lost; "
        f"{len(deliveries)} deliveries, {twice} sent more than once, all marked; hook runs {states}, 0 run twice"
    )


def triggered(pagerduty: PagerDuty) -> set[str]:
    """Identities PagerDuty has been told of."""
    return {event["dedup_key"] for event in pagerduty.events if event["event_action"] == "trigger"}


def told(webhook: GenericWebhook) -> set[str]:
    """Identities the webhook has been told of."""
    return {episode["identity"] for message in webhook.messages for episode in message["episodes"]}


async def hooks_at_rest(crashing: Crashing) -> None:
    """Until no run waits or is under way."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        for state in ("queued", "started"):
            while True:
                async with session.get(f"{crashing.process.url}/api/v1/runs?state={state}") as answer:
                    if await answer.json() == []:
                        break
                await asyncio.sleep(0.1)


def assert_duplicates_are_marked(webhook: GenericWebhook) -> None:
    """The same delivery carries the same id, and a higher attempt each time."""
    attempts: dict[str, list[int]] = {}
    contents: dict[str, set[str]] = {}
    for request in webhook.requests:
        key = request.headers["Idempotency-Key"]
        attempts.setdefault(key, []).append(int(request.headers["X-Deskwatch-Attempt"]))
        message = request.json
        contents.setdefault(key, set()).add(f"{message['kind']} {[each['episode_id'] for each in message['episodes']]}")
    assert all(len(set(found)) == len(found) for found in attempts.values())
    assert all(found == sorted(found) for found in attempts.values())
    assert all(len(found) == 1 for found in contents.values())


def assert_order(pagerduty: PagerDuty) -> None:
    """After its resolve no trigger of an identity comes: each fired once here."""
    over: set[str] = set()
    for event in pagerduty.events:
        if event["event_action"] == "resolve":
            over.add(event["dedup_key"])
        else:
            assert event["dedup_key"] not in over, "a trigger after its resolve: a zombie page"


def assert_hooks_ran_at_most_once(crashing: Crashing) -> None:
    """Each idempotency key at most once; what was interrupted is unresolved and told, the rest succeeded."""
    counts = Counter(crashing.noted())
    assert counts
    assert max(counts.values()) == 1
    runs = crashing.rows("SELECT state, count(*) AS n FROM runs GROUP BY state")
    states = {row["state"]: row["n"] for row in runs}
    assert set(states) <= {"succeeded", "unresolved", "refused"}
    started_runs = "FROM ledger WHERE subject = 'run' AND event = 'intent' GROUP BY subject_id"
    intents = crashing.rows(f"SELECT count(*) AS n {started_runs}")
    assert {row["n"] for row in intents} == {1}
    assert len(counts) <= states.get("succeeded", 0) + states.get("unresolved", 0)
    assert states.get("succeeded", 0) <= len(counts)


FAILPOINTS = {
    # failpoint: attempts at the delivery that are on record in the end, lines the hook wrote, state of its run
    "store.before_commit": (1, 1, "succeeded"),
    "store.after_commit": (1, 1, "succeeded"),
    "webhook.after_commit": (1, 1, "succeeded"),
    "worker.before_settle": (1, 1, "succeeded"),
    "worker.after_settle": (1, 1, "succeeded"),
    "deliver.after_intent": (2, None, None),  # the hook is under way at the same time
    "deliver.after_send": (2, None, None),
    "deliver.after_outcome": (None, None, None),  # the other channel is in the middle of its own
    "remediate.after_intent": (None, 0, "unresolved"),
    "remediate.after_run": (None, 1, "unresolved"),
    "remediate.after_outcome": (None, 1, "succeeded"),
}


@pytest.mark.parametrize("name", FAILPOINTS)
async def test_a_kill_between_any_two_records(crashing: Crashing, name: str) -> None:
    """One notification, one kill at the named place, one restart: one episode, told, its hook run at most once."""
    attempts, lines, state = FAILPOINTS[name]
    # Opening the store writes nothing through it; the first commit of the process is the burying of orphans.
    armed = f"{name}:2" if name.startswith("store.") else name
    await started(crashing, DESKWATCH_FAILPOINT=armed)
    async with aiohttp.ClientSession() as session:
        acknowledged = await crashing.post(session, 1)
        assert await asyncio.to_thread(crashing.process.wait) == -signal.SIGKILL
        await started(crashing)
        if not acknowledged:
            # As Alertmanager does: it was not answered 200, so it comes again.
            assert await crashing.post(session, 1)
    key = identity(crashing.labels(1), IGNORED)
    await crashing.pagerduty.until(lambda: key in triggered(crashing.pagerduty))
    await crashing.webhook.until(lambda: {"trigger", "remediation"} <= {each["kind"] for each in crashing.webhook.messages})
    await hooks_at_rest(crashing)
    assert await asyncio.to_thread(crashing.process.terminate) == 0
    assert len(crashing.rows("SELECT * FROM episodes")) == 1
    assert len(crashing.pagerduty.incidents) == 1
    assert_duplicates_are_marked(crashing.webhook)
    deliveries = crashing.rows("SELECT state, attempts FROM deliveries WHERE kind = 'trigger'")
    assert {row["state"] for row in deliveries} == {"delivered"}
    if attempts is not None:
        assert max(row["attempts"] for row in deliveries) == attempts
    noted = crashing.noted()
    assert len(noted) == len(set(noted)) <= 1
    (run,) = crashing.rows("SELECT state FROM runs")
    if state is not None:
        assert (run["state"], len(noted)) == (state, lines)
