"""The HTTP chassis of both processes: health, readiness, metrics, tokens, Host and Origin checks, graceful shutdown.

Knows no route of its own beyond `/-/healthy` and `/-/ready`; each service lists its routes with who may call them.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
import json
import os
import secrets
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import field_validator, model_validator

from deskwatch.config import CrossFault, Secret, Settings
from deskwatch.errors import ConfigError, Fault
from deskwatch.logs import correlated, get_logger

Access = Literal["open", "read", "change", "own"]
"""`open`: anyone who reaches the port. `read`: the read token where one is configured. `change`: always the token.
`own`: the handler authenticates the caller itself."""

MAX_BODY_BYTES = 16 * 1024 * 1024
LAST_RESORT_SECONDS = 4.8
"""A signal ends a process of ours by then, even while a thread hangs."""
CORRELATION_HEADER = "X-Correlation-Id"
_CORRELATION_ID = web.RequestKey("correlation_id", str)


class WebConfig(Settings):
    """Where a process listens and who may ask what."""

    listen: str
    """`host:port`; port 0 takes a free one."""
    insecure: bool = False
    """Allow a non-loopback address although no read token is set: `/metrics` and the pages show the book."""
    read_token: Secret | None = None
    """Bearer token for reading (`authorization` in Prometheus's scrape configuration)."""
    token: Secret | None = None
    """Bearer token for every change; when absent one is made in `<state_folder>/token`, mode 0600."""
    previous_token: Secret | None = None
    """Still accepted while callers move to a new `token`."""
    allowed_hosts: tuple[str, ...] = ()
    """Names this server is reached by, beside its address and localhost (defence against DNS rebinding)."""

    @field_validator("listen")
    @classmethod
    def _is_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _refuse_open_book(self) -> Self:
        host, _ = split_address(self.listen)
        if not is_loopback(host) and not self.read_token and not self.insecure:
            message = f"{self.listen} is reachable from other machines and shows the book: set read_token or insecure: true"
            raise CrossFault([(["listen"], message)])
        return self


def split_address(listen: str) -> tuple[str, int]:
    """`127.0.0.1:9877` or `[::1]:9877` as host and port; ValueError where it is neither."""
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port, e.g. 127.0.0.1:9877")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


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


def application(config: WebConfig, routes: Iterable[Route], readiness: Callable[[], Readiness], token: str) -> web.Application:
    """Build the server's application.

    Args:
        config: section `web` of the process.
        routes: what it answers, beside health and readiness.
        readiness: asked at each `/-/ready`.
        token: the token for changes (`change_token`).
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
    access: dict[tuple[str, str], Access] = {}
    for route in (*chassis, *routes):
        app.router.add_route(route.method, route.path, route.handler)
        access[route.method, route.path] = route.access
    # Outermost first: the id is known before anything can fail, errors are shaped before anything can raise.
    app.middlewares.extend(
        web.middleware(ring) for ring in (_correlate, _shape_errors, _check_host(config), _check_token(config, access, token))
    )
    return app


async def _correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[_CORRELATION_ID] = f"req-{secrets.token_hex(8)}"
    with correlated(correlation_id(request)):
        return await handler(request)


def correlation_id(request: web.Request) -> str:
    """The id under which everything this request caused is logged and journaled."""
    return request[_CORRELATION_ID]


async def _shape_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = problem(error.status, error.text or error.reason)
        response.headers.extend({k: v for k, v in error.headers.items() if k in ("Allow", "Location")})
    except asyncio.CancelledError:
        raise
    except Exception:
        get_logger().exception("request failed", method=request.method, path=request.path)
        response = problem(500, "internal error; the log line with this correlation id has the details")
    if not response.prepared:
        response.headers[CORRELATION_HEADER] = correlation_id(request)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _check_host(config: WebConfig) -> Middleware:
    host, _ = split_address(config.listen)
    loopback = is_loopback(host)
    names = {"localhost", "127.0.0.1", "::1", host, *config.allowed_hosts}

    async def ring(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = _host_name(request.host)
        if (loopback or config.allowed_hosts) and asked not in names:
            raise web.HTTPForbidden(text=f"host {asked!r} is not served here; add it to web.allowed_hosts")
        origin = request.headers.get("Origin")
        if origin and request.method not in ("GET", "HEAD") and _host_of_origin(origin) != request.host:
            raise web.HTTPForbidden(text="a page of another origin may not change anything here")
        return await handler(request)

    return ring


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _host_of_origin(origin: str) -> str:
    return origin.partition("://")[2]


def _check_token(config: WebConfig, access: dict[tuple[str, str], Access], token: str) -> Middleware:
    changing = [token, *([config.previous_token.get_secret_value()] if config.previous_token else [])]
    reading = [*changing, *([config.read_token.get_secret_value()] if config.read_token else [])]

    async def ring(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        needed = access.get((method, resource.canonical), "read") if resource else "open"
        if needed == "change" and not bearer_is(request, changing):
            raise web.HTTPUnauthorized(text="this changes something: send `Authorization: Bearer <token>`")
        if needed == "read" and config.read_token and not bearer_is(request, reading):
            raise web.HTTPUnauthorized(text="send `Authorization: Bearer <read_token>`")
        return await handler(request)

    return ring


def bearer_is(request: web.Request, accepted: Sequence[str]) -> bool:
    """Whether the request carries one of the tokens; every candidate is compared in constant time."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    matches = [hmac.compare_digest(given.strip().encode(), token.encode()) for token in accepted]
    return scheme.lower() == "bearer" and any(matches)


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


class Server:
    """A listening server: `async with Server(app, "127.0.0.1:0") as server: server.url`."""

    def __init__(self, app: web.Application, listen: str, *, shutdown_seconds: float = 3.0) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=shutdown_seconds)
        self._host, self._port = split_address(listen)

    @property
    def port(self) -> int:
        """The port taken, known once the server listens."""
        return int(self._runner.addresses[0][1])

    @property
    def url(self) -> str:
        """`http://host:port`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            why = (
                "is taken by another process: stop it or choose another port" if error.errno == errno.EADDRINUSE else str(error)
            )
            raise ConfigError([Fault("web.listen", f"{self._host}:{self._port} {why}")]) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


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
