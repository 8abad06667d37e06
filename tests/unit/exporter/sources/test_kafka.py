"""A Kafka cluster's answers as measures: what is counted, what is summed, and what is left out rather than guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.events.cluster import Failure, Group, Layout, Listing, Offsets, Partition, PartitionState
from deskwatch.events.refusals import explain
from exporter.normal.kafka import (
    BROKERS,
    CONTROLLER,
    GROUP_MEMBERS,
    GROUP_OFFSET,
    GROUP_STATE,
    LAG_MESSAGES,
    LAG_SECONDS,
    METRICS,
    OFFLINE,
    PARTITION_CURRENT,
    PARTITION_OLDEST,
    TOPIC_CURRENT,
    TOPIC_OFFLINE,
    TOPIC_OLDEST,
    TOPIC_PARTITIONS,
    TOPIC_UNDER_REPLICATED,
    UNCOMMITTED,
    UNDER_REPLICATED,
)
from exporter.reading import Family
from exporter.snapshot import Snapshot
from exporter.source import Kept
from exporter.sources.kafka import Config, KafkaSource

UNSUPPORTED = Failure("consumer groups", "_UNSUPPORTED_FEATURE", "not supported by broker")
DENIED = Failure("offsets of group risk", "GROUP_AUTHORIZATION_FAILED", "Broker: Group authorization failed")


def states(*each: tuple[int, int, bool]) -> tuple[PartitionState, ...]:
    """Partitions from 0 on: copies wanted, in sync, led."""
    return tuple(PartitionState(number, *state) for number, state in enumerate(each))


class FakeCluster:
    """Answers as a test sets it, and remembers in what order it was asked."""

    def __init__(self) -> None:
        self.topics: dict[str, tuple[PartitionState, ...] | Failure] = {"orders": states((3, 3, True), (3, 3, True))}
        self.controller_known = True
        self.listing: Listing | Failure = Listing(("risk",), ())
        self.states: dict[str, Group | Failure] = {"risk": Group("stable", 2, frozenset({"orders"}))}
        self.commits: dict[str, dict[Partition, int | Failure] | Failure] = {
            "risk": {Partition("orders", 0): 90, Partition("orders", 1): 50}
        }
        self.ends: dict[Partition, int | Failure] = {Partition("orders", 0): 100, Partition("orders", 1): 50}
        self.begins: dict[Partition, int | Failure] = {Partition("orders", 0): 7, Partition("orders", 1): 0}
        self.asked: list[tuple[Any, ...]] = []

    async def layout(self) -> Layout:
        """Three brokers."""
        return Layout("c1", 3, self.controller_known, self.topics)

    async def groups(self) -> Listing:
        """The groups, or an error."""
        if isinstance(self.listing, Failure):
            raise explain(self.listing)
        return self.listing

    async def members(self, names: Sequence[str]) -> Mapping[str, Group | Failure]:
        """A group it does not know is dead."""
        self.asked.append(("members", tuple(names)))
        return {name: self.states.get(name, Group("dead", 0, frozenset())) for name in names}

    async def committed(
        self, names: Sequence[str], partitions: Sequence[Partition] | None = None
    ) -> Mapping[str, Offsets | Failure]:
        """As set."""
        self.asked.append(("committed", tuple(names), partitions))
        found = {name: self.commits.get(name, {}) for name in names}
        return {name: each if isinstance(each, Failure) else Offsets(each) for name, each in found.items()}

    async def offsets(self, partitions: Sequence[Partition], end: Literal["earliest", "latest"]) -> Offsets:
        """Of those asked for."""
        self.asked.append((end, tuple(partitions)))
        known = self.ends if end == "latest" else self.begins
        return Offsets({partition: known[partition] for partition in partitions if partition in known})

    async def close(self) -> None:
        """Nothing to close."""
        self.asked.append(("close",))


class Watched:
    """A source on a made-up cluster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.cluster = FakeCluster()
        self.clock = ManualClock()
        monkeypatch.setattr("exporter.sources.kafka.KafkaCluster", lambda config, seconds: self.cluster)
        content = {"type": "kafka", "name": "desk", "bootstrap_servers": "one:9092", **settings}
        config = validate(Config, content)
        assert isinstance(config, Config), config
        self.source = KafkaSource(config, self.clock)

    async def fetch(self) -> Snapshot:
        """One fetch."""
        return await self.source.fetch(Kept())


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """With nothing configured but the address."""
    return Watched(monkeypatch)


