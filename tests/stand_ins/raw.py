"""Servers that say exactly the bytes a test wants, for what a proper HTTP server would never do."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Say = Callable[[bytes], bytes]
"""Head of a request to the bytes of the answer; after them the connection is closed, unless they say how long they are."""


@dataclass
class Raw:
    """The server: what it heard, how many connections were opened to it, how many are open."""

    url: str
    heads: list[bytes] = field(default_factory=list)
    opened: int = 0
    open: int = 0
    most: int = 0
    """Connections open at a time."""
    closed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def all_closed(self) -> None:
        """Return when no connection is open; fails after a few seconds."""
        async with asyncio.timeout(5), self.closed:
            await self.closed.wait_for(lambda: self.open == 0)


def http(body: bytes = b"[]", status: str = "200 OK", *, length: int | None = None, **headers: str) -> bytes:
    """An answer. A header's name is written with `_` for `-`; `length` promises another length than the body's."""
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    promised = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\n{lines}content-length: {promised}\r\n\r\n".encode() + body


def zipped(body: bytes) -> bytes:
    """gzip."""
    return gzip.compress(body, mtime=0)


@asynccontextmanager
async def saying(say: Say, context: ssl.SSLContext | None = None) -> AsyncIterator[Raw]:
    """A server on the loopback."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.opened += 1
        raw.open += 1
        raw.most = max(raw.most, raw.open)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                raw.heads.append(head)
                answer = say(head)
                writer.write(answer)
                await writer.drain()
                if _incomplete(answer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            raw.open -= 1
            writer.close()
            async with raw.closed:
                raw.closed.notify_all()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    raw = Raw(f"{'https' if context else 'http'}://localhost:{port}")
    try:
        yield raw
    finally:
        server.close()


def _incomplete(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    promised = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return not promised or int(promised[0].split(b":")[1]) != len(body)
