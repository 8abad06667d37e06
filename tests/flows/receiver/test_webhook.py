"""`POST /api/v1/webhook` over a real socket: each answer of the contract, and what becomes of the body."""

from __future__ import annotations

import asyncio
import base64
import gzip
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from deskwatch.errors import StoreUnavailable
from deskwatch.store.sqlite import SqliteStore
from tests.flows.receiver.running import receiver
from tests.stand_ins.slack import Slack
from tests.unit.receiver.bodies import firing, group, resolved

PATH = "/api/v1/webhook"
MIB = 1024 * 1024


async def metric(client: httpx.AsyncClient, line: str) -> float:
    """The value of one series."""
    for found in (await client.get("/metrics")).text.splitlines():
        if found.startswith(f"{line} "):
            return float(found.split()[-1])
    raise AssertionError(f"{line} is not exported")


async def journal(client: httpx.AsyncClient) -> list[Any]:
    """The journal, newest first."""
    found: list[Any] = (await client.get("/api/v1/journal")).json()
    return found


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as stand_in:
        yield stand_in


def told(slack: Slack) -> dict[str, Any]:
    """A configuration whose only channel is the stand-in."""
    return {"channels": [{"type": "slack", "url": slack.webhook_url}]}


async def test_a_committed_notification_is_200_and_delivered(tmp_path: Path, slack: Slack) -> None:
    """The body is kept byte for byte under its correlation id, which is on the delivery too."""
    body = group(firing(portfolio="carry"))
    async with receiver(tmp_path, **told(slack)) as client:
        answer = await client.post(PATH, content=body)
        assert answer.status_code == 200
        assert answer.json() == {"entry_id": 1, "alerts": 1, "left_out": []}
        await slack.got(1)
        assert slack.messages[0]["text"] == "[FIRING:1] VaRLimitExceeded carry"
        assert (await client.get("/api/v1/journal/1")).content == body
        (entry,) = await journal(client)
        (delivery,) = (await client.get("/api/v1/deliveries")).json()
        assert entry["correlation_id"] == delivery["correlation_id"] == answer.headers["X-Correlation-Id"]
        assert await metric(client, 'deskwatch_webhooks_total{outcome="accepted"}') == 1
        assert await metric(client, "deskwatch_alerts_received_total") == 1
        assert await metric(client, "deskwatch_ack_seconds_count") == 1


async def test_grafana_may_put(tmp_path: Path, slack: Slack) -> None:
    """Its contact point can be set to PUT."""
    async with receiver(tmp_path, **told(slack)) as client:
        assert (await client.put(PATH, content=group(firing()))).status_code == 200
        await slack.got(1)


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"alerts": [', group(firing())[:-1]])
async def test_what_is_not_json_is_400_counted_and_tells_nobody(tmp_path: Path, slack: Slack, body: bytes) -> None:
    """It cannot be an alert, and repeating it cannot help."""
    async with receiver(tmp_path, **told(slack)) as client:
        answer = await client.post(PATH, content=body)
        assert answer.status_code == 400
        assert "is not JSON" in answer.json()["error"]
        assert await metric(client, 'deskwatch_webhooks_total{outcome="not_json"}') == 1
        assert await journal(client) == []
    assert slack.requests == []


async def test_json_without_an_alert_group_is_202_kept_and_told_at_once(tmp_path: Path, slack: Slack) -> None:
    """Alertmanager does not send it again, so a person must look."""
    body = b'{"hello": "<!channel>", "nested": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    async with receiver(tmp_path, **told(slack)) as client:
        answer = await client.post(PATH, content=body)
        assert answer.status_code == 202
        await slack.got(1)
        said = slack.messages[0]["blocks"][1]["text"]["text"]
        assert said.startswith("A notification could not be used: the body is JSON but not an alert group")
        assert '{"hello": "&lt;!channel&gt;"' in said
        (entry,) = await journal(client)
        assert (entry["kind"], entry["size_bytes"]) == ("unusable", len(body))
        assert (await client.get("/api/v1/journal/1")).content == body


async def test_one_malformed_alert_is_200_for_the_others_and_told(tmp_path: Path, slack: Slack) -> None:
    """The group is processed without it; the fallback channel gets the body."""
    async with receiver(tmp_path, **told(slack)) as client:
        answer = await client.post(PATH, content=group(firing(), {"status": "firing", "labels": {"alertname": 5}}))
        assert answer.status_code == 200
        assert answer.json()["left_out"] == ["alerts[1]: Expected `str`, got `int` - at `$.labels[...]`"]
        await slack.got(2)
        titles = sorted(message["text"] for message in slack.messages)
        assert titles[0] == "[FIRING:1] VaRLimitExceeded"
        assert titles[1].startswith("[NOTICE] 1 of the alerts of a notification cannot be read: alerts[1]")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_16_mib_is_413_its_first_part_kept_and_told(tmp_path: Path, slack: Slack, chunked: bool) -> None:
    """With a length announced or without; the process lives on."""
    body = b'{"alerts": ["' + b"x" * (20 * MIB) + b'"]}'

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), MIB):
            yield body[start : start + MIB]

    async with receiver(tmp_path, **told(slack)) as client:
        answer = await client.post(PATH, content=parts() if chunked else body)
        assert answer.status_code == 413
        await slack.got(1)
        assert "exceeds 16777216 bytes" in slack.messages[0]["text"]
        (entry,) = await journal(client)
        assert (entry["kind"], entry["size_bytes"]) == ("oversize", 64 * 1024)
        assert (await client.get("/api/v1/journal/1")).content == body[: 64 * 1024]
        assert (await client.post(PATH, content=group(firing()))).status_code == 200
        await slack.got(2)


