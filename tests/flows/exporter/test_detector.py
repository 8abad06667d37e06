"""The second detector against an Alertmanager and a receiver made for the test, over real sockets."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import StoreUnavailable
from exporter.config import DetectorConfig
from exporter.detection.detector import Detector
from exporter.detection.rulefile import LimitRule, read_rules
from exporter.detection.spool import Spool
from exporter.limits import LIMIT, UTILIZATION
from exporter.reading import Reading
from tests.flows.exporter.peers import Peer

START = datetime(2015, 1, 15, 10, tzinfo=UTC)
LABELS = ("carry", "expected_shortfall_0.975")
RULES = read_rules()


class Bench:
    """A running detector, its peers and a clock turned by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(START)
        self.alertmanagers = [Peer(), Peer()]
        self.receiver = Peer()
        self.peers = [*self.alertmanagers, self.receiver]

    @asynccontextmanager
    async def detector(
        self, alertmanagers: int = 1, rules: tuple[LimitRule, ...] = RULES, **settings: Any
    ) -> AsyncIterator[Detector]:
        """One life of the process; the spool's folder and the peers outlive it."""
        config = self.config(alertmanagers, **settings)
        self.spool = await Spool.open(self.folder)
        detector = Detector(config, rules, self.clock, self.spool, random.Random(1))  # noqa: S311
        task = asyncio.ensure_future(detector.run())
        try:
            yield detector
        finally:
            task.cancel()
            await asyncio.wait({task})
            await self.spool.close()

    def config(self, alertmanagers: int | list[dict[str, Any]] = 1, **settings: Any) -> DetectorConfig:
        """Section `detector` with so many Alertmanagers, or these, and the receiver."""
        if isinstance(alertmanagers, int):
            alertmanagers = [{"base_url": each.url, "timeout_seconds": 1} for each in self.alertmanagers[:alertmanagers]]
        content = {
            "alertmanagers": alertmanagers,
            "receiver": {"base_url": self.receiver.url, "token": "s3cr3t", "timeout_seconds": 1},
            **settings,
        }
        config = validate(DetectorConfig, content)
        assert isinstance(config, DetectorConfig), config
        return config

    async def read(self, detector: Detector, value: float | None, after: float = 0.0, *, limits: bool = True) -> None:
        """One reading of a utilization."""
        await self.clock.advance(after)
        samples = [LIMIT.sample(*LABELS, value=0.02)] if limits else []
        samples += [] if value is None else [UTILIZATION.sample(*LABELS, value=value)]
        detector.act(detector.judge(Reading(self.clock.now(), tuple(samples), ())))

    async def breach(self, detector: Detector, value: float = 1.5) -> None:
        """A breach that has lasted its minute."""
        await self.read(detector, value)
        await self.read(detector, value, after=60)

    async def settled(self, detector: Detector, target: Peer, outcome: str, count: int) -> None:
        """Wait until so many posts to a peer have had this outcome."""
        name = target.url.partition("://")[2]
        async with asyncio.timeout(10):
            while posts(detector, name, outcome) < count:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)

    async def spooled(self, depth: int, *, advancing: float = 0.0) -> None:
        """Wait until so many bodies wait on disk; 0: the receiver has taken everything. `advancing`: past the back-off."""
        async with asyncio.timeout(10):
            while self.spool.depth != depth:
                await self.clock.advance(advancing)
                await asyncio.sleep(0.01)


def posts(detector: Detector, target: str, outcome: str) -> float:
    """`deskwatch_detector_posts_total`."""
    wanted = ("deskwatch_detector_posts_total", (target, outcome))
    return next(each.value for each in detector.samples() if (each.family.name, each.labels) == wanted)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """All peers listening."""
    made = Bench(tmp_path)
    for peer in made.peers:
        await peer.start()
    yield made
    for peer in made.peers:
        await peer.stop()


