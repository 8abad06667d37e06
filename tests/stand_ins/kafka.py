"""A Kafka cluster for tests: librdkafka's own mock brokers, on loopback sockets of this process.

with Brokers(3) as brokers:
    brokers.topic("orders", partitions=2)
    brokers.write("orders", 0, messages=10)
    brokers.commit("risk", "orders", {0: 4})

It speaks the wire protocol, keeps messages, offsets and watermarks, and fails as told. It lists and describes no consumer
groups. `Cluster` is what tests may ask of a real one too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

OFFSET_FETCH, LIST_OFFSETS, METADATA = 9, 2, 3
"""API keys of the protocol: kafka.apache.org/protocol#protocol_api_keys."""
TOPIC_AUTHORIZATION_FAILED, GROUP_AUTHORIZATION_FAILED, COORDINATOR_NOT_AVAILABLE = 29, 30, 15
"""Error codes of the protocol."""
_PRODUCER = 0


class Cluster(Protocol):
    """What the tests do to a cluster."""

    bootstrap: str

    def topic(self, name: str, *, partitions: int = 1, replicas: int = 1) -> None:
        """Make a topic."""
        ...

    def write(self, topic: str, partition: int, *, messages: int) -> None:
        """Append messages, and wait until they are there."""
        ...

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit a group's offsets, by partition."""
        ...


class Clients:
    """Writes and commits as any client does."""

    bootstrap: str

    def write(self, topic: str, partition: int, *, messages: int) -> None:
        """Append messages, and wait until they are there."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0, "linger.ms": 0})
        for number in range(messages):
            producer.produce(topic, str(number).encode(), partition=partition)
        assert producer.flush(10) == 0

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit a group's offsets, by partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        try:
            wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
            for done in consumer.commit(offsets=wanted, asynchronous=False):
                assert done.error is None, done.error
        finally:
            consumer.close()


class RealCluster(Clients):
    """A cluster somebody else has started, for tests that name their topics and groups anew."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def topic(self, name: str, *, partitions: int = 1, replicas: int = 1) -> None:
        """Make a topic, and wait until it is there."""
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        client.create_topics([NewTopic(name, partitions, replicas)])[name].result(10)


class Brokers(Clients):
    """The mock brokers, numbered from 1."""

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._handle: int | None = None
        self._cluster: int | None = None
        self.bootstrap = ""

    def __enter__(self) -> Self:
        library = _library()
        message = ctypes.create_string_buffer(512)
        configuration = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(configuration, b"log_level", b"0", message, len(message))
        self._handle = library.rd_kafka_new(_PRODUCER, configuration, message, len(message))
        assert self._handle, message.value
        self._cluster = library.rd_kafka_mock_cluster_new(self._handle, self._count)
        self.bootstrap = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        library.rd_kafka_mock_set_controller_id(self._cluster, 1)
        return self

    def __exit__(self, *_: object) -> None:
        library = _library()
        library.rd_kafka_mock_cluster_destroy(self._cluster)
        library.rd_kafka_destroy(self._handle)
        self._cluster = self._handle = None

    def topic(self, name: str, *, partitions: int = 1, replicas: int = 1) -> None:
        """Make a topic."""
        self._do("topic_create", name.encode(), partitions, replicas)

    def drop(self, topic: str) -> None:
        """Delete a topic with its messages."""
        self._do("topic_delete", topic.encode())

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """What retention does: the messages before this one are gone."""
        self._do("partition_delete_records", topic.encode(), partition, offset)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Let this broker lead the partition; -1: none."""
        self._do("partition_set_leader", topic.encode(), partition, broker)

    def refuse_topic(self, topic: str, code: int) -> None:
        """Answer metadata requests for the topic with this error; 0: as ever."""
        _library().rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def fail(self, api: int, *codes: int) -> None:
        """Answer the next requests of this kind with these errors."""
        errors = (ctypes.c_int * len(codes))(*codes)
        _library().rd_kafka_mock_push_request_errors_array(self._cluster, api, len(codes), errors)

    def coordinate(self, group: str, broker: int) -> None:
        """Let this broker be the group's coordinator."""
        self._do("coordinator_set", b"group", group.encode(), broker)

    def advertise(self, broker: int, port: int) -> None:
        """Let the broker tell clients this port on loopback, that of a proxy before it."""
        self._do("broker_set_host_port", broker, b"127.0.0.1", port)

    def control(self, broker: int) -> None:
        """Name this broker as controller; -1: none."""
        _library().rd_kafka_mock_set_controller_id(self._cluster, broker)

    def down(self, *brokers: int) -> None:
        """Close their connections and refuse new ones; by default all."""
        for broker in brokers or range(1, self._count + 1):
            self._do("broker_set_down", broker)

    def up(self, *brokers: int) -> None:
        """Let them answer again; by default all."""
        for broker in brokers or range(1, self._count + 1):
            self._do("broker_set_up", broker)

    def delay(self, milliseconds: int) -> None:
        """Let every broker take so long for each answer."""
        for broker in range(1, self._count + 1):
            self._do("broker_set_rtt", broker, milliseconds)

    def _do(self, what: str, *arguments: Any) -> None:
        code = getattr(_library(), f"rd_kafka_mock_{what}")(self._cluster, *arguments)
        assert code == 0, f"{what}: {code}"


@cache
def _library() -> Any:
    """The librdkafka in confluent_kafka's wheel, whose mock brokers its Python API does not offer."""
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    (file,) = folder.glob("librdkafka*.so*")
    library = ctypes.CDLL(str(file))
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("conf_new", pointer, []),
        ("conf_set", integer, [pointer, text, text, text, ctypes.c_size_t]),
        ("new", pointer, [integer, pointer, text, ctypes.c_size_t]),
        ("destroy", None, [pointer]),
        ("mock_cluster_new", pointer, [pointer, integer]),
        ("mock_cluster_bootstraps", text, [pointer]),
        ("mock_cluster_destroy", None, [pointer]),
        ("mock_set_controller_id", None, [pointer, ctypes.c_int32]),
        ("mock_topic_create", integer, [pointer, text, integer, integer]),
        ("mock_topic_delete", integer, [pointer, text]),
        ("mock_topic_set_error", None, [pointer, text, integer]),
        ("mock_partition_delete_records", integer, [pointer, text, ctypes.c_int32, ctypes.c_int64]),
        ("mock_partition_set_leader", integer, [pointer, text, ctypes.c_int32, ctypes.c_int32]),
        ("mock_coordinator_set", integer, [pointer, text, text, ctypes.c_int32]),
        ("mock_broker_set_down", integer, [pointer, ctypes.c_int32]),
        ("mock_broker_set_up", integer, [pointer, ctypes.c_int32]),
        ("mock_broker_set_host_port", integer, [pointer, ctypes.c_int32, text, integer]),
        ("mock_broker_set_rtt", integer, [pointer, ctypes.c_int32, integer]),
        ("mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(integer)]),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library
