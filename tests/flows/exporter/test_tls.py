"""The exporter behind a web configuration file: https, users, client certificates, rotated while it runs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
import trustme
import yaml

from tests.flows.exporter.running import Running, configuration, launch, running, token, trading_database

OURS, THEIRS = trustme.CA(), trustme.CA()
PASSWORD = "s3cr3t"
USER = ("prometheus", PASSWORD)


def hashed(password: str) -> str:
    """As `htpasswd -nBC 4` writes it."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def write_web_file(folder: Path, authority: trustme.CA, password: str = PASSWORD, **tls: Any) -> None:
    """`web.yml` with a certificate of this authority and one user."""
    made = authority.issue_cert("localhost", "127.0.0.1")
    (folder / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    (folder / "tls.key").write_bytes(made.private_key_pem.bytes())
    content = {
        "tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key", **tls},
        "basic_auth_users": {"prometheus": hashed(password)},
    }
    (folder / "web.yml").write_text(yaml.safe_dump(content))


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A client's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if client:
        client.configure_cert(context)
    return context


async def ask(exporter: Running, tls: ssl.SSLContext, path: str = "/metrics", **more: Any) -> httpx.Response:
    """One GET on a connection of its own."""
    async with httpx.AsyncClient(base_url=exporter.url, verify=tls, trust_env=False) as client:
        return await client.get(path, **more)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for another process."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


WEB = {"listen": "127.0.0.1:0", "config_file": "web.yml"}


async def test_metrics_by_https_for_users_only(tmp_path: Path) -> None:
    """Health needs no password; a change needs the token, also of a user."""
    trading_database(tmp_path / "trading.db").close()
    write_web_file(tmp_path, OURS)
    async with running(tmp_path, configuration(web=WEB)) as exporter:
        assert exporter.url.startswith("https://127.0.0.1:")
        refused = await ask(exporter, trusting(OURS))
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="deskwatch", charset="UTF-8"')
        assert (await ask(exporter, trusting(OURS), auth=("prometheus", "wrong"))).status_code == 401
        assert "deskwatch_build_info" in (await ask(exporter, trusting(OURS), auth=USER)).text
        assert (await ask(exporter, trusting(OURS), "/-/healthy")).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(exporter, trusting(THEIRS), auth=USER)
        async with httpx.AsyncClient(base_url=exporter.url, verify=trusting(OURS), trust_env=False) as client:
            assert (await client.post("/-/reload", auth=USER)).status_code == 401
            assert (await client.post("/-/reload", headers=token(tmp_path))).json()["changed"] == []
    assert {each["level"] for each in exporter.said if "second detector" not in each["event"]} == {"info"}


async def test_certificate_and_password_rotate_without_a_restart_or_a_request(tmp_path: Path) -> None:
    """The files are looked at; a reload looks at once. Scrapes on a connection that stands never stop."""
    trading_database(tmp_path / "trading.db").close()
    write_web_file(tmp_path, OURS)
    async with (
        running(tmp_path, configuration(web=WEB)) as exporter,
        httpx.AsyncClient(base_url=exporter.url, verify=trusting(OURS), trust_env=False) as connected,
    ):
        assert (await connected.get("/metrics", auth=USER)).status_code == 200
        write_web_file(tmp_path, THEIRS, password="n3w")

        async def renewed() -> bool:
            try:
                return (await ask(exporter, trusting(THEIRS), auth=("prometheus", "n3w"))).status_code == 200
            except httpx.ConnectError:
                return False

        await until(renewed)
        assert (await ask(exporter, trusting(THEIRS), auth=USER)).status_code == 401
        assert (await connected.get("/metrics", auth=("prometheus", "n3w"))).status_code == 200
        write_web_file(tmp_path, OURS, password="n3west")
        answer = await connected.post("/-/reload", headers=token(tmp_path))
        assert answer.json()["changed"] == ["exporter.web"]
        assert (await ask(exporter, trusting(OURS), auth=("prometheus", "n3west"))).status_code == 200


async def test_a_web_file_that_breaks_is_said_and_the_old_one_serves(tmp_path: Path) -> None:
    """In the log, in the metric, and in the answer to a reload, with its own key path."""
    trading_database(tmp_path / "trading.db").close()
    write_web_file(tmp_path, OURS)
    async with running(tmp_path, configuration(web=WEB)) as exporter:
        whole = (tmp_path / "web.yml").read_text()
        (tmp_path / "web.yml").write_text(whole.replace("cert_file: tls.crt", "cert_file: gone.crt"))

        async def says() -> bool:
            page = await ask(exporter, trusting(OURS), auth=USER)
            return "\ndeskwatch_config_last_reload_successful 0.0\n" in page.text

        await until(says)
        async with httpx.AsyncClient(base_url=exporter.url, verify=trusting(OURS), trust_env=False) as client:
            answer = await client.post("/-/reload", headers=token(tmp_path))
        fault = (
            "exporter.web.config_file: web.yml: tls_server_config.cert_file: cannot read gone.crt: No such file or directory"
        )
        assert (answer.status_code, answer.json()["faults"]) == (500, [fault])
        (tmp_path / "web.yml").write_text(whole)

        async def well_again() -> bool:
            async with httpx.AsyncClient(base_url=exporter.url, verify=trusting(OURS), trust_env=False) as client:
                return (await client.post("/-/reload", headers=token(tmp_path))).status_code == 200

        await until(well_again)


async def test_required_client_certificates_open_a_public_address(tmp_path: Path) -> None:
    """Without one there is no answer; without such a file the exporter does not start there."""
    trading_database(tmp_path / "trading.db").close()
    (tmp_path / "ca.crt").write_bytes(OURS.cert_pem.bytes())
    write_web_file(tmp_path, OURS, client_auth_type="RequireAndVerifyClientCert", client_ca_file="ca.crt", min_version="TLS13")
    async with running(tmp_path, configuration(web=WEB | {"listen": "0.0.0.0:0"})) as exporter:
        exporter.url = exporter.url.replace("0.0.0.0", "127.0.0.1")
        known = trusting(OURS, OURS.issue_cert("prometheus"))
        assert (await ask(exporter, known, auth=USER)).status_code == 200
        for context in (trusting(OURS), trusting(OURS, THEIRS.issue_cert("prometheus"))):
            with pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)):
                await ask(exporter, context, auth=USER)
        known.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)):
            await ask(exporter, known, auth=USER)
    process = await launch(tmp_path, configuration(web={"listen": "0.0.0.0:0"}))
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"shows the book" in said
