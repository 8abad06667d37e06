"""PagerDuty: one incident for each episode, within the limits of the Events API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from deskwatch.clock import SystemClock
from deskwatch.errors import Permanent, Retryable
from receiver.channels.pagerduty import Config
from receiver.channels.pagerduty import PagerDuty as Channel
from receiver.message import Enrichment, Link
from tests.stand_ins.pagerduty import MOST_BYTES, ROUTING_KEY, THROTTLED, PagerDuty, invalid
from tests.unit.receiver.bodies import at
from tests.unit.receiver.channels.messages import NOTICE, episode, message


@pytest.fixture
async def pagerduty() -> AsyncIterator[PagerDuty]:
    async with PagerDuty() as stand_in:
        yield stand_in


@pytest.fixture
async def channel(pagerduty: PagerDuty) -> AsyncIterator[Callable[..., Channel]]:
    """Makes channels to the stand-in."""
    made: list[Channel] = []

    def make(**more: Any) -> Channel:
        config = Config.model_validate({"routing_key": ROUTING_KEY, "base_url": pagerduty.url, **more})
        made.append(Channel(config, SystemClock()))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_a_trigger_opens_and_its_resolve_closes_one_incident(
    pagerduty: PagerDuty, channel: Callable[..., Channel]
) -> None:
    """Same routing key, same dedup key: the alert's identity. A repeat opens no second one."""
    to = channel()
    assert await to.send(message()) == "identity1"
    await to.send(message("repeat"))
    await to.send(message("resolve", episode(status="resolved")))
    assert [event["event_action"] for event in pagerduty.events] == ["trigger", "trigger", "resolve"]
    assert {(event["routing_key"], event["dedup_key"]) for event in pagerduty.events} == {(ROUTING_KEY, "identity1")}
    (incident,) = pagerduty.incidents
    assert incident["status"] == "resolved"


async def test_the_event_says_what_whom_and_where_to_look(pagerduty: PagerDuty, channel: Callable[..., Channel]) -> None:
    """Summary, source, severity, time, the alert's labels and the runbook's first steps."""
    await channel().send(message())
    event = pagerduty.events[0]
    payload = event["payload"]
    assert payload["summary"] == "VaRLimitExceeded: carry is over its limit"
    assert (payload["source"], payload["severity"], payload["group"]) == ("carry", "critical", "carry")
    assert payload["timestamp"] == at(0).isoformat()
    assert payload["custom_details"]["labels"]["limit"] == "var_0.99"
    assert payload["custom_details"]["first_steps"][0] == "Check the mark."
    assert [link["text"] for link in event["links"]] == ["Runbook", "Dashboard", "Expression"]


@pytest.mark.parametrize(
    ("label", "configured", "severity"),
    [
        ("critical", {}, "critical"),
        ("warning", {}, "warning"),
        ("info", {}, "info"),
        ("page", {}, "error"),
        ("warning", {"severities": {"warning": "error"}}, "error"),
    ],
)
async def test_severity_is_mapped(
    pagerduty: PagerDuty, channel: Callable[..., Channel], label: str, configured: dict[str, Any], severity: str
) -> None:
    """What PagerDuty does not know is an error; the desk may map otherwise."""
    await channel(**configured).send(message("trigger", episode(labels={"severity": label})))
    assert pagerduty.events[0]["payload"]["severity"] == severity


async def test_only_web_addresses_become_links(pagerduty: PagerDuty, channel: Callable[..., Channel]) -> None:
    """An alert brings its own."""
    known = Enrichment(runbook_url="javascript:alert(1)", links=(Link("a", "file:///etc/passwd"), Link("b", "https://x/")))
    await channel().send(message("trigger", episode(enrichment=known)))
    assert pagerduty.events[0]["links"] == [{"href": "https://x/", "text": "b"}]


async def test_an_event_too_large_loses_its_details_and_not_the_page(
    pagerduty: PagerDuty, channel: Callable[..., Channel]
) -> None:
    """PagerDuty refuses more than 512 KB for good."""
    huge = {f"annotation_{number}": "x" * 16_000 for number in range(60)}
    await channel().send(message("trigger", episode(annotations={"summary": "y" * 3000, **huge})))
    event = pagerduty.events[0]
    assert len(pagerduty.requests[0].body) < MOST_BYTES
    assert "exceed PagerDuty's 512 KB" in event["payload"]["custom_details"]["notice"]
    assert len(event["payload"]["summary"]) == 1024
    assert pagerduty.incidents


async def test_an_event_just_below_the_limit_keeps_its_details(pagerduty: PagerDuty, channel: Callable[..., Channel]) -> None:
    """Nothing is dropped without need."""
    large = {f"annotation_{number}": "x" * 16_000 for number in range(31)}
    await channel().send(message("trigger", episode(annotations=large)))
    assert len(pagerduty.events[0]["payload"]["custom_details"]["annotations"]) == 31


async def test_a_notice_is_an_incident_of_its_own(pagerduty: PagerDuty, channel: Callable[..., Channel]) -> None:
    """Somebody has to look at what was lost."""
    await channel().send(NOTICE)
    assert pagerduty.incidents[0]["summary"].startswith("[NOTICE] A notification could not be used")
    assert pagerduty.events[0]["payload"]["custom_details"]["text"].endswith("kept")


async def test_the_clients_own_retries_are_off(pagerduty: PagerDuty, channel: Callable[..., Channel]) -> None:
    """On a 429 it would sleep and ask again for ever, in its thread."""
    pagerduty.always(THROTTLED)
    began = time.monotonic()
    with pytest.raises(Retryable, match="429 Requests for this service are arriving too quickly"):
        await channel().send(message())
    assert time.monotonic() - began < 1.0
    assert len(pagerduty.requests) == 1


async def test_the_vendors_explanation_is_passed_on_without_the_key(
    pagerduty: PagerDuty, channel: Callable[..., Channel]
) -> None:
    """`errors` says what is wrong with the event; should it echo the key, the key is taken out."""
    pagerduty.always(invalid("Length of 'routing_key' is incorrect", f"routing_key {ROUTING_KEY} is unknown"))
    with pytest.raises(Permanent) as raised:
        await channel().send(message())
    assert "Event object is invalid; Length of 'routing_key' is incorrect; routing_key *** is unknown" in str(raised.value)
    assert ROUTING_KEY not in str(raised.value)
