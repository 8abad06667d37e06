"""Slack by incoming webhook: one message for each alert group, Block Kit within Slack's limits.

What comes from alerts is escaped, so no label can mention a channel or hide a link. Sources: docs.slack.dev, incoming webhooks,
Block Kit reference, formatting text (`&`, `<` and `>`); limits as in slack_sdk's own models.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import aiohttp
from slack_sdk.webhook.async_client import AsyncWebhookClient
from slack_sdk.webhook.webhook_response import WebhookResponse

from deskwatch.clock import Clock
from deskwatch.config import FilePath
from deskwatch.errors import Reason, Retryable
from deskwatch.http import SecretUrl, raise_for_status
from receiver.addresses import web_address
from receiver.channel import Channel, ChannelConfig
from receiver.message import EpisodeView, Link, Message

HEADER_CHARACTERS = 150
SECTION_CHARACTERS = 3000
MESSAGE_CHARACTERS = 12_000
"""All blocks together: Slack answers `msg_blocks_too_long` at about 13,200 (slackapi/bolt-js issue 2509)."""
EPISODES_SHOWN = 20
"""Each takes at most two of the 50 blocks a message may have."""
_LABELS_SHOWN = 12
_ERROR_CODE = re.compile(r"[a-z_]{1,60}")
_MARK = {"critical": ":red_circle:", "warning": ":large_orange_circle:", "info": ":large_blue_circle:"}


class Config(ChannelConfig):
    """The incoming webhook."""

    type: Literal["slack"] = "slack"
    name: str = "slack"
    concurrency: int = 1
    """Slack takes about one message a second for each webhook."""
    url: SecretUrl
    """The webhook's address, `https://hooks.slack.com/services/...`: whoever has it can post."""
    ca_file: FilePath | None = None
    proxy: str | None = None


class Slack(Channel[Config]):
    """Posts to one incoming webhook."""

    grouping = "group"
    takes = frozenset({"trigger", "resolve", "repeat", "remediation", "notice"})

    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self._session: aiohttp.ClientSession | None = None
        self._tls = ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)

    async def send(self, message: Message) -> str:
        """Post it; only a 200 with the body `ok` is success. A webhook names no message, so there is no reference."""
        try:
            answer = await self._client().send(text=_fitted(message.title, SECTION_CHARACTERS), blocks=_blocks(message))
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeError) as error:
            raise _as_retryable(error, self.config.name) from None  # aiohttp's texts hold the address, which is the secret
        self._judge(answer)
        return ""

    async def close(self) -> None:
        """Close the pooled connections."""
        if self._session is not None:
            await self._session.close()

    def _client(self) -> AsyncWebhookClient:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.config.timeout_seconds))
        client = AsyncWebhookClient(
            self.config.url.get_secret_value(),
            ssl=self._tls,
            session=self._session,
            # The client logs the address it posts to; this logger says nothing.
            logger=logging.Logger("slack_sdk", level=logging.CRITICAL + 1),
            # The delivery engine waits, not a worker.
            retry_handlers=[],
        )
        client.proxy = self.config.proxy  # the constructor would take one from the environment
        return client

    def _judge(self, answer: WebhookResponse) -> None:
        code = answer.body.strip()
        said = code if _ERROR_CODE.fullmatch(code) else ""
        raise_for_status(answer.status_code, answer.headers, what=self.config.name, said=said, now=self.clock.now())
        if answer.status_code != 200 or code != "ok":
            text = f"{self.config.name} answered {answer.status_code} without ok: is this Slack, or a proxy before it? {said}"
            raise Retryable(text.strip(), reason=Reason.BAD_RESPONSE)


def _as_retryable(error: Exception, what: str) -> Retryable:
    """What a transport failure of aiohttp means, without the address."""
    if isinstance(error, asyncio.TimeoutError):
        return Retryable(f"{what} did not answer in time", reason=Reason.TIMEOUT)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Retryable(f"{what}: its host name does not resolve", reason=Reason.DNS)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Retryable(f"{what}: TLS failed", reason=Reason.TLS)
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        return Retryable(f"{what} refused the connection: is it running?", reason=Reason.REFUSED)
    return Retryable(f"{what}: {type(error).__name__}", reason=Reason.NETWORK)


