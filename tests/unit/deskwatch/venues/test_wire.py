"""A venue's HTTP against a local server: what arrives is exact, and every way a call can fail has its reason."""

from __future__ import annotations

import asyncio
import base64
import gc
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent, Reason, Retryable, Throttled
from deskwatch.http import MOST_CONNECTIONS, HttpConfig
from deskwatch.http import _trusted as trusted
from deskwatch.venues import body, session
from deskwatch.venues import wire as module
from deskwatch.venues.quota import Quota
from deskwatch.venues.session import CALLS_AT_ONCE
from deskwatch.venues.wire import Wire
from tests.stand_ins.raw import Say, http, saying, zipped
from tests.stand_ins.server import DROP, HANG, HTML, Answer, Received
from tests.stand_ins.venue import (
    CUT_SHORT,
    EMPTY,
    FORBIDDEN,
    TOO_MANY,
    TOO_MANY_FOR_2_SECONDS,
    TRUNCATED,
    UNAUTHORIZED,
    UNAVAILABLE,
    Venue,
    answer,
)

SECRET = "k3y-0f-th3-d3sk"
PATIENT, HASTY = HttpConfig(timeout_seconds=10), HttpConfig(timeout_seconds=0.3)


class Broker(Venue):
    """Answers everything with what it was asked."""

    def respond(self, request: Received) -> Answer:
        """Its method, query and body."""
        content = {"method": request.method, "query": dict(request.query), "body": request.json if request.body else None}
        return answer(content, X_Used="7")


@asynccontextmanager
async def wired(url: str, config: HttpConfig = PATIENT, clock: ManualClock | None = None, **more: Any) -> AsyncIterator[Wire]:
    """A wire to an address, closed in the end."""
    wire = Wire("broker", config, clock or ManualClock(), base_url=url, **more)
    try:
        yield wire
    finally:
        await wire.close()


def pool(wire: Wire) -> list[Any]:
    """Its connections, idle or not."""
    assert wire._session._client is not None
    found: list[Any] = wire._session._client._transport._pool.connections  # type: ignore[attr-defined]
    return found


async def failure(wire: Wire, path: str = "/v1/x", **parameters: str) -> Retryable | Permanent:
    """How a call fails."""
    with pytest.raises((Retryable, Permanent)) as raised:
        await wire.get(path, parameters or None)
    assert isinstance(raised.value, Retryable | Permanent)
    return raised.value


async def test_what_is_asked_and_answered_arrives_as_it_is() -> None:
    """Path behind the base, parameters, headers, body."""
    async with Broker() as broker, wired(f"{broker.url}/base", headers={"X-Key": SECRET}) as wire:
        assert await wire.get("/v1/x", {"symbol": "BRK.B", "limit": 5}) == {
            "method": "GET", "query": {"symbol": "BRK.B", "limit": "5"}, "body": None,
        }  # fmt: skip
        assert (await wire.post("/v1/y", {"a": [1]}, parameters={"b": "c"})) == {
            "method": "POST", "query": {"b": "c"}, "body": {"a": [1]},
        }  # fmt: skip
    assert [each.path for each in broker.requests] == ["/base/v1/x", "/base/v1/y"]
    assert {each.headers["X-Key"] for each in broker.requests} == {SECRET}