def values(snapshot: Snapshot, family: Family) -> dict[tuple[str, ...], float]:
    """The family's series; `source` is checked and left out of the labels."""
    found = [sample for sample in snapshot.measures if sample.family is family]
    assert {sample.labels[0] for sample in found} <= {"desk"}
    assert len({sample.labels for sample in found}) == len(found)
    return {sample.labels[1:]: sample.value for sample in found}


def rejected(snapshot: Snapshot) -> dict[str, str]:
    """What was left out, and why."""
    assert {each.kind for each in snapshot.rejected} <= {"measures"}
    return {each.record: each.reason for each in snapshot.rejected}


async def test_everything_of_a_healthy_cluster(watched: Watched) -> None:
    """Two partitions, one group ten messages behind on one of them."""
    snapshot = await watched.fetch()
    assert {family.name: values(snapshot, family) for family in METRICS} == {
        "desk_kafka_brokers": {(): 3},
        "desk_kafka_controller_known": {(): 1},
        "desk_kafka_under_replicated_partitions": {(): 0},
        "desk_kafka_offline_partitions": {(): 0},
        "desk_kafka_topic_partitions": {("orders",): 2},
        "desk_kafka_topic_under_replicated_partitions": {("orders",): 0},
        "desk_kafka_topic_offline_partitions": {("orders",): 0},
        "desk_kafka_topic_current_offset": {("orders",): 150},
        "desk_kafka_topic_oldest_offset": {("orders",): 7},
        "desk_kafka_topic_partition_current_offset": {("orders", "0"): 100, ("orders", "1"): 50},
        "desk_kafka_topic_partition_oldest_offset": {("orders", "0"): 7, ("orders", "1"): 0},
        "desk_kafka_consumer_group_state": {("risk", "stable"): 1},
        "desk_kafka_consumer_group_members": {("risk",): 2},
        "desk_kafka_consumer_group_offset": {("risk", "orders", "0"): 90, ("risk", "orders", "1"): 50},
        "desk_kafka_consumer_lag_messages": {("risk", "orders"): 10},
        "desk_kafka_consumer_lag_seconds": {},
        "desk_kafka_consumer_uncommitted_partitions": {("risk", "orders"): 0},
    }
    assert all(type(sample.value) is float for sample in snapshot.measures)
    assert rejected(snapshot) == {}
    assert snapshot.notes == {"cluster": "c1, 3 brokers", "topics": "1 of 1", "groups": "1 of 1"}
    assert watched.source.provides == {"measures"}
    assert watched.source.metrics == METRICS


async def test_copies_out_of_sync_and_partitions_without_leader_are_counted(watched: Watched) -> None:
    """Of the cluster in all topics, internal ones too; of each topic wanted. A controller nobody knows is 0."""
    watched.cluster.topics = {
        "orders": states((3, 3, True), (3, 2, True)),
        "__consumer_offsets": states((3, 1, True), (3, 3, False)),
    }
    watched.cluster.controller_known = False
    snapshot = await watched.fetch()
    assert values(snapshot, UNDER_REPLICATED) == {(): 2}
    assert values(snapshot, OFFLINE) == {(): 1}
    assert values(snapshot, TOPIC_UNDER_REPLICATED) == {("orders",): 1}
    assert values(snapshot, TOPIC_PARTITIONS) == {("orders",): 2}
    assert values(snapshot, CONTROLLER) == {(): 0}
    assert values(snapshot, BROKERS) == {(): 3}