async def test_a_compressed_bomb_is_413(tmp_path: Path, slack: Slack) -> None:
    """What counts is what it unpacks to."""
    bomb = gzip.compress(b'{"alerts": ["' + b"x" * (64 * MIB) + b'"]}')
    assert len(bomb) < MIB
    async with receiver(tmp_path, **told(slack)) as client:
        answer = await client.post(PATH, content=bomb, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 413
        good = gzip.compress(group(firing()))
        assert (await client.post(PATH, content=good, headers={"Content-Encoding": "gzip"})).status_code == 200


async def test_a_body_that_is_not_what_its_encoding_says_is_no_server_error_of_ours(tmp_path: Path, slack: Slack) -> None:
    """The client's fault, said as such."""
    async with receiver(tmp_path, **told(slack)) as client:
        answer = await client.post(PATH, content=b"not gzip", headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 400
        assert (await client.get("/-/healthy")).status_code == 200


async def test_garbage_pages_once_a_minute_for_the_same_body_and_not_without_end(tmp_path: Path, slack: Slack) -> None:
    """A misconfigured sender must not drown the pages; everything is journaled and counted."""
    async with receiver(tmp_path, **told(slack)) as client:
        for _ in range(5):
            assert (await client.post(PATH, content=b'{"same": 1}')).status_code == 202
        for number in range(30):
            assert (await client.post(PATH, content=b'{"n": %d}' % number)).status_code == 202
        await slack.until(lambda: len(slack.requests) == 10)
        assert len(await journal(client)) == 35
        assert await metric(client, 'deskwatch_webhooks_total{outcome="unusable"}') == 35
        deliveries = (await client.get("/api/v1/deliveries")).json()
        assert len(deliveries) == 10


def basic(password: str) -> dict[str, str]:
    """Basic authentication with any user."""
    return {"Authorization": "Basic " + base64.b64encode(f"alertmanager:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer t0ken"}, 200),
        ({"Authorization": "bearer t0ken"}, 200),
        (basic("t0ken"), 200),
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "t0ken"}, 401),
        (basic("wrong"), 401),
        ({"Authorization": "Basic t0ken"}, 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Digest t0ken"}, 401),
    ],
)
async def test_a_token_where_one_is_configured(tmp_path: Path, slack: Slack, headers: dict[str, str], status: int) -> None:
    """As bearer token or as the password of basic authentication: what Alertmanager and Grafana can send."""
    async with receiver(tmp_path, webhook_token="t0ken", **told(slack)) as client:
        answer = await client.post(PATH, content=group(firing()), headers=headers)
        assert answer.status_code == status
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        if status == 401:
            assert await journal(client) == []
            assert await metric(client, 'deskwatch_webhooks_total{outcome="unauthorized"}') == 1


