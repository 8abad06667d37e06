"""Enrichment: asks every enricher about every alert, all at once, within one time budget, and goes on without what fails.

A delivery never waits for more than the budget: what is not known by then is left out and the plain message goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from deskwatch.logs import get_logger
from receiver.alerts import Alert, Notification
from receiver.enricher import Enricher
from receiver.episode import Sighting
from receiver.message import Enrichment

_PAUSE_EVERY = 50
"""Alerts after which the event loop gets its turn: most enrichers never wait for anything."""


class Enrichers:
    """The configured enrichers and their budget."""

    def __init__(self, enrichers: Sequence[Enricher[Any]], budget_seconds: float) -> None:
        self._enrichers = enrichers
        self._budget_seconds = budget_seconds

    async def enrich(self, notification: Notification, sightings: Sequence[Sighting]) -> Mapping[str, Enrichment]:
        """What is known about each identity when the budget ends; identities of which nothing is known are left out."""
        found: dict[str, list[Enrichment]] = {}
        tasks = [asyncio.ensure_future(self._ask(enricher, notification, sightings, found)) for enricher in self._enrichers]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._budget_seconds)
            for task in late:
                task.cancel()
            if late:
                get_logger().warning("enrichment ran out of time", budget_seconds=self._budget_seconds, unfinished=len(late))
        return {key: _joined(parts) for key, parts in found.items()}

    async def _ask(
        self,
        enricher: Enricher[Any],
        notification: Notification,
        sightings: Sequence[Sighting],
        found: dict[str, list[Enrichment]],
    ) -> None:
        for index, sighting in enumerate(sightings):
            if index % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)
            known = await self._shielded(enricher, sighting.alert, notification)
            if known is not None:
                found.setdefault(sighting.identity, []).append(known)

    async def _shielded(self, enricher: Enricher[Any], alert: Alert, notification: Notification) -> Enrichment | None:
        try:
            return await enricher.enrich(alert, notification)
        except Exception:
            get_logger().exception("an enricher failed; the message goes without it", enricher=enricher.config.type)
            return None


def _joined(parts: Sequence[Enrichment]) -> Enrichment:
    """Several enrichers' knowledge as one; the first that names a runbook or steps wins."""
    return Enrichment(
        runbook_url=next((part.runbook_url for part in parts if part.runbook_url), ""),
        steps=next((part.steps for part in parts if part.steps), ()),
        links=tuple(link for part in parts for link in part.links),
    )
