"""The receiver's API and pages over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from receiver.metrics import catalogue
from tests.flows.receiver.running import TOKEN, change, receiver
from tests.stand_ins.slack import NO_TEXT, Slack
from tests.unit.receiver.bodies import firing, group, resolved
from tests.unit.receiver.hook_samples import installed

HOOK = "/api/v1/webhook"


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as stand_in:
        yield stand_in


@pytest.fixture
async def client(tmp_path: Path, slack: Slack) -> AsyncIterator[httpx.AsyncClient]:
    async with receiver(tmp_path, channels=[{"type": "slack", "url": slack.webhook_url}]) as found:
        yield found


async def until(client: httpx.AsyncClient, path: str, holds: Any) -> list[Any]:
    """Ask until the answer holds."""
    async with asyncio.timeout(15):
        while not holds(found := (await client.get(path)).json()):  # noqa: ASYNC110 - the state is behind the API
            await asyncio.sleep(0.02)
    return list(found)


async def test_lists_are_bounded_and_paged(client: httpx.AsyncClient) -> None:
    """Newest first; limits are checked."""
    for number in range(5):
        await client.post(HOOK, content=group(firing(portfolio=str(number)), key=str(number)))
    await until(client, "/api/v1/episodes", lambda found: len(found) == 5)
    page = (await client.get("/api/v1/journal?limit=2&offset=1")).json()
    assert [entry["entry_id"] for entry in page] == [4, 3]
    for query in ("limit=0", "limit=501", "limit=x", "limit=-1", "offset=-1", "offset=1000001", "limit=%D9%A1", "limit=1e3"):
        answer = await client.get(f"/api/v1/journal?{query}")
        assert answer.status_code == 422
        assert "must be a whole number" in answer.json()["error"]
    for path in ("deliveries?state=x", "episodes?status=x", "runs?state=x"):
        assert (await client.get(f"/api/v1/{path}")).status_code == 422


async def test_episodes_open_ones_first(client: httpx.AsyncClient) -> None:
    """With labels, times and evidence."""
    await client.post(HOOK, content=group(firing(portfolio="open", detector="direct"), key="a"))
    await client.post(HOOK, content=group(firing(portfolio="ended"), key="b"))
    await client.post(HOOK, content=group(resolved(portfolio="ended", until=5), key="b"))
    found = await until(client, "/api/v1/episodes", lambda found: [each["status"] for each in found] == ["firing", "resolved"])
    assert found[0]["labels"]["portfolio"] == "open"
    assert found[0]["direct_only"] is True
    assert found[1]["resolved_at"] == "2026-01-05T09:00:05Z"
    assert len((await client.get("/api/v1/episodes?status=firing")).json()) == 1


@pytest.mark.parametrize(
    "path", ["/api/v1/journal/99", "/api/v1/journal/x", "/api/v1/journal/99999999999999999999", "/nowhere"]
)
async def test_what_is_not_there_is_404(client: httpx.AsyncClient, path: str) -> None:
    """As JSON."""
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]


async def test_a_dead_letter_is_replayed_with_a_token(client: httpx.AsyncClient, slack: Slack) -> None:
    """It is sent again, marked; the ledger keeps who asked."""
    slack.next(NO_TEXT)
    await client.post(HOOK, content=group(firing()))
    (letter,) = await until(client, "/api/v1/dead-letters", len)
    assert (letter["channel"], letter["reason"], letter["error"]) == ("slack", "rejected", "slack answered 400 no_text")
    path = f"/api/v1/dead-letters/{letter['delivery_id']}/replay"
    assert (await client.post(path)).status_code == 401
    assert (await client.post(path, headers=change(client, "wrong"))).status_code == 401
    answer = await client.post(path, headers=change(client), json={"by": "anna"})
    assert (answer.status_code, answer.json()) == (200, {"result": "replayed"})
    await slack.got(2)
    assert "attempt 2, may be a duplicate (d-1)" in slack.messages[1]["blocks"][-1]["elements"][0]["text"]
    await until(client, "/api/v1/dead-letters", lambda found: found == [])
    again = await client.post(path, headers=change(client))
    assert (again.status_code, again.json()["error"]) == (409, "this delivery is not a dead letter")
    assert (await client.post("/api/v1/dead-letters/99/replay", headers=change(client))).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"by": 5}', b'{"bye": "x"}'])
async def test_a_change_with_a_body_that_does_not_fit_is_422(client: httpx.AsyncClient, body: bytes) -> None:
    """And changes nothing."""
    answer = await client.post("/api/v1/dead-letters/1/replay", content=body, headers=change(client))
    assert answer.status_code == 422


async def test_a_live_run_waits_until_somebody_approves(tmp_path: Path, slack: Slack) -> None:
    """Direct evidence only: approved once, by name, it runs; a second approval is refused."""
    section = {"channels": [{"type": "slack", "url": slack.webhook_url}], "hooks": {"says": {"mode": "live"}}}
    with installed(tmp_path / "hooks"):
        async with receiver(tmp_path, **section) as client:
            await client.post(HOOK, content=group(firing(detector="direct")))
            (waiting,) = await until(client, "/api/v1/approvals", len)
            assert waiting["detail"] == "only the exporter's own detector has seen this"
            path = f"/api/v1/approvals/{waiting['run_id']}"
            verdict = {"decision": "approve", "by": "anna"}
            assert (await client.post(path, json=verdict)).status_code == 401
            assert (await client.post(path, json=verdict | {"by": " "}, headers=change(client))).status_code == 422
            assert (await client.post(path, json=verdict | {"decision": "yes"}, headers=change(client))).status_code == 422
            assert (await client.post("/api/v1/approvals/99", json=verdict, headers=change(client))).status_code == 404
            assert (await client.post(path, json=verdict, headers=change(client))).status_code == 200
            assert (await client.post(path, json=verdict, headers=change(client))).status_code == 409
            (run,) = await until(client, "/api/v1/runs?state=succeeded", len)
            assert run["detail"].startswith("live VaRLimitExceeded")
            await slack.got(2)
            assert slack.messages[1]["blocks"][1]["text"]["text"].startswith("*Live run* (succeeded): live VaR")


async def test_an_approval_after_the_alert_ended_is_refused(tmp_path: Path, slack: Slack) -> None:
    """There is nothing left to remediate. Rejecting it is still possible."""
    section = {"channels": [{"type": "slack", "url": slack.webhook_url}], "hooks": {"says": {"mode": "live"}}}
    with installed(tmp_path / "hooks"):
        async with receiver(tmp_path, **section) as client:
            await client.post(HOOK, content=group(firing(detector="direct")))
            await client.post(HOOK, content=group(resolved(detector="direct", until=5)))
            await until(client, "/api/v1/episodes?status=resolved", len)
            path = "/api/v1/approvals/1"
            answer = await client.post(path, json={"decision": "approve", "by": "anna"}, headers=change(client))
            assert (answer.status_code, "has ended" in answer.json()["error"]) == (409, True)
            answer = await client.post(path, json={"decision": "reject", "by": "anna"}, headers=change(client))
            assert answer.json() == {"result": "rejected"}


@pytest.mark.parametrize(
    ("accept", "parser"), [("text/plain", plain), ("application/openmetrics-text; version=1.0.0", openmetrics)]
)
async def test_every_family_of_the_catalogue_is_exported(client: httpx.AsyncClient, accept: str, parser: Any) -> None:
    """In the form asked for, parsed by prometheus_client's own parser."""
    await client.post(HOOK, content=group(firing()))
    await until(client, "/api/v1/deliveries?state=delivered", len)
    answer = await client.get("/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    families = {family.name: family for family in parser(answer.text)}
    expected = {each["name"].removesuffix("_total"): each["type"] for each in catalogue()}
    assert {name: family.type for name, family in families.items() if name in expected} == expected
    assert "_created" not in answer.text


async def test_gauges_are_what_the_store_holds(client: httpx.AsyncClient, slack: Slack) -> None:
    """Open episodes, backlog and dead letters, zero included."""
    slack.next(NO_TEXT)
    await client.post(HOOK, content=group(firing(portfolio="a"), firing(portfolio="b", severity="page")))
    await until(client, "/api/v1/dead-letters", len)
    text = (await client.get("/metrics")).text
    for line in (
        'deskwatch_episodes_open{severity="critical"} 1.0',
        'deskwatch_episodes_open{severity="other"} 1.0',
        'deskwatch_episodes_open{severity="warning"} 0.0',
        'deskwatch_dead_letters{channel="slack"} 1.0',
        'deskwatch_delivery_backlog{channel="slack",priority="P0"} 0.0',
        'deskwatch_deliveries_total{channel="slack",outcome="dead"} 1.0',
        'deskwatch_delivery_failures_total{channel="slack",reason="rejected"} 1.0',
        'deskwatch_notifications_processed_total{outcome="changed"} 1.0',
        "deskwatch_journal_backlog 0.0",
        "deskwatch_approvals_pending 0.0",
    ):
        assert line in text


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}'


