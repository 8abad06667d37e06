"""What a message says about itself."""

from __future__ import annotations

import pytest

from receiver.message import EpisodeView, Message, MessageKind, decode, encode, most_severe, most_urgent, priority_of, urgency
from tests.unit.receiver.bodies import at


def episode(status: str = "firing", **labels: str) -> EpisodeView:
    """An episode of a VaR alert."""
    labels = {"alertname": "VaRLimitExceeded", **labels}
    return EpisodeView(episode_id="e", identity="i", status=status, labels=labels, starts_at=at(0))  # type: ignore[arg-type]


def message(kind: MessageKind, *episodes: EpisodeView, **more: str) -> Message:
    """A message about them."""
    return Message(kind=kind, dedup_key="k", priority="P0", severity="critical", episodes=episodes, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "title"),
    [
        (message("trigger", episode(portfolio="carry")), "[FIRING:1] VaRLimitExceeded carry"),
        (message("trigger", episode(portfolio="a"), episode(portfolio="b")), "[FIRING:2] VaRLimitExceeded"),
        (message("resolve", episode("resolved", portfolio="a")), "[RESOLVED] VaRLimitExceeded a"),
        (message("resolve", episode(), episode("resolved")), "[FIRING:1] VaRLimitExceeded"),
        (message("trigger", *(episode(alertname=name) for name in "ABCDE")), "[FIRING:5] A, B, C and 2 more"),
        (message("remediation", episode(), hook="cut"), "[HOOK cut] VaRLimitExceeded"),
        (message("notice", text="A body was lost.\nmore"), "[NOTICE] A body was lost."),
        (message("test", episode(alertname="TestAlert")), "[TEST] TestAlert"),
    ],
)
def test_the_title_is_one_line_that_says_what_happened_to_what(said: Message, title: str) -> None:
    """It stands alone on a phone's lock screen."""
    assert said.title == title


def test_a_message_survives_the_store() -> None:
    """Written and read, it is equal."""
    said = message("trigger", episode(portfolio="carry", weird="<\x00>"))
    assert decode(encode(said)) == said


@pytest.mark.parametrize(
    ("labels", "priority"),
    [
        ({"priority": "P1", "severity": "critical"}, "P1"),
        ({"severity": "critical"}, "P0"),
        ({"severity": "warning"}, "P2"),
        ({"priority": "urgent!"}, "INFO"),
        ({}, "INFO"),
    ],
)
def test_priority_is_the_label_or_follows_from_severity(labels: dict[str, str], priority: str) -> None:
    """An unknown priority is not believed."""
    assert priority_of(labels) == priority


def test_a_group_is_as_urgent_as_its_worst_alert() -> None:
    """And what is critical leaves before everything else, whatever its priority."""
    assert most_urgent(["P2", "P0", "INFO"]) == "P0"
    assert most_severe(["info", "critical", "page"]) == "critical"
    assert most_severe(["page", "warning"]) == "warning"
    critical = Message(kind="resolve", dedup_key="k", priority="P1", severity="critical", episodes=())
    warning = Message(kind="trigger", dedup_key="k", priority="P1", severity="warning", episodes=())
    assert urgency(critical) < urgency(warning)
