"""The delivery engine: order, urgency, deadlines, retries, dead letters; nothing of one channel touches another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent, Reason, Retryable, StoreUnavailable
from deskwatch.store import Row
from receiver import dead_letters, deliveries
from receiver.channel import Channel, ChannelConfig
from receiver.deliver import ChannelTask, Tools
from receiver.deliveries import Planned
from receiver.message import Message, MessageKind
from tests.unit.receiver.bodies import firing, group, resolved
from tests.unit.receiver.channels.messages import episode, message
from tests.unit.receiver.desk import EVERY_KIND, Desk, desk


class Config(ChannelConfig):
    type: Literal["fake"] = "fake"


class Fake(Channel[Config]):
    """Notes what it is asked to send; does what `does` says."""

    grouping = "group"
    takes: ClassVar[frozenset[MessageKind]] = EVERY_KIND

    def __init__(self, name: str = "chat", **settings: Any) -> None:
        super().__init__(Config(name=name, **settings), ManualClock())
        self.attempted: list[Message] = []
        self.sent: list[Message] = []
        self.underway: set[str] = set()
        self.most_underway = 0
        self.does: Callable[[Message], Any] = lambda _: None

    async def send(self, said: Message) -> str:
        """As told."""
        assert said.dedup_key not in self.underway, "two of one dedup key at once"
        self.attempted.append(said)
        self.underway.add(said.dedup_key)
        self.most_underway = max(self.most_underway, len(self.underway))
        try:
            result = self.does(said)
            if asyncio.iscoroutine(result):
                await result
        finally:
            self.underway.discard(said.dedup_key)
        self.sent.append(said)
        return f"ref-{said.delivery_id}"


@dataclass
class Engine:
    """A desk with one channel's task."""

    desk: Desk
    channel: Fake
    task: ChannelTask

    async def plan(self, *messages: Message, channel: str = "chat", attempts: int = 12) -> None:
        """Plan deliveries now."""
        planned = [Planned(channel, each, attempts) for each in messages]
        await self.desk.store.write(deliveries.plan(planned, "c", self.desk.clock.now()))

    async def settle(self) -> None:
        """Begin what is due and wait until it has ended, until nothing more is due."""
        while True:
            await self.task.step()
            if not self.task._underway:
                return
            await asyncio.gather(*self.task._underway.values())
            await asyncio.sleep(0)

    async def row(self, delivery_id: int = 1) -> Row:
        """One delivery as stored."""
        (row,) = await self.desk.rows("SELECT * FROM deliveries WHERE delivery_id = ?", delivery_id)
        return row

    async def ledger(self) -> list[tuple[str, int, str]]:
        """Event, attempt and outcome of every record."""
        rows = await self.desk.rows("SELECT event, attempt, outcome FROM ledger ORDER BY sequence")
        return [(row["event"], row["attempt"], row["outcome"]) for row in rows]


@asynccontextmanager
async def engine(folder: Path, **settings: Any) -> AsyncIterator[Engine]:
    """The engine for a channel with these settings; jitter is always a half."""
    async with desk(folder) as receiver:
        channel = Fake(**settings)
        tools = Tools(
            receiver.store,
            receiver.metrics,
            receiver.pipeline.planner,
            receiver.clock,
            on_planned=lambda: None,
            jitter=lambda: 0.5,
        )
        yield Engine(receiver, channel, ChannelTask(channel, tools))


def about(key: str, kind: MessageKind = "trigger", **more: Any) -> Message:
    """A message with this dedup key."""
    return message(kind, dedup_key=key, delivery_id="", **more)


def fails(error: Exception, times: int = 10**6) -> Callable[[Message], None]:
    """Raise so many times, then succeed."""
    left = iter(range(times))

    def does(_: Message) -> None:
        if next(left, None) is not None:
            raise error

    return does


async def test_intent_then_send_then_outcome(tmp_path: Path) -> None:
    """The ledger has the intent before anything is sent, and the reference afterwards."""
    async with engine(tmp_path) as at:
        await at.plan(about("a"))
        await at.settle()
        assert at.channel.sent[0].delivery_id == "d-1"
        assert at.channel.sent[0].attempt == 1
        assert await at.ledger() == [("intent", 1, ""), ("outcome", 1, "delivered")]
        row = await at.row()
        assert (row["state"], row["reference"], row["attempts"]) == ("delivered", "ref-d-1", 1)
        assert at.desk.metrics.deliveries.labels("chat", "delivered")._value.get() == 1