async def test_a_breach_is_posted_to_every_alertmanager_as_prometheus_would(bench: Bench) -> None:
    """Labels, annotations, start; an end four intervals ahead, so that it ends by itself when nobody posts any more."""
    async with bench.detector(alertmanagers=2, external_labels={"desk": "fx"}) as detector:
        await bench.breach(detector)
        first, other = [await peer.next() for peer in bench.alertmanagers]
    assert first == other
    (alert,) = first
    assert alert["labels"] == {
        "alertname": "ExpectedShortfallExceeded", "portfolio": "carry", "limit": "expected_shortfall_0.975",
        "severity": "critical", "priority": "P1", "category": "risk", "team": "risk", "desk": "fx",
    }  # fmt: skip
    assert alert["annotations"]["summary"] == "carry is over its expected-shortfall limit expected_shortfall_0.975"
    assert (alert["startsAt"], alert["endsAt"]) == ("2015-01-15T10:01:00.000Z", "2015-01-15T10:02:00.000Z")
    assert bench.receiver.received.empty()


async def test_a_standing_breach_is_posted_again_and_an_ended_one_is_not(bench: Bench) -> None:
    """Never as resolved: that would override a Prometheus which still sees it."""
    async with bench.detector(repost_seconds=15) as detector:
        await bench.breach(detector)
        (alertmanager, *_) = bench.alertmanagers
        await alertmanager.next()
        await bench.settled(detector, alertmanager, "ok", 1)
        await bench.read(detector, 1.7, after=14)
        assert alertmanager.received.empty()
        await bench.read(detector, 1.7, after=1)
        (again,) = await alertmanager.next()
        assert (again["startsAt"], again["endsAt"]) == ("2015-01-15T10:01:00.000Z", "2015-01-15T10:02:15.000Z")
        assert "170%" in again["annotations"]["description"]
        await bench.settled(detector, alertmanager, "ok", 2)
        await bench.read(detector, 0.5, after=5)
        await bench.read(detector, 0.5, after=60)
        assert alertmanager.received.empty()
    assert bench.receiver.received.empty()


async def test_while_one_alertmanager_accepts_the_receiver_is_not_told(bench: Bench) -> None:
    """One of a pair is enough."""
    bench.alertmanagers[0].status = 500
    async with bench.detector(alertmanagers=2) as detector:
        await bench.breach(detector)
        await bench.settled(detector, bench.alertmanagers[0], "server_error", 1)
        await bench.settled(detector, bench.alertmanagers[1], "ok", 1)
        await bench.read(detector, 1.5, after=1)
        await bench.clock.advance(0)
        assert bench.spool.depth == 0
        assert bench.spool.told == {}


@pytest.mark.parametrize("failure", ["refused", "server_error", "rejected", "timeout"])
async def test_when_no_alertmanager_accepts_the_receiver_is_told_directly(bench: Bench, failure: str) -> None:
    """Whatever the reason; once, with its token, marked as direct evidence."""
    (alertmanager, *_) = bench.alertmanagers
    if failure == "refused":
        await alertmanager.stop()
    alertmanager.status = {"server_error": 500, "rejected": 400, "timeout": None}.get(failure, 200)
    async with bench.detector() as detector:
        await bench.breach(detector)
        body = await bench.receiver.next()
        assert posts(detector, alertmanager.url.partition("://")[2], failure) == 1
        (alert,) = body["alerts"]
        assert (body["status"], alert["labels"]["detector"], alert["labels"]["alertname"]) == (
            "firing",
            "direct",
            "ExpectedShortfallExceeded",
        )
        assert bench.receiver.authorization == "Bearer s3cr3t"
        await bench.spooled(0)
        await bench.read(detector, 1.6, after=30)
        assert bench.spool.depth == 0
    assert bench.receiver.received.empty()


async def test_the_end_of_a_directly_told_breach_is_told_directly(bench: Bench) -> None:
    """By a fresh reading inside the limit; a reading without the number ends nothing."""
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        assert (await bench.receiver.next())["status"] == "firing"
        await bench.read(detector, None, after=10)
        await bench.spooled(0)
        assert bench.receiver.received.empty()
        await bench.read(detector, 0.9, after=10)
        body = await bench.receiver.next()
    (alert,) = body["alerts"]
    assert (body["status"], alert["endsAt"]) == ("resolved", "2015-01-15T10:01:20.000Z")
    assert alert["startsAt"] == "2015-01-15T10:01:00.000Z"


