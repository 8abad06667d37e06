"""The receiver's JSON API and `/metrics`: what it holds, and what an operator decides. Pages: `receiver.pages`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from deskwatch.clock import Clock, from_microseconds
from deskwatch.errors import StoreUnavailable
from deskwatch.store import Row, Store, Work
from deskwatch.web import Route, problem
from receiver import dead_letters, deliveries, episodes, journal, metrics, runs
from receiver.message import Enrichment, EpisodeView

LIMIT = 50
LIMIT_MOST = 500
OFFSET_MOST = 1_000_000


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator decided about a run: `by` names them for the ledger."""

    decision: str
    by: str


class Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who does it."""

    by: str = "operator"


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers and what they need."""

    store: Store
    metrics: metrics.Metrics
    clock: Clock
    channels: Collection[str]
    hooks: Collection[str]
    on_changed: Callable[[], None]

    def routes(self) -> list[Route]:
        """Every route of the API."""
        return [
            Route("GET", "/metrics", self.show_metrics, "read"),
            Route("GET", "/api/v1/episodes", self.list_episodes, "read"),
            Route("GET", "/api/v1/deliveries", self.list_deliveries, "read"),
            Route("GET", "/api/v1/runs", self.list_runs, "read"),
            Route("GET", "/api/v1/approvals", self.list_approvals, "read"),
            Route("GET", "/api/v1/dead-letters", self.list_dead_letters, "read"),
            Route("GET", "/api/v1/journal", self.list_journal, "read"),
            Route("GET", "/api/v1/journal/{id}", self.show_body, "read"),
            Route("POST", "/api/v1/dead-letters/{id}/replay", self.replay, "change"),
            Route("POST", "/api/v1/approvals/{id}", self.decide, "change"),
            Route("POST", "/api/v1/runs/{id}/settle", self.settle, "change"),
        ]

    async def show_metrics(self, request: web.Request) -> web.Response:
        """The exposition, OpenMetrics where it is asked for; rendered off the event loop."""
        counts = await self.store.read(metrics.count())
        self.metrics.show(counts, dict.fromkeys(self.channels), dict.fromkeys(self.hooks))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, self.metrics.registry)
        response = web.Response(body=body, headers={"Content-Type": content_type})
        response.enable_compression()
        return response

    async def list_episodes(self, request: web.Request) -> web.Response:
        """Open episodes first, then the newest; `status=firing` or `status=resolved` narrows."""
        status = _choice(request, "status", ("firing", "resolved"))
        found = await self.store.read(episodes.recent(status, *_page(request)))
        return _json([_episode(episode.view(Enrichment()), episode.direct_only) for episode in found])

    async def list_deliveries(self, request: web.Request) -> web.Response:
        """Deliveries, newest first; `state=pending`, `delivered` or `dead` narrows."""
        state = _choice(request, "state", ("pending", "delivered", "dead"))
        return await self._rows(deliveries.recent(state, *_page(request)))

    async def list_runs(self, request: web.Request) -> web.Response:
        """Runs of hooks, newest first; `state` narrows."""
        state = _choice(request, "state", runs.STATES)
        return await self._rows(runs.recent(state, *_page(request)))

    async def list_approvals(self, request: web.Request) -> web.Response:
        """Live runs that wait for an operator."""
        return await self._rows(runs.recent("awaiting_approval", *_page(request)))

    async def list_dead_letters(self, request: web.Request) -> web.Response:
        """Deliveries given up, newest first."""
        return await self._rows(dead_letters.recent(*_page(request)))

    async def list_journal(self, request: web.Request) -> web.Response:
        """Accepted notifications and bodies set aside, newest first, without their bodies."""
        return await self._rows(journal.recent(*_page(request)))

    async def show_body(self, request: web.Request) -> web.Response:
        """One journaled body, byte for byte, as a download."""
        body = await self.store.read(journal.body(_id(request)))
        if body is None:
            return problem(404, "no journal entry has this id")
        headers = {"Content-Disposition": f'attachment; filename="notification-{_id(request)}.json"'}
        return web.Response(body=body, content_type="application/octet-stream", headers=headers)

    async def replay(self, request: web.Request) -> web.Response:
        """Send a dead letter again."""
        by = await _body(request, Operator)
        work = dead_letters.replay(_id(request), self.channels, by.by, self.clock.now())
        result = await self._write(work)
        if result == "replayed":
            self.on_changed()
            return _json({"result": result})
        return problem(*_NOT_REPLAYED[result])

    async def decide(self, request: web.Request) -> web.Response:
        """Approve or reject a live run; once, and only while its alert still fires."""
        verdict = await _body(request, Verdict)
        if verdict.decision not in ("approve", "reject") or not verdict.by.strip():
            return problem(422, 'send {"decision": "approve" or "reject", "by": your name}')
        run = await self.store.read(runs.get(_id(request)))
        if run is None:
            return problem(404, "no run has this id")
        if verdict.decision == "approve" and run.over:
            return problem(409, "the alert has ended: there is nothing left to remediate")
        state: runs.RunState = "queued" if verdict.decision == "approve" else "rejected"
        if not await self._write(runs.decide(run.run_id, "awaiting_approval", state, verdict.by, self.clock.now())):
            return problem(409, "the run does not wait for approval (any more)")
        self.on_changed()
        return _json({"result": state})

    async def settle(self, request: web.Request) -> web.Response:
        """An operator has looked at an interrupted run: its hook may run for that alert again."""
        by = await _body(request, Operator)
        if not await self._write(runs.decide(_id(request), "unresolved", "settled", by.by, self.clock.now())):
            return problem(409, "no unresolved run has this id")
        return _json({"result": "settled"})

    async def _rows(self, work: Work[list[Row]]) -> web.Response:
        return _json([_presentable(row) for row in await self.store.read(work)])

    async def _write(self, work: Work[Any]) -> Any:
        try:
            return await self.store.write(work)
        except StoreUnavailable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error


