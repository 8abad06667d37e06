"""Reads a Kafka cluster: brokers, under-replicated and offline partitions, topic offsets, and the lag of consumer groups in
messages and seconds.

Asks the brokers as an administrator's tool does, reads no message and writes nothing. What cannot be told of one topic or
group - no permission, no leader - is left out and counted; the others stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from pydantic import Field

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason
from deskwatch.events.cluster import Failure, Layout, Partition
from deskwatch.events.connection import KafkaConfig
from deskwatch.events.kafka_client import KafkaCluster
from deskwatch.events.refusals import Unsupported, described, reason_of
from exporter.normal.choice import Chosen, Wanted, choose
from exporter.normal.kafka import METRICS, Answers, Measures
from exporter.normal.kafka_lag import Ends
from exporter.reading import Sample
from exporter.records import Sheet
from exporter.snapshot import Kind, Snapshot
from exporter.source import Kept, Source, SourceConfig

QUESTIONS = 6
"""A fetch asks five times in a row, so each question has a sixth of its time."""


class Config(KafkaConfig, SourceConfig):
    """A Kafka cluster."""

    type: Literal["kafka"]
    timeout_seconds: float = Field(default=20.0, gt=0)
    topics: tuple[Wanted, ...] = ("[^_].*",)
    """Topics wanted, names or regular expressions; by default all whose name does not begin with `_`, as internal ones' do."""
    groups: tuple[Wanted, ...] = ("(?!console-consumer-).*",)
    """Consumer groups wanted, names or regular expressions; by default all but those of Kafka's own console tool. One given
    by its name is asked for also while the cluster lists none of that name: it is `dead` then."""
    partitions: bool = True
    """Whether offsets are told of each partition too. Without, a topic has its sums and each group its lag."""


class KafkaSource(Source[Config]):
    """One cluster."""

    kind = "infrastructure"
    metrics = METRICS

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._cluster = KafkaCluster(config, config.timeout_seconds / QUESTIONS)
        self._ends = Ends()
        self._known_groups: frozenset[str] = frozenset()

    @property
    def provides(self) -> AbstractSet[Kind]:
        """Measures."""
        return frozenset({"measures"})

    async def fetch(self, kept: Kept) -> Snapshot:
        """Ask the brokers.

        Raises:
            Retryable: no broker can be reached.
            Permanent: the login is refused, or the connection cannot be made as configured.
        """
        at = self.clock.now()
        sheet = Sheet()
        layout = await self._cluster.layout()
        topics = choose(layout.topics, self.config.topics)
        for missing in topics.missing:
            sheet.reject("measures", f"the cluster has no topic {missing}", Reason.NOT_FOUND.value)
        listed = await self._listed(sheet)
        groups = choose(listed or (), self.config.groups)
        answers = await self._answers(layout, topics, groups, tells_groups=listed is not None)
        measures = await asyncio.to_thread(self._measures, answers, sheet)
        notes = {
            "cluster": f"{layout.cluster_id or 'without an id'}, {layout.brokers} brokers",
            "topics": f"{len(topics.names)} of {len(layout.topics)}",
            "groups": f"{len(groups.names)} of {len(listed)}" if listed is not None else "the brokers do not list them",
        }
        if groups.missing:
            notes["groups not listed"] = ", ".join(groups.missing)
        return Snapshot(at, measures=measures, rejected=sheet.rejected, notes=notes)

    async def close(self) -> None:
        """Close the connections."""
        await self._cluster.close()

    async def _listed(self, sheet: Sheet) -> Collection[str] | None:
        """The cluster's consumer groups; None where it does not tell.

        Groups of a broker that does not answer are those known before: their offsets may be with another broker by now.
        """
        try:
            listing = await self._cluster.groups()
        except Unsupported:
            return None
        except Permanent as error:
            sheet.reject("measures", str(error), error.reason.value)
            return ()
        for failure in listing.failures:
            sheet.reject("measures", described(failure), reason_of(failure).value)
        known = self._known_groups if listing.failures else frozenset()
        self._known_groups = known | set(listing.names)
        return self._known_groups

    async def _answers(self, layout: Layout, topics: Chosen, groups: Chosen, *, tells_groups: bool) -> Answers:
        partitions = _led(layout, topics.names)
        states = await self._cluster.members((*groups.names, *groups.missing) if tells_groups else ())
        # A coordinator that cannot tell members is not asked for offsets: librdkafka may crash of its answer while it loads.
        untold = {name for name, state in states.items() if isinstance(state, Failure)}
        try:
            async with asyncio.TaskGroup() as asking:
                oldest = asking.create_task(self._cluster.offsets(partitions, "earliest"))
                listed = asking.create_task(self._cluster.committed([each for each in groups.names if each not in untold]))
                # What a cluster that lists no groups has of one is found by asking for each partition.
                named = [each for each in groups.missing if each not in untold]
                unlisted = asking.create_task(self._cluster.committed(named, partitions))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        # After the commits: the other way round a group could seem to have read what was not written yet.
        current = await self._cluster.offsets(partitions, "latest")
        committed = {**listed.result(), **unlisted.result()}
        return Answers(layout, topics.names, oldest.result(), current, states, committed, self.clock.monotonic())

    def _measures(self, answers: Answers, sheet: Sheet) -> tuple[Sample, ...]:
        found = tuple(Measures(self.config.name, self.config.partitions, answers, self._ends, sheet).samples())
        self._ends.keep({partition for partition, _ in _partitions(answers.layout)})
        return found


def _led(layout: Layout, topics: Sequence[str]) -> tuple[Partition, ...]:
    """The partitions of these topics that have a leader to ask."""
    return tuple(partition for partition, led in _partitions(layout) if led and partition.topic in topics)


def _partitions(layout: Layout) -> Iterator[tuple[Partition, bool]]:
    """Every partition there is, and whether it has a leader."""
    for topic, states in layout.topics.items():
        if not isinstance(states, Failure):
            yield from ((Partition(topic, state.number), state.led) for state in states)
