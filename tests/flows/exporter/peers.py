"""An Alertmanager or a receiver made for tests."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from aiohttp import web

from deskwatch.server import Server


class Peer:
    """Takes posts: an Alertmanager or a receiver that answers what it is told to."""

    def __init__(self) -> None:
        self.status: int | None = 200
        """None: it never answers."""
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.authorization = ""
        self.asked = 0
        """How often it was asked how it is."""
        self._server: Server | None = None
        self._listen = "127.0.0.1:0"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port again after `stop`."""
        app = web.Application()
        app.router.add_post("/api/v2/alerts", self._take)
        app.router.add_post("/api/v1/webhook", self._take)
        app.router.add_get("/api/v2/status", self._tell)
        app.router.add_get("/-/ready", self._tell)
        self._server = Server(app, self._listen, shutdown_seconds=0.1)
        await self._server.__aenter__()
        self._listen = f"127.0.0.1:{self._server.port}"

    async def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server:
            await self._server.__aexit__()
            self._server = None

    @property
    def url(self) -> str:
        """Its address, also while it is stopped."""
        return f"http://{self._listen}"

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.authorization = request.headers.get("Authorization", "")
        self.received.put_nowait(body)
        if self.status is None:
            await asyncio.Event().wait()
        return web.Response(status=self.status or 200)

    async def _tell(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.authorization = request.headers.get("Authorization", "")
        return web.Response(status=self.status or 200)

    async def next(self) -> Any:
        """The next body it is posted."""
        async with asyncio.timeout(10):
            return await self.received.get()
