"""The connections to one venue: opened with the first call, lent to at most so many calls at a time, renewed when in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from deskwatch.errors import Permanent, Reason
from deskwatch.http import HttpConfig, client

CALLS_AT_ONCE = 20
"""To one venue; further ones wait their turn. Fewer than the client has connections: none of them waits inside it."""


class Session:
    """A pooled client that outlives what httpx's own does not.

    A call that is cancelled at the wrong moment leaves a connection behind in httpcore's pool that is never used again and
    never closed, until the pool is exhausted for good (encode/httpcore, issue 1093). So after a call that was cut off the
    client is replaced, as soon as no other call uses it; likewise after a failed handshake: the certificates may be new.

    Args:
        what: the venue, for messages.
        config: certificate, proxy, deadline of one call.
        base_url: address every path is appended to.
        headers: sent with each call.
        verify_certificate: false only for a venue's program on this machine.
    """

    def __init__(
        self, what: str, config: HttpConfig, *, base_url: str, headers: Mapping[str, str], verify_certificate: bool
    ) -> None:
        self._what = what
        self._config = config
        self._base_url = base_url
        self._headers = headers
        self._verify_certificate = verify_certificate
        self._client: httpx.AsyncClient | None = None
        self._opening: asyncio.Task[httpx.AsyncClient] | None = None
        self._at_once = asyncio.Semaphore(CALLS_AT_ONCE)
        self._calls = 0
        self._doubtful = False

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[httpx.AsyncClient]:
        """The client for one call.

        Raises:
            Permanent: there is none: the certificates cannot be read, or a credential cannot be sent.
        """
        async with self._at_once:
            lent = await self._ready()
            self._calls += 1
            try:
                yield lent
            except (asyncio.CancelledError, TimeoutError):
                self.doubt()
                raise
            finally:
                self._calls -= 1

    def doubt(self) -> None:
        """Replace the client before the next call that finds it unused."""
        self._doubtful = True

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        gone, self._client, self._doubtful = self._client, None, False
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if gone is not None:
            # Also where whoever closes is cancelled meanwhile: half a closing leaves sockets open.
            await asyncio.shield(asyncio.ensure_future(gone.aclose()))

    async def _ready(self) -> httpx.AsyncClient:
        if self._doubtful and not self._calls:
            await self.close()
        if self._client is None:
            self._client = await self._opened()
        return self._client

    async def _opened(self) -> httpx.AsyncClient:
        """A new one, the same for all that wait for it. Who is cut off leaves it to the next, which need not begin again."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        finally:
            if opening.done():
                self._opening = None

    async def _open(self) -> httpx.AsyncClient:
        """In a thread: reading certificates takes a while."""
        try:
            return await asyncio.to_thread(
                client,
                self._config,
                base_url=self._base_url,
                headers=self._headers,
                verify_certificate=self._verify_certificate,
            )
        except OSError as error:  # ssl.SSLError, where the file holds no certificate, is one too
            whose = self._config.ca_file or "of the system"
            message = f"{self._what}: the certificates {whose} cannot be read: {error.strerror or error}"
            raise Permanent(message, reason=Reason.TLS) from None
        except UnicodeError:
            message = f"{self._what}: a credential holds characters HTTP cannot carry"
            raise Permanent(message, reason=Reason.AUTH) from None
