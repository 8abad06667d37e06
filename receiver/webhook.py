"""`POST /api/v1/webhook`: authenticate, parse, journal, answer. A 200 means the notification is on disk.

| answer | when |
|---|---|
| 200 | committed |
| 202 | JSON, but no usable alert: kept, and the fallback channel is told at once |
| 400 | not JSON |
| 401 | a token, or users of the web configuration file, are configured, and neither was sent |
| 413 | above 16 MiB: the first part is kept, and the fallback channel is told at once |
| 503 | the store failed, is full or too slow: Alertmanager sends it again |

Never 429: Alertmanager takes that, as every 4xx, for final until the next group flush.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from deskwatch.clock import Clock
from deskwatch.config import Secret
from deskwatch.errors import StoreUnavailable
from deskwatch.failpoint import failpoint
from deskwatch.logs import get_logger
from deskwatch.store import Store
from deskwatch.web import MAX_BODY_BYTES, correlation_id, has_users, problem, user_of
from receiver.alerts import NoAlertGroup, NotJson, examine
from receiver.journal import Arrival, EntryKind
from receiver.metrics import Metrics
from receiver.notices import keep, unusable_body
from receiver.plan import Planner

KEPT_OF_OVERSIZE_BYTES = 64 * 1024
READ_SECONDS = 30.0
"""A body not here after this long is given up."""


class TooLarge(Exception):
    """The body exceeds the limit; `start` is its first part."""

    def __init__(self, start: bytes) -> None:
        super().__init__(f"the body exceeds {MAX_BODY_BYTES} bytes")
        self.start = start


class Intake:
    """How many notifications are being taken at this moment."""

    BUSY = 8
    """From here on the worker steps back."""

    def __init__(self) -> None:
        self._under_way = 0

    def __enter__(self) -> None:
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        self._under_way -= 1

    @property
    def busy(self) -> bool:
        """Whether many are."""
        return self._under_way >= self.BUSY


@dataclass(frozen=True, slots=True)
class Webhook:
    """The handler and what it needs."""

    store: Store
    planner: Planner
    metrics: Metrics
    clock: Clock
    token: Secret | None
    ack_deadline_seconds: float
    on_accepted: Callable[[], None]
    on_noticed: Callable[[], None]
    intake: Intake

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one notification."""
        if not await self._admits(request):
            return self._answer("unauthorized", 401, "send the receiver's webhook_token as bearer token or basic password")
        try:
            async with asyncio.timeout(READ_SECONDS):
                body = await _read(request)
        except TooLarge as error:
            return await self._set_aside(request, error.start, "oversize", "too_large", 413, str(error))
        except web.RequestPayloadError as error:
            return self._answer("not_json", 400, f"the body cannot be read: {error}")
        except (TimeoutError, ConnectionError) as error:
            return self._answer("unavailable", 503, f"the body did not arrive whole: {type(error).__name__}")
        with self.intake:
            return await self._take(request, body)

    async def _admits(self, request: web.Request) -> bool:
        if self.token is not None and carries(request, self.token.get_secret_value()):
            return True
        if has_users(request):
            return await user_of(request) is not None
        return self.token is None

    async def _take(self, request: web.Request, body: bytes) -> web.Response:
        started = self.clock.monotonic()
        now = self.clock.now()
        try:
            examined = examine(body, now)
        except NotJson as error:
            get_logger().warning("a notification is not JSON", error=str(error), size_bytes=len(body))
            return self._answer("not_json", 400, str(error))
        except NoAlertGroup as error:
            return await self._set_aside(request, body, "unusable", "unusable", 202, str(error))
        arrival = Arrival(now, correlation_id(request), "group", body)
        faults = examined.faults
        why = f"{len(faults)} of the alerts of a notification cannot be read: {'; '.join(faults[:3])}"
        notice = unusable_body(self.planner, arrival, why) if faults else None
        try:
            entry_id, noticed = await self.store.write(keep(arrival, notice, now), deadline_seconds=self.ack_deadline_seconds)
        except StoreUnavailable as error:
            return self._unavailable(error)
        failpoint("webhook.after_commit")
        self.metrics.webhooks.labels("accepted").inc()
        self.metrics.alerts.inc(examined.alerts)
        self.metrics.ack_seconds.observe(self.clock.monotonic() - started)
        self.on_accepted()
        if noticed:
            self.on_noticed()
        answer = {"entry_id": entry_id, "alerts": examined.alerts, "left_out": faults[:10]}
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    async def _set_aside(
        self, request: web.Request, body: bytes, kind: EntryKind, outcome: str, status: int, why: str
    ) -> web.Response:
        """Keep a body that cannot be used and tell the fallback channel."""
        now = self.clock.now()
        arrival = Arrival(now, correlation_id(request), kind, body, detail=why[:2000])
        notice = unusable_body(self.planner, arrival, f"A notification could not be used: {why[:500]}")
        try:
            entry_id, noticed = await self.store.write(keep(arrival, notice, now), deadline_seconds=self.ack_deadline_seconds)
        except StoreUnavailable as error:
            return self._unavailable(error)
        if noticed:
            self.on_noticed()
        get_logger().error("a notification could not be used", status=status, error=why[:500], entry_id=entry_id)
        return self._answer(outcome, status, why, entry_id=entry_id)

    def _unavailable(self, error: StoreUnavailable) -> web.Response:
        get_logger().error("a notification was not stored", error=str(error))
        return self._answer("unavailable", 503, "the notification is not stored, send it again")

    def _answer(self, outcome: str, status: int, message: str, **details: int) -> web.Response:
        self.metrics.webhooks.labels(outcome).inc()
        response = problem(status, message[:1000], **details)
        if status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="deskwatch receiver", charset="UTF-8"'
        return response


async def _read(request: web.Request) -> bytes:
    """The whole body, or TooLarge with its first part as soon as it exceeds the limit."""
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise TooLarge(await _first_part(request))
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(bytes(body[:KEPT_OF_OVERSIZE_BYTES]))
    return bytes(body)


async def _first_part(request: web.Request) -> bytes:
    start = bytearray()
    async for chunk in request.content.iter_any():
        start += chunk
        if len(start) >= KEPT_OF_OVERSIZE_BYTES:
            break
    return bytes(start[:KEPT_OF_OVERSIZE_BYTES])


def carries(request: web.Request, token: str) -> bool:
    """Whether the request authenticates with the token, as bearer token or as the password of any user.

    Compared in constant time.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    secret = given.strip()
    if scheme.lower() == "basic":
        try:
            secret = base64.b64decode(secret, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            secret = ""
    matches = hmac.compare_digest(secret.encode("utf-8", "surrogateescape"), token.encode())
    return matches and scheme.lower() in ("basic", "bearer")