async def test_data_that_stays_lost_ends_nothing(bench: Bench) -> None:
    """Past `hold_seconds` the breach is reported no more, yet the receiver's episode stays open until a number is back."""
    async with bench.detector(alertmanagers=0, hold_seconds=600) as detector:
        await bench.breach(detector)
        await bench.receiver.next()
        await bench.spooled(0)
        for _ in range(70):
            await bench.read(detector, None, after=10)
        await bench.read(detector, 0.9, after=10)
        (alert,) = (await bench.receiver.next())["alerts"]
    assert (alert["status"], alert["endsAt"]) == ("resolved", "2015-01-15T10:12:50.000Z")


async def test_a_restart_between_firing_and_end_does_not_leave_the_alert_open(bench: Bench) -> None:
    """What was told is remembered on disk."""
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        await bench.receiver.next()
        await bench.spooled(0)
    async with bench.detector(alertmanagers=0) as detector:
        await bench.read(detector, None)
        await bench.read(detector, 0.9, after=5)
        assert (await bench.receiver.next())["status"] == "resolved"
        await bench.spooled(0)
    async with bench.detector(alertmanagers=0) as detector:
        await bench.read(detector, 0.9)
        await bench.clock.advance(0)
    assert bench.receiver.received.empty()


async def test_a_restart_during_a_breach_does_not_tell_it_twice(bench: Bench) -> None:
    """It fires again after its `for`, and the receiver knows it already."""
    for life in range(2):
        async with bench.detector(alertmanagers=0) as detector:
            await bench.breach(detector)
            if not life:
                await bench.receiver.next()
            await bench.spooled(0)
    assert bench.receiver.received.empty()


async def test_a_limit_that_was_removed_ends_what_was_told_of_it(bench: Bench) -> None:
    """Otherwise the episode would stay open for ever."""
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        await bench.receiver.next()
        await bench.spooled(0)
    async with bench.detector(alertmanagers=0) as detector:
        await bench.read(detector, None, limits=False)
        assert (await bench.receiver.next())["status"] == "resolved"


async def test_the_spool_is_posted_until_the_receiver_takes_it_in_order(bench: Bench) -> None:
    """Firing and end, although the receiver was down for both; a restart in between changes nothing."""
    await bench.receiver.stop()
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        await bench.settled(detector, bench.receiver, "refused", 1)
        await bench.read(detector, 0.5, after=0.001)
        await bench.spooled(2)
    await bench.receiver.start()
    bench.receiver.status = 503
    async with bench.detector(alertmanagers=0) as detector:
        await bench.settled(detector, bench.receiver, "server_error", 1)
        bench.receiver.status = 200
        await bench.spooled(0, advancing=1)
    statuses = [bench.receiver.received.get_nowait()["status"] for _ in range(bench.receiver.received.qsize())]
    assert statuses[-2:] == ["firing", "resolved"]


async def test_an_alertmanager_that_is_back_is_used_again(bench: Bench) -> None:
    """A new breach does not go the direct way because of an outage long past."""
    (alertmanager, *_) = bench.alertmanagers
    alertmanager.status = 500
    async with bench.detector() as detector:
        await bench.breach(detector)
        await bench.receiver.next()
        await bench.spooled(0)
        await bench.read(detector, 0.5, after=5)
        await bench.receiver.next()
        await bench.spooled(0)
        alertmanager.status = 200
        await bench.breach(detector)
        await bench.settled(detector, alertmanager, "ok", 1)
        await bench.read(detector, 1.5, after=1)
        await bench.clock.advance(0)
        assert bench.spool.depth == 0
    assert bench.receiver.received.empty()


