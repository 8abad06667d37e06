"""Kafka's source on a real broker: groups and their members, retention, a crash and a restart. The mock brokers do the rest."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from deskwatch.errors import Reason, Retryable
from exporter.normal.kafka import (
    BROKERS,
    GROUP_MEMBERS,
    GROUP_STATE,
    LAG_MESSAGES,
    LAG_SECONDS,
    METRICS,
    OFFLINE,
    PARTITION_CURRENT,
    PARTITION_OLDEST,
    TOPIC_CURRENT,
    TOPIC_OLDEST,
    UNCOMMITTED,
    UNDER_REPLICATED,
)
from tests.flows.exporter.kafka_desk import measure_a_commit_beyond_the_end, measure_what_was_written, values, watching
from tests.kafka_broker import KafkaBroker
from tests.stand_ins.kafka import RealCluster

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One for all tests of this module; each has topics and groups of its own."""
    with KafkaBroker(tmp_path_factory.mktemp("broker")) as found:
        yield found


@pytest.fixture
def cluster(broker: KafkaBroker) -> RealCluster:
    """What tests do to it."""
    return RealCluster(broker.address)


def new(name: str) -> str:
    """A name nobody has used."""
    return f"{name}-{secrets.token_hex(4)}"


class Reader:
    """A consumer of one topic that commits when told to."""

    def __init__(self, cluster: RealCluster, group: str, topic: str) -> None:
        settings = {"bootstrap.servers": cluster.bootstrap, "group.id": group, "auto.offset.reset": "earliest", "log_level": 0}
        self._consumer = Consumer({**settings, "enable.auto.commit": False, "session.timeout.ms": 6000})
        self._consumer.subscribe([topic])

    def read(self, messages: int) -> None:
        """Read so many, and commit the last."""
        for _ in range(messages):
            message = self._consumer.poll(20)
            assert message is not None
            assert message.error() is None, message.error()
        if messages:
            self._consumer.commit(message=message, asynchronous=False)

    def join(self) -> None:
        """Be given partitions without reading."""
        for _ in range(200):
            if self._consumer.assignment():
                return
            self._consumer.poll(0.1)
        raise AssertionError("the group never settled")

    def leave(self) -> None:
        """Leave the group."""
        self._consumer.close()


async def test_what_was_written_and_committed_is_what_is_measured(cluster: RealCluster) -> None:
    """As on the mock brokers."""
    await measure_what_was_written(cluster)


async def test_a_commit_beyond_the_end_is_left_out(cluster: RealCluster) -> None:
    """As on the mock brokers."""
    await measure_a_commit_beyond_the_end(cluster)


async def test_a_groups_state_and_members_follow_its_consumers(cluster: RealCluster) -> None:
    """Dead before it has ever been, stable with two consumers, empty when they have left; its lag stays."""
    topic, group = new("orders"), new("risk")
    cluster.topic(topic, partitions=2)
    cluster.write(topic, 0, messages=5)
    async with watching(cluster.bootstrap, topics=[topic], groups=[group]) as watched:
        snapshot = await watched.recovers(GROUP_STATE, group, "dead", is_=1)
        assert values(snapshot, GROUP_MEMBERS) == {(group,): 0}
        assert values(snapshot, LAG_MESSAGES) == {}
        readers = [Reader(cluster, group, topic) for _ in range(2)]
        await asyncio.gather(*(asyncio.to_thread(reader.join) for reader in readers))
        snapshot = await watched.until(GROUP_STATE, group, "stable", is_=1)
        assert values(snapshot, GROUP_MEMBERS) == {(group,): 2}
        assert values(snapshot, UNCOMMITTED) == {(group, topic): 2}
        for reader in readers:
            reader.leave()
        cluster.commit(group, topic, {0: 3})
        snapshot = await watched.until(GROUP_STATE, group, "empty", is_=1)
        assert values(snapshot, LAG_MESSAGES) == {(group, topic): 2}
        assert values(snapshot, UNCOMMITTED) == {(group, topic): 1}


