"""The HTTP chassis: who may call what, how errors look, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from deskwatch.config import Settings, validate
from deskwatch.errors import ConfigError
from deskwatch.server import Server
from deskwatch.web import Readiness, Route, application, change_token, until_stopped
from deskwatch.web_access import Door
from deskwatch.web_config import WebConfig


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def broken(_: web.Request) -> web.Response:
    raise RuntimeError("secret detail")


ROUTES = (
    Route("GET", "/book", hello, "read"),
    Route("POST", "/reload", hello, "change"),
    Route("POST", "/hook", hello, "own"),
    Route("GET", "/broken", broken, "read"),
)


class Waiting:
    """A readiness to turn by hand."""

    state = Readiness(("the first reading",))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A chassis without a read token, token `changeme`."""
    app = application(Door(WebConfig(listen="127.0.0.1:0"), "changeme"), ROUTES, lambda: Waiting.state)
    async with Server(app, "127.0.0.1:0") as running:
        yield running


async def ask(server: Server, method: str, path: str, **headers: str) -> httpx.Response:
    """One request."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        return await client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_health_is_open_and_readiness_names_what_is_missing(server: Server) -> None:
    """A supervisor needs both; a person needs the reason."""
    assert (await ask(server, "GET", "/-/healthy")).status_code == 200
    answer = await ask(server, "GET", "/-/ready")
    assert (answer.status_code, answer.text) == (503, "Not ready: waiting for the first reading.\n")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [("", 401), ("Bearer wrong", 401), ("Basic changeme", 401), ("Bearer changeme", 200), ("bearer changeme", 200)],
)
async def test_a_change_needs_the_token_even_on_loopback(server: Server, authorization: str, status: int) -> None:
    """Any local process could otherwise approve a trade."""
    headers = {"Authorization": authorization} if authorization else {}
    assert (await ask(server, "POST", "/reload", **headers)).status_code == status


async def test_reading_is_open_on_loopback_without_a_read_token(server: Server) -> None:
    """Prometheus on the same machine scrapes without ceremony."""
    assert (await ask(server, "GET", "/book")).text == "hello"


async def test_a_read_token_guards_reading_and_the_change_token_opens_it_too() -> None:
    """With a read token set, nothing but health answers without it."""
    config = validate(WebConfig, {"listen": "127.0.0.1:0", "read_token": "readme", "previous_token": "old"})
    assert isinstance(config, WebConfig)
    app = application(Door(config, "changeme"), ROUTES, lambda: Readiness())
    async with Server(app, config.listen) as server:
        statuses = {
            token: (await ask(server, "GET", "/book", Authorization=f"Bearer {token}")).status_code
            for token in ("readme", "changeme", "old", "wrong")
        }
        assert statuses == {"readme": 200, "changeme": 200, "old": 200, "wrong": 401}
        assert (await ask(server, "POST", "/reload", Authorization="Bearer readme")).status_code == 401
        assert (await ask(server, "POST", "/reload", Authorization="Bearer old")).status_code == 200
        assert (await ask(server, "GET", "/-/healthy")).status_code == 200


async def test_an_unknown_host_is_refused(server: Server) -> None:
    """DNS rebinding: a page that made its name point at 127.0.0.1 still sends its own Host."""
    answer = await ask(server, "GET", "/book", Host="evil.example:80")
    assert answer.status_code == 403
    assert "allowed_hosts" in answer.json()["error"]


async def test_a_page_of_another_origin_changes_nothing(server: Server) -> None:
    """A browser would send the form; the Origin tells."""
    answer = await ask(server, "POST", "/hook", Origin="http://evil.example")
    assert answer.status_code == 403
    own = await ask(server, "POST", "/hook", Origin=server.url)
    assert own.status_code == 200


async def test_a_failure_shows_its_correlation_id_and_no_detail(server: Server) -> None:
    """The traceback is in the log; the caller gets the id to find it by."""
    answer = await ask(server, "GET", "/broken")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert answer.headers["X-Correlation-Id"].startswith("req-")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/book", 405)])
async def test_errors_are_json(server: Server, method: str, path: str, status: int) -> None:
    """Every error body is `{"error": ...}`."""
    answer = await ask(server, method, path)
    assert answer.status_code == status
    assert set(json.loads(answer.text)) == {"error"}


async def test_a_taken_port_is_a_clear_error(server: Server) -> None:
    """The operator learns which address and what to do."""
    app = application(Door(WebConfig(listen="127.0.0.1:0"), "t"), (), lambda: Readiness())
    with pytest.raises(
        ConfigError, match=rf"web.listen: 127.0.0.1:{server.port} is taken by another process: stop it or choose"
    ):
        async with Server(app, f"127.0.0.1:{server.port}"):
            pass


def test_a_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """No default password: 256 random bits, mode 0600, the same at the next start."""
    made = change_token(WebConfig(listen="127.0.0.1:0"), tmp_path / "state")
    assert len(made) >= 40
    assert stat.S_IMODE((tmp_path / "state" / "token").stat().st_mode) == 0o600
    assert change_token(WebConfig(listen="127.0.0.1:0"), tmp_path / "state") == made


class Process(Settings):
    """A process's section."""

    web: WebConfig


def test_a_public_address_needs_a_read_token_or_an_explicit_yes() -> None:
    """`/metrics` shows the book."""
    open_book = validate(Process, {"web": {"listen": "0.0.0.0:1"}})
    assert isinstance(open_book, list)
    assert str(open_book[0]).startswith("web.listen: 0.0.0.0:1 is reachable from other machines")
    assert isinstance(validate(Process, {"web": {"listen": "0.0.0.0:1", "insecure": True}}), Process)
    assert isinstance(validate(Process, {"web": {"listen": "0.0.0.0:1", "read_token": "x"}}), Process)


async def test_a_signal_ends_main_and_a_hanging_main_is_cut_short() -> None:
    """SIGTERM sets the event; what does not finish in time is cancelled."""
    reached: list[str] = []

    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        reached.append("stopping")
        await asyncio.Event().wait()

    await asyncio.wait_for(until_stopped(main, grace_seconds=0.05), 5)
    assert reached == ["stopping"]


async def test_an_error_in_main_is_raised() -> None:
    """A process that fails does not exit 0."""

    async def main(_: asyncio.Event) -> None:
        raise ConfigError([])

    with pytest.raises(ConfigError):
        await until_stopped(main)