async def test_fractions_are_exact() -> None:
    """As many digits as the venue writes, and no float between."""
    body = b'{"price": 0.1000000000000000055511151231257827, "qty": 1e-8, "id": 12345678901234567890}'
    async with saying(lambda _: http(body)) as server, wired(server.url) as wire:
        found = await wire.get("/")
    assert found == {
        "price": Decimal("0.1000000000000000055511151231257827"), "qty": Decimal("1E-8"), "id": 12345678901234567890,
    }  # fmt: skip
    assert isinstance(found["price"], Decimal)


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (TOO_MANY, Retryable, Reason.RATE_LIMITED),
        (TOO_MANY_FOR_2_SECONDS, Retryable, Reason.RATE_LIMITED),
        (FORBIDDEN, Permanent, Reason.AUTH),
        (UNAUTHORIZED, Permanent, Reason.AUTH),
        (answer({}, 404), Permanent, Reason.NOT_FOUND),
        (answer({}, 407), Permanent, Reason.AUTH),
        (answer({}, 413), Permanent, Reason.TOO_LARGE),
        (answer({}, 422), Permanent, Reason.REJECTED),
        (Answer(302, headers={"Location": "https://login.invalid/"}), Permanent, Reason.REJECTED),
        (UNAVAILABLE, Retryable, Reason.SERVER_ERROR),
        (Answer(502, "<html>Bad Gateway</html>", content_type="text/html"), Retryable, Reason.SERVER_ERROR),
        (Answer(200, HTML.body, content_type="application/json"), Retryable, Reason.BAD_RESPONSE),
        (HTML, Retryable, Reason.BAD_RESPONSE),
        (TRUNCATED, Retryable, Reason.BAD_RESPONSE),
        (EMPTY, Retryable, Reason.BAD_RESPONSE),
        (Answer(204), Retryable, Reason.BAD_RESPONSE),
        (CUT_SHORT, Retryable, Reason.NETWORK),
        (DROP, Retryable, Reason.NETWORK),
        (Answer(429, "cut off in the middle", cut=True), Retryable, Reason.RATE_LIMITED),
    ],
    ids=lambda each: f"{each.status}{each.body[:15]}" if isinstance(each, Answer) else "",
)
async def test_every_failure_has_its_reason(fault: Answer, kind: type[Exception], reason: Reason) -> None:
    """Its message names the venue and the call; the next call succeeds."""
    async with Broker() as broker, wired(broker.url, headers={"X-Key": SECRET}) as wire:
        broker.fault("/v1/x", fault)
        error = await failure(wire, signature=SECRET)
        assert (type(error), error.reason) == (kind, reason)
        assert str(error).startswith("broker GET /v1/x")
        assert SECRET not in str(error)
        assert (await wire.get("/v1/x"))["method"] == "GET"


async def test_the_wait_the_venue_asks_for_is_told() -> None:
    """In seconds, or as a date by the venue's own clock: a wall clock that is an hour wrong makes no difference."""
    clock = ManualClock()
    clock.jump(-3600)
    dated = http(
        b"{}", "503 Down", Retry_After="Thu, 01 Jan 2026 00:00:30 GMT", Date="Thu, 01 Jan 2026 00:00:10 GMT"
    )  # fmt: skip
    async with Broker() as broker, wired(broker.url) as wire:
        broker.fault("/v1/x", TOO_MANY_FOR_2_SECONDS, TOO_MANY)
        waits = [await failure(wire), await failure(wire)]
        assert [each.retry_after_seconds for each in waits if isinstance(each, Retryable)] == [2.0, None]
    async with saying(lambda _: dated) as server, wired(server.url, clock=clock) as wire:
        error = await failure(wire)
        assert (error.reason, getattr(error, "retry_after_seconds", None)) == (Reason.SERVER_ERROR, 20.0)


@pytest.mark.parametrize("fault", [HANG, Answer(200, "[]", delay_seconds=5)], ids=["hang", "slow"])
async def test_a_call_ends_at_its_deadline(fault: Answer) -> None:
    """From connect to last byte."""
    async with Broker() as broker, wired(broker.url, HASTY) as wire:
        broker.always(fault)
        async with asyncio.timeout(3):
            assert (await failure(wire)).reason is Reason.TIMEOUT


async def test_a_body_that_only_drips_ends_at_the_deadline_too() -> None:
    """Each byte comes in time; all of them do not."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n[")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()
            over.set()

    over = asyncio.Event()
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with wired(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", HASTY) as wire:
        async with asyncio.timeout(3):
            assert (await failure(wire)).reason is Reason.TIMEOUT
    await over.wait()
    server.close()


async def test_a_refused_port_says_so() -> None:
    """Nothing listens there any more."""
    async with Broker() as broker:
        url = broker.url
    async with wired(url) as wire:
        error = await failure(wire)
    assert (error.reason, str(error)) == (Reason.REFUSED, "broker GET /v1/x refused the connection: is it running?")


@pytest.mark.parametrize("host", ["nowhere.invalid", f"{'a' * 70}.invalid", "two..dots.invalid"])
async def test_a_name_that_does_not_resolve_says_so(host: str) -> None:
    """Reserved for that: RFC 2606."""
    async with wired(f"http://{host}") as wire:
        error = await failure(wire)
    assert (error.reason, str(error)) == (Reason.DNS, "broker GET /v1/x: its host name does not resolve")


@pytest.mark.parametrize(
    "bytes_said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000]
)
async def test_what_is_no_http_is_a_fault_of_the_network(bytes_said: bytes) -> None:
    """The wrong port, or something between."""
    async with saying(lambda _: bytes_said) as server, wired(server.url) as wire:
        assert (await failure(wire)).reason is Reason.NETWORK


class Authority:
    """A certificate authority of the test's own, and a server certificate for localhost."""

    def __init__(self, folder: Path, name: str = "localhost") -> None:
        self._authority = trustme.CA()
        self.file = folder / "ca.pem"
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(self.server)

    def publish(self) -> HttpConfig:
        """Write the authority's certificate to where `ca_file` points."""
        self._authority.cert_pem.write_to_path(str(self.file))
        return HttpConfig(ca_file=self.file)


