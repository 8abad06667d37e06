"""Follows the firing alerts at Alertmanager, or without one at the receiver, and tells which began and which ended."""

from __future__ import annotations

from collections.abc import Collection

from deskwatch.clock import Clock
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.watch import Alert, Service, firing_alerts

LOOK_SECONDS = 0.5
TOLD = ("critical", "warning")
"""Severities a person is told of."""


class Alerts:
    """The alerts that fire now.

    Args:
        commentary: told of those that begin and end.
        clock: for waiting.
    """

    def __init__(self, commentary: Commentary, clock: Clock) -> None:
        self._commentary = commentary
        self._clock = clock
        self._firing: frozenset[Alert] = frozenset()
        self._source: Service | None = None
        self._direct = False

    def ask(self, source: Service, *, direct: bool) -> None:
        """Where to look from now on: Alertmanager, or with `direct` the receiver."""
        self._source, self._direct = source, direct

    def fires(self, limits: Collection[tuple[str, str]]) -> bool:
        """Whether an alert about one of these (portfolio, limit) fires."""
        return any(alert.limit in limits for alert in self._firing)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look now."""
        if self._source is None:
            return
        found = await firing_alerts(self._source, direct=self._direct)
        if found is None:
            return
        before, self._firing = self._firing, found
        where = "at the receiver" if self._direct else "at Alertmanager"
        for alert in _told(found - before):
            self._commentary.event("ALERT", f"{alert.name} ({alert.subject}) fires {where}", "bad")
        for alert in _told(before - found):
            self._commentary.event("RESOLVED", f"{alert.name} ({alert.subject}) {where}", "good")


def _told(alerts: frozenset[Alert]) -> list[Alert]:
    return sorted((alert for alert in alerts if alert.severity in TOLD), key=lambda alert: (alert.name, alert.subject))