async def test_commits_are_asked_for_before_the_ends(watched: Watched) -> None:
    """The other way round a quick group would seem to have read what is not written yet."""
    await watched.fetch()
    asked = [each[0] for each in watched.cluster.asked]
    assert asked.index("committed") < asked.index("latest") == len(asked) - 1


async def test_a_partition_without_leader_is_not_asked_and_has_no_sum(watched: Watched) -> None:
    """A sum of fewer partitions would dip and then jump, a rate of messages nobody wrote. Nor is the group's lag known."""
    watched.cluster.topics = {"orders": states((3, 3, True), (3, 1, False))}
    snapshot = await watched.fetch()
    assert ("latest", (Partition("orders", 0),)) in watched.cluster.asked
    assert values(snapshot, TOPIC_OFFLINE) == {("orders",): 1}
    assert values(snapshot, PARTITION_CURRENT) == {("orders", "0"): 100}
    assert values(snapshot, TOPIC_CURRENT) == values(snapshot, TOPIC_OLDEST) == values(snapshot, LAG_MESSAGES) == {}
    assert values(snapshot, GROUP_OFFSET) == {("risk", "orders", "0"): 90, ("risk", "orders", "1"): 50}


async def test_what_a_group_has_not_committed_is_no_lag_of_nothing(watched: Watched) -> None:
    """Counted by itself; the lag is of the partitions that have a commit."""
    watched.cluster.commits["risk"] = {Partition("orders", 0): 90}
    snapshot = await watched.fetch()
    assert values(snapshot, UNCOMMITTED) == {("risk", "orders"): 1}
    assert values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 10}


async def test_a_group_that_reads_a_topic_and_has_committed_nothing_has_no_lag(watched: Watched) -> None:
    """Known by its members' assignment."""
    watched.cluster.commits["risk"] = {}
    snapshot = await watched.fetch()
    assert values(snapshot, UNCOMMITTED) == {("risk", "orders"): 2}
    assert values(snapshot, LAG_MESSAGES) == values(snapshot, LAG_SECONDS) == {}


async def test_the_lag_in_seconds_comes_from_the_ends_seen(watched: Watched) -> None:
    """Absent at first; then since when the worst partition's commit is not its end any more; 0 for who has read everything."""
    cluster = watched.cluster
    assert values(await watched.fetch(), LAG_SECONDS) == {}
    await watched.clock.advance(15)
    cluster.ends[Partition("orders", 0)] = 130
    cluster.ends[Partition("orders", 1)] = 60
    cluster.commits["risk"] = {Partition("orders", 0): 100, Partition("orders", 1): 55}
    assert values(await watched.fetch(), LAG_SECONDS) == {("risk", "orders"): 15}
    await watched.clock.advance(60)
    assert values(await watched.fetch(), LAG_SECONDS) == {("risk", "orders"): 75}
    cluster.commits["risk"] = {Partition("orders", 0): 130, Partition("orders", 1): 60}
    snapshot = await watched.fetch()
    assert values(snapshot, LAG_SECONDS) == values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 0}


async def test_one_partition_whose_time_is_not_known_leaves_the_topics_unknown(watched: Watched) -> None:
    """The worst of what is known would be too good."""
    await watched.fetch()
    await watched.clock.advance(15)
    watched.cluster.ends[Partition("orders", 1)] = 60
    snapshot = await watched.fetch()
    assert values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 20}
    assert values(snapshot, LAG_SECONDS) == {}


async def test_an_outage_does_not_forget_what_was_seen(watched: Watched) -> None:
    """A partition that loses its leader for a while keeps its past."""
    await watched.fetch()
    whole = watched.cluster.topics
    watched.cluster.topics = {"orders": states((3, 1, False), (3, 1, False))}
    await watched.clock.advance(15)
    await watched.fetch()
    watched.cluster.topics = whole
    watched.cluster.commits["risk"] = {Partition("orders", 0): 100, Partition("orders", 1): 50}
    watched.cluster.ends[Partition("orders", 0)] = 101
    await watched.clock.advance(15)
    assert values(await watched.fetch(), LAG_SECONDS) == {("risk", "orders"): 30}