async def test_a_certificate_signed_by_ca_file_is_trusted(tmp_path: Path) -> None:
    """The desk's own authority."""
    authority = Authority(tmp_path)
    async with saying(lambda _: http(), authority.server) as server, wired(server.url, authority.publish()) as wire:
        assert await wire.get("/") == []


async def test_a_certificate_nobody_known_has_signed_is_refused(tmp_path: Path) -> None:
    """With the system's authorities; the message says what to do."""
    async with saying(lambda _: http(), Authority(tmp_path).server) as server, wired(server.url) as wire:
        error = await failure(wire)
    assert error.reason is Reason.TLS
    assert str(error).endswith("unable to get local issuer certificate: is ca_file needed?")
    assert server.heads == []


async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    """Whoever signed it."""
    authority = Authority(tmp_path, "elsewhere.invalid")
    async with saying(lambda _: http(), authority.server) as server, wired(server.url, authority.publish()) as wire:
        error = await failure(wire)
    assert error.reason is Reason.TLS
    assert "localhost" in str(error)


async def test_a_server_without_tls_is_refused() -> None:
    """https to a port that speaks something else."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.invalid ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with wired(f"https://localhost:{server.sockets[0].getsockname()[1]}") as wire:
        assert (await failure(wire)).reason is Reason.TLS
    server.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_handshake_that_hangs_ends_at_the_deadline() -> None:
    """httpcore leaves its socket to the collector, which closes it."""
    async with saying(lambda _: b"") as server, wired(server.url.replace("http:", "https:"), HASTY) as wire:
        async with asyncio.timeout(3):
            assert (await failure(wire)).reason is Reason.TIMEOUT
        await wire.close()
        gc.collect()
        await server.all_closed()


async def test_only_a_gateway_on_this_machine_may_go_unverified(tmp_path: Path) -> None:
    """Its certificate is its own."""
    authority = Authority(tmp_path)
    async with saying(lambda _: http(), authority.server) as server, wired(server.url, verify_certificate=False) as wire:
        assert await wire.get("/") == []


async def test_a_renewed_ca_file_is_read_after_a_failed_handshake(tmp_path: Path) -> None:
    """The venue's authority changes: the file is replaced, and no restart is needed."""
    old, new = Authority(tmp_path), Authority(tmp_path)
    config = old.publish()
    async with saying(lambda _: http(), new.server) as server, wired(server.url, config) as wire:
        assert (await failure(wire)).reason is Reason.TLS
        new.publish()
        assert await wire.get("/") == []


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_ca_file_that_went_bad_after_the_start_says_so(tmp_path: Path, content: str | None) -> None:
    """Which file, and why."""
    config = Authority(tmp_path).publish()
    file = tmp_path / "ca.pem"
    file.unlink()
    if content is not None:
        file.write_text(content)
    async with wired("https://localhost:1", config) as wire:
        error = await failure(wire)
        assert (type(error), error.reason) == (Permanent, Reason.TLS)
        assert str(file) in str(error)


async def test_a_key_http_cannot_carry_says_so() -> None:
    """A key pasted with a dash that is none; the key is not shown."""
    async with wired("http://localhost:1", headers={"X-Key": "sécret—1"}) as wire:
        error = await failure(wire)
    assert (error.reason, str(error)) == (Reason.AUTH, "broker: a credential holds characters HTTP cannot carry")


# --- bodies ---------------------------------------------------------------------------------------------------------------


