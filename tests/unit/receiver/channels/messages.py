"""Messages the channels are asked to send in tests."""

from __future__ import annotations

from typing import Any

from receiver.message import Enrichment, EpisodeView, Link, Message, MessageKind
from tests.unit.receiver.bodies import at

ENRICHMENT = Enrichment(
    runbook_url="http://receiver:9878/runbooks/VaRLimitExceeded",
    steps=("Check the mark.", "Ask the exporter which trades restore the limit.", "Trade and watch it fall."),
    links=(
        Link("Dashboard", "http://grafana:3000/d/desk_overview"),
        Link("Expression", "http://prometheus:9090/graph?g0.expr=up"),
    ),
)


def episode(number: int = 1, *, status: str = "firing", **more: Any) -> EpisodeView:
    """An episode of a VaR alert; more labels or fields by keyword."""
    labels = {"alertname": "VaRLimitExceeded", "severity": "critical", "portfolio": "carry", "limit": "var_0.99"}
    labels |= more.pop("labels", {})
    fields: dict[str, Any] = {
        "episode_id": f"{number}-identity",
        "identity": f"identity{number}",
        "status": status,
        "labels": labels,
        "annotations": {"summary": "carry is over its limit", "description": "It uses 130 % of it."},
        "starts_at": at(0),
        "resolved_at": at(60) if status == "resolved" else None,
        "generator_url": "http://prometheus:9090/graph",
        "enrichment": ENRICHMENT,
    }
    return EpisodeView(**{**fields, **more})


def message(kind: MessageKind = "trigger", *episodes: EpisodeView, **more: Any) -> Message:
    """A message about one firing episode, unless told otherwise."""
    fields: dict[str, Any] = {
        "kind": kind,
        "dedup_key": "identity1",
        "priority": "P0",
        "severity": "critical",
        "episodes": episodes or (episode(),),
        "delivery_id": "d-7",
    }
    return Message(**{**fields, **more})


NOTICE = message("notice", text="A notification could not be used: it is empty.\nkept", episodes=())
REMEDIATION = message(
    "remediation", text="It would sell 5 CHF in carry.", hook="reduce_position", run_mode="dry_run", run_outcome="succeeded"
)
