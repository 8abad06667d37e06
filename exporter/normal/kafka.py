"""What a Kafka cluster answered as measures: brokers, topics, offsets, and how far its consumer groups are behind. Pure.

A sum over partitions of which one is unknown is unknown. A partition on which a group has committed nothing has no lag; it is
counted by itself. Refuses a commit beyond the end of its partition: the topic was cut or made anew, and the group knows nothing
of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deskwatch.events.cluster import Failure, Group, Layout, Offsets, Partition
from deskwatch.events.refusals import described, reason_of
from exporter.normal.kafka_lag import Ends
from exporter.reading import Family, Sample
from exporter.records import Sheet

BROKERS = Family("desk_kafka_brokers", "Brokers of the cluster that are up, as they say themselves", ("source",))
CONTROLLER = Family("desk_kafka_controller_known", "Whether the brokers know a controller among them, 0 or 1", ("source",))
UNDER_REPLICATED = Family(
    "desk_kafka_under_replicated_partitions",
    "Partitions of all topics, internal ones included, with fewer copies in sync than wanted",
    ("source",),
)
OFFLINE = Family(
    "desk_kafka_offline_partitions", "Partitions of all topics, internal ones included, that have no leader", ("source",)
)
TOPIC_PARTITIONS = Family("desk_kafka_topic_partitions", "Partitions of the topic", ("source", "topic"))
TOPIC_UNDER_REPLICATED = Family(
    "desk_kafka_topic_under_replicated_partitions",
    "Partitions of the topic with fewer copies in sync than wanted",
    ("source", "topic"),
)
TOPIC_OFFLINE = Family(
    "desk_kafka_topic_offline_partitions", "Partitions of the topic that have no leader", ("source", "topic")
)
TOPIC_CURRENT = Family(
    "desk_kafka_topic_current_offset",
    "Sum over the topic's partitions of the offset of the next message (high watermark); its rate is messages per second",
    ("source", "topic"),
)
TOPIC_OLDEST = Family(
    "desk_kafka_topic_oldest_offset",
    "Sum over the topic's partitions of the offset of the oldest message still kept (low watermark)",
    ("source", "topic"),
)
PARTITION_CURRENT = Family(
    "desk_kafka_topic_partition_current_offset",
    "Offset of the partition's next message (high watermark)",
    ("source", "topic", "partition"),
)
PARTITION_OLDEST = Family(
    "desk_kafka_topic_partition_oldest_offset",
    "Offset of the partition's oldest message still kept (low watermark)",
    ("source", "topic", "partition"),
)
GROUP_STATE = Family(
    "desk_kafka_consumer_group_state",
    "1 for the state the consumer group is in: stable, empty, dead, preparing_rebalancing, completing_rebalancing, unknown",
    ("source", "consumergroup", "state"),
)
GROUP_MEMBERS = Family("desk_kafka_consumer_group_members", "Members of the consumer group", ("source", "consumergroup"))
GROUP_OFFSET = Family(
    "desk_kafka_consumer_group_offset",
    "Offset of the message the consumer group reads next, as it last committed",
    ("source", "consumergroup", "topic", "partition"),
)
LAG_MESSAGES = Family(
    "desk_kafka_consumer_lag_messages",
    "Messages of the topic the consumer group has still to read, of the partitions on which it has committed an offset",
    ("source", "consumergroup", "topic"),
)
LAG_SECONDS = Family(
    "desk_kafka_consumer_lag_seconds",
    "How long ago what the consumer group has committed was all there was, in the topic's worst partition; exact to one"
    " interval of the source or a twentieth of itself; absent where that was before it was first asked",
    ("source", "consumergroup", "topic"),
)
UNCOMMITTED = Family(
    "desk_kafka_consumer_uncommitted_partitions",
    "Partitions of a topic the consumer group reads on which it has committed no offset",
    ("source", "consumergroup", "topic"),
)
METRICS = (
    BROKERS, CONTROLLER, UNDER_REPLICATED, OFFLINE, TOPIC_PARTITIONS, TOPIC_UNDER_REPLICATED, TOPIC_OFFLINE, TOPIC_CURRENT,
    TOPIC_OLDEST, PARTITION_CURRENT, PARTITION_OLDEST, GROUP_STATE, GROUP_MEMBERS, GROUP_OFFSET, LAG_MESSAGES, LAG_SECONDS,
    UNCOMMITTED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answers:
    """What one fetch was told.

    Args:
        layout: brokers and topics, all of them.
        topics: names of the topics wanted.
        oldest, current: low and high watermarks of their partitions, of those that have a leader.
        groups: state and members of the groups wanted, where the cluster tells.
        committed: their offsets.
        at: monotonic time of the high watermarks.
    """

    layout: Layout
    topics: Sequence[str]
    oldest: Offsets
    current: Offsets
    groups: Mapping[str, Group | Failure]
    committed: Mapping[str, Offsets | Failure]
    at: float


class Measures:
    """The samples of one fetch.

    Args:
        source: label `source`.
        partitions: whether offsets are told of each partition too.
        answers: what was told.
        ends: where partitions that somebody reads ended before; told where they end now.
        sheet: told what cannot be read.
    """

    def __init__(self, source: str, partitions: bool, answers: Answers, ends: Ends, sheet: Sheet) -> None:
        self._source = source
        self._partitions = partitions
        self._answers = answers
        self._ends = ends
        self._sheet = sheet

    def samples(self) -> Iterator[Sample]:
        """All of them."""
        current = self._known(self._answers.current)
        told = [offsets for offsets in self._answers.committed.values() if isinstance(offsets, Offsets)]
        for partition in current.keys() & {partition for offsets in told for partition in offsets.of}:
            self._ends.saw(partition, current[partition], self._answers.at)
        yield from self._cluster()
        yield from self._topics(current, self._known(self._answers.oldest))
        for name, group in self._answers.groups.items():
            yield from self._state(name, group)
        for name, offsets in self._answers.committed.items():
            if isinstance(offsets, Failure):
                self._reject(offsets)
            else:
                yield from self._group(name, self._known(offsets), frozenset(offsets.of), current)

    def _known(self, offsets: Offsets) -> dict[Partition, int]:
        """The offsets there are; for each topic one failure is told of those there are not."""
        known: dict[Partition, int] = {}
        failures: dict[str, Failure] = {}
        for partition, offset in offsets.of.items():
            if isinstance(offset, int):
                known[partition] = offset
            else:
                failures.setdefault(partition.topic, offset)
        for failure in failures.values():
            self._reject(failure)
        return known

    def _reject(self, failure: Failure) -> None:
        self._sheet.reject("measures", described(failure), reason_of(failure).value)

    def _cluster(self) -> Iterator[Sample]:
        layout = self._answers.layout
        states = [state for topic in layout.topics.values() if not isinstance(topic, Failure) for state in topic]
        yield _sample(BROKERS, self._source, value=layout.brokers)
        yield _sample(CONTROLLER, self._source, value=layout.controller_known)
        yield _sample(UNDER_REPLICATED, self._source, value=sum(state.in_sync < state.replicas for state in states))
        yield _sample(OFFLINE, self._source, value=sum(not state.led for state in states))

    def _topics(self, current: Mapping[Partition, int], oldest: Mapping[Partition, int]) -> Iterator[Sample]:
        for topic in self._answers.topics:
            states = self._answers.layout.topics[topic]
            if isinstance(states, Failure):
                self._reject(states)
                continue
            labels = (self._source, topic)
            yield _sample(TOPIC_PARTITIONS, *labels, value=len(states))
            few = sum(state.in_sync < state.replicas for state in states)
            yield _sample(TOPIC_UNDER_REPLICATED, *labels, value=few)
            yield _sample(TOPIC_OFFLINE, *labels, value=sum(not state.led for state in states))
            for whole, single, offsets in (
                (TOPIC_CURRENT, PARTITION_CURRENT, current),
                (TOPIC_OLDEST, PARTITION_OLDEST, oldest),
            ):
                known = {state.number: offsets.get(Partition(topic, state.number)) for state in states}
                found = {number: offset for number, offset in known.items() if offset is not None}
                if len(found) == len(states):
                    yield _sample(whole, *labels, value=sum(found.values()))
                if self._partitions:
                    yield from (_sample(single, *labels, str(number), value=offset) for number, offset in found.items())

    def _state(self, name: str, group: Group | Failure) -> Iterator[Sample]:
        if isinstance(group, Failure):
            self._reject(group)
            return
        yield _sample(GROUP_STATE, self._source, name, group.state, value=1)
        yield _sample(GROUP_MEMBERS, self._source, name, value=group.members)

    def _group(
        self, name: str, committed: Mapping[Partition, int], answered: frozenset[Partition], current: Mapping[Partition, int]
    ) -> Iterator[Sample]:
        group = self._answers.groups.get(name)
        assigned = group.topics if isinstance(group, Group) else frozenset()
        for topic in sorted({partition.topic for partition in answered} | assigned):
            states = self._answers.layout.topics.get(topic)
            if topic not in self._answers.topics or states is None or isinstance(states, Failure):
                continue
            everywhere = [Partition(topic, state.number) for state in states]
            labels = (self._source, name, topic)
            unset = [partition for partition in everywhere if partition not in answered]
            yield _sample(UNCOMMITTED, *labels, value=len(unset))
            mine = {partition: committed[partition] for partition in everywhere if partition in committed}
            if self._partitions:
                for partition, offset in mine.items():
                    yield _sample(GROUP_OFFSET, *labels, str(partition.number), value=offset)
            if len(mine) + len(unset) == len(everywhere) and mine:
                yield from self._lag(labels, mine, current)

    def _lag(
        self, labels: tuple[str, str, str], committed: Mapping[Partition, int], current: Mapping[Partition, int]
    ) -> Iterator[Sample]:
        """Lag of one group on one topic; nothing where the end of one of its partitions is not known."""
        if not committed.keys() <= current.keys():
            return
        for partition, offset in committed.items():
            if offset > current[partition]:
                _, name, topic = labels
                place = f"{topic}/{partition.number} of group {name}"
                self._sheet.reject("measures", f"{place}: committed {offset}, ends at {current[partition]}", "beyond_the_end")
                return
        yield _sample(LAG_MESSAGES, *labels, value=sum(current[partition] - offset for partition, offset in committed.items()))
        behind = [self._ends.behind_seconds(partition, offset, self._answers.at) for partition, offset in committed.items()]
        known = [seconds for seconds in behind if seconds is not None]
        if len(known) == len(behind):
            yield _sample(LAG_SECONDS, *labels, value=max(known))


def _sample(family: Family, *labels: str, value: float) -> Sample:
    return family.sample(*labels, value=float(value))
