"""Asks Kafka's brokers about themselves: topics, offsets, consumer groups. Asks, never writes; every call blocks.

The only module that imports confluent_kafka, and only when it is used. Meant to run in a process of its own
(`deskwatch.events.kafka_process`). Refuses to take one partition's or group's error for the cluster's: it stands in the answer,
in the place of the value.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from deskwatch.events.cluster import (
    Answer,
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
    Question,
    Said,
    Setup,
)
from deskwatch.events.refusals import is_unsupported, most_telling

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

FIRST_LOOK_SECONDS = 0.25
"""After so long it is looked whether the connections have failed already: the library itself would go on until the deadline."""
SPARE_SECONDS = 1.0
"""Beyond its own deadline the library gets so long to say that it has passed."""
LIBRARYS_SECONDS = 3600.0
"""The library's own deadline of a question to a group's coordinator, the longest it takes: it may abort when the coordinator is
found after that. Ours is `request_seconds`; whoever asked ends this process then."""
REMEMBERED = 100
_DURATION = re.compile(r" \(after \d+ms in state .*")

T = TypeVar("T")


class Brokers:
    """One cluster; one client, made at the first question and kept.

    Args:
        setup: how to reach it.
        say: told each new line of the library's log; what it repeats at each attempt to connect is news only after an answer.
    """

    def __init__(self, setup: Setup, say: Callable[[Said], None]) -> None:
        self._setup = setup
        self._say = say
        self._admin: AdminClient | None = None
        self._making = threading.Lock()
        self._seen: deque[Failure] = deque(maxlen=REMEMBERED)
        self._said: set[str] = set()

    def answer(self, question: Question) -> Answer | Mapping[str, Group | Failure] | Mapping[str, Offsets | Failure]:
        """What the brokers say; a Failure where they say nothing. Any thread may ask."""
        try:
            admin = self._client()
            match question:
                case AskLayout():
                    return self._layout(admin)
                case AskGroups():
                    return self._groups(admin)
                case AskMembers():
                    return self._members(admin, question)
                case AskCommitted():
                    return self._committed(admin, question)
                case AskOffsets():
                    return self._offsets(admin, question)
        except _kafka_exception() as failed:
            return self._explained("brokers and topics", failed)

    def log(self, level: int, _: str, facility: str, __: str, text: str) -> None:
        """As `logging.Logger.log`: how confluent_kafka passes on what librdkafka logs."""
        said = _DURATION.sub("", text)
        if said not in self._said and len(self._said) < REMEMBERED:
            self._said.add(said)
            self._say(Said(level, facility, said))

    def _client(self) -> AdminClient:
        with self._making:
            if self._admin is None:
                self._admin = _make_client({**self._setup.properties, "error_cb": self._saw}, self)
            return self._admin

    def _saw(self, error: KafkaError) -> None:
        self._seen.append(_failure("", error))

    def _layout(self, admin: AdminClient) -> Layout | Failure:
        self._seen.clear()
        until = time.monotonic() + self._setup.request_seconds
        patience = FIRST_LOOK_SECONDS
        while True:
            left = until - time.monotonic()
            try:
                metadata = admin.list_topics(timeout=max(0.001, min(patience, left)))
            except _kafka_exception() as failed:
                admin.poll(0)
                if left <= patience or any(each.name == "_ALL_BROKERS_DOWN" for each in self._seen):
                    return self._explained("brokers and topics", failed)
                patience *= 4
            else:
                admin.poll(0)
                self._said.clear()
                return _layout(metadata)

    def _groups(self, admin: AdminClient) -> Listing | Failure:
        asked = admin.list_consumer_groups(request_timeout=self._setup.request_seconds)
        self._wait(admin, [asked])
        return self._result(asked, "consumer groups", _listing)

    def _members(self, admin: AdminClient, question: AskMembers) -> dict[str, Group | Failure]:
        asked = admin.describe_consumer_groups(list(question.names), request_timeout=LIBRARYS_SECONDS)
        self._wait(admin, asked.values(), 0.0)
        return {name: self._result(future, f"group {name}", _group) for name, future in asked.items()}

    def _committed(self, admin: AdminClient, question: AskCommitted) -> dict[str, Offsets | Failure]:
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        wanted = None if question.partitions is None else [TopicPartition(*each) for each in question.partitions]
        # One request holds one group; all of them are on their way before the first answer is waited for.
        asked: dict[str, Future[Any]] = {}
        for name in question.names:
            request = ConsumerGroupTopicPartitions(name, wanted)
            asked |= admin.list_consumer_group_offsets([request], request_timeout=LIBRARYS_SECONDS)
        self._wait(admin, asked.values(), 0.0)
        return {
            name: self._result(future, f"offsets of group {name}", partial(_commits, name)) for name, future in asked.items()
        }

    def _offsets(self, admin: AdminClient, question: AskOffsets) -> Offsets:
        from confluent_kafka import TopicPartition
        from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # public, only not in its `__all__`

        spec = getattr(OffsetSpec, question.end)()
        wanted = {TopicPartition(*each): spec for each in question.partitions}
        asked = admin.list_offsets(wanted, request_timeout=self._setup.request_seconds)
        self._wait(admin, asked.values())
        found: dict[Partition, int | Failure] = {}
        for each, future in asked.items():
            what = f"{question.end} offset of {each.topic}/{each.partition}"
            found[Partition(each.topic, each.partition)] = self._result(future, what, partial(_offset, what))
        return Offsets(found)

    def _wait(self, admin: AdminClient, futures: Iterable[Future[Any]], spare_seconds: float = SPARE_SECONDS) -> None:
        """Until they are done or the deadline has passed; what was seen on the connections meanwhile is noted."""
        wait(list(futures), timeout=self._setup.request_seconds + spare_seconds)
        admin.poll(0)

    def _result(self, future: Future[Any], what: str, read: Callable[[Any], T]) -> T | Failure:
        """What was answered, or why not."""
        if not future.done():
            return most_telling(Failure(what, "_TIMED_OUT", "no answer in time"), self._seen)
        try:
            return read(future.result())
        except _kafka_exception() as failed:
            return self._explained(what, failed)

    def _explained(self, what: str, failed: KafkaException) -> Failure:
        return most_telling(_failure(what, failed.args[0]), self._seen)


def complaint(properties: Mapping[str, bool | int | float | str]) -> str | None:
    """What librdkafka has against these properties, None where it takes them. Connects to nothing."""
    try:
        _make_client(dict(properties), Brokers(Setup({}, 0.0), lambda _: None))
    except _kafka_exception() as refused:
        return str(refused.args[0].str())
    return None


def _make_client(properties: dict[str, Any], log: Brokers) -> AdminClient:
    from confluent_kafka.admin import AdminClient

    return AdminClient(properties, logger=log)


def _kafka_exception() -> type[KafkaException]:
    from confluent_kafka import KafkaException

    return KafkaException


def _failure(what: str, error: KafkaError) -> Failure:
    return Failure(what, error.name(), _DURATION.sub("", error.str()))


def _layout(found: Any) -> Layout:
    topics: dict[str, tuple[PartitionState, ...] | Failure] = {}
    for name, topic in found.topics.items():
        if topic.error is not None and not topic.partitions:
            topics[name] = _failure(f"topic {name}", topic.error)
        else:
            topics[name] = tuple(
                PartitionState(number, len(each.replicas), len(each.isrs), each.leader >= 0)
                for number, each in sorted(topic.partitions.items())
            )
    return Layout(found.cluster_id or "", len(found.brokers), found.controller_id in found.brokers, topics)


def _offset(what: str, found: Any) -> int | Failure:
    # A leader that dies while it is asked leaves no error but an offset that is none (-1001).
    return found.offset if found.offset >= 0 else Failure(what, "LEADER_NOT_AVAILABLE", "the leader has not answered")


def _listing(found: Any) -> Listing | Failure:
    failures = tuple(_failure("consumer groups", error) for error in found.errors or ())
    if failures and (not found.valid or any(map(is_unsupported, failures))):
        return failures[0]
    return Listing(tuple(sorted(each.group_id for each in found.valid or ())), failures)


def _group(found: Any) -> Group:
    topics = {each.topic for member in found.members if member.assignment for each in member.assignment.topic_partitions}
    return Group(found.state.name.lower(), len(found.members), frozenset(topics))


def _commits(name: str, found: Any) -> Offsets:
    commits: dict[Partition, int | Failure] = {}
    for each in found.topic_partitions:
        partition = Partition(each.topic, each.partition)
        if each.error is not None:
            commits[partition] = _failure(f"offset of group {name} on {each.topic}/{each.partition}", each.error)
        elif each.offset >= 0:
            commits[partition] = each.offset
    return Offsets(commits)
