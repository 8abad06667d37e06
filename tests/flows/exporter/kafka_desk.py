"""A source of Kafka's measures for tests, and what must hold on any cluster: on mock brokers and on a real one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Retryable
from exporter.normal.kafka import (
    BROKERS,
    CONTROLLER,
    GROUP_OFFSET,
    LAG_MESSAGES,
    LAG_SECONDS,
    PARTITION_CURRENT,
    PARTITION_OLDEST,
    TOPIC_CURRENT,
    TOPIC_PARTITIONS,
    UNCOMMITTED,
)
from exporter.reading import Family
from exporter.snapshot import Snapshot
from exporter.source import Kept
from exporter.sources.kafka import Config, KafkaSource
from tests.stand_ins.kafka import Cluster

TIMEOUT_SECONDS = 5.0
"""Of a fetch; each question has a share of it."""
PATIENCE_SECONDS = 60.0


class Watched:
    """A source, and the clock that tells it the time."""

    def __init__(self, bootstrap: str, **settings: Any) -> None:
        content = {"type": "kafka", "name": "desk", "bootstrap_servers": bootstrap, "timeout_seconds": TIMEOUT_SECONDS}
        config = validate(Config, content | settings)
        assert isinstance(config, Config), config
        self.clock = ManualClock()
        self.source = KafkaSource(config, self.clock)

    async def fetch(self) -> Snapshot:
        """One fetch."""
        return await self.source.fetch(Kept())

    async def fails(self) -> Retryable | Permanent:
        """The error of a fetch that fails."""
        with pytest.raises((Retryable, Permanent)) as caught:
            await self.fetch()
        return caught.value

    async def until(self, family: Family, *labels: str, is_: float) -> Snapshot:
        """Fetch until a series has this value; every fetch must succeed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                snapshot = await self.fetch()
                if values(snapshot, family).get(labels) == is_:
                    return snapshot

    async def recovers(self, family: Family, *labels: str, is_: float) -> Snapshot:
        """Fetch until a series has this value; brokers that are back need a moment to be reached and to be ready."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    return await self.until(family, *labels, is_=is_)
                except Retryable:
                    continue

    async def lost_its_process(self) -> None:
        """Wait until the source could know that its process has ended."""
        running = self.source._cluster._process
        assert running is not None
        async with asyncio.timeout(10):
            while running.result().usable:  # noqa: ASYNC110 - another process's end is waited for
                await asyncio.sleep(0.01)

    @property
    def process(self) -> int:
        """The id of the process that talks to the brokers."""
        running = self.source._cluster._process
        assert running is not None
        return running.result()._process.pid


@asynccontextmanager
async def watching(bootstrap: str, **settings: Any) -> AsyncIterator[Watched]:
    """A source that is closed at the end."""
    watched = Watched(bootstrap, **settings)
    try:
        yield watched
    finally:
        await watched.source.close()


def values(snapshot: Snapshot, family: Family) -> dict[tuple[str, ...], float]:
    """The family's series, `source` left out of the labels."""
    return {sample.labels[1:]: sample.value for sample in snapshot.measures if sample.family is family}


async def measure_what_was_written(cluster: Cluster) -> None:
    """Ten messages and four; a group that has read four of the first partition and none of the second."""
    topic, group = f"orders-{secrets.token_hex(4)}", f"risk-{secrets.token_hex(4)}"
    cluster.topic(topic, partitions=2)
    cluster.write(topic, 0, messages=10)
    cluster.write(topic, 1, messages=4)
    cluster.commit(group, topic, {0: 4})
    async with watching(cluster.bootstrap, topics=[topic], groups=[group]) as watched:
        snapshot = await watched.fetch()
        assert snapshot.rejected == ()
        assert values(snapshot, TOPIC_PARTITIONS) == {(topic,): 2}
        assert values(snapshot, PARTITION_CURRENT) == {(topic, "0"): 10, (topic, "1"): 4}
        assert values(snapshot, PARTITION_OLDEST) == {(topic, "0"): 0, (topic, "1"): 0}
        assert values(snapshot, TOPIC_CURRENT) == {(topic,): 14}
        assert values(snapshot, GROUP_OFFSET) == {(group, topic, "0"): 4}
        assert values(snapshot, LAG_MESSAGES) == {(group, topic): 6}
        assert values(snapshot, UNCOMMITTED) == {(group, topic): 1}
        assert values(snapshot, LAG_SECONDS) == {}
        assert values(snapshot, CONTROLLER) == {(): 1}
        assert values(snapshot, BROKERS)[()] >= 1
        await watched.clock.advance(15)
        cluster.write(topic, 0, messages=5)
        cluster.commit(group, topic, {0: 10, 1: 4})
        snapshot = await watched.fetch()
        assert values(snapshot, LAG_MESSAGES) == {(group, topic): 5}
        assert values(snapshot, LAG_SECONDS) == {(group, topic): 15}
        assert values(snapshot, UNCOMMITTED) == {(group, topic): 0}
        cluster.commit(group, topic, {0: 15})
        snapshot = await watched.fetch()
        assert values(snapshot, LAG_MESSAGES) == values(snapshot, LAG_SECONDS) == {(group, topic): 0}


async def measure_a_commit_beyond_the_end(cluster: Cluster) -> None:
    """What a restored backup or an unclean election leaves behind."""
    topic, group = f"orders-{secrets.token_hex(4)}", f"risk-{secrets.token_hex(4)}"
    cluster.topic(topic)
    cluster.write(topic, 0, messages=2)
    cluster.commit(group, topic, {0: 5})
    async with watching(cluster.bootstrap, topics=[topic], groups=[group]) as watched:
        snapshot = await watched.fetch()
    assert values(snapshot, LAG_MESSAGES) == {}
    assert values(snapshot, GROUP_OFFSET) == {(group, topic, "0"): 5}
    assert [each.reason for each in snapshot.rejected] == ["beyond_the_end"]
