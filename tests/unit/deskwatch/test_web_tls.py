"""TLS by the web configuration file, over real connections: who is let in, and that certificates rotate without a restart."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest
import trustme
from structlog.testing import capture_logs

from deskwatch.config import validate
from deskwatch.errors import ConfigError
from deskwatch.web_config import WebConfig
from tests.unit.deskwatch.web_servers import chassis, trusting, write_certificate, write_file

OURS, THEIRS = trustme.CA(), trustme.CA()
REFUSED = (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)


async def test_https_is_served_by_the_certificate(tmp_path: Path) -> None:
    """To a client that trusts its authority; one that trusts another sees a wrong certificate."""
    write_file(tmp_path, tls_server_config=write_certificate(tmp_path, OURS))
    async with chassis(tmp_path) as served:
        assert served.server.url.startswith("https://127.0.0.1:")
        assert (await served.ask(tls=trusting(OURS))).text == "hello"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await served.ask(tls=trusting(THEIRS))


async def test_plain_http_gets_no_answer_from_an_https_port(tmp_path: Path) -> None:
    """Nothing of the book leaves unencrypted, and the log is not filled by it."""
    write_file(tmp_path, tls_server_config=write_certificate(tmp_path, OURS))
    async with chassis(tmp_path) as served:
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(REFUSED):
                await client.get(f"http://localhost:{served.server.port}/book")
        assert (await served.ask(tls=trusting(OURS))).text == "hello"


async def test_a_required_client_certificate_keeps_others_out(tmp_path: Path) -> None:
    """No certificate, or one of another authority: no answer at all, not even of health."""
    (tmp_path / "ca.crt").write_bytes(OURS.cert_pem.bytes())
    tls = write_certificate(tmp_path, OURS) | {
        "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt",
    }  # fmt: skip
    write_file(tmp_path, tls_server_config=tls)
    async with chassis(tmp_path) as served:
        assert (await served.ask(tls=trusting(OURS, OURS.issue_cert("prometheus")))).text == "hello"
        for client in (None, THEIRS.issue_cert("prometheus")):
            with pytest.raises(REFUSED):
                await served.ask(path="/-/healthy", tls=trusting(OURS, client))


async def test_only_the_allowed_names_of_client_certificates_are_let_in(tmp_path: Path) -> None:
    """`client_allowed_sans`: one match is enough."""
    (tmp_path / "ca.crt").write_bytes(OURS.cert_pem.bytes())
    tls = write_certificate(tmp_path, OURS) | {
        "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt",
        "client_allowed_sans": ["prometheus", "10.0.0.1"],
    }  # fmt: skip
    write_file(tmp_path, tls_server_config=tls)
    statuses = {}
    async with chassis(tmp_path) as served:
        for name in ("prometheus", "10.0.0.1", "grafana"):
            statuses[name] = (await served.ask(tls=trusting(OURS, OURS.issue_cert(name)))).status_code
        health = await served.ask(path="/-/healthy", tls=trusting(OURS, OURS.issue_cert("grafana")))
    assert statuses == {"prometheus": 200, "10.0.0.1": 200, "grafana": 403}
    assert health.status_code == 403


async def test_a_certificate_that_may_be_shown_is_verified_where_it_is(tmp_path: Path) -> None:
    """`VerifyClientCertIfGiven`."""
    (tmp_path / "ca.crt").write_bytes(OURS.cert_pem.bytes())
    tls = write_certificate(tmp_path, OURS) | {"client_auth_type": "VerifyClientCertIfGiven", "client_ca_file": "ca.crt"}
    write_file(tmp_path, tls_server_config=tls)
    async with chassis(tmp_path) as served:
        assert (await served.ask(tls=trusting(OURS))).text == "hello"
        with pytest.raises(REFUSED):
            await served.ask(tls=trusting(OURS, THEIRS.issue_cert("prometheus")))


@pytest.mark.parametrize(("bound", "older"), [({"min_version": "TLS13"}, False), ({}, True), ({"max_version": "TLS12"}, True)])
async def test_versions_outside_the_bounds_are_refused(tmp_path: Path, bound: dict[str, str], older: bool) -> None:
    """A client of TLS 1.2, and what a newer one ends up with."""
    write_file(tmp_path, tls_server_config=write_certificate(tmp_path, OURS) | bound)
    client = trusting(OURS)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with chassis(tmp_path) as served:
        if older:
            assert (await served.ask(tls=client)).text == "hello"
        else:
            with pytest.raises(REFUSED):
                await served.ask(tls=client)
        reader, writer = await asyncio.open_connection("localhost", served.server.port, ssl=trusting(OURS))
        agreed = writer.get_extra_info("ssl_object").version()
        writer.close()
        await writer.wait_closed()
        del reader
    assert agreed == ("TLSv1.2" if "max_version" in bound else "TLSv1.3")


async def test_the_named_suites_are_the_only_ones_of_tls_1_2(tmp_path: Path) -> None:
    """And the server's order counts."""
    suites = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    write_file(
        tmp_path, tls_server_config=write_certificate(tmp_path, OURS) | {"cipher_suites": suites, "max_version": "TLS12"}
    )
    client = trusting(OURS)
    async with chassis(tmp_path) as served:
        client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
        _, writer = await asyncio.open_connection("localhost", served.server.port, ssl=client)
        assert writer.get_extra_info("cipher")[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        writer.close()
        await writer.wait_closed()
        client.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
        with pytest.raises(REFUSED):
            await served.ask(tls=client)


async def test_the_named_curve_is_the_only_one(tmp_path: Path) -> None:
    """A client that offers another is refused."""
    write_file(tmp_path, tls_server_config=write_certificate(tmp_path, OURS) | {"curve_preferences": ["CurveP384"]})
    async with chassis(tmp_path) as served:
        for curve, taken in (("secp384r1", True), ("prime256v1", False)):
            client = trusting(OURS)
            client.set_ecdh_curve(curve)
            if taken:
                assert (await served.ask(tls=client)).text == "hello"
            else:
                with pytest.raises(REFUSED):
                    await served.ask(tls=client)


async def test_a_renewed_certificate_is_used_by_new_connections_and_no_old_one_breaks(tmp_path: Path) -> None:
    """The port never closes; whoever is connected stays."""
    tls = write_certificate(tmp_path, OURS)
    write_file(tmp_path, tls_server_config=tls)
    async with (
        chassis(tmp_path) as served,
        httpx.AsyncClient(base_url=served.url, verify=trusting(OURS), trust_env=False) as connected,
    ):
        assert (await connected.get("/book")).text == "hello"
        port = served.server.port
        write_certificate(tmp_path, THEIRS)
        await served.noticed()
        assert (await served.ask(tls=trusting(THEIRS))).text == "hello"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await served.ask(tls=trusting(OURS))
        assert (await connected.get("/book")).text == "hello"
        assert served.server.port == port


async def test_requests_go_on_while_certificates_change(tmp_path: Path) -> None:
    """Of hundreds of connections during ten changes none fails."""
    write_file(tmp_path, tls_server_config=write_certificate(tmp_path, OURS))
    done = asyncio.Event()
    answered: list[int] = []

    async def ask_on() -> None:
        while not done.is_set():
            answered.append((await served.ask(tls=trusting(OURS))).status_code)

    async with chassis(tmp_path) as served:
        asking = [asyncio.ensure_future(ask_on()) for _ in range(4)]
        for _ in range(10):
            write_certificate(tmp_path, OURS)
            await served.noticed()
        done.set()
        await asyncio.gather(*asking)
    assert len(answered) > 10
    assert set(answered) == {200}


async def test_a_half_written_certificate_keeps_the_old_one_and_is_tried_again(tmp_path: Path) -> None:
    """Certificate and key are two files: for a moment they do not belong together. It is said once."""
    write_file(tmp_path, tls_server_config=write_certificate(tmp_path, OURS))
    async with chassis(tmp_path) as served:
        whole = (tmp_path / "tls.key").read_text()
        with capture_logs() as logs:
            (tmp_path / "tls.key").write_text(whole[:40])
            await served.noticed()
            assert (await served.ask(tls=trusting(OURS))).text == "hello"
            assert not served.server.web_file_current
            for _ in range(5):
                await served.clock.advance(2)
                await asyncio.sleep(0.01)
            (tmp_path / "tls.key").write_text(whole)
            await until(lambda: served.server.web_file_current, served.clock.advance)
        assert (await served.ask(tls=trusting(OURS))).text == "hello"
    assert [each["log_level"] for each in logs] == ["error", "info"]
    assert "PEM" in logs[0]["error"]


async def until(holds: object, advance: object) -> None:
    """Turn the clock until this holds."""
    for _ in range(200):
        if holds():  # type: ignore[operator]
            return
        await advance(2)  # type: ignore[operator]
        await asyncio.sleep(0.01)
    raise AssertionError("it never did")


async def test_tls_can_be_turned_on_while_it_runs(tmp_path: Path) -> None:
    """And what was plain is plain no longer."""
    write_file(tmp_path)
    async with chassis(tmp_path) as served:
        assert served.url.startswith("http://")
        assert (await served.ask()).text == "hello"
        served.write(tls_server_config=write_certificate(tmp_path, OURS))
        await served.noticed()
        assert served.url.startswith("https://")
        assert (await served.ask(tls=trusting(OURS))).text == "hello"


async def test_a_file_that_would_open_the_book_is_not_taken(tmp_path: Path) -> None:
    """On an address others reach, users cannot be removed by leaving them out."""
    (tmp_path / "ca.crt").write_bytes(OURS.cert_pem.bytes())
    tls = write_certificate(tmp_path, OURS)
    asked = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt"}
    write_file(tmp_path, tls_server_config=tls | asked)
    async with chassis(tmp_path, listen="0.0.0.0:0") as served:
        served.write(tls_server_config=tls)
        await served.noticed()
        assert not served.server.web_file_current
        with pytest.raises(REFUSED):
            await served.ask(tls=trusting(OURS))


async def test_a_configuration_for_another_address_does_not_open_this_one(tmp_path: Path) -> None:
    """The address changes at the next start only; until then what would be harmless there must be harmless here."""
    write_file(tmp_path)
    async with chassis(tmp_path, listen="0.0.0.0:0", read_token="readme") as served:
        private = validate(WebConfig, {"listen": "127.0.0.1:1"})
        assert isinstance(private, WebConfig)
        with pytest.raises(ConfigError, match=r"the process listens on 0\.0\.0\.0"):
            await served.server.renew(private, "t")
        assert (await served.ask(headers={"Host": "any"})).status_code == 401
        guarded = validate(WebConfig, {"listen": "127.0.0.1:1", "read_token": "another"})
        assert isinstance(guarded, WebConfig)
        await served.server.renew(guarded, "t")
        statuses = [(await served.ask(headers={"Authorization": f"Bearer {key}"})).status_code for key in ("readme", "another")]
        assert statuses == [401, 200]
