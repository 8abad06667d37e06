"""The contract of an enricher: it adds to what is known about an alert. A slow or failing one delays no delivery.

A new enricher is one module in `receiver.enrichers`: docstring, `Config(EnricherConfig)`, one subclass of `Enricher`.
`receiver.pipeline` runs them all within one time budget and goes on without those that failed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from deskwatch.clock import Clock
from deskwatch.config import Settings
from deskwatch.plugins import Room
from receiver.alerts import Alert
from receiver.message import Enrichment


class EnricherConfig(Settings):
    """What every enricher's configuration has."""

    type: str
    """The plug-in: the name of its module."""


ConfigT = TypeVar("ConfigT", bound=EnricherConfig)


class Enricher(ABC, Generic[ConfigT]):
    """One kind of added knowledge."""

    def __init__(self, config: ConfigT, clock: Clock) -> None:
        """Keep the configuration; read nothing yet."""
        self.config = config
        self.clock = clock

    @abstractmethod
    async def enrich(self, alert: Alert) -> Enrichment:
        """What this enricher knows about the alert; an empty Enrichment where it knows nothing."""


ENRICHERS: Room[Enricher[Any]] = Room("receiver.enrichers", "deskwatch.enrichers", Enricher)
