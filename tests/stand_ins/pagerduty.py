"""PagerDuty's Events API v2: JSON answers, the documented limits, and the incidents that follow from the events.

Source: developer.pagerduty.com, Events API v2 overview and "Send an alert event" (fields, limits, 202, 400, 429), PagerDuty's
api-schema events-v2 openapiv3.json.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tests.stand_ins.server import Answer, Received, StandIn

ROUTING_KEY = "R0123456789ABCDEF0123456789ABCDE"
MOST_BYTES = 512 * 1024


def _json(status: int, /, **body: Any) -> Answer:
    return Answer(status, json.dumps(body), content_type="application/json")


THROTTLED = _json(429, status="throttle exceeded", message="Requests for this service are arriving too quickly.")
UNAVAILABLE = _json(503, status="error", message="Service unavailable")


def invalid(*errors: str) -> Answer:
    """The answer to an event that is not accepted."""
    return _json(400, status="invalid event", message="Event object is invalid", errors=list(errors))


class PagerDuty(StandIn):
    """One service's integration; `incidents` are what a person on call would see."""

    path = "/v2/enqueue"

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.incidents: list[dict[str, str]] = []
        """In order of opening: `dedup_key`, `summary`, `status` triggered or resolved."""

    @property
    def events(self) -> list[Any]:
        """Bodies of the requests."""
        return [request.json for request in self.requests]

    def respond(self, request: Received) -> Answer:
        """As the vendor would."""
        if len(request.body) > MOST_BYTES:
            return invalid("the event exceeds 512 KB")
        try:
            event = msgspec.json.decode(request.body)
        except msgspec.DecodeError:
            return invalid("JSON is invalid")
        errors = list(_errors(event)) if isinstance(event, dict) else ["the event is not an object"]
        if request.path != self.path or errors:
            return invalid(*errors)
        self._follow(event)
        return _json(202, status="success", message="Event processed", dedup_key=event["dedup_key"])

    def _follow(self, event: dict[str, Any]) -> None:
        key = event["dedup_key"]
        standing = next((each for each in self.incidents if each["dedup_key"] == key and each["status"] == "triggered"), None)
        if event["event_action"] == "resolve":
            if standing is not None:
                standing["status"] = "resolved"
        elif standing is None:
            self.incidents.append({"dedup_key": key, "summary": event["payload"]["summary"], "status": "triggered"})


def _errors(event: dict[str, Any]) -> list[str]:
    found = []
    if len(str(event.get("routing_key", ""))) != 32:
        found.append("Length of 'routing_key' is incorrect (should be 32 characters)")
    if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        found.append("'event_action' is invalid")
    if not 0 < len(event.get("dedup_key", "")) <= 255:
        found.append("'dedup_key' is missing or longer than 255 characters")
    if event.get("event_action") == "trigger":
        payload = event.get("payload", {})
        if not 0 < len(payload.get("summary", "")) <= 1024:
            found.append("'payload.summary' is missing or longer than 1024 characters")
        if not payload.get("source"):
            found.append("'payload.source' is missing or blank")
        if payload.get("severity") not in ("critical", "error", "warning", "info"):
            found.append("'payload.severity' is invalid (must be one of critical, error, warning, info)")
        if not all(str(link.get("href", "")).startswith(("http://", "https://")) for link in event.get("links", [])):
            found.append("'links.href' is not a URL")
    return found
