"""PagerDuty by the Events API v2: one event for each episode, `dedup_key` is the alert's identity.

The vendor's client is synchronous, so each call runs in a thread of its own, and its retries, which sleep and on a 429 never
end, are off: the delivery engine decides when to try again. Sources: developer.pagerduty.com, Events API v2 overview and
"Send an alert event"; the client's retry logic in pagerduty 6 `api_client.py`.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import httpx
import msgspec
import pagerduty
from pydantic import Field, field_validator

from deskwatch.clock import Clock
from deskwatch.config import FilePath, Secret
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpUrl, as_retryable, raise_for_status
from deskwatch.web_config import is_loopback
from receiver.addresses import web_address
from receiver.channel import Channel, ChannelConfig
from receiver.in_thread import in_thread
from receiver.message import EpisodeView, Link, Message

SUMMARY_CHARACTERS = 1024
SOURCE_CHARACTERS = 255
EVENT_BYTES = 512_000
"""PagerDuty refuses an event above 512 KB; Alertmanager counts in thousands too."""
Severity = Literal["critical", "error", "warning", "info"]
_SEVERITIES: dict[str, Severity] = {"critical": "critical", "warning": "warning", "info": "info"}
_ANSWERED = (429, 500, 502, 503, 504)


class Config(ChannelConfig):
    """The integration of one PagerDuty service."""

    type: Literal["pagerduty"] = "pagerduty"
    name: str = "pagerduty"
    routing_key: Secret
    """Integration key, 32 characters. A resolve must carry the same key as its trigger."""
    base_url: HttpUrl = "https://events.pagerduty.com"
    """`https://events.eu.pagerduty.com` for the EU service region."""
    severities: dict[str, Severity] = Field(default_factory=lambda: dict(_SEVERITIES))
    """Label `severity` to PagerDuty's; any other is an `error`."""
    ca_file: FilePath | None = None
    proxy: str | None = None

    @field_validator("base_url")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        url = httpx.URL(value)
        if url.scheme != "https" and not is_loopback(url.host):
            raise ValueError("must be https://, the routing key travels in the body (http:// only to this machine)")
        return value


class _Client(pagerduty.EventsApiV2Client):
    """The vendor's client without its retries; it may also speak to a server on this machine without TLS."""

    # The inherited setter insists on https; the configuration has already checked the address.
    url = property(lambda self: self._url, lambda self, value: setattr(self, "_url", value))

    # With no attempts left from the start, every answer is returned at once (api_client.request).
    max_http_attempts = -1
    max_network_attempts = 0

    def __init__(self, config: Config) -> None:
        verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(config.ca_file)) if config.ca_file else True
        super().__init__(
            config.routing_key.get_secret_value(),
            base_url=config.base_url,
            verify=verify,
            proxy=config.proxy,
            trust_env=False,
        )
        self.retry = dict.fromkeys(_ANSWERED, 1)
        self.timeout = config.timeout_seconds  # type: ignore[assignment]  # handed to httpx, which takes fractions
        # It logs each refused attempt as an error of its own; the delivery engine says it once.
        self.log = logging.Logger("pagerduty", level=logging.CRITICAL + 1)


class PagerDuty(Channel[Config]):
    """Sends events."""

    grouping = "episode"
    takes = frozenset({"trigger", "resolve", "repeat", "notice"})

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._client = _Client(config)

    async def send(self, message: Message) -> str:
        """Trigger or resolve; returns the dedup key PagerDuty confirmed."""
        action = "resolve" if message.kind == "resolve" else "trigger"
        properties = {} if action == "resolve" else _event(message, self.config)
        key = self.config.routing_key.get_secret_value()
        try:
            return await in_thread(
                lambda: self._client.send_event(action, dedup_key=message.dedup_key, **properties), name="pagerduty"
            )
        except pagerduty.HttpError as error:
            # From None: the client's texts show the end of the routing key.
            raise _as_failure(error.response, self.config.name, key, self.clock) from None
        except pagerduty.Error as error:
            cause = error.__cause__
            if isinstance(cause, httpx.HTTPError):
                raise as_retryable(cause, what=self.config.name) from None
            raise Retryable(f"{self.config.name}: {type(error).__name__}", reason=Reason.NETWORK) from None

    async def close(self) -> None:
        """Close the pooled connections, without waiting for one that hangs."""
        self._client.close()


def _as_failure(response: httpx.Response | None, what: str, key: str, clock: Clock) -> Retryable | Permanent:
    if response is None:
        return Retryable(f"{what} gave no answer", reason=Reason.NETWORK)
    try:
        said = _explanation(response).replace(key, "***")
        raise_for_status(response.status_code, response.headers, what=what, said=said, now=clock.now())
    except (Retryable, Permanent) as failure:
        return failure
    text = f"{what} answered {response.status_code} without a dedup key: is this PagerDuty, or a proxy before it?"
    return Retryable(text, reason=Reason.BAD_RESPONSE)


def _explanation(response: httpx.Response) -> str:
    """`message` and `errors` of PagerDuty's answer, empty where it is something else."""
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors")
    parts = [body.get("message"), *(errors if isinstance(errors, list) else [])]
    return "; ".join(str(part)[:200] for part in parts[:5] if part)


def _event(message: Message, config: Config) -> dict[str, Any]:
    """Everything of a trigger but its key, cut until it fits."""
    if message.episodes:
        event = _of_episode(message, message.episodes[0], config)
    else:
        summary = message.title[:SUMMARY_CHARACTERS]
        payload = {"summary": summary, "source": "deskwatch", "severity": "critical", "custom_details": {"text": message.text}}
        event = {"client": "deskwatch", "payload": payload}
    if len(msgspec.json.encode(event)) > EVENT_BYTES - 1000:
        event["payload"]["custom_details"] = {"notice": "the alert's details exceed PagerDuty's 512 KB: see deskwatch"}
        event.pop("links", None)
    return event


def _of_episode(message: Message, episode: EpisodeView, config: Config) -> dict[str, Any]:
    labels = episode.labels
    subject = labels.get("portfolio") or labels.get("strategy") or labels.get("source") or labels.get("instance")
    payload = {
        "summary": f"{episode.name}: {episode.summary}"[:SUMMARY_CHARACTERS],
        "source": (subject or "deskwatch")[:SOURCE_CHARACTERS],
        "severity": config.severities.get(labels.get("severity", ""), "error"),
        "timestamp": episode.starts_at.isoformat(),
        "component": labels.get("component", "")[:SOURCE_CHARACTERS],
        "group": labels.get("portfolio", "")[:SOURCE_CHARACTERS],
        "class": labels.get("category", "")[:SOURCE_CHARACTERS],
        "custom_details": _details(message, episode),
    }
    links = [{"href": link.url, "text": link.title} for link in _links(episode)]
    return {"client": "deskwatch", "payload": {name: value for name, value in payload.items() if value}, "links": links}


def _details(message: Message, episode: EpisodeView) -> Mapping[str, Any]:
    return {
        "labels": episode.labels,
        "annotations": episode.annotations,
        "first_steps": list(episode.enrichment.steps),
        "episode_id": episode.episode_id,
        "delivery_id": message.delivery_id,
        "attempt": message.attempt,
    }


def _links(episode: EpisodeView) -> Iterator[Link]:
    known = episode.enrichment
    candidates = [*([Link("Runbook", known.runbook_url)] if known.runbook_url else []), *known.links]
    yield from (link for link in candidates if web_address(link.url))
