"""Slack: the message within Slack's limits, and no label that is more than text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deskwatch.clock import SystemClock
from deskwatch.errors import Permanent
from receiver.channels.slack import Config, _blocks, _fitted
from receiver.channels.slack import Slack as Channel
from receiver.message import Enrichment, Link
from tests.stand_ins.slack import NO_TEXT, Slack, _fits
from tests.unit.receiver.channels.messages import NOTICE, REMEDIATION, episode, message


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as stand_in:
        yield stand_in


async def sent(slack: Slack, said: Any) -> Any:
    """The message as Slack got it."""
    channel = Channel(Config.model_validate({"url": slack.webhook_url}), SystemClock())
    await channel.send(said)
    await channel.close()
    return slack.messages[-1]


async def test_a_trigger_shows_title_summary_steps_and_links(slack: Slack) -> None:
    """Title as header and as the text of the notification; runbook, dashboard and expression as links."""
    body = await sent(slack, message())
    header, section, footer = body["blocks"]
    assert body["text"] == header["text"]["text"] == "[FIRING:1] VaRLimitExceeded carry"
    text = section["text"]["text"]
    assert text.startswith(":red_circle: *carry is over its limit*\nIt uses 130 % of it.\n1. Check the mark.\n2. Ask")
    assert "<http://receiver:9878/runbooks/VaRLimitExceeded|Runbook> · <http://grafana:3000/d/desk_overview|Dashboard>" in text
    assert "_alertname=VaRLimitExceeded, limit=var_0.99, portfolio=carry, severity=critical_" in text
    assert footer["elements"][0]["text"] == "critical · P0"


async def test_a_resolve_a_proposal_and_a_notice_say_what_they_are(slack: Slack) -> None:
    """Each from its own fields."""
    resolve = await sent(slack, message("resolve", episode(status="resolved")))
    assert resolve["text"] == "[RESOLVED] VaRLimitExceeded carry"
    assert resolve["blocks"][1]["text"]["text"].startswith(":white_check_mark: *carry is over its limit*\n_alertname")
    proposal = await sent(slack, REMEDIATION)
    text = "*Dry run, nothing was done* (succeeded): It would sell 5 CHF in carry."
    assert proposal["blocks"][1]["text"]["text"] == text
    notice = await sent(slack, NOTICE)
    assert notice["blocks"][1]["text"]["text"] == "A notification could not be used: it is empty.\nkept"


async def test_a_second_attempt_is_marked_with_the_id_of_the_delivery(slack: Slack) -> None:
    """Whoever sees it twice sees that it is the same."""
    body = await sent(slack, message(attempt=3))
    assert "attempt 3, may be a duplicate (d-7)" in body["blocks"][-1]["elements"][0]["text"]


async def test_a_runbooks_steps_are_said_once_for_ten_portfolios(slack: Slack) -> None:
    """Each keeps its own links."""
    body = await sent(slack, message("trigger", *(episode(number, labels={"portfolio": f"p{number}"}) for number in range(10))))
    texts = [block["text"]["text"] for block in body["blocks"][1:-1]]
    assert [text.count("1. Check the mark.") for text in texts] == [1] + [0] * 9
    assert all("|Runbook>" in text for text in texts)


HOSTILE = "<!channel> <@U123> <http://evil|click> &lt; *bold* `code` \x1b[31m \u202e"


@pytest.mark.parametrize("where", ["alertname", "portfolio", "summary", "description", "step", "link", "url", "text", "hook"])
async def test_no_label_mentions_a_channel_or_makes_a_link(slack: Slack, where: str) -> None:
    """`<` from an alert is always an escape; the only links are ours, to http(s)."""
    known: dict[str, Enrichment] = {
        "step": Enrichment(steps=(HOSTILE,)),
        "link": Enrichment(links=(Link(HOSTILE, "http://x/"),)),
        "url": Enrichment(runbook_url=HOSTILE, links=(Link("a", "javascript:alert(1)"), Link("b", "http://x/|<!here>"))),
    }
    fields: dict[str, Any] = {"enrichment": known.get(where, Enrichment())}
    if where in ("alertname", "portfolio"):
        fields["labels"] = {where: HOSTILE}
    if where in ("summary", "description"):
        fields["annotations"] = {where: HOSTILE}
    said = message("trigger", episode(**fields))
    if where in ("text", "hook"):
        said = message("remediation", text=HOSTILE, hook=HOSTILE, run_mode="dry_run", run_outcome="succeeded")
    body = await sent(slack, said)
    plain = body["blocks"][0]["text"]["text"]
    assert body["blocks"][0]["text"]["type"] == "plain_text"
    everything = json.dumps(body, ensure_ascii=False).replace(plain, "")
    assert "<!" not in everything
    assert "<@" not in everything
    assert "<http://evil" not in everything
    assert "javascript" not in everything
    assert "\\u001b" not in json.dumps(body)
    assert "\u202e" not in everything + plain


async def test_five_hundred_alerts_fit_into_one_message(slack: Slack) -> None:
    """The stand-in refuses more than 50 blocks, 3,000 characters a section, about 13,200 in all."""
    long = {"summary": "s" * 5000, "description": "<&>" * 5000}
    many = [episode(number, annotations=long, labels={f"l{n}": "v" * 500 for n in range(30)}) for number in range(500)]
    body = await sent(slack, message("trigger", *many, truncated=9))
    assert len(slack.requests) == 1
    footer = body["blocks"][-1]["elements"][0]["text"]
    assert "more alerts not shown" in footer
    assert "9 alerts left out by the sender" in footer


text = st.text(max_size=400)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(text, text, st.dictionaries(text, text, max_size=20)), min_size=1, max_size=60))
def test_whatever_alerts_say_the_message_fits(alerts: list[tuple[str, str, dict[str, str]]]) -> None:
    """slack_sdk's models and the documented limits accept it."""
    episodes = [
        episode(number, annotations={"summary": summary, "description": description}, labels=labels)
        for number, (summary, description, labels) in enumerate(alerts)
    ]
    assert _fits(list(_blocks(message("trigger", *episodes))))


@given(st.text(alphabet="&<>ab\n", max_size=200), st.integers(10, 60))
def test_text_is_cut_between_escapes(raw: str, limit: int) -> None:
    """A half escape would show as `&am`."""
    cut = _fitted(raw, limit)
    assert len(cut) <= limit
    assert "&" not in cut.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")


async def test_the_vendors_word_for_the_fault_is_passed_on(slack: Slack) -> None:
    """`no_text`, `channel_is_archived`: it tells the operator what to do."""
    slack.next(NO_TEXT)
    channel = Channel(Config.model_validate({"url": slack.webhook_url}), SystemClock())
    with pytest.raises(Permanent, match="slack answered 400 no_text"):
        await channel.send(message())
    await channel.close()


async def test_a_proxy_of_the_environment_is_not_used(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where messages go is configuration."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert (await sent(slack, message()))["text"]
