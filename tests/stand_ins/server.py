"""A local server that stands in for a vendor's: records what it gets, answers as told, lets a test wait for the next request.

async with Slack() as slack:
    slack.next(RATE_LIMITED)               # the next request gets this answer
    ...
    requests = await slack.got(2)          # waits until two have arrived
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from aiohttp import web

WAIT_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """What to answer. `hang` never answers, `drop` closes the connection, `cut` promises more than it sends."""

    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "text/plain"
    hang: bool = False
    drop: bool = False
    cut: bool = False
    delay_seconds: float = 0.0


HANG = Answer(0, hang=True)
DROP = Answer(0, drop=True)
HTML = Answer(200, "<html><body>Please log in</body></html>", content_type="text/html")
SERVER_ERROR = Answer(500, "Internal Server Error")


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    """Monotonic seconds."""
    method: str = "POST"
    query: Mapping[str, str] = field(default_factory=dict)
    raw_query: str = ""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


class StandIn:
    """The server. A subclass says how the real service answers a request."""

    path = "/"

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Received] = []
        self.refuse: Callable[[Received], Answer | None] = lambda _: None
        """Chooses an answer for requests of a kind; None for the normal one."""
        self._queued: deque[Answer] = deque()
        self._always: Answer | None = None
        self._arrived = asyncio.Condition()
        self._port = port
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`."""
        assert self._runner is not None
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def next(self, *answers: Answer) -> None:
        """Answer the next requests so."""
        self._queued.extend(answers)

    def always(self, answer: Answer | None) -> None:
        """Answer every request so; None for the normal way."""
        self._always = answer

    async def got(self, count: int, *, seconds: float = WAIT_SECONDS) -> list[Received]:
        """Wait until so many requests have arrived; all of them."""
        await self.until(lambda: len(self.requests) >= count, seconds=seconds)
        return self.requests

    async def until(self, holds: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the condition holds; looked at after each request."""
        try:
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait_for(holds)
        except TimeoutError:
            raise AssertionError(f"{type(self).__name__} has only {len(self.requests)} requests") from None

    def respond(self, request: Received) -> Answer:
        """How the real service answers."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except ConnectionError:
            return web.Response()  # the caller ended in the middle: as if it had not called
        received = Received(
            request.path,
            dict(request.headers),
            body,
            time.monotonic(),
            request.method,
            dict(request.query),
            request.rel_url.raw_query_string,
        )
        answer = self._answer(received)
        async with self._arrived:
            self.requests.append(received)
            self._arrived.notify_all()
        if answer.hang:
            await self._released.wait()
        if answer.drop or answer.hang:
            if request.transport is not None:  # else the caller has ended already
                request.transport.abort()
            return web.Response()
        if answer.delay_seconds:
            await asyncio.sleep(answer.delay_seconds)
        if answer.cut:
            return await _cut_short(request, answer)
        return web.Response(status=answer.status, text=answer.body, content_type=answer.content_type, headers=answer.headers)

    def _answer(self, received: Received) -> Answer:
        chosen = self.refuse(received)
        if chosen is not None:
            return chosen
        if self._queued:
            return self._queued.popleft()
        if self._always is not None:
            return self._always
        return self.respond(received)


async def _cut_short(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Half of the body, under headers that promise all of it, then the connection is closed."""
    body = answer.body.encode()
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_type, response.content_length = answer.content_type, len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response