async def test_the_page_shows_what_is_open_and_runs_no_label(client: httpx.AsyncClient) -> None:
    """Every label is text; the page may load nothing and run nothing."""
    alert = firing(HOSTILE, portfolio=HOSTILE) | {"annotations": {"summary": HOSTILE}}
    await client.post(HOOK, content=group(alert))
    await until(client, "/api/v1/episodes", len)
    answer = await client.get("/")
    assert "Open episodes (1)" in answer.text
    assert "<script" not in answer.text
    assert "<img" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    assert "{{7*7}}" in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_names_what_waits_for_a_person(tmp_path: Path, slack: Slack) -> None:
    """Runs to approve or settle, dead letters of each channel."""
    section = {"channels": [{"type": "slack", "url": slack.webhook_url}], "hooks": {"says": {"mode": "live"}}}
    with installed(tmp_path / "hooks"):
        async with receiver(tmp_path, **section) as client:
            await client.post(HOOK, content=group(firing(detector="direct")))
            await until(client, "/api/v1/approvals", len)
            text = (await client.get("/")).text
            assert "awaiting_approval" in text
            assert "seen by the exporter only" in text


async def test_runbooks_are_served_and_listed(client: httpx.AsyncClient) -> None:
    """Rendered; without a read token, because a page that explains what to do must open."""
    answer = await client.get("/runbooks/VaRLimitExceeded")
    assert answer.status_code == 200
    assert "<h2>Mitigation</h2>" in answer.text
    assert '<a href="/runbooks/VaRLimitExceeded">' in (await client.get("/runbooks/")).text


