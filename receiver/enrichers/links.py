"""Links from the alert to where one looks next: its dashboard, its expression in Prometheus, a silence in Alertmanager.

Only http(s) addresses; none is ever fetched. Source of the silence form: alertmanager ui/app, `#/silences/new?filter=`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal
from urllib.parse import quote

from receiver.addresses import MAX_CHARACTERS, web_address
from receiver.alerts import Alert, Notification
from receiver.enricher import Enricher, EnricherConfig
from receiver.matchers import Matcher
from receiver.message import Enrichment, Link


class Config(EnricherConfig):
    """No settings."""

    type: Literal["links"] = "links"


class Links(Enricher[Config]):
    """Collects the addresses an alert and its notification carry."""

    async def enrich(self, alert: Alert, notification: Notification) -> Enrichment:
        """Dashboard, expression and silence, in this order, those that are there."""
        return Enrichment(links=tuple(_links(alert, notification)))


def _links(alert: Alert, notification: Notification) -> Iterator[Link]:
    for title, address in (
        ("Dashboard", alert.annotations.get("dashboard_url", "")),
        ("Expression", alert.generator_url),
    ):
        url = web_address(address)
        if url:
            yield Link(title, url)
    silence = _silence_form(notification.external_url, alert.labels)
    if silence:
        yield Link("Silence", silence)


def _silence_form(external_url: str, labels: Mapping[str, str]) -> str:
    base = web_address(external_url)
    if not base:
        return ""
    matchers = ",".join(str(Matcher(name, "=", value)) for name, value in sorted(labels.items()))
    form = f"{base.rstrip('/')}/#/silences/new?filter={quote('{' + matchers + '}', safe='')}"
    return form if len(form) <= MAX_CHARACTERS else ""
