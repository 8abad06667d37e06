"""Several channels at once: one in trouble delays no other, and nobody ever gets a resolve before its trigger."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver import deliver
from tests.flows.receiver.running import receiver
from tests.stand_ins.pagerduty import ROUTING_KEY, THROTTLED, UNAVAILABLE, PagerDuty
from tests.stand_ins.server import DROP, HANG, Answer, Received
from tests.stand_ins.slack import RATE_LIMITED, ROLLUP_ERROR, Slack
from tests.unit.receiver.bodies import firing, group, resolved

PATH = "/api/v1/webhook"
ALERTS = 12
MOST_TIMES_THE_CONTROL = 4.0
"""How much slower the healthy channel may be beside one in trouble: both take milliseconds, on a machine with other work."""


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as stand_in:
        yield stand_in


@pytest.fixture
async def pagerduty() -> AsyncIterator[PagerDuty]:
    async with PagerDuty() as stand_in:
        yield stand_in


def both(slack: Slack, pagerduty: PagerDuty, **more: Any) -> dict[str, Any]:
    """A configuration with both channels."""
    channels = [
        {"type": "slack", "url": slack.webhook_url, "timeout_seconds": 5},
        {"type": "pagerduty", "routing_key": ROUTING_KEY, "base_url": pagerduty.url},
    ]
    return {"channels": channels, **more}


async def latencies(client: httpx.AsyncClient, pagerduty: PagerDuty, mark: str) -> float:
    """Median seconds from posting an alert to its arrival at PagerDuty."""
    took = []
    for number in range(ALERTS):
        began = time.monotonic()
        seen = len(pagerduty.requests)
        answer = await client.post(PATH, content=group(firing(portfolio=f"{mark}{number}"), key=f"{mark}{number}"))
        assert answer.status_code == 200
        await pagerduty.got(seen + 1)
        took.append(pagerduty.requests[seen].at - began)
    return statistics.median(took)


@pytest.mark.parametrize("trouble", [HANG, RATE_LIMITED, ROLLUP_ERROR, DROP], ids=["hangs", "429", "500", "drops"])
async def test_a_channel_in_trouble_delays_no_other(
    tmp_path: Path, slack: Slack, pagerduty: PagerDuty, trouble: Answer
) -> None:
    """The healthy one is as fast as beside a healthy neighbour."""
    async with receiver(tmp_path, **both(slack, pagerduty)) as client:
        await latencies(client, pagerduty, "warm-up")
        control = await latencies(client, pagerduty, "control")
        slack.always(trouble)
        beside = await latencies(client, pagerduty, "trouble")
        print(f"median to PagerDuty {control * 1000:.1f} ms, beside Slack in trouble {beside * 1000:.1f} ms")
        assert beside < MOST_TIMES_THE_CONTROL * control + 0.02


async def test_a_channel_that_comes_back_gets_everything_in_order(
    tmp_path: Path, slack: Slack, pagerduty: PagerDuty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened while it was away is said as it happened."""
    monkeypatch.setattr(deliver, "BACKOFF_SECONDS", 0.05)
    slack.always(Answer(503, "service_unavailable"))
    async with receiver(tmp_path, **both(slack, pagerduty)) as client:
        for body in (
            group(firing(portfolio="a"), firing(portfolio="b")),
            group(firing(portfolio="a"), resolved(portfolio="b", until=5)),
            group(resolved(portfolio="a", until=9)),
        ):
            await client.post(PATH, content=body)
        await pagerduty.got(4)
        assert {incident["status"] for incident in pagerduty.incidents} == {"resolved"}
        slack.always(None)
        tried = len(slack.requests)
        await slack.got(tried + 3)
        titles = [message["text"] for message in slack.messages[tried:]]
        assert titles == ["[FIRING:2] VaRLimitExceeded", "[FIRING:1] VaRLimitExceeded", "[RESOLVED] VaRLimitExceeded a"]


async def test_retry_after_is_kept_to(tmp_path: Path, slack: Slack, pagerduty: PagerDuty) -> None:
    """One second asked for, one second waited, for everything sent there."""
    slack.next(RATE_LIMITED)
    async with receiver(tmp_path, **both(slack, pagerduty)) as client:
        await client.post(PATH, content=group(firing(portfolio="a"), key="a"))
        await slack.got(1)
        await client.post(PATH, content=group(firing(portfolio="b"), key="b"))
        requests = await slack.got(3)
        assert requests[1].at - requests[0].at >= 0.99
        assert requests[2].at - requests[0].at >= 0.99


@pytest.mark.parametrize("seed", range(3))
async def test_trigger_and_resolve_never_swap(
    tmp_path: Path, slack: Slack, pagerduty: PagerDuty, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Against a PagerDuty that fails two calls of three in every way, no incident stays open and none is opened twice."""
    monkeypatch.setattr(deliver, "BACKOFF_SECONDS", 0.02)
    chance = random.Random(seed)  # noqa: S311 - a seeded sample
    failures = [THROTTLED, UNAVAILABLE, DROP, Answer(500, "<html>", content_type="text/html")]

    def fails(_: Received) -> Answer | None:
        return chance.choice(failures) if chance.random() < 0.66 else None

    pagerduty.refuse = fails
    channels = both(slack, pagerduty)
    channels["channels"][1]["max_attempts"] = 100
    async with receiver(tmp_path, **channels) as client:
        for number in range(8):
            name = f"p{number}"
            await client.post(PATH, content=group(firing(portfolio=name), key=name))
            await client.post(PATH, content=group(resolved(portfolio=name, until=5), key=name))
        await pagerduty.until(
            lambda: len(pagerduty.incidents) == 8 and {each["status"] for each in pagerduty.incidents} == {"resolved"},
            seconds=60,
        )
        async with asyncio.timeout(30):
            while (await client.get("/api/v1/deliveries?state=pending")).json():  # noqa: ASYNC110 - the state is behind the API
                await asyncio.sleep(0.05)
    assert len(pagerduty.incidents) == 8
    assert {incident["status"] for incident in pagerduty.incidents} == {"resolved"}


async def test_critical_alerts_leave_before_a_storm_of_others(tmp_path: Path, slack: Slack, pagerduty: PagerDuty) -> None:
    """They were accepted last."""
    gate = Answer(429, "ratelimited", {"Retry-After": "1"})
    slack.next(gate)
    async with receiver(tmp_path, **both(slack, pagerduty)) as client:
        await client.post(PATH, content=group(firing("Gate", severity="info"), key="gate"))
        await slack.got(1)
        for number in range(20):
            await client.post(PATH, content=group(firing("Storm", severity="warning", n=str(number)), key=f"s{number}"))
        await client.post(PATH, content=group(firing("Late"), key="late"))
        await slack.got(5)
        assert slack.messages[1]["text"] == "[FIRING:1] Late"
        assert slack.messages[2]["text"] == "[FIRING:1] Storm"


async def test_routes_send_each_alert_where_it_belongs(tmp_path: Path, slack: Slack, pagerduty: PagerDuty) -> None:
    """Critical ones to the pager and the chat, the rest to the chat only."""
    routes = [
        {"matchers": ['severity="critical"'], "channels": ["pagerduty"], "continue": True},
        {"channels": ["slack"]},
    ]
    async with receiver(tmp_path, **both(slack, pagerduty, routes=routes)) as client:
        await client.post(PATH, content=group(firing("A"), firing("B", severity="warning")))
        await slack.got(1)
        await pagerduty.got(1)
        assert slack.messages[0]["text"] == "[FIRING:2] A, B"
    assert [incident["summary"] for incident in pagerduty.incidents] == ["A: A fires"]
