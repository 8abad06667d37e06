"""What may be asked of a Kafka cluster, and what it says about itself: brokers, topics, partitions, consumer groups.

Holds data, as it goes between us and the process that talks to the brokers; computes nothing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Failure(Struct, frozen=True, tag=True):
    """Why there is no answer, or none for one topic, partition or group.

    Args:
        what: what was asked for.
        name: the error's symbolic name, such as `_TRANSPORT` or `TOPIC_AUTHORIZATION_FAILED`.
        said: its text.
    """

    what: str
    name: str
    said: str


class PartitionState(Struct, frozen=True):
    """A partition: copies wanted, copies in sync, and whether there is a leader to read from."""

    number: int
    replicas: int
    in_sync: int
    led: bool


class Layout(Struct, frozen=True, tag=True):
    """What the brokers say about the cluster: topics by name, each with its partitions, or why it has none."""

    cluster_id: str
    brokers: int
    controller_known: bool
    topics: dict[str, tuple[PartitionState, ...] | Failure]


class Listing(Struct, frozen=True, tag=True):
    """The consumer groups, sorted; `failures` of brokers that could not be asked, whose groups are missing."""

    names: tuple[str, ...]
    failures: tuple[Failure, ...]


class Group(Struct, frozen=True, tag=True):
    """A consumer group: its state in lower case (`stable`, `empty`, `dead`, ...), its members, and the topics they read."""

    state: str
    members: int
    topics: frozenset[str]


class Offsets(Struct, frozen=True, tag=True):
    """An offset of each partition, or why there is none."""

    of: dict[Partition, int | Failure]


class AskLayout(Struct, frozen=True, tag=True):
    """Brokers and topics. Answer: Layout."""


class AskGroups(Struct, frozen=True, tag=True):
    """The consumer groups there are. Answer: Listing."""


class AskMembers(Struct, frozen=True, tag=True):
    """State and members of these groups. Answer: a Group by name. Of brokers that do not list groups the library dies."""

    names: tuple[str, ...]


class AskCommitted(Struct, frozen=True, tag=True):
    """What these groups have committed, on all partitions or on these. Answer: Offsets by name, of what is committed."""

    names: tuple[str, ...]
    partitions: tuple[Partition, ...] | None = None


class AskOffsets(Struct, frozen=True, tag=True):
    """Where these partitions begin or end. Answer: Offsets."""

    partitions: tuple[Partition, ...]
    end: Literal["earliest", "latest"]


Question = AskLayout | AskGroups | AskMembers | AskCommitted | AskOffsets
Answer = Layout | Listing | Offsets | Failure
"""To one question; to those about several groups, a mapping by name."""


class Setup(Struct, frozen=True):
    """How to reach the cluster: librdkafka's properties, secrets included, and the deadline of one question."""

    properties: dict[str, bool | int | float | str]
    request_seconds: float


class Said(Struct, frozen=True):
    """A line of librdkafka's log. `level` as in `logging`."""

    level: int
    facility: str
    text: str
