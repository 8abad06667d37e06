"""A listening HTTP server, with or without TLS; its certificates and rules are replaced while it runs, without a closed port.

Answers nothing itself: that is the application (`deskwatch.web`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Self

from aiohttp import web

from deskwatch.clock import Clock
from deskwatch.errors import ConfigError, Fault
from deskwatch.files import changed
from deskwatch.logs import get_logger
from deskwatch.web_access import Door
from deskwatch.web_config import WebConfig, WebFile, read_web_file, split_address

WATCH_SECONDS = 2.0
"""Time between two looks at the web configuration file and the files it names."""
BACKLOG = 128


class Server:
    """A listening server: `async with Server(app, "127.0.0.1:0") as server: server.url`.

    Args:
        app: what answers.
        listen: `host:port`.
        door: its web configuration file says whether TLS is served; None for plain HTTP.
        shutdown_seconds: what requests under way may take at the end.
    """

    def __init__(self, app: web.Application, listen: str, door: Door | None = None, *, shutdown_seconds: float = 3.0) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=shutdown_seconds)
        self._host, self._port = split_address(listen)
        self._door = door
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Server] = []
        self._file = WebFile()
        self.web_file_current = True
        """Whether the web configuration file, when last read, could be used."""

    @property
    def port(self) -> int:
        """The port taken, known once the server listens."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """`http://host:port`, or `https://`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._file.tls else 'http'}://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            self._sockets = await _bind(self._host, self._port)
            await self._serve(self._door.keys.file if self._door else WebFile())
            _tell(self._file)
        except OSError as error:
            await self.__aexit__()
            why = (
                "is taken by another process: stop it or choose another port" if error.errno == errno.EADDRINUSE else str(error)
            )
            raise ConfigError([Fault("web.listen", f"{self._host}:{self._port} {why}")]) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()
        await _stop_accepting(self._accepting)
        await self._runner.cleanup()

    def _handlers(self) -> asyncio.Protocol:
        """What answers one connection."""
        if self._runner.server is None:
            raise RuntimeError("the server is not set up")
        return self._runner.server()

    async def renew(self, config: WebConfig, token: str) -> None:
        """Serve by this section from now on. The address stays; connections that stand keep their certificate.

        Raises:
            ConfigError: on the address that stays it would let everybody read; nothing has changed.
            OSError: no descriptor is left to listen with; nothing has changed.
        """
        if self._door is not None:
            _refuse_open_book(config, config.file, self._door.host)
            await self._serve(config.file)
            self._door.renew(config, token)
            self.web_file_current = True

    async def keep_current(self, clock: Clock) -> None:
        """Read the web configuration file again whenever it or a file it names has changed. Runs until cancelled."""
        said = ""
        while self._door is not None:
            await clock.sleep(WATCH_SECONDS)
            if not await asyncio.to_thread(changed, self._door.keys.file.files):
                continue
            try:
                await self._read_again(self._door)
            except (ConfigError, OSError) as error:
                self.web_file_current = False
                if str(error) != said:
                    get_logger().error("the web configuration file cannot be used; what it said before stays", error=str(error))
                said = str(error)
            else:
                self.web_file_current, said = True, ""

    async def _read_again(self, door: Door) -> None:
        config, before = door.config, door.keys.file
        if config.config_file is None:
            return
        file = await asyncio.to_thread(read_web_file, config.config_file)
        _refuse_open_book(config, file, door.host)
        if door.keys.file is not before:
            return  # a reload of the whole configuration was quicker
        await self._serve(file)
        door.renew_file(file)
        _tell(file)
        get_logger().info("the web configuration file was read again", file=str(config.config_file))

    async def _serve(self, file: WebFile) -> None:
        """Accept connections by the file's TLS settings, then stop accepting by those before: none is refused in between."""
        if self._accepting and file.config.tls_server_config == self._file.config.tls_server_config:
            return
        before = self._accepting
        now: list[asyncio.Server] = []
        try:
            for each in self._sockets:
                now.append(await self._accept(each.dup(), file))  # noqa: PERF401 - what was opened is closed on an error
        except OSError:
            await _stop_accepting(now)
            raise
        self._accepting, self._file = now, file
        await _stop_accepting(before)

    async def _accept(self, listening: socket.socket, file: WebFile) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._handlers, sock=listening, ssl=file.tls, backlog=BACKLOG)


def _refuse_open_book(config: WebConfig, file: WebFile, host: str) -> None:
    if config.opens_the_book(file, host):
        message = f"the process listens on {host}, where others reach it: without read_token, users or client certificates"
        raise ConfigError([Fault("web", f"{message} everybody could read the book; end it first")])


def _tell(file: WebFile) -> None:
    """What the file asks for and does not get, although clients do not notice."""
    http = file.config.http_server_config
    if http.http2 and "http2" in http.model_fields_set:
        get_logger().info("http2 is asked for; clients are answered by HTTP/1.1, which all of them speak")


async def _stop_accepting(servers: Sequence[asyncio.Server]) -> None:
    """Close the servers, not their connections."""
    loop = asyncio.get_running_loop()
    for each in servers:
        for listening in each.sockets:
            loop.remove_reader(listening.fileno())
    # A connection accepted in this very turn of the loop becomes the server's in the next; closed before, it would hang.
    await asyncio.sleep(0)
    for each in servers:
        each.close()


async def _bind(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of the host, all on one port. One this machine does not have is left out."""
    found: list[socket.socket] = []
    absent: OSError | None = None
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, _, _, _, address in dict.fromkeys(addresses):
            taken = found[0].getsockname()[1] if found else address[1]
            try:
                found.append(socket.create_server((str(address[0]), taken), family=family, backlog=BACKLOG))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                absent = error
    except OSError:
        for each in found:
            each.close()
        raise
    if not found:
        raise absent or OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
    return found