def _blocks(message: Message) -> Sequence[dict[str, Any]]:
    header = {"type": "header", "text": {"type": "plain_text", "text": _plain(message.title)[:HEADER_CHARACTERS]}}
    blocks: list[dict[str, Any]] = [header]
    left = MESSAGE_CHARACTERS - HEADER_CHARACTERS - SECTION_CHARACTERS // 2
    shown = 0
    for section in _sections(message):
        text = _cut(section, min(SECTION_CHARACTERS, left))
        if shown == EPISODES_SHOWN or left < SECTION_CHARACTERS // 3:
            break
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text}})
        left -= len(text)
        shown += 1
    footer = _footer(message, len(message.episodes) - shown if message.kind not in ("remediation", "notice") else 0)
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(footer, SECTION_CHARACTERS // 2)}]})
    return blocks


def _sections(message: Message) -> Iterator[str]:
    if message.kind == "notice":
        yield _fitted(message.text, SECTION_CHARACTERS)
    elif message.kind == "remediation":
        mode = "Dry run, nothing was done" if message.run_mode == "dry_run" else "Live run"
        yield f"*{mode}* ({_escaped(message.run_outcome)}): {_fitted(message.text, SECTION_CHARACTERS // 2)}"
    else:
        explained: set[str] = set()
        for episode in message.episodes:
            # The same runbook for ten portfolios is said once.
            yield _episode(episode, with_steps=episode.name not in explained)
            explained.add(episode.name)


def _episode(episode: EpisodeView, *, with_steps: bool) -> str:
    firing = episode.status == "firing"
    mark = _MARK.get(episode.labels.get("severity", ""), ":white_circle:") if firing else ":white_check_mark:"
    lines = [f"{mark} *{_fitted(episode.summary, 300)}*"]
    if firing:
        lines += _details(episode, with_steps=with_steps)
    labels = [f"{_fitted(name, 60)}={_fitted(value, 120)}" for name, value in sorted(episode.labels.items())[:_LABELS_SHOWN]]
    lines.append("_" + ", ".join(labels) + "_")
    return "\n".join(lines)


def _details(episode: EpisodeView, *, with_steps: bool) -> Iterator[str]:
    description = episode.annotations.get("description", "")
    if description:
        yield _fitted(description, 600)
    known = episode.enrichment
    for number, step in enumerate(known.steps if with_steps else (), 1):
        yield f"{number}. {_fitted(step, 300)}"
    links = [*([Link("Runbook", known.runbook_url)] if known.runbook_url else []), *known.links]
    safe = [
        f"<{_escaped(link.url)}|{_fitted(link.title, 80)}>" for link in links if web_address(link.url) and len(link.url) <= 500
    ]
    if safe:
        yield " · ".join(safe)


def _footer(message: Message, left_out: int) -> str:
    parts = [f"{_fitted(message.severity, 40)} · {message.priority}"]
    if left_out > 0:
        parts.append(f"{left_out} more alerts not shown")
    if message.truncated:
        parts.append(f"{message.truncated} alerts left out by the sender")
    if message.possible_duplicate:
        parts.append(f"attempt {message.attempt}, may be a duplicate ({message.delivery_id})")
    return " · ".join(parts)


def _plain(text: str) -> str:
    """Without control and format characters, on one line."""
    return "".join(" " if c in "\n\t\r" else c for c in text if c in "\n\t\r" or unicodedata.category(c)[0] != "C")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fitted(text: str, limit: int) -> str:
    """Escaped text of at most `limit` characters, cut between characters and not within an escape."""
    clean = "\n".join(_plain(line) for line in text[: 2 * limit].splitlines())
    escaped = _escaped(clean)
    while len(escaped) > limit:
        clean = clean[: min(len(clean) - 1, limit - 1, len(clean) * limit // len(escaped))]
        escaped = _escaped(clean) + "…"
    return escaped


def _cut(text: str, limit: int) -> str:
    """Whole lines of text already escaped, as many as fit."""
    while len(text) > limit:
        text = text.rpartition("\n")[0] if "\n" in text else "…"
    return text