async def test_messages_of_one_key_leave_in_order_one_at_a_time(tmp_path: Path) -> None:
    """However many may be under way at once."""
    async with engine(tmp_path, concurrency=8) as at:
        await at.plan(*(about("a", kind) for kind in ("trigger", "repeat", "remediation", "resolve")), about("b"))
        await at.settle()
        assert [each.kind for each in at.channel.sent if each.dedup_key == "a"] == [
            "trigger",
            "repeat",
            "remediation",
            "resolve",
        ]


async def test_a_resolve_waits_for_its_trigger_that_is_retried(tmp_path: Path) -> None:
    """A trigger after its resolve would be a page nobody closes."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Retryable("down", reason=Reason.REFUSED), times=2)
        await at.plan(about("a"), about("a", "resolve"), about("b"))
        await at.settle()
        assert [each.dedup_key for each in at.channel.attempted] == ["a", "b"]
        for _ in range(3):
            at.desk.clock.jump(1000)
            await at.settle()
        assert [(each.dedup_key, each.kind) for each in at.channel.sent] == [
            ("a", "trigger"),
            ("b", "trigger"),
            ("a", "resolve"),
        ]


async def test_critical_goes_first(tmp_path: Path) -> None:
    """Also before what waited longer; a critical resolve before a warning."""
    async with engine(tmp_path, concurrency=1) as at:
        await at.plan(
            about("info", severity="info", priority="INFO"),
            about("warning", severity="warning", priority="P2"),
            about("ended", "resolve"),
            about("p1", severity="warning", priority="P1"),
            about("critical"),
        )
        await at.settle()
        assert [each.dedup_key for each in at.channel.sent] == ["ended", "critical", "p1", "warning", "info"]


async def test_no_more_are_under_way_than_configured(tmp_path: Path) -> None:
    """Different keys in parallel, up to the channel's concurrency."""
    async with engine(tmp_path, concurrency=3) as at:
        gate, full = asyncio.Event(), asyncio.Event()

        async def wait_for_the_gate() -> None:
            if len(at.channel.underway) == 3:
                full.set()
            await gate.wait()

        at.channel.does = lambda _: wait_for_the_gate()
        await at.plan(*(about(str(number)) for number in range(8)))
        await at.task.step()
        await full.wait()
        await at.task.step()
        gate.set()
        await at.settle()
        assert at.channel.most_underway == 3
        assert len(at.channel.sent) == 8


async def test_backoff_doubles_with_full_jitter_up_to_its_limit(tmp_path: Path) -> None:
    """Half of 2, 4, 8, ... seconds with this jitter, at most half of 900."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Retryable("down", reason=Reason.REFUSED))
        await at.plan(about("a"))
        waits = []
        for _ in range(11):
            await at.settle()
            waits.append((await at.row())["next_attempt_at_us"] / 1e6 - at.desk.clock.now().timestamp())
            at.desk.clock.jump(waits[-1])
        assert [round(wait, 3) for wait in waits] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 450, 450]


async def test_retry_after_is_stored_and_holds_the_whole_channel(tmp_path: Path) -> None:
    """One 429 concerns everything sent there; nothing is tried before its time, and nobody sleeps with it."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Retryable("slow down", reason=Reason.RATE_LIMITED, retry_after_seconds=30.0), times=1)
        await at.plan(about("a"))
        await at.settle()
        row = await at.row()
        assert row["next_attempt_at_us"] / 1e6 == at.desk.clock.now().timestamp() + 30
        assert row["reason"] == "rate_limited"
        await at.plan(about("b"))
        at.desk.clock.jump(29)
        assert 0 < await at.task.step() <= 1.0
        assert len(at.channel.attempted) == 1
        at.desk.clock.jump(1)
        await at.settle()
        assert [each.dedup_key for each in at.channel.sent] == ["a", "b"]


async def test_an_absurd_retry_after_is_cut(tmp_path: Path) -> None:
    """A day's wait asked for by a proxy must not cost a day's pages."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Retryable("come back tomorrow", reason=Reason.SERVER_ERROR, retry_after_seconds=86_400.0))
        await at.plan(about("a"))
        await at.settle()
        assert (await at.row())["next_attempt_at_us"] / 1e6 == at.desk.clock.now().timestamp() + 900


async def test_a_second_attempt_is_marked_as_a_possible_duplicate(tmp_path: Path) -> None:
    """With the same delivery id."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Retryable("down", reason=Reason.TIMEOUT), times=1)
        await at.plan(about("a"))
        await at.settle()
        at.desk.clock.jump(10)
        await at.settle()
        assert [(each.delivery_id, each.attempt, each.possible_duplicate) for each in at.channel.attempted] == [
            ("d-1", 1, False),
            ("d-1", 2, True),
        ]


