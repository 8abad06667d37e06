"""The receiver behind a web configuration file: https, users, and a webhook that lets in nobody it does not know."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
import trustme
import yaml

from deskwatch.clock import SystemClock
from deskwatch.config import validate
from receiver.config import ReceiverConfig
from receiver.service import Service
from tests.flows.receiver.running import TOKEN, section

AUTHORITY = trustme.CA()
USER = ("alertmanager", "s3cr3t")
WEBHOOK = "/api/v1/webhook"
NOTIFICATION = {"version": "4", "groupKey": "g", "status": "firing", "alerts": []}


@asynccontextmanager
async def served(folder: Path, users: dict[str, str], **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A receiver by https; a client that trusts it."""
    made = AUTHORITY.issue_cert("127.0.0.1")
    (folder / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    (folder / "tls.key").write_bytes(made.private_key_pem.bytes())
    hashes = {user: bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode() for user, password in users.items()}
    tls = {"cert_file": "tls.crt", "key_file": "tls.key"}
    (folder / "web.yml").write_text(yaml.safe_dump({"tls_server_config": tls, "basic_auth_users": hashes}))
    web = {"listen": "127.0.0.1:0", "token": TOKEN, "config_file": "web.yml"}
    config = validate(ReceiverConfig, section(folder, web=web, **more), folder=folder)
    assert isinstance(config, ReceiverConfig), config
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(Service(config, SystemClock()).run(stop, started))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    try:
        async with httpx.AsyncClient(base_url=await started, verify=context, trust_env=False, timeout=20) as client:
            yield client
    finally:
        stop.set()
        await running


async def test_pages_and_api_are_for_users_and_changes_for_the_token(tmp_path: Path) -> None:
    """By https; health is for everybody."""
    async with served(tmp_path, dict([USER])) as client:
        assert client.base_url.scheme == "https"
        for path in ("/", "/metrics", "/api/v1/episodes"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, auth=USER)).status_code == 200
        assert (await client.get("/-/ready")).status_code == 200
        replay = "/api/v1/dead-letters/1/replay"
        assert (await client.post(replay, auth=USER)).status_code == 401
        assert (await client.post(replay, headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 404


@pytest.mark.parametrize(
    ("users", "token", "auth", "status"),
    [
        ({}, None, None, 202), ({}, "hook", None, 401), ({}, "hook", ("any", "hook"), 202),
        (dict([USER]), None, None, 401), (dict([USER]), None, ("alertmanager", "wrong"), 401), (dict([USER]), None, USER, 202),
        (dict([USER]), "hook", None, 401), (dict([USER]), "hook", USER, 202), (dict([USER]), "hook", ("any", "hook"), 202),
        (dict([USER]), "hook", ("alertmanager", "wrong"), 401),
    ],
)  # fmt: skip
async def test_the_webhook_knows_its_caller(tmp_path: Path, users: Any, token: str | None, auth: Any, status: int) -> None:
    """By its own token or as a user; where there are users, nobody posts alerts without saying who they are."""
    more = {"webhook_token": token} if token else {}
    async with served(tmp_path, users, **more) as client:
        assert (await client.post(WEBHOOK, json=NOTIFICATION, auth=auth)).status_code == status