_NOT_REPLAYED: dict[str, tuple[int, str]] = {
    "unknown": (404, "no delivery has this id"),
    "not_dead": (409, "this delivery is not a dead letter"),
    "unknown_channel": (409, "its channel is not configured (any more)"),
    "outdated": (409, "its alert has ended: sent after the resolve it would open an incident nobody closes"),
}


def _page(request: web.Request) -> tuple[int, int]:
    return _number(request, "limit", LIMIT, 1, LIMIT_MOST), _number(request, "offset", 0, 0, OFFSET_MOST)


def _number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise web.HTTPUnprocessableEntity(text=f"{name} must be a whole number from {least} to {most}, was {text[:40]!r}")
    return int(text)


def _choice(request: web.Request, name: str, allowed: Sequence[str]) -> str:
    text = request.query.get(name, "")
    if text and text not in allowed:
        raise web.HTTPUnprocessableEntity(text=f"{name} must be one of {', '.join(allowed)}, was {text[:40]!r}")
    return text


def _id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise web.HTTPNotFound(text="the id is not a number")
    return int(text)


async def _body(request: web.Request, model: type[Any]) -> Any:
    """The request's JSON as the model; an empty body counts as `{}`."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=model)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise web.HTTPUnprocessableEntity(text=f"the body does not fit: {error}") from error


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _episode(view: EpisodeView, direct_only: bool) -> Mapping[str, Any]:
    return {
        "episode_id": view.episode_id,
        "identity": view.identity,
        "status": view.status,
        "labels": view.labels,
        "annotations": view.annotations,
        "starts_at": view.starts_at,
        "resolved_at": view.resolved_at,
        "direct_only": direct_only,
    }


def _presentable(row: Row) -> Mapping[str, Any]:
    """A row with times as text and JSON columns as JSON."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("_us"):
            shown[name.removesuffix("_us")] = None if value is None else from_microseconds(value)
        else:
            shown[name] = json.loads(value) if name == "labels" else value
    return shown