async def test_after_a_crash_an_intent_without_outcome_is_sent_again_marked(tmp_path: Path) -> None:
    """The predecessor committed the intent and ended; whether it sent, nobody knows."""
    async with engine(tmp_path) as at:
        await at.plan(about("a"))
        (due,) = await at.desk.store.read(deliveries.due("chat", at.desk.clock.now(), 1, ()))
        assert await at.desk.store.write(deliveries.begin(due, at.desk.clock.now())) == 1
        await at.settle()
        assert at.channel.sent[0].attempt == 2


async def test_a_permanent_failure_is_a_dead_letter_at_once_and_lets_the_next_pass(tmp_path: Path) -> None:
    """And the fallback channel hears of it."""
    async with engine(tmp_path, name="other") as at:
        at.channel.does = fails(Permanent("answered 404", reason=Reason.NOT_FOUND), times=1)
        await at.plan(about("a"), about("a", "resolve"), channel="other")
        await at.settle()
        assert [each.kind for each in at.channel.sent] == ["resolve"]
        row = await at.row()
        assert (row["state"], row["reason"], row["error"]) == ("dead", "not_found", "answered 404")
        (notice,) = await at.desk.messages("chat")
        assert notice.kind == "notice"
        assert notice.text == (
            "Channel other did not take: [FIRING:1] VaRLimitExceeded carry\nanswered 404\n"
            "Send it again with POST /api/v1/dead-letters/1/replay."
        )
        assert at.desk.metrics.deliveries.labels("other", "dead")._value.get() == 1


async def test_the_fallback_channel_does_not_tell_itself_of_its_own_failure(tmp_path: Path) -> None:
    """Nor is a notice about a notice made."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Permanent("answered 404", reason=Reason.NOT_FOUND))
        await at.plan(about("a"), about("b", "notice", text="x"))
        await at.settle()
        assert len(await at.desk.messages("chat")) == 2


async def test_attempts_that_are_used_up_make_a_dead_letter(tmp_path: Path) -> None:
    """Three of three."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Retryable("down", reason=Reason.REFUSED))
        await at.plan(about("a"), attempts=3)
        for _ in range(5):
            await at.settle()
            at.desk.clock.jump(1000)
        assert len(at.channel.attempted) == 3
        assert (await at.row())["state"] == "dead"


async def test_a_replayed_dead_letter_gets_its_attempts_again(tmp_path: Path) -> None:
    """However often; the ledger keeps who asked."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Permanent("no", reason=Reason.REJECTED), times=1)
        await at.desk.notify(group(firing()))
        await at.settle()
        for _ in range(2):
            at.channel.does = fails(Retryable("down", reason=Reason.REFUSED))
            replayed = await at.desk.store.write(dead_letters.replay(1, ["chat"], "anna", at.desk.clock.now()))
            assert replayed == "replayed"
            before = len(at.channel.attempted)
            for _ in range(15):
                await at.settle()
                at.desk.clock.jump(1000)
            assert len(at.channel.attempted) - before == 12
            assert (await at.row())["state"] == "dead"
        decisions = await at.desk.rows("SELECT outcome, detail FROM ledger WHERE event = 'decision'")
        assert decisions == [{"outcome": "replayed", "detail": "anna"}] * 2


async def test_a_dead_trigger_is_not_replayed_after_its_alert_ended(tmp_path: Path) -> None:
    """Sent after the resolve it would open an incident nobody closes; the resolve itself may be."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(Permanent("no", reason=Reason.REJECTED))
        await at.desk.notify(group(firing()))
        await at.desk.notify(group(resolved(until=5)), seconds=10)
        await at.settle()
        now = at.desk.clock.now()
        ids = [row["delivery_id"] for row in await at.desk.rows("SELECT delivery_id FROM deliveries WHERE channel = 'chat'")]
        trigger, resolve = ids
        assert await at.desk.store.write(dead_letters.replay(trigger, ["chat"], "anna", now)) == "outdated"
        assert await at.desk.store.write(dead_letters.replay(resolve, ["chat"], "anna", now)) == "replayed"
        assert await at.desk.store.write(dead_letters.replay(resolve, ["chat"], "anna", now)) == "not_dead"
        assert await at.desk.store.write(dead_letters.replay(999, ["chat"], "anna", now)) == "unknown"
        assert await at.desk.store.write(dead_letters.replay(trigger, [], "anna", now)) == "unknown_channel"