async def test_gzip_is_asked_for_and_unpacked() -> None:
    """Of several members too; nothing else is asked for."""
    body = zipped(b"[1,") + zipped(b" 2.5]")
    async with saying(lambda _: http(body, Content_Encoding="gzip")) as server, wired(server.url) as wire:
        assert await wire.get("/") == [1, Decimal("2.5")]
    assert b"\r\naccept-encoding: gzip\r\n" in server.heads[0].lower()


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (b"[]", "br", "encoding that was not asked for"),
        (zipped(zipped(b"[]")), "gzip, gzip", "encoding that was not asked for"),
        (b"[] is no gzip", "gzip", "damaged gzip"),
        (zipped(b"[1, 2, 3]")[:-4], "gzip", "gzip that is cut off"),
        (b"", "gzip", "gzip that is cut off"),
    ],
)
async def test_a_packing_that_cannot_be_opened_is_a_bad_response(body: bytes, encoding: str, said: str) -> None:
    """It is not what its headers say."""
    async with saying(lambda _: http(body, Content_Encoding=encoding)) as server, wired(server.url) as wire:
        error = await failure(wire)
    assert error.reason is Reason.BAD_RESPONSE
    assert said in str(error)


async def test_a_status_counts_for_more_than_a_body_that_cannot_be_opened() -> None:
    """A proxy's error page."""
    async with saying(lambda _: http(b"x", "503 Down", Content_Encoding="gzip")) as server, wired(server.url) as wire:
        assert (await failure(wire)).reason is Reason.SERVER_ERROR


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """At the bound it is read."""
    monkeypatch.setattr(module, "MAX_BYTES", 1000)

    def say(head: bytes) -> bytes:
        body = b"[" + b" " * (998 if b"/fits" in head else 999) + b"]"
        return http(zipped(body), Content_Encoding="gzip") if packed else http(body)

    async with saying(say) as server, wired(server.url) as wire:
        assert await wire.get("/fits") == []
        error = await failure(wire)
    assert error.reason is Reason.TOO_LARGE


async def test_a_small_answer_that_unpacks_to_gigabytes_costs_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking stops at the bound, within one piece, and the loop turns meanwhile."""
    monkeypatch.setattr(module, "MAX_BYTES", 4 * 1024 * 1024)
    bomb = zipped(b" " * 100 * 1024 * 1024)
    turns, seen = 0, []
    step = body._Unpacking.step

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def seeing(unpacking: Any, packed: bytes) -> tuple[bytes, bytes]:
        seen.append(turns)
        return step(unpacking, packed)

    monkeypatch.setattr(body._Unpacking, "step", seeing)

    async with saying(lambda _: http(bomb, Content_Encoding="gzip")) as server, wired(server.url) as wire:
        turning = asyncio.ensure_future(turn())
        tracemalloc.start()
        tracemalloc.reset_peak()
        held, _ = tracemalloc.get_traced_memory()
        assert (await failure(wire)).reason is Reason.TOO_LARGE
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        turning.cancel()
    assert peak - held < 4 * 4 * 1024 * 1024
    assert len(seen) == len(set(seen)) > 16


# --- the venue's own words ------------------------------------------------------------------------------------------------


async def test_a_venue_may_say_its_errors_in_its_own_way() -> None:
    """A 200 that is none; asked before the usual reading of the status, with None where the body cannot be read."""
    seen: list[tuple[int, Any]] = []

    def refuse(status: int, headers: Mapping[str, str], parsed: Any) -> Retryable | Permanent | None:
        seen.append((status, parsed))
        return Permanent("no", reason=Reason.AUTH) if isinstance(parsed, dict) and "code" in parsed else None

    async with Broker() as broker, wired(broker.url, refuse=refuse) as wire:
        broker.fault("/v1/x", answer({"code": -2015}), answer({"code": -1}, 503), Answer(500, "<html>"), HTML)
        assert [(await failure(wire)).reason for _ in range(4)] == [
            Reason.AUTH, Reason.AUTH, Reason.SERVER_ERROR, Reason.BAD_RESPONSE,
        ]  # fmt: skip
        assert (await wire.get("/"))["method"] == "GET"
    assert [(status, parsed) for status, parsed in seen[:4]] == [
        (200, {"code": -2015}), (503, {"code": -1}), (500, None), (200, None),
    ]  # fmt: skip


async def test_the_venues_words_are_shown_short() -> None:
    """Enough to find them in its documentation."""
    async with Broker() as broker, wired(broker.url) as wire:
        broker.fault("/v1/x", answer({"message": "insufficient " * 100}, 422))
        message = str(await failure(wire))
    assert message.startswith("broker GET /v1/x answered 422 insufficient insufficient")
    assert len(message) < 200


async def test_headers_of_every_answer_are_told() -> None:
    """Of a refusal and of one that cannot be read too."""
    heard: list[str] = []
    async with Broker() as broker, wired(broker.url, learn=lambda headers: heard.append(headers.get("x-used", ""))) as wire:
        broker.fault("/v1/x", answer({}, 429, X_Used="9"), Answer(200, "<", headers={"X-Used": "8"}))
        await failure(wire)
        await failure(wire)
        await wire.get("/")
    assert heard == ["9", "8", "7"]


async def test_a_call_that_does_not_fit_the_quota_is_not_made() -> None:
    """The headroom is the trader's."""
    quota = Quota("broker", ManualClock(), limit=10, window_seconds=60, headroom_ratio=0.3)
    async with Broker() as broker, wired(broker.url, quota=quota) as wire:
        await wire.get("/", weight=5)
        with pytest.raises(Throttled) as raised:
            await wire.get("/", weight=3)
        await wire.get("/", weight=2)
    assert raised.value.wait_seconds == 60
    assert len(broker.requests) == 2