async def test_the_past_of_what_nobody_reads_is_not_kept(watched: Watched) -> None:
    """A cluster may have very many partitions."""
    watched.cluster.topics["fills"] = states((1, 1, True))
    watched.cluster.ends[Partition("fills", 0)] = 5
    await watched.fetch()
    ends = watched.source._ends
    assert ends.behind_seconds(Partition("fills", 0), 5, 0) is None
    assert ends.behind_seconds(Partition("orders", 0), 100, 0) == 0.0


async def test_a_commit_beyond_the_end_is_left_out(watched: Watched) -> None:
    """The topic was made anew: neither a lag of less than nothing nor one of nothing."""
    watched.cluster.commits["risk"] = {Partition("orders", 0): 90, Partition("orders", 1): 51}
    snapshot = await watched.fetch()
    assert values(snapshot, LAG_MESSAGES) == {}
    assert rejected(snapshot) == {"orders/1 of group risk: committed 51, ends at 50": "beyond_the_end"}


async def test_one_topic_we_may_not_see_does_not_cost_the_others(watched: Watched) -> None:
    """Told once for each topic and question, however many partitions it has."""
    denied = Failure("latest offset of fills/0", "TOPIC_AUTHORIZATION_FAILED", "Broker: Topic authorization failed")
    watched.cluster.topics["fills"] = states((1, 1, True), (1, 1, True))
    watched.cluster.ends |= {Partition("fills", 0): denied, Partition("fills", 1): denied}
    watched.cluster.begins |= {Partition("fills", 0): 0, Partition("fills", 1): 0}
    snapshot = await watched.fetch()
    assert values(snapshot, TOPIC_CURRENT) == {("orders",): 150}
    assert values(snapshot, PARTITION_OLDEST).keys() >= {("fills", "0"), ("fills", "1")}
    assert len(snapshot.rejected) == 1
    assert set(rejected(snapshot).values()) == {"auth"}


async def test_a_topic_that_answers_with_an_error_is_left_out(watched: Watched) -> None:
    """Of every family, and of the cluster's counts."""
    watched.cluster.topics["fills"] = Failure("topic fills", "LEADER_NOT_AVAILABLE", "Broker: Leader not available")
    watched.cluster.commits["risk"] = {Partition("orders", 0): 90, Partition("orders", 1): 50, Partition("fills", 0): 3}
    snapshot = await watched.fetch()
    assert values(snapshot, TOPIC_PARTITIONS) == {("orders",): 2}
    assert values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 10}
    assert rejected(snapshot) == {"Kafka: topic fills: Broker: Leader not available": "server_error"}


async def test_one_group_we_may_not_see_does_not_cost_the_others(watched: Watched) -> None:
    """Neither its state nor its offsets; the other group has both."""
    watched.cluster.listing = Listing(("audit", "risk"), ())
    watched.cluster.states = {"audit": Group("empty", 0, frozenset()), "risk": DENIED}
    watched.cluster.commits = {"audit": {Partition("orders", 0): 100, Partition("orders", 1): 40}, "risk": DENIED}
    snapshot = await watched.fetch()
    assert values(snapshot, LAG_MESSAGES) == {("audit", "orders"): 10}
    assert values(snapshot, GROUP_STATE) == {("audit", "empty"): 1}
    assert values(snapshot, GROUP_MEMBERS) == {("audit",): 0}
    assert [each.reason for each in snapshot.rejected] == ["auth"]


