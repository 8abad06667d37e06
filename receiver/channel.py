"""The contract of a channel: one `send`. Channels never retry, sleep, or log a secret; they say Retryable or Permanent.

A new channel is one module in `receiver.channels`: docstring, `Config(ChannelConfig)` with `type: Literal["<module name>"]`,
one subclass of `Channel`. Only `receiver.deliver` calls `send`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from deskwatch.clock import Clock
from deskwatch.config import Settings
from deskwatch.plugins import Room
from receiver.message import Message, MessageKind


class ChannelConfig(Settings):
    """What every channel's configuration has."""

    type: str
    """The plug-in: the name of its module."""
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    """Label `channel` of its metrics."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    """Deadline of one attempt."""
    max_attempts: int = Field(default=12, ge=1, le=100)
    """Attempts before a delivery becomes a dead letter; twelve take about half an hour."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Deliveries under way at once; those with the same dedup key always wait for each other."""


ConfigT = TypeVar("ConfigT", bound=ChannelConfig)


class Channel(ABC, Generic[ConfigT]):
    """One way to people or systems."""

    grouping: ClassVar[Literal["group", "episode"]]
    """`group`: one message for an alert group. `episode`: one for each episode in it."""
    takes: ClassVar[frozenset[MessageKind]]
    """Kinds of message this channel can say anything useful about; `notice` is always one of them."""

    def __init__(self, config: ConfigT, clock: Clock) -> None:
        """Keep the configuration; open nothing yet."""
        self.config = config
        self.clock = clock

    @abstractmethod
    async def send(self, message: Message) -> str:
        """Say it once; returns the far side's reference, empty where it gives none.

        Raises:
            Retryable: may succeed later; `retry_after_seconds` where the far side named a wait.
            Permanent: will never be taken as it is.
        """

    async def close(self) -> None:
        """Release connections."""
        return


CHANNELS: Room[Channel[Any]] = Room("receiver.channels", "deskwatch.channels", Channel)
