"""Follows firing alerts on their way (Prometheus, Alertmanager; or the receiver alone), tells where they begin and end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from deskwatch.clock import Clock
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.watch import Alert

LOOK_SECONDS = 0.5
TOLD = ("critical", "warning")
"""Severities a person is told of."""
Ask = Callable[[], Awaitable[frozenset[Alert] | None]]
"""What fires there now; None where it does not answer."""


@dataclass(slots=True)
class Place:
    """One stop of an alert: its name for people, how to ask, what was seen there last."""

    name: str
    ask: Ask
    firing: frozenset[Alert] = frozenset()


class Alerts:
    """The alerts that fire now.

    Args:
        commentary: told of those that begin at any place and of those that end at the last.
        clock: for waiting.
    """

    def __init__(self, commentary: Commentary, clock: Clock) -> None:
        self._commentary = commentary
        self._clock = clock
        self._places: tuple[Place, ...] = ()

    def follow(self, *places: Place) -> None:
        """Where to look from now on, in the order an alert passes them; nothing happens where these are followed already."""
        if [place.name for place in places] != [place.name for place in self._places]:
            self._places = places

    def fires(self, limits: Collection[tuple[str, str]]) -> bool:
        """Whether an alert about one of these (portfolio, limit) fires at the last place."""
        return bool(self._places) and any(alert.limit in limits for alert in self._places[-1].firing)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look now."""
        for place in self._places:
            found = await place.ask()
            if found is not None:
                before, place.firing = place.firing, found
                self._tell(place, began=found - before, ended=before - found)

    def _tell(self, place: Place, *, began: frozenset[Alert], ended: frozenset[Alert]) -> None:
        for alert in _told(began):
            self._commentary.event("ALERT", f"{alert.name} ({alert.subject}) fires at {place.name}", "bad")
        if place is self._places[-1]:
            for alert in _told(ended):
                self._commentary.event("RESOLVED", f"{alert.name} ({alert.subject}) at {place.name}", "good")


def _told(alerts: frozenset[Alert]) -> list[Alert]:
    return sorted((alert for alert in alerts if alert.severity in TOLD), key=lambda alert: (alert.name, alert.subject))
