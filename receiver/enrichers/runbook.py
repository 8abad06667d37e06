"""The alert's runbook: where it is, and its first steps inline, so that whoever is paged need not open anything to begin."""

from __future__ import annotations

from typing import Literal

from receiver.addresses import web_address
from receiver.alerts import Alert, Notification
from receiver.enricher import Enricher, EnricherConfig
from receiver.message import Enrichment


class Config(EnricherConfig):
    """No settings: the folder of runbooks is the receiver's."""

    type: Literal["runbook"] = "runbook"


class Runbook(Enricher[Config]):
    """Reads the runbook named as the alert."""

    async def enrich(self, alert: Alert, notification: Notification) -> Enrichment:
        """Annotation `runbook_url`, else the page of this receiver; steps where this receiver has the runbook."""
        runbook = self.surroundings.runbooks.get(alert.name)
        url = web_address(alert.annotations.get("runbook_url", ""))
        if not url and runbook is not None:
            url = f"{self.surroundings.public_url}/runbooks/{runbook.name}"
        return Enrichment(runbook_url=url, steps=runbook.steps if runbook is not None else ())
