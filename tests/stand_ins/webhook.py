"""A webhook of the operator's own: takes any JSON, answers 204."""

from __future__ import annotations

from typing import Any

from tests.stand_ins.server import Answer, Received, StandIn


class GenericWebhook(StandIn):
    """Takes what it is sent."""

    path = "/hook"

    @property
    def webhook_url(self) -> str:
        """Where to post."""
        return f"{self.url}{self.path}"

    @property
    def messages(self) -> list[Any]:
        """Bodies of the requests."""
        return [request.json for request in self.requests]

    def respond(self, request: Received) -> Answer:
        """204, as most such services."""
        return Answer(204)
