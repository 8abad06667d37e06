"""A running chassis with a web configuration file, for tests of TLS and users."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import trustme
import yaml
from aiohttp import web

from deskwatch.clock import ManualClock
from deskwatch.config import validate
from deskwatch.server import WATCH_SECONDS, Server
from deskwatch.web import Readiness, Route, application
from deskwatch.web_access import Door
from deskwatch.web_config import WebConfig

TOKEN = "changeme"


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


ROUTES = (
    Route("GET", "/book", hello, "read"),
    Route("POST", "/reload", hello, "change"),
    Route("POST", "/hook", hello, "own"),
)


class Chassis:
    """The server, its file, and the clock its watch runs by."""

    def __init__(self, folder: Path, server: Server, door: Door, clock: ManualClock) -> None:
        self.folder, self.server, self.door, self.clock = folder, server, door, clock

    @property
    def url(self) -> str:
        """Its address by name, as the certificate has it."""
        return self.server.url.replace("127.0.0.1", "localhost")

    def write(self, **content: Any) -> None:
        """Another web configuration file."""
        write_file(self.folder, **content)

    async def noticed(self) -> None:
        """Let the watch look once, and see what it found."""
        await self.clock.advance(0)
        before = self.door.keys
        for _ in range(200):
            await self.clock.advance(WATCH_SECONDS)
            await asyncio.sleep(0.01)
            if self.door.keys is not before or not self.server.web_file_current:
                return
        raise AssertionError("the watch saw nothing")

    async def ask(
        self, method: str = "GET", path: str = "/book", *, tls: ssl.SSLContext | None = None, **more: Any
    ) -> httpx.Response:
        """One request on a connection of its own."""
        async with httpx.AsyncClient(base_url=self.url, verify=tls or False, trust_env=False) as client:
            return await client.request(method, path, **more)


def write_file(folder: Path, **content: Any) -> None:
    """`web.yml`."""
    (folder / "web.yml").write_text(yaml.safe_dump(content))


def write_certificate(folder: Path, authority: trustme.CA) -> dict[str, str]:
    """A certificate for localhost and its key, as `tls_server_config` names them."""
    made = authority.issue_cert("localhost")
    (folder / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    (folder / "tls.key").write_bytes(made.private_key_pem.bytes())
    return {"cert_file": "tls.crt", "key_file": "tls.key"}


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A client's context that trusts this authority alone, and shows a certificate where one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if client:
        client.configure_cert(context)
    return context


@asynccontextmanager
async def chassis(folder: Path, **settings: Any) -> AsyncIterator[Chassis]:
    """Serve with the `web.yml` that lies in the folder; it is watched by a clock turned by hand."""
    config = validate(WebConfig, {"listen": "127.0.0.1:0", "config_file": "web.yml", **settings}, folder=folder)
    assert isinstance(config, WebConfig), config
    door = Door(config, TOKEN)
    clock = ManualClock()
    async with Server(application(door, ROUTES, Readiness), config.listen, door) as server:
        watching = asyncio.ensure_future(server.keep_current(clock))
        try:
            yield Chassis(folder, server, door, clock)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