async def test_a_group_whose_offsets_we_may_not_see_still_has_its_state(watched: Watched) -> None:
    """The two permissions are not the same."""
    watched.cluster.commits = {"risk": DENIED}
    snapshot = await watched.fetch()
    assert values(snapshot, GROUP_STATE) == {("risk", "stable"): 1}
    assert values(snapshot, LAG_MESSAGES) == values(snapshot, UNCOMMITTED) == {}
    assert [each.reason for each in snapshot.rejected] == ["auth"]


async def test_a_coordinator_that_cannot_tell_members_is_not_asked_for_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka 2.16 may crash of what it answers while it loads; neither for groups listed nor for those named."""
    watched = Watched(monkeypatch, groups=["risk", "audit"])
    loading = Failure("group risk", "COORDINATOR_LOAD_IN_PROGRESS", "ConsumerGroupDescribe: ")
    watched.cluster.states = {"risk": loading, "audit": loading}
    snapshot = await watched.fetch()
    assert [each[1] for each in watched.cluster.asked if each[0] == "committed"] == [(), ()]
    assert values(snapshot, TOPIC_CURRENT) == {("orders",): 150}
    assert rejected(snapshot) == {"Kafka: group risk: ConsumerGroupDescribe: COORDINATOR_LOAD_IN_PROGRESS": "server_error"}


async def test_one_partition_whose_commit_cannot_be_read_leaves_the_lag_unknown(watched: Watched) -> None:
    """It is not uncommitted, and its lag is not nothing."""
    unstable = Failure("offset of group risk on orders/1", "UNSTABLE_OFFSET_COMMIT", "Broker: unstable offset commit")
    watched.cluster.commits["risk"] = {Partition("orders", 0): 90, Partition("orders", 1): unstable}
    snapshot = await watched.fetch()
    assert values(snapshot, UNCOMMITTED) == {("risk", "orders"): 0}
    assert values(snapshot, GROUP_OFFSET) == {("risk", "orders", "0"): 90}
    assert values(snapshot, LAG_MESSAGES) == {}
    assert list(rejected(snapshot).values()) == ["server_error"]


async def test_only_the_topics_and_groups_wanted_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Internal topics and the console's groups are not by default; a group's commits on other topics do not appear."""
    watched = Watched(monkeypatch, groups=["risk.*"])
    watched.cluster.topics["__consumer_offsets"] = states((3, 3, True))
    watched.cluster.topics["_schemas"] = states((3, 3, True))
    watched.cluster.listing = Listing(("console-consumer-1", "risk"), ())
    watched.cluster.commits["risk"] |= {Partition("_schemas", 0): 3}  # type: ignore[operator]
    snapshot = await watched.fetch()
    assert ("members", ("risk",)) in watched.cluster.asked
    assert ("latest", (Partition("orders", 0), Partition("orders", 1))) in watched.cluster.asked
    assert values(snapshot, LAG_MESSAGES).keys() == values(snapshot, UNCOMMITTED).keys() == {("risk", "orders")}
    assert {labels[1] for labels in values(snapshot, GROUP_OFFSET)} == {"orders"}
    assert snapshot.notes["topics"] == "1 of 3"
    assert snapshot.notes["groups"] == "1 of 2"


async def test_console_consumers_are_not_watched_by_default(watched: Watched) -> None:
    """Everybody who looks at a topic leaves such a group behind."""
    watched.cluster.listing = Listing(("console-consumer-17", "risk"), ())
    assert values(await watched.fetch(), GROUP_STATE).keys() == {("risk", "stable")}


async def test_a_topic_asked_for_by_name_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time: it is a typing error, or somebody has deleted it."""
    watched = Watched(monkeypatch, topics=["orders", "ordres"])
    assert rejected(await watched.fetch()) == {"the cluster has no topic ordres": "not_found"}


async def test_a_group_asked_for_by_name_that_is_not_listed_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that has never started must not be invisible."""
    watched = Watched(monkeypatch, groups=["risk", "audit"])
    snapshot = await watched.fetch()
    assert values(snapshot, GROUP_STATE) == {("risk", "stable"): 1, ("audit", "dead"): 1}
    assert snapshot.notes["groups not listed"] == "audit"


