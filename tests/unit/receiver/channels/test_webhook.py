"""The generic webhook: the message as JSON, recognisable as the same one on each attempt, signed where asked."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent
from receiver.channels.webhook import Config, Webhook
from receiver.message import decode
from tests.stand_ins.server import Answer
from tests.stand_ins.webhook import GenericWebhook
from tests.unit.receiver.channels.messages import message


def channel(stand_in: GenericWebhook, **more: Any) -> Webhook:
    """A channel to the stand-in."""
    return Webhook(Config.model_validate({"url": stand_in.webhook_url, **more}), ManualClock())


async def test_the_body_is_the_message() -> None:
    """Whole, so a receiver of ours can read it back."""
    async with GenericWebhook() as stand_in:
        to = channel(stand_in)
        await to.send(message())
        await to.close()
        assert decode(stand_in.requests[0].body) == message()
        assert stand_in.requests[0].headers["Content-Type"] == "application/json"


async def test_every_attempt_carries_the_same_key_and_its_number() -> None:
    """So the far side can tell a duplicate from news."""
    async with GenericWebhook() as stand_in:
        to = channel(stand_in)
        await to.send(message())
        await to.send(message(attempt=2))
        await to.close()
        headers = [request.headers for request in stand_in.requests]
    assert [(each["Idempotency-Key"], each["X-Deskwatch-Attempt"]) for each in headers] == [("d-7", "1"), ("d-7", "2")]


async def test_token_and_signature_prove_who_posts() -> None:
    """HMAC-SHA256 over timestamp and body, as the module says."""
    async with GenericWebhook() as stand_in:
        to = channel(stand_in, token="t0ken", signing_secret="s3cret")
        await to.send(message())
        await to.close()
        (request,) = stand_in.requests
    assert request.headers["Authorization"] == "Bearer t0ken"
    signed = request.headers["X-Deskwatch-Timestamp"].encode() + b"." + request.body
    expected = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert request.headers["X-Deskwatch-Signature"] == f"sha256={expected}"


async def test_a_redirect_is_not_followed() -> None:
    """It would turn the POST into a GET and lose the page."""
    async with GenericWebhook() as stand_in:
        stand_in.next(Answer(301, "", {"Location": "/elsewhere"}))
        to = channel(stand_in)
        with pytest.raises(Permanent, match="301"):
            await to.send(message())
        await to.close()
        assert len(stand_in.requests) == 1


async def test_the_address_is_used_as_it_stands() -> None:
    """A trailing slash belongs to it."""
    async with GenericWebhook() as stand_in:
        to = Webhook(Config.model_validate({"url": f"{stand_in.url}/hook/"}), ManualClock())
        await to.send(message())
        await to.close()
        assert stand_in.requests[0].path == "/hook/"