async def test_a_channel_that_hangs_costs_the_deadline(tmp_path: Path) -> None:
    """The attempt fails as a timeout, and the engine goes on."""
    async with engine(tmp_path, timeout_seconds=0.05) as at:
        never = asyncio.Event()
        at.channel.does = lambda said: never.wait() if said.dedup_key == "a" else None
        await at.plan(about("a"), about("b"))
        async with asyncio.timeout(5):
            await at.settle()
        assert [each.dedup_key for each in at.channel.sent] == ["b"]
        row = await at.row()
        assert (row["reason"], row["error"]) == ("timeout", "chat did not answer within 0.05 s")


async def test_a_fault_in_a_channel_is_retried_and_its_text_kept_out(tmp_path: Path) -> None:
    """It may hold a secret."""
    async with engine(tmp_path) as at:
        at.channel.does = fails(ValueError("https://hooks.slack.com/s3cr3t"), times=1)
        await at.plan(about("a"))
        await at.settle()
        row = await at.row()
        assert (row["state"], row["reason"], row["error"]) == ("pending", "internal", "chat failed: ValueError")


async def test_an_outcome_waits_for_a_store_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent is not sent twice because the disk was full for a moment."""
    async with engine(tmp_path) as at:
        await at.plan(about("a"))
        write = at.desk.store.write
        troubles = iter([False, True, True, False])

        async def troubled(work: Any, **options: Any) -> Any:
            if next(troubles, False):
                raise StoreUnavailable("disk full")
            return await write(work, **options)

        monkeypatch.setattr(at.desk.store, "write", troubled)
        settling = asyncio.ensure_future(at.settle())
        async with asyncio.timeout(5):
            while not settling.done():
                await at.desk.clock.advance(1.0)
        assert len(at.channel.attempted) == 1
        assert (await at.row())["state"] == "delivered"


async def test_each_channel_has_its_own_task_and_knows_only_its_deliveries(tmp_path: Path) -> None:
    """The other's are left alone."""
    async with engine(tmp_path) as at:
        await at.plan(about("a"), channel="other")
        await at.settle()
        assert at.channel.attempted == []


async def test_the_next_look_is_when_the_next_attempt_is_due(tmp_path: Path) -> None:
    """Neither a busy loop nor a missed time."""
    async with engine(tmp_path) as at:
        assert await at.task.step() == 30.0
        at.channel.does = fails(Retryable("down", reason=Reason.REFUSED), times=1)
        await at.plan(about("a"))
        await at.settle()
        assert await at.task.step() == pytest.approx(1.0)


async def test_it_runs_by_itself_when_woken_and_ends_when_cancelled(tmp_path: Path) -> None:
    """An attempt that does not end soon stands as an intent without outcome."""
    async with engine(tmp_path) as at:
        arrived, never = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            arrived.set()
            await never.wait()

        running = asyncio.ensure_future(at.task.run())
        await at.plan(about("a"))
        at.channel.does = lambda _: hang()
        at.task.wake()
        async with asyncio.timeout(5):
            await arrived.wait()
            running.cancel()
            await asyncio.wait([running])
        assert await at.ledger() == [("intent", 1, "")]
        assert (await at.row())["state"] == "pending"


async def test_deliveries_of_a_channel_no_longer_configured_are_dead_letters(tmp_path: Path) -> None:
    """They are not forgotten: they are counted, and can be looked at."""
    async with engine(tmp_path) as at:
        await at.plan(about("a"), channel="removed")
        await at.plan(about("b"))
        buried = await at.desk.store.write(deliveries.bury_orphans(["chat"], at.desk.clock.now()))
        assert buried == {"removed": 1}
        (row,) = await at.desk.store.read(dead_letters.recent(10, 0))
        assert (row["channel"], row["error"]) == ("removed", "the channel is not configured")


async def test_a_long_backlog_is_looked_through_quickly(tmp_path: Path) -> None:
    """Thousands wait behind one key while the channel is down; finding what is due stays cheap beside a control."""
    async with engine(tmp_path) as at:

        async def look() -> float:
            began = asyncio.get_running_loop().time()
            for _ in range(5):
                await at.desk.store.read(deliveries.due("chat", at.desk.clock.now(), 4, ()))
            return asyncio.get_running_loop().time() - began

        await at.plan(about("first"))
        control = await look()
        await at.plan(*(about("same", episodes=(episode(),)) for _ in range(3000)))
        at.desk.clock.jump(timedelta(seconds=1).total_seconds())
        assert await look() < max(0.05, control) * 20