async def test_without_a_token_the_webhook_is_open_but_changes_are_not(tmp_path: Path, slack: Slack) -> None:
    """On loopback, as Alertmanager's default."""
    async with receiver(tmp_path, **told(slack)) as client:
        assert (await client.post(PATH, content=group(firing()))).status_code == 200
        assert (await client.post("/api/v1/dead-letters/1/replay")).status_code == 401


@pytest.mark.parametrize("body", [group(firing()), b'{"no": "group"}', b'{"alerts": ["' + b"x" * (17 * MIB) + b'"]}'])
async def test_a_store_that_fails_is_503_for_everything_worth_keeping(
    tmp_path: Path, slack: Slack, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Alertmanager sends it again; nothing is acknowledged that is not on disk."""
    async with receiver(tmp_path, **told(slack)) as client:

        async def full(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("database or disk is full")

        monkeypatch.setattr(SqliteStore, "write", full)
        answer = await client.post(PATH, content=body)
        assert answer.status_code == 503
        assert "Retry-After" not in answer.headers
        monkeypatch.undo()
        assert await journal(client) == []
        assert (await client.post(PATH, content=group(firing()))).status_code == 200


async def test_a_store_too_slow_is_503_within_the_deadline(
    tmp_path: Path, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than hold Alertmanager's connection until it gives up."""
    async with receiver(tmp_path, ack_deadline_seconds=0.2, **told(slack)) as client:
        commit = SqliteStore._commit

        def slow(self: SqliteStore, connection: Any, batch: Any) -> None:
            time.sleep(0.6)
            commit(self, connection, batch)
            healed.set()

        healed = threading.Event()
        monkeypatch.setattr(SqliteStore, "_commit", slow)
        began = time.monotonic()
        assert (await client.post(PATH, content=group(firing()))).status_code == 503
        assert time.monotonic() - began < 0.6
        monkeypatch.undo()
        assert await asyncio.to_thread(healed.wait, 10)
        assert (await client.post(PATH, content=group(firing()))).status_code == 200


async def test_a_thousand_groups_at_once_are_all_taken(tmp_path: Path, slack: Slack) -> None:
    """Alertmanager opens as many connections as it has groups."""
    async with receiver(tmp_path, **told(slack)) as client:
        address = f"{client.base_url}{PATH}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000)) as many:

            async def post(number: int) -> tuple[int, int]:
                async with many.post(address, data=group(firing(portfolio=str(number)), key=f"g{number}")) as answer:
                    return answer.status, (await answer.json())["entry_id"]

            answers = await asyncio.gather(*(post(number) for number in range(1000)))
        assert {status for status, _ in answers} == {200}
        assert sorted(entry_id for _, entry_id in answers) == list(range(1, 1001))


async def test_a_client_that_hangs_up_half_way_does_no_harm(tmp_path: Path, slack: Slack) -> None:
    """Nothing is journaled of half a body."""
    async with receiver(tmp_path, **told(slack)) as client:
        _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b'POST /api/v1/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"alerts"')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await client.post(PATH, content=group(firing()))).status_code == 200
        assert len(await journal(client)) == 1


async def test_a_whole_life_reaches_the_channel_in_order(tmp_path: Path, slack: Slack) -> None:
    """Trigger, partial resolve, all-clear."""
    async with receiver(tmp_path, **told(slack)) as client:
        for body in (
            group(firing(portfolio="a"), firing(portfolio="b")),
            group(firing(portfolio="a"), resolved(portfolio="b", until=60)),
            group(resolved(portfolio="a", until=90)),
        ):
            assert (await client.post(PATH, content=body)).status_code == 200
        await slack.got(3)
        assert [message["text"] for message in slack.messages] == [
            "[FIRING:2] VaRLimitExceeded",
            "[FIRING:1] VaRLimitExceeded",
            "[RESOLVED] VaRLimitExceeded a",
        ]
        episodes = (await client.get("/api/v1/episodes?status=resolved")).json()
        assert {episode["labels"]["portfolio"] for episode in episodes} == {"a", "b"}
