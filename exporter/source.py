"""The contract of a source: something that is fetched and returns a snapshot. Sources read; they never write to a venue.

A new source is one module in `exporter.sources`: docstring, `Config(SourceConfig)` with `type: Literal["<module name>"]`,
and one subclass of `Source`. Only `exporter.poller` calls `fetch`: deadline, retry, back-off and breaker are not the source's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import Field, model_validator

from deskwatch.clock import Clock
from deskwatch.config import CrossFault, Settings
from deskwatch.http import HttpConfig
from deskwatch.plugins import Room
from exporter.reading import Family
from exporter.snapshot import History, Kind, Snapshot


class BreakerConfig(Settings):
    """When a source that keeps failing is left alone for a while."""

    failures: int = Field(default=5, ge=1)
    """Failures in a row that open the breaker."""
    open_seconds: float | None = Field(default=None, gt=0)
    """So long nothing is asked; then one fetch is tried, and its failure opens the breaker again. By default 30 seconds, or
    half of `stale_after_seconds` where that is less."""


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
    jitter_ratio: float = Field(default=0.05, ge=0, le=0.5)
    """Share of the interval by which fetches are moved at random, so that sources do not ask in step."""
    breaker: BreakerConfig = BreakerConfig()
    rename: dict[str, str] = Field(default_factory=dict)
    """This source's symbol to the desk's, e.g. `BTCUSDT: BTC-PERP`; applied to every record."""

    @model_validator(mode="after")
    def _outlives_its_interval(self) -> Self:
        if self.stale_after_seconds < self.interval_seconds:
            bound = f"must be >= interval_seconds ({self.interval_seconds:g}), or every series flickers"
            raise CrossFault([(["stale_after_seconds"], f"{bound}, was {self.stale_after_seconds:g}")])
        return self


class VenueConfig(SourceConfig):
    """What every source that is a broker or an exchange has."""

    portfolio: str | None = Field(default=None, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    """Portfolio its positions and cash belong to; by default one of the source's own name."""
    read: tuple[Kind, ...] = ()
    """Kinds of records wanted; by default all the source can deliver. Fewer kinds need less of the venue's rate limit."""
    symbols: tuple[str, ...] = ()
    """Symbols, in the venue's words, whose prices, quotes and daily bars are read beside those held."""
    history_days: int = Field(default=550, ge=2, le=10_000)
    """Calendar days of daily bars wanted."""
    look_back_days: float = Field(default=7.0, gt=0)
    """Orders and executions are read so far back."""
    quota_headroom_ratio: float = Field(default=0.3, ge=0, lt=1)
    """Share of the venue's rate limit left to the trader."""
    http: HttpConfig = HttpConfig()
    """Certificate, proxy and deadline of one call."""

    @property
    def book(self) -> str:
        """The portfolio's name."""
        return self.portfolio or self.name


@dataclass(frozen=True, slots=True)
class Kept:
    """What the exporter still has of a source when it asks again.

    Args:
        succeeded_at: wall time of the last good fetch, of an earlier process too; None before the first.
        histories: the daily bars kept of it, by the source's own symbol; only for a source that `keeps_histories`.
    """

    succeeded_at: datetime | None = None
    histories: Mapping[str, History] = field(default_factory=dict)


ConfigT = TypeVar("ConfigT", bound=SourceConfig)


class Source(ABC, Generic[ConfigT]):
    """One venue, broker or database."""

    kind: ClassVar[str]
    """Label `kind`: `database`, `broker`, `exchange`, `reference`, `infrastructure`, `models`."""
    metrics: ClassVar[tuple[Family, ...]] = ()
    """The families of the measures it delivers, where it delivers any."""
    keeps_histories: ClassVar[bool] = False
    """Whether its daily bars are kept in the exporter's store: a fetch then returns, of each symbol, only days from some that
    are kept on (an overlap shows whether the venue has adjusted the past), or everything where nothing is kept."""

    def __init__(self, config: ConfigT, clock: Clock) -> None:
        """Keep the configuration; open nothing yet."""
        self.config = config
        self.clock = clock

    @property
    @abstractmethod
    def provides(self) -> AbstractSet[Kind]:
        """The kinds of records this source, as configured, delivers."""

    @property
    def quota_used_ratio(self) -> float | None:
        """Share of the venue's rate limit used now, by everybody as far as known; None where there is no limit."""
        return None

    @abstractmethod
    async def fetch(self, kept: Kept) -> Snapshot:
        """Read once.

        Args:
            kept: what the exporter has of this source already.

        Raises:
            Retryable: the venue or database cannot be read now; carries a bounded reason.
            Permanent: it refuses and will go on refusing (credentials, a query that is wrong).
        """

    async def close(self) -> None:
        """Release connections. Called once, also after a failure."""
        return


SOURCES: Room[Source[Any]] = Room("exporter.sources", "deskwatch.sources", Source)