async def test_a_group_that_reads_catches_up(cluster: RealCluster) -> None:
    """By its own commits, in messages and in seconds."""
    topic, group = new("orders"), new("risk")
    cluster.topic(topic)
    cluster.write(topic, 0, messages=3)
    reader = Reader(cluster, group, topic)
    try:
        await asyncio.to_thread(reader.read, 3)
        async with watching(cluster.bootstrap, topics=[topic], groups=["risk-.*"]) as watched:
            assert values(await watched.fetch(), LAG_SECONDS)[group, topic] == 0
            cluster.write(topic, 0, messages=4)
            await watched.clock.advance(30)
            snapshot = await watched.fetch()
            assert values(snapshot, LAG_MESSAGES)[group, topic] == 4
            assert values(snapshot, LAG_SECONDS)[group, topic] == 30
            await asyncio.to_thread(reader.read, 4)
            snapshot = await watched.fetch()
            assert values(snapshot, LAG_MESSAGES)[group, topic] == values(snapshot, LAG_SECONDS)[group, topic] == 0
    finally:
        reader.leave()


async def test_deleted_records_move_the_oldest_offset(cluster: RealCluster) -> None:
    """As retention does."""
    topic = new("orders")
    cluster.topic(topic, partitions=2)
    cluster.write(topic, 0, messages=10)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    for deleted in admin.delete_records([TopicPartition(topic, 0, 7)]).values():
        await asyncio.to_thread(deleted.result, 10)
    async with watching(cluster.bootstrap, topics=[topic]) as watched:
        snapshot = await watched.fetch()
        assert values(snapshot, PARTITION_OLDEST) == {(topic, "0"): 7, (topic, "1"): 0}
        assert values(snapshot, PARTITION_CURRENT) == {(topic, "0"): 10, (topic, "1"): 0}
        assert values(snapshot, TOPIC_OLDEST) == {(topic,): 7}


async def test_internal_topics_count_for_the_cluster_and_have_no_series(cluster: RealCluster) -> None:
    """`__consumer_offsets` is there as soon as somebody commits."""
    topic, group = new("orders"), new("risk")
    cluster.topic(topic)
    cluster.commit(group, topic, {0: 0})
    async with watching(cluster.bootstrap, groups=[group]) as watched:
        snapshot = await watched.fetch()
    assert snapshot.rejected == ()
    assert (topic,) in values(snapshot, TOPIC_CURRENT)
    assert not [labels for family in METRICS for labels in values(snapshot, family) if "__consumer_offsets" in labels]
    assert values(snapshot, UNDER_REPLICATED) == values(snapshot, OFFLINE) == {(): 0}
    here, there = snapshot.notes["topics"].split(" of ")
    assert int(there) == int(here) + 1


async def test_a_broker_that_crashes_is_refused_and_comes_back_with_everything(tmp_path: Path) -> None:
    """The lag in seconds goes on as if it had never been away: what was seen before is not forgotten."""
    with KafkaBroker(tmp_path) as broker:
        cluster = RealCluster(broker.address)
        cluster.topic("orders")
        cluster.write("orders", 0, messages=10)
        cluster.commit("risk", "orders", {0: 10})
        async with watching(broker.address, groups=["risk"]) as watched:
            assert values(await watched.fetch(), LAG_SECONDS) == {("risk", "orders"): 0}
            cluster.write("orders", 0, messages=2)
            broker.kill()
            await watched.clock.advance(60)
            error = await watched.fails()
            assert isinstance(error, Retryable)
            assert error.reason is Reason.REFUSED
            await asyncio.to_thread(broker.start)
            snapshot = await watched.recovers(LAG_MESSAGES, "risk", "orders", is_=2)
            assert values(snapshot, BROKERS) == {(): 1}
            assert values(snapshot, LAG_SECONDS) == {("risk", "orders"): 60}
