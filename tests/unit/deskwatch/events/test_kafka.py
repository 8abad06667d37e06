"""What librdkafka answers, as ours: above all where it answers something that is none."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicPartition

from deskwatch.events.cluster import (
    AskCommitted,
    AskGroups,
    AskLayout,
    AskMembers,
    AskOffsets,
    Failure,
    Group,
    Layout,
    Listing,
    Offsets,
    Partition,
    PartitionState,
    Said,
    Setup,
)
from deskwatch.events.kafka import Brokers

P0, P1 = Partition("orders", 0), Partition("orders", 1)
DENIED = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"))


def done(result: Any) -> Future[Any]:
    """A future that has its result, or its error."""
    future: Future[Any] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


class FakeAdmin:
    """Answers as set."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self._answers[name]

    def poll(self, _: float) -> int:
        """Nothing to serve."""
        return 0


def brokers(**answers: Any) -> Brokers:
    """That answer so; the deadline of a question is a moment."""
    found = Brokers(Setup({}, 0.05), lambda _: None)
    found._admin = FakeAdmin(**answers)  # type: ignore[assignment]
    return found


def offset(value: int) -> SimpleNamespace:
    """A result of `list_offsets`."""
    return SimpleNamespace(offset=value)


def test_an_offset_that_is_none_is_a_failure() -> None:
    """What librdkafka 2.16 says of a partition whose leader died while it was asked: -1001 and no error."""
    asked = {TopicPartition("orders", 0): done(offset(-1001)), TopicPartition("orders", 1): done(offset(0))}
    found = brokers(list_offsets=asked).answer(AskOffsets((P0, P1), "latest"))
    assert found == Offsets(
        {P0: Failure("latest offset of orders/0", "LEADER_NOT_AVAILABLE", "the leader has not answered"), P1: 0}
    )


def test_one_partitions_error_stands_in_its_place() -> None:
    """And one that never answers is late."""
    asked = {TopicPartition("orders", 0): done(DENIED), TopicPartition("orders", 1): Future[Any]()}
    found = brokers(list_offsets=asked).answer(AskOffsets((P0, P1), "earliest"))
    assert found == Offsets(
        {
            P0: Failure("earliest offset of orders/0", "TOPIC_AUTHORIZATION_FAILED", "no"),
            P1: Failure("earliest offset of orders/1", "_TIMED_OUT", "no broker answered in time"),
        }
    )


def test_what_is_not_committed_is_left_out_and_an_error_is_not() -> None:
    """-1001 is librdkafka's word for no commit."""
    found = SimpleNamespace(
        topic_partitions=[
            SimpleNamespace(topic="orders", partition=0, offset=-1001, error=None),
            SimpleNamespace(topic="orders", partition=1, offset=5, error=None),
            SimpleNamespace(topic="orders", partition=2, offset=-1001, error=DENIED.args[0]),
        ]
    )
    answered = brokers(list_consumer_group_offsets={"risk": done(found)}).answer(AskCommitted(("risk",)))
    denied = Failure("offset of group risk on orders/2", "TOPIC_AUTHORIZATION_FAILED", "no")
    assert answered == {"risk": Offsets({P1: 5, Partition("orders", 2): denied})}


def test_a_groups_state_members_and_topics() -> None:
    """Of the topics its members read; a member that has none yet counts too."""
    reads = SimpleNamespace(
        assignment=SimpleNamespace(topic_partitions=[TopicPartition("orders", 0), TopicPartition("fills", 1)])
    )
    joins = SimpleNamespace(assignment=None)
    found = SimpleNamespace(state=ConsumerGroupState.PREPARING_REBALANCING, members=[reads, joins])
    answered = brokers(describe_consumer_groups={"risk": done(found)}).answer(AskMembers(("risk",)))
    assert answered == {"risk": Group("preparing_rebalancing", 2, frozenset({"orders", "fills"}))}


@pytest.mark.parametrize(
    ("valid", "errors", "expected"),
    [
        (["b", "a"], [], Listing(("a", "b"), ())),
        ([], [], Listing((), ())),
        (["a"], [KafkaError._TIMED_OUT], Listing(("a",), (Failure("consumer groups", "_TIMED_OUT", "no"),))),
        ([], [KafkaError._TIMED_OUT], Failure("consumer groups", "_TIMED_OUT", "no")),
        (["a"], [KafkaError._UNSUPPORTED_FEATURE], Failure("consumer groups", "_UNSUPPORTED_FEATURE", "no")),
    ],
    ids=["groups", "none", "one broker silent", "all silent", "one too old"],
)
def test_the_groups_there_are(valid: list[str], errors: list[int], expected: Listing | Failure) -> None:
    """Some brokers' answers are kept beside others' errors; no answer at all is a failure, not no groups."""
    found = SimpleNamespace(
        valid=[SimpleNamespace(group_id=name) for name in valid], errors=[KafkaError(code, "no") for code in errors]
    )
    assert brokers(list_consumer_groups=done(found)).answer(AskGroups()) == expected


def test_the_layout() -> None:
    """Copies in sync, a leader or none (-1), a topic that is an error, a controller that is no broker."""
    partitions = {
        1: SimpleNamespace(replicas=[1, 2, 3], isrs=[2], leader=-1),
        0: SimpleNamespace(replicas=[1, 2, 3], isrs=[1, 2, 3], leader=1),
    }
    found = SimpleNamespace(
        cluster_id="c1",
        controller_id=9,
        brokers={1: "one", 2: "two"},
        topics={
            "orders": SimpleNamespace(error=None, partitions=partitions),
            "fills": SimpleNamespace(error=DENIED.args[0], partitions={}),
        },
    )
    assert brokers(list_topics=found).answer(AskLayout()) == Layout(
        "c1",
        2,
        False,
        {
            "orders": (PartitionState(0, 3, 3, True), PartitionState(1, 3, 1, False)),
            "fills": Failure("topic fills", "TOPIC_AUTHORIZATION_FAILED", "no"),
        },
    )


def test_a_line_of_the_log_is_said_once_until_the_brokers_answer() -> None:
    """How long a connection took is no news."""
    said: list[Said] = []
    found = Brokers(Setup({}, 1.0), said.append)
    found._admin = FakeAdmin(  # type: ignore[assignment]
        list_topics=SimpleNamespace(cluster_id="", controller_id=1, brokers={}, topics={})
    )
    for milliseconds in (0, 1):
        found.log(40, "%s [%s] %s", "FAIL", "client#1", f"one:9092: refused (after {milliseconds}ms in state CONNECT)")
    assert said == [Said(40, "FAIL", "one:9092: refused")]
    found.answer(AskLayout())
    found.log(40, "%s [%s] %s", "FAIL", "client#1", "one:9092: refused (after 7ms in state CONNECT, 1 identical error(s))")
    assert len(said) == 2
