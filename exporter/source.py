"""The contract of a source: something that is fetched and returns a snapshot. Sources read; they never write to a venue.

A new source is one module in `exporter.sources`: docstring, `Config(SourceConfig)` with `type: Literal["<module name>"]`,
and one subclass of `Source`. Only `exporter.poller` calls `fetch`: deadline, retry and back-off are not the source's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import Field, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, Settings
from deskwatch.plugins import Room
from exporter.snapshot import Kind, Snapshot


class SourceConfig(Settings):
    """What every source's configuration has."""

    type: str
    """The plug-in: the name of its module."""
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    """Label `source` of its metrics."""
    interval_seconds: float = Field(default=15.0, ge=0.05)
    """Time from the start of one fetch to the start of the next."""
    timeout_seconds: float = Field(default=10.0, gt=0)
    """Deadline of one fetch."""
    stale_after_seconds: float = Field(default=60.0, gt=0)
    """Age of the last good snapshot at which its series disappear and what depends on it becomes undefined."""

    @model_validator(mode="after")
    def _outlives_its_interval(self) -> Self:
        if self.stale_after_seconds < self.interval_seconds:
            bound = f"must be >= interval_seconds ({self.interval_seconds:g}), or every series flickers"
            raise CrossFault([(["stale_after_seconds"], f"{bound}, was {self.stale_after_seconds:g}")])
        return self


ConfigT = TypeVar("ConfigT", bound=SourceConfig)


class Source(ABC, Generic[ConfigT]):
    """One venue, broker or database."""

    kind: ClassVar[str]
    """Label `kind`: `database`, `broker`, `exchange`, `reference`."""

    def __init__(self, config: ConfigT, clock: Clock) -> None:
        """Keep the configuration; open nothing yet."""
        self.config = config
        self.clock = clock

    @property
    @abstractmethod
    def provides(self) -> AbstractSet[Kind]:
        """The kinds of records this source, as configured, delivers."""

    @abstractmethod
    async def fetch(self) -> Snapshot:
        """Read once.

        Raises:
            Retryable: the venue or database cannot be read now; carries a bounded reason.
            Permanent: it refuses and will go on refusing (credentials, a query that is wrong).
        """

    async def close(self) -> None:
        """Release connections. Called once, also after a failure."""
        return


SOURCES: Room[Source[Any]] = Room("exporter.sources", "deskwatch.sources", Source)
