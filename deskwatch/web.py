"""The HTTP chassis of both processes: health, readiness, who may call what, errors, graceful shutdown.

Knows no route of its own beyond `/-/healthy` and `/-/ready`; each service lists its routes with who may call them
(`deskwatch.web_access`).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from deskwatch.errors import ConfigError, Fault
from deskwatch.logs import correlated, get_logger
from deskwatch.web_access import Access, Door
from deskwatch.web_config import WebConfig

MAX_BODY_BYTES = 16 * 1024 * 1024
LAST_RESORT_SECONDS = 4.8
"""A signal ends a process of ours by then, even while a thread hangs."""
CORRELATION_HEADER = "X-Correlation-Id"
_CORRELATION_ID = web.RequestKey("correlation_id", str)
_DOOR = web.AppKey("door", Door)


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path, its handler and who may call it."""

    method: str
    path: str
    handler: Handler
    access: Access


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the process can do its work; `waiting_for` names what is missing, for a person."""

    waiting_for: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Nothing is missing."""
        return not self.waiting_for


def application(door: Door, routes: Iterable[Route], readiness: Callable[[], Readiness]) -> web.Application:
    """Build the server's application.

    Args:
        door: who may call what.
        routes: what it answers, beside health and readiness.
        readiness: asked at each `/-/ready`.
    """

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="Healthy.\n")

    async def ready(_: web.Request) -> web.Response:
        state = readiness()
        if state.ready:
            return web.Response(text="Ready.\n")
        return web.Response(status=503, text=f"Not ready: waiting for {', '.join(state.waiting_for)}.\n")

    chassis = (Route("GET", "/-/healthy", healthy, "open"), Route("GET", "/-/ready", ready, "open"))
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[_DOOR] = door
    access: dict[tuple[str, str], Access] = {}
    for route in (*chassis, *routes):
        app.router.add_route(route.method, route.path, route.handler)
        access[route.method, route.path] = route.access
    # Outermost first: the id is known before anything can fail, errors are shaped before anything can raise.
    app.middlewares.extend(web.middleware(ring) for ring in (_correlate, _shape(door), _admit(door, access)))
    return app


async def _correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[_CORRELATION_ID] = f"req-{secrets.token_hex(8)}"
    with correlated(correlation_id(request)):
        return await handler(request)


def correlation_id(request: web.Request) -> str:
    """The id under which everything this request caused is logged and journaled."""
    return request[_CORRELATION_ID]


def _shape(door: Door) -> Middleware:
    """Errors as JSON, and the headers every answer has."""

    async def ring(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answer(request, handler)
        if not response.prepared:
            response.headers[CORRELATION_HEADER] = correlation_id(request)
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            for name, text in door.keys.file.config.http_server_config.headers.items():
                if text:
                    response.headers[name] = text
        return response

    return ring


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = problem(error.status, error.text or error.reason)
        kept = ("Allow", "Location", "Retry-After", "WWW-Authenticate")
        response.headers.extend({k: v for k, v in error.headers.items() if k in kept})
        return response
    except asyncio.CancelledError:
        raise
    except Exception:
        get_logger().exception("request failed", method=request.method, path=request.path)
        return problem(500, "internal error; the log line with this correlation id has the details")


def _admit(door: Door, access: dict[tuple[str, str], Access]) -> Middleware:
    async def ring(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        await door.admit(request, access.get((method, resource.canonical), "read") if resource else "open")
        return await handler(request)

    return ring


def has_users(request: web.Request) -> bool:
    """Whether the web configuration file names users: then a handler that decides itself lets in nobody it does not know."""
    return bool(request.app[_DOOR].keys.users)


async def user_of(request: web.Request) -> str | None:
    """The user of the web configuration file who sent the request, with the right password."""
    return await request.app[_DOOR].user(request)


def change_token(config: WebConfig, state_folder: Path) -> str:
    """The token for changes: the configured one, or one made at first start and kept with mode 0600.

    Raises:
        ConfigError: the state folder cannot be written or the kept token cannot be read.
    """
    if config.token:
        return config.token.get_secret_value()
    path = state_folder / "token"
    try:
        state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(secrets.token_urlsafe(32), encoding="ascii")
        kept = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError([Fault("state_folder", f"cannot keep the token in {path}: {error}")]) from error
    if not kept:
        raise ConfigError([Fault("state_folder", f"{path} is empty: delete it, a new token is made at the next start")])
    return kept


def problem(status: int, message: str, **details: Any) -> web.Response:
    """A JSON error body: `{"error": message, ...}`."""
    return web.Response(
        status=status,
        content_type="application/json",
        body=json.dumps({"error": message.strip(), **details}).encode(),
    )


async def until_stopped(
    main: Callable[[asyncio.Event], Awaitable[None]], *, grace_seconds: float = 4.5, last_resort_seconds: float | None = None
) -> None:
    """Run a process's main until SIGTERM or SIGINT, then give it `grace_seconds` to finish before it is cancelled.

    Args:
        main: called with the event that is set on a signal; returns when everything is closed.
        grace_seconds: below the 5 s a supervisor grants.
        last_resort_seconds: so long after the signal the process is ended whatever still runs: a thread that hangs in a read
            or a computation cannot be cancelled, and Python waits for it. None where the caller is not the whole process.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    task = asyncio.ensure_future(main(stop))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if last_resort_seconds is not None:
        _end_in(last_resort_seconds)
    if not task.done():
        await asyncio.wait({task}, timeout=grace_seconds)
    if not task.done():
        get_logger().warning("shutdown took too long and was cut short", grace_seconds=grace_seconds)
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _end_in(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True  # a process that ends by itself does not wait for it
    timer.start()