@pytest.mark.parametrize(("fault", "seconds"), [(TOO_MANY_FOR_2_SECONDS, 2.0), (TOO_MANY, 1.0)])
async def test_after_a_429_nothing_is_asked_until_its_time_is_over(fault: Answer, seconds: float) -> None:
    """By no other call of this venue either; without a `Retry-After` for a second."""
    clock = ManualClock()
    quota = Quota("broker", clock, limit=100, window_seconds=60, headroom_ratio=0)
    async with Broker() as broker, wired(broker.url, clock=clock, quota=quota) as wire:
        broker.fault("/v1/x", fault)
        await failure(wire)
        with pytest.raises(Throttled) as raised:
            await wire.get("/other")
        assert raised.value.wait_seconds == seconds
        await clock.advance(seconds)
        await wire.get("/other")
    assert len(broker.requests) == 2


# --- connections ----------------------------------------------------------------------------------------------------------


async def test_calls_one_after_the_other_share_a_connection() -> None:
    """A handshake for each would cost the venue and us."""
    async with saying(lambda _: http()) as server, wired(server.url) as wire:
        for _ in range(5):
            await wire.get("/")
        assert server.opened == 1
    await server.all_closed()


async def test_the_first_calls_at_once_open_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one would never be closed."""
    made: list[httpx.AsyncClient] = []
    real = session.client

    def counted(*args: Any, **more: Any) -> httpx.AsyncClient:
        made.append(real(*args, **more))
        return made[-1]

    monkeypatch.setattr(session, "client", counted)
    async with saying(lambda _: http()) as server, wired(server.url) as wire:
        await asyncio.gather(*(wire.get("/") for _ in range(10)))
        assert len(made) == 1
    assert made[0].is_closed
    await server.all_closed()


async def test_a_wire_that_was_closed_opens_again() -> None:
    """An operator's fetch after the source was closed, say."""
    async with saying(lambda _: http()) as server, wired(server.url) as wire:
        await wire.get("/")
        await wire.close()
        await wire.close()
        await server.all_closed()
        await wire.get("/")
    assert server.opened == 2


async def test_cancelled_calls_leave_no_connection_behind() -> None:
    """In any state: connecting, waiting for the answer, waiting for a connection. Calls afterwards go through."""
    async with Broker() as broker, wired(broker.url) as wire:
        await wire.get("/")
        broker.always(HANG)
        for after in (0, 1, 2, 5, 20):
            calls = [asyncio.ensure_future(wire.get("/")) for _ in range(3 * CALLS_AT_ONCE)]
            for _ in range(after):
                await asyncio.sleep(0.001)
            for each in calls:
                each.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
        broker.always(None)
        async with asyncio.timeout(5):
            await asyncio.gather(*(wire.get("/") for _ in range(3 * CALLS_AT_ONCE)))
        assert all(each.is_idle() for each in pool(wire))
        assert len(pool(wire)) <= CALLS_AT_ONCE < MOST_CONNECTIONS