async def test_where_brokers_do_not_list_groups_those_named_are_asked_for_by_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are not asked for their members: librdkafka would die of it."""
    watched = Watched(monkeypatch, groups=["risk", ".*"])
    watched.cluster.listing = UNSUPPORTED
    snapshot = await watched.fetch()
    assert ("members", ()) in watched.cluster.asked
    assert ("committed", ("risk",), (Partition("orders", 0), Partition("orders", 1))) in watched.cluster.asked
    assert values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 10}
    assert values(snapshot, GROUP_STATE) == {}
    assert snapshot.notes["groups"] == "the brokers do not list them"


async def test_a_cluster_that_lets_nobody_list_groups_still_shows_its_topics(watched: Watched) -> None:
    """Counted, not fatal."""
    watched.cluster.listing = Failure("consumer groups", "CLUSTER_AUTHORIZATION_FAILED", "no")
    snapshot = await watched.fetch()
    assert values(snapshot, TOPIC_CURRENT) == {("orders",): 150}
    assert [each.reason for each in snapshot.rejected] == ["auth"]


async def test_groups_of_a_broker_that_does_not_answer_are_those_known_before(watched: Watched) -> None:
    """Another broker may coordinate them by now; once all have answered, a group that is gone is gone."""
    cluster = watched.cluster
    await watched.fetch()
    cluster.listing = Listing((), (Failure("consumer groups", "_TIMED_OUT", "Local: Timed out"),))
    snapshot = await watched.fetch()
    assert values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 10}
    assert list(rejected(snapshot).values()) == ["timeout"]
    cluster.listing = Listing((), ())
    assert values(await watched.fetch(), LAG_MESSAGES) == {}


async def test_without_partitions_only_sums_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a cluster with very many of them."""
    snapshot = await Watched(monkeypatch, partitions=False).fetch()
    assert values(snapshot, PARTITION_CURRENT) == values(snapshot, PARTITION_OLDEST) == values(snapshot, GROUP_OFFSET) == {}
    assert values(snapshot, TOPIC_CURRENT) == {("orders",): 150}
    assert values(snapshot, LAG_MESSAGES) == {("risk", "orders"): 10}


@pytest.mark.parametrize(
    ("failure", "kind", "reason"),
    [
        (Failure("consumer groups", "_TIMED_OUT", "late"), Retryable, Reason.TIMEOUT),
        (Failure("consumer groups", "_TRANSPORT", "Connection refused"), Retryable, Reason.REFUSED),
    ],
)
async def test_a_cluster_that_stops_answering_is_a_failed_fetch(
    watched: Watched, failure: Failure, kind: type[Retryable | Permanent], reason: Reason
) -> None:
    """Not a cluster without groups."""
    watched.cluster.listing = failure
    with pytest.raises(kind) as caught:
        await watched.fetch()
    assert caught.value.reason is reason


async def test_one_question_that_fails_ends_the_others(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own error comes out, not a group of errors."""

    async def lost(*_: object) -> Offsets:
        raise Retryable("lost", reason=Reason.INTERNAL)

    monkeypatch.setattr(watched.cluster, "offsets", lost)
    with pytest.raises(Retryable, match="lost"):
        await watched.fetch()


async def test_close_closes_the_cluster(watched: Watched) -> None:
    """Its process ends."""
    await watched.source.close()
    assert watched.cluster.asked == [("close",)]


def test_each_question_has_a_share_of_the_fetchs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a fetch with one broker down still ends in time, with what the others said."""
    given: list[float] = []
    monkeypatch.setattr("exporter.sources.kafka.KafkaCluster", lambda config, seconds: given.append(seconds))
    config = validate(Config, {"type": "kafka", "name": "k", "bootstrap_servers": "one:9092", "timeout_seconds": 10})
    assert isinstance(config, Config)
    KafkaSource(config, ManualClock())
    assert given == [pytest.approx(10 / 6)]
