"""The contract of an enricher: it adds to what is known about an alert. A slow or failing one delays no delivery.

A new enricher is one module in `receiver.enrichers`: docstring, `Config(EnricherConfig)`, one subclass of `Enricher`.
`receiver.enrich` runs them all within one time budget and goes on without those that failed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from deskwatch.clock import Clock
from deskwatch.config import Settings
from deskwatch.plugins import Room
from receiver.alerts import Alert, Notification
from receiver.message import Enrichment
from receiver.runbooks import Runbooks


class EnricherConfig(Settings):
    """What every enricher's configuration has."""

    type: str
    """The plug-in: the name of its module."""


ConfigT = TypeVar("ConfigT", bound=EnricherConfig)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an enricher may lean on.

    Args:
        clock: the time.
        runbooks: the runbooks this receiver serves.
        public_url: where people reach this receiver, without a trailing slash.
    """

    clock: Clock
    runbooks: Runbooks
    public_url: str


class Enricher(ABC, Generic[ConfigT]):
    """One kind of added knowledge."""

    def __init__(self, config: ConfigT, surroundings: Surroundings) -> None:
        """Keep both; read nothing yet."""
        self.config = config
        self.surroundings = surroundings

    @abstractmethod
    async def enrich(self, alert: Alert, notification: Notification) -> Enrichment:
        """What this enricher knows about one alert of the notification; an empty Enrichment where it knows nothing."""


ENRICHERS: Room[Enricher[Any]] = Room("receiver.enrichers", "deskwatch.enrichers", Enricher)
