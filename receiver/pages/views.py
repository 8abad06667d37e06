"""The receiver's pages: what is open, what was said, what waits for a person, and the runbooks. Server-rendered, no script.

Everything shown is escaped by the template engine: labels are untrusted. The only HTML passed through is a runbook's, rendered
with raw HTML off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup

from deskwatch.clock import Clock, from_microseconds
from deskwatch.store import Store, Work
from deskwatch.web import Route
from receiver import dead_letters, deliveries, episodes, runs
from receiver.episode import Episode
from receiver.runbooks import Runbooks

EPISODES_SHOWN = 100
DELIVERIES_SHOWN = 30
_LABELS_SHOWN = ("portfolio", "limit", "strategy", "source", "component", "instance")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Overview:
    """What the first page shows."""

    episodes: Sequence[Episode]
    deliveries: Sequence[Any]
    channels: Sequence[dict[str, Any]]
    waiting_runs: Sequence[Any]


def overview(channels: Sequence[str]) -> Work[Overview]:
    """Read it, on one snapshot."""
    backlog = yield from deliveries.backlog()
    dead = yield from dead_letters.counts()
    return Overview(
        episodes=(yield from episodes.recent("firing", EPISODES_SHOWN, 0)),
        deliveries=(yield from deliveries.recent("", DELIVERIES_SHOWN, 0)),
        channels=[
            {
                "name": name,
                "pending": sum(count for (channel, _), count in backlog.items() if channel == name),
                "dead": dead.get(name, 0),
            }
            for name in channels
        ],
        waiting_runs=[
            *(yield from runs.recent("unresolved", DELIVERIES_SHOWN, 0)),
            *(yield from runs.recent("awaiting_approval", DELIVERIES_SHOWN, 0)),
        ],
    )


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["time"] = _time
    return environment


@dataclass(frozen=True, slots=True)
class Pages:
    """The handlers and what they need."""

    store: Store
    runbooks: Runbooks
    clock: Clock
    channels: Sequence[str]
    templates: jinja2.Environment = field(default_factory=_templates)

    def routes(self) -> list[Route]:
        """Every page."""
        return [
            Route("GET", "/", self.show_overview, "read"),
            Route("GET", "/runbooks/", self.list_runbooks, "open"),
            Route("GET", "/runbooks/{alert}", self.show_runbook, "open"),
        ]

    async def show_overview(self, _: web.Request) -> web.Response:
        """Open episodes, recent deliveries, the channels, what waits for a person."""
        found = await self.store.read(overview(self.channels))
        return self._page("overview.html", now=self.clock.now(), found=found, shown_labels=_LABELS_SHOWN)

    async def list_runbooks(self, _: web.Request) -> web.Response:
        """Every alert that has a runbook."""
        return self._page("runbooks.html", names=self.runbooks.names())

    async def show_runbook(self, request: web.Request) -> web.Response:
        """One runbook."""
        runbook = self.runbooks.get(request.match_info["alert"])
        if runbook is None:
            return self._page("runbooks.html", names=self.runbooks.names(), missing=request.match_info["alert"], status=404)
        # Rendered by markdown-it with raw HTML off, and its link check refuses javascript: and data:.
        return self._page("runbook.html", name=runbook.name, html=Markup(runbook.html))  # noqa: S704

    def _page(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        html = self.templates.get_template(template).render(**values)
        return web.Response(text=html, content_type="text/html", status=status, headers=_HEADERS)


def _time(moment: datetime | int | None) -> str:
    if moment is None:
        return ""
    at = from_microseconds(moment) if isinstance(moment, int) else moment
    return f"{at:%Y-%m-%d %H:%M:%S}"
