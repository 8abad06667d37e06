"""Slack's incoming webhook: text/plain answers, 429 with `Retry-After`, the documented limits of Block Kit.

Sources: docs.slack.dev "Sending messages using incoming webhooks" (`ok`, `invalid_payload`, `no_text`, `action_prohibited`,
`channel_not_found`, `channel_is_archived`, `rollup_error`), "Rate limits" (429, `Retry-After`), Block Kit reference; blocks are
checked by slack_sdk's own models.
"""

from __future__ import annotations

from typing import Any

import msgspec
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block

from tests.stand_ins.server import Answer, Received, StandIn

OK = Answer(200, "ok")
RATE_LIMITED = Answer(429, "rate_limited", {"Retry-After": "1"})
INVALID_PAYLOAD = Answer(400, "invalid_payload")
NO_TEXT = Answer(400, "no_text")
FORBIDDEN = Answer(403, "action_prohibited")
NO_SERVICE = Answer(404, "no_service")
ARCHIVED = Answer(410, "channel_is_archived")
ROLLUP_ERROR = Answer(500, "rollup_error")

MOST_BLOCKS = 50
MOST_CHARACTERS = 13_200
"""Undocumented: about here Slack answers msg_blocks_too_long (slackapi/bolt-js issue 2509)."""


class Slack(StandIn):
    """One incoming webhook."""

    path = "/services/T00000000/B00000000/" + "X" * 24

    @property
    def webhook_url(self) -> str:
        """The secret address."""
        return f"{self.url}{self.path}"

    @property
    def messages(self) -> list[Any]:
        """Bodies of the requests."""
        return [request.json for request in self.requests]

    def respond(self, request: Received) -> Answer:
        """As the vendor would."""
        if request.path != self.path:
            return NO_SERVICE
        try:
            body = msgspec.json.decode(request.body)
        except msgspec.DecodeError:
            return INVALID_PAYLOAD
        if not isinstance(body, dict):
            return INVALID_PAYLOAD
        if not body.get("text") and not body.get("blocks"):
            return NO_TEXT
        return OK if _fits(body.get("blocks", [])) else Answer(400, "invalid_blocks")


def _fits(blocks: list[Any]) -> bool:
    if len(blocks) > MOST_BLOCKS or sum(_characters(block) for block in blocks) > MOST_CHARACTERS:
        return False
    try:
        for block in blocks:
            parsed = Block.parse(block)
            if parsed is None:
                return False
            parsed.validate_json()
            for text in _texts(block):
                if not 0 < len(text["text"]) <= (150 if block["type"] == "header" else 3000):
                    return False
    except SlackObjectFormationError:
        return False
    return True


def _texts(block: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in [block.get("text"), *block.get("elements", [])] if each]


def _characters(block: dict[str, Any]) -> int:
    return sum(len(text["text"]) for text in _texts(block))