async def test_a_disk_that_is_full_does_not_keep_a_critical_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is posted without being spooled."""
    async with bench.detector(alertmanagers=0) as detector:

        async def full(*_: object, **__: object) -> None:
            raise StoreUnavailable("database or disk is full")

        monkeypatch.setattr(bench.spool, "add", full)
        await bench.breach(detector)
        assert (await bench.receiver.next())["status"] == "firing"
        await bench.settled(detector, bench.receiver, "ok", 1)
        await bench.read(detector, 0.5, after=1)
        assert (await bench.receiver.next())["status"] == "resolved"


async def test_a_refused_token_keeps_the_alert_spooled(bench: Bench) -> None:
    """Until someone corrects it: nothing is thrown away."""
    bench.receiver.status = 401
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        await bench.settled(detector, bench.receiver, "auth", 1)
        assert bench.spool.depth == 1
        bench.receiver.status = 200
        await bench.spooled(0, advancing=10)


async def test_posting_never_delays_a_reading(bench: Bench) -> None:
    """`act` returns although no peer answers."""
    for peer in bench.peers:
        peer.status = None
    async with bench.detector(alertmanagers=2) as detector:
        await bench.breach(detector)
        before = asyncio.get_running_loop().time()
        for _ in range(100):
            await bench.read(detector, 1.5, after=0.1)
        assert asyncio.get_running_loop().time() - before < 5


async def test_without_any_address_it_only_counts(bench: Bench) -> None:
    """And says so once."""
    config = validate(DetectorConfig, {})
    assert isinstance(config, DetectorConfig)
    detector = Detector(config, RULES, bench.clock)
    with capture_logs() as logs:
        running = asyncio.ensure_future(detector.run())
        await bench.breach(detector)
        running.cancel()
    assert "neither an Alertmanager nor a receiver" in logs[0]["event"]
    assert {each.family.name: each.value for each in detector.samples()} == {
        "deskwatch_detector_rules": 3.0, "deskwatch_detector_spool_depth": 0.0,
    }  # fmt: skip


async def test_the_body_is_what_the_receiver_reads(bench: Bench) -> None:
    """Parsed by its own parser: one firing alert, direct, the same identity as Alertmanager's."""
    alerts = pytest.importorskip("receiver.alerts")
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        body = await bench.receiver.next()
    notification = alerts.parse(json.dumps(body).encode(), START + timedelta(minutes=1))
    (alert,) = notification.alerts
    assert (alert.status, alert.direct, notification.faults) == ("firing", True, ())
    plain = {name: text for name, text in alert.labels.items() if name != "detector"}
    assert alerts.identity(alert.labels, {"detector"}) == alerts.identity(plain, {"detector"})


async def test_another_configuration_ends_nothing_and_tells_nothing_twice(bench: Bench) -> None:
    """What fires goes on firing since the same moment, also by a rule whose `for` is longer now, and what was told is known."""
    longer = tuple(replace(rule, for_seconds=3600.0) for rule in RULES)
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        told = await bench.receiver.next()
        await bench.spooled(0)
        detector.prepare(bench.config(alertmanagers=0, hold_seconds=60), longer, bench.spool)()
        for value in (1.5, None, 1.5):
            await bench.read(detector, value, after=5)
        assert bench.receiver.received.empty()
        await bench.read(detector, 0.5, after=5)
        ended = await bench.receiver.next()
    assert (ended["status"], ended["alerts"][0]["startsAt"]) == ("resolved", told["alerts"][0]["startsAt"])


async def test_a_rule_that_takes_longer_now_does_not_end_what_fires(bench: Bench) -> None:
    """As in Prometheus: it is posted on, since the same moment."""
    longer = tuple(replace(rule, for_seconds=3600.0) for rule in RULES)
    async with bench.detector() as detector:
        await bench.breach(detector)
        (first,) = await bench.alertmanagers[0].next()
        await bench.settled(detector, bench.alertmanagers[0], "ok", 1)
        detector.prepare(bench.config(), longer, bench.spool)()
        await bench.read(detector, 1.5, after=1)
        await bench.read(detector, 1.5, after=15)
        (again,) = await bench.alertmanagers[0].next()
    assert again["startsAt"] == first["startsAt"]


async def test_what_is_pending_goes_on_being_pending(bench: Bench) -> None:
    """A reload each half minute must not keep an alert of a minute from firing."""
    async with bench.detector() as detector:
        await bench.read(detector, 1.5)
        for _ in range(2):
            detector.prepare(bench.config(repost_seconds=10), RULES, bench.spool)()
            await bench.read(detector, 1.5, after=30)
        (alert,) = await bench.alertmanagers[0].next()
    assert alert["startsAt"] == "2015-01-15T10:01:00.000Z"


async def test_a_limit_or_rule_taken_away_ends_what_was_told_of_it(bench: Bench) -> None:
    """As at a restart: nobody else would end the episode."""
    async with bench.detector(alertmanagers=0) as detector:
        await bench.breach(detector)
        await bench.receiver.next()
        await bench.spooled(0)
        detector.prepare(bench.config(alertmanagers=0), (), bench.spool)()
        await bench.read(detector, 1.5, after=5)
        assert (await bench.receiver.next())["status"] == "resolved"


