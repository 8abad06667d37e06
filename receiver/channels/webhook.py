"""A webhook of the operator's own: POST of the message as JSON, with a bearer token and an HMAC signature where configured.

Body: `receiver.message.Message` as JSON. Headers: `Idempotency-Key` (the delivery id, the same for every attempt),
`X-Deskwatch-Attempt`, and with a `signing_secret` `X-Deskwatch-Timestamp` and `X-Deskwatch-Signature`:
`sha256=` and the hex HMAC-SHA256 of `<timestamp>.<body>`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

import httpx

from deskwatch.clock import Clock
from deskwatch.config import FilePath, Secret
from deskwatch.http import HttpConfig, SecretUrl, as_retryable, client, raise_for_failure
from receiver.channel import Channel, ChannelConfig
from receiver.message import Message, encode


class Config(ChannelConfig):
    """Where to post and how to prove who posts."""

    type: Literal["webhook"] = "webhook"
    name: str = "webhook"
    url: SecretUrl
    """Where to post; a secret, because many services put one into the address."""
    token: Secret | None = None
    """Sent as `Authorization: Bearer`."""
    signing_secret: Secret | None = None
    """Key of the HMAC signature."""
    ca_file: FilePath | None = None
    proxy: str | None = None


class Webhook(Channel[Config]):
    """Posts."""

    grouping = "group"
    takes = frozenset({"trigger", "resolve", "repeat", "remediation", "notice"})

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        reached = HttpConfig(timeout_seconds=config.timeout_seconds, ca_file=config.ca_file, proxy=config.proxy)
        self._client = client(reached)

    async def send(self, message: Message) -> str:
        """Post it; any 2xx is success."""
        body = encode(message)
        try:
            url = self.config.url.get_secret_value()
            response = await self._client.post(url, content=body, headers=self._headers(message, body))
        except httpx.HTTPError as error:
            raise as_retryable(error, what=self.config.name) from error
        raise_for_failure(response, what=self.config.name, now=self.clock.now())
        return ""

    async def close(self) -> None:
        """Close the pooled connections."""
        await self._client.aclose()

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.delivery_id,
            "X-Deskwatch-Attempt": str(message.attempt),
        }
        if self.config.token:
            headers["Authorization"] = f"Bearer {self.config.token.get_secret_value()}"
        if self.config.signing_secret:
            timestamp = str(int(self.clock.now().timestamp()))
            key = self.config.signing_secret.get_secret_value().encode()
            signature = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            headers |= {"X-Deskwatch-Timestamp": timestamp, "X-Deskwatch-Signature": f"sha256={signature}"}
        return headers