@pytest.mark.parametrize("name", ["Unknown", "..%2f..%2fREADME", "%2e%2e%2fREADME", "<script>", "a%00b", "VaRLimitExceeded.md"])
async def test_a_runbook_that_is_not_there_is_404_whatever_its_name(client: httpx.AsyncClient, name: str) -> None:
    """No path is made of it, and it is shown as text."""
    answer = await client.get(f"/runbooks/{name}")
    assert answer.status_code == 404
    assert "There is no runbook for" in answer.text
    assert "<script>" not in answer.text


async def test_health_and_readiness(client: httpx.AsyncClient) -> None:
    """Ready while the store works."""
    assert (await client.get("/-/healthy")).status_code == 200
    assert (await client.get("/-/ready")).text == "Ready.\n"


async def test_reading_needs_the_read_token_where_one_is_set(tmp_path: Path) -> None:
    """The book is in the labels; runbooks and health stay open, the webhook has its own token."""
    web = {"listen": "127.0.0.1:0", "token": TOKEN, "read_token": "read"}
    async with receiver(tmp_path, web=web) as client:
        for path in ("/", "/metrics", "/api/v1/episodes", "/api/v1/journal"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers={"Authorization": "Bearer read"})).status_code == 200
        for path in ("/runbooks/", "/-/healthy", "/-/ready"):
            assert (await client.get(path)).status_code == 200
        assert (await client.post(HOOK, content=group(firing()))).status_code == 200