async def test_an_alertmanager_that_comes_is_told_at_once_and_one_that_goes_no_more(bench: Bench) -> None:
    """Counts of the one that stays go on."""
    one, other = bench.alertmanagers
    async with bench.detector(alertmanagers=1) as detector:
        await bench.breach(detector)
        await one.next()
        await bench.settled(detector, one, "ok", 1)
        detector.prepare(bench.config(alertmanagers=2), RULES, bench.spool)()
        (there,) = await other.next()
        assert there["startsAt"] == "2015-01-15T10:01:00.000Z"
        await bench.settled(detector, other, "ok", 1)
        await bench.read(detector, 1.5, after=15)
        for peer in (one, other):
            await bench.settled(detector, peer, "ok", 2)
        await one.next()
        kept = {"base_url": other.url, "timeout_seconds": 1}
        detector.prepare(bench.config(alertmanagers=[kept]), RULES, bench.spool)()
        await bench.read(detector, 1.5, after=15)
        await bench.settled(detector, other, "ok", 3)
        assert one.received.empty()
        names = {each.labels[0] for each in detector.samples() if each.labels}
    assert names == {peer.url.partition("://")[2] for peer in (other, bench.receiver)}


async def test_other_credentials_are_used_at_once_and_the_post_under_way_ends_as_it_began(bench: Bench) -> None:
    """Nothing is cut off; what the old ones were refused is not waited for."""
    alertmanager, receiver = bench.alertmanagers[0], bench.receiver
    receiver.status = 401
    alertmanager.status = None
    async with bench.detector(alertmanagers=1) as detector:
        await bench.breach(detector)
        await alertmanager.next()  # answered by nobody so far
        rotated = {"base_url": alertmanager.url, "authorization": "n3w", "timeout_seconds": 1}
        fresh = {"base_url": receiver.url, "token": "n3w", "timeout_seconds": 1}
        detector.prepare(bench.config(alertmanagers=[rotated], receiver=fresh), RULES, bench.spool)()
        await alertmanager.next()  # the same again, after the first has run into its deadline
        assert alertmanager.authorization == "Bearer n3w"
        await bench.settled(detector, alertmanager, "timeout", 1)
        await bench.read(detector, 1.5, after=0.1)
        await bench.settled(detector, receiver, "auth", 1)
        receiver.status = 200
        newest = {"base_url": receiver.url, "token": "n3west", "timeout_seconds": 1}
        detector.prepare(bench.config(alertmanagers=[rotated], receiver=newest), RULES, bench.spool)()
        await bench.spooled(0)
        assert receiver.authorization == "Bearer n3west"


async def test_a_receiver_that_comes_later_is_told_what_fires(bench: Bench) -> None:
    """Whose spool is opened with it; one that goes is told no more, and the exporter lives on without any."""
    config = validate(DetectorConfig, {})
    assert isinstance(config, DetectorConfig)
    detector = Detector(config, RULES, bench.clock, None, random.Random(1))  # noqa: S311
    bench.spool = await Spool.open(bench.folder)
    running = asyncio.ensure_future(detector.run())
    try:
        await bench.breach(detector)
        detector.prepare(bench.config(alertmanagers=0), RULES, bench.spool)()
        await bench.read(detector, 1.5, after=1)
        assert (await bench.receiver.next())["status"] == "firing"
        await bench.spooled(0)
        detector.prepare(config, RULES, bench.spool)()
        await bench.read(detector, 0.5, after=1)
        await bench.clock.advance(1)
        assert bench.receiver.received.empty()
        detector.prepare(bench.config(alertmanagers=0), RULES, bench.spool)()
        await bench.read(detector, 0.5, after=1)
        assert (await bench.receiver.next())["status"] == "resolved"
    finally:
        running.cancel()
        await asyncio.wait({running})
        await bench.spool.close()


async def test_connections_of_credentials_that_went_are_closed(bench: Bench) -> None:
    """Also while nothing is posted: a key that rotates each minute must not pile them up."""
    async with bench.detector(alertmanagers=1) as detector:
        (target, *_) = detector._alertmanagers
        old = target._line.client
        rotated = {"base_url": bench.alertmanagers[0].url, "authorization": "n3w"}
        detector.prepare(bench.config(alertmanagers=[rotated]), RULES, bench.spool)()
        await bench.clock.advance(0)
        assert (old.is_closed, target._line.client.is_closed) == (True, False)