async def test_a_call_cancelled_at_any_moment_leaves_nothing_behind() -> None:
    """One by one, every step of the loop that a call takes: whatever it had begun, no connection is left in use."""
    async with saying(lambda _: http()) as server:
        for steps in range(300):
            async with wired(server.url) as wire:
                await wire._session._ready()
                call = asyncio.ensure_future(wire.get("/"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait({call})
                assert await wire.get("/") == []
                assert [each.is_idle() for each in pool(wire)] == [True], f"cancelled after {steps} steps"
            if not call.cancelled():
                break
        assert steps > 10
    await server.all_closed()


async def test_calls_that_time_out_leave_no_connection_behind() -> None:
    """Hundreds of them."""
    config = HttpConfig(timeout_seconds=0.02)
    async with Broker() as broker, wired(broker.url, config) as wire:
        broker.always(HANG)
        for _ in range(5):
            ended = await asyncio.gather(*(wire.get("/") for _ in range(2 * CALLS_AT_ONCE)), return_exceptions=True)
            assert {getattr(each, "reason", each) for each in ended} == {Reason.TIMEOUT}
        broker.always(None)
        answered = [await asyncio.gather(wire.get("/"), return_exceptions=True) for _ in range(20)]
        assert any(isinstance(each, dict) for (each,) in answered), "20 ms are short, but not that short"
        assert len(pool(wire)) <= 1


async def test_more_calls_than_connections_wait_their_turn() -> None:
    """And none fails for it."""
    async with saying(lambda _: http()) as server, wired(server.url) as wire:
        assert await asyncio.gather(*(wire.get("/") for _ in range(5 * CALLS_AT_ONCE))) == [[]] * (5 * CALLS_AT_ONCE)
    assert server.most <= CALLS_AT_ONCE


# --- proxies --------------------------------------------------------------------------------------------------------------


def proxy_says(head: bytes) -> bytes:
    """A forward proxy that wants a password."""
    login = base64.b64encode(b"desk:pr0xy")
    return http(b"[1]") if b"Basic " + login in head else http(b"", "407 Proxy Authentication Required")


def behind(proxy: str, **more: str) -> HttpConfig:
    """Its configuration."""
    return HttpConfig.model_validate({"proxy": proxy, **more})


async def test_a_proxy_is_used_with_its_credentials() -> None:
    """The whole address goes to it."""
    async with saying(proxy_says) as server:
        config = behind(server.url, proxy_user="desk", proxy_password="pr0xy")
        async with wired("http://venue.invalid", config) as wire:
            assert await wire.get("/v1/x") == [1]
    assert server.heads[0].startswith(b"GET http://venue.invalid/v1/x HTTP/1.1")


async def test_a_proxy_that_wants_other_credentials_says_so() -> None:
    """Not the venue's, the proxy's."""
    async with saying(proxy_says) as server, wired("http://venue.invalid", behind(server.url)) as wire:
        error = await failure(wire)
    assert error.reason is Reason.AUTH
    assert "proxy_user" in str(error)


@pytest.mark.parametrize("say", [proxy_says, lambda _: http(b"", "502 Bad Gateway")])
async def test_a_proxy_that_opens_no_tunnel_fails_the_call(say: Say) -> None:
    """For https it is asked to connect."""
    async with saying(say) as server, wired("https://venue.invalid", behind(server.url)) as wire:
        assert (await failure(wire)).reason in (Reason.AUTH, Reason.NETWORK)
    assert server.heads[0].startswith(b"CONNECT venue.invalid:443")


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is used stands in the configuration."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with Broker() as broker, wired(broker.url) as wire:
        assert (await wire.get("/"))["method"] == "GET"


async def test_a_client_that_takes_long_to_open_is_not_opened_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine reads certificates for longer than a fetch may take: the next fetch finds them read."""
    release, made = threading.Event(), []
    real = session.client

    def slow(*args: Any, **more: Any) -> httpx.AsyncClient:
        release.wait(5)
        made.append(real(*args, **more))
        return made[-1]

    monkeypatch.setattr(session, "client", slow)
    async with saying(lambda _: http()) as server, wired(server.url) as wire:
        for _ in range(3):
            cut_off = asyncio.ensure_future(wire.get("/"))
            await asyncio.sleep(0.01)
            cut_off.cancel()
            await asyncio.wait({cut_off})
        release.set()
        assert await wire.get("/") == []
    assert len(made) == 1


def test_whoever_trusts_the_same_shares_it(tmp_path: Path) -> None:
    """A context for each of twenty sources would cost a second at the start and twenty megabytes; a renewed file is read."""
    config = Authority(tmp_path).publish()
    assert trusted(HttpConfig()) is trusted(HttpConfig(timeout_seconds=1))
    before = trusted(config)
    assert trusted(config) is before
    Authority(tmp_path).publish()
    assert trusted(config) is not before
