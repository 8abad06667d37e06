"""What Binance asks of a signed request: the time by its own clock, and an HMAC over exactly the query that is sent.

Knows the venue's time without trusting this machine's wall clock: it is measured once against the monotonic one.
Source: github.com/binance/binance-spot-api-docs, rest-api.md, "SIGNED endpoint security"; developers.binance.com, USDS-margined
futures, "General Info" (the same scheme).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Generator
from dataclasses import dataclass

import httpx

from deskwatch.clock import Clock
from deskwatch.config import Secret

WINDOW_SECONDS = 60
"""Weights are counted by the minute of the venue's clock."""


@dataclass(frozen=True, slots=True)
class Access:
    """A key that may read. `recv_window_ms`: a request that arrives later than that after its timestamp is refused."""

    key: Secret
    secret: Secret
    recv_window_ms: int = 5_000


class VenueClock:
    """Time as the venue counts it, in milliseconds since 1970; this machine's wall clock before it has been measured."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_zero_ms: float | None = None
        self.measured = 0
        """How often it has been measured: a refusal for a wrong time is answered by one measurement, however many met it."""

    def set(self, server_ms: int, asked: float, answered: float) -> None:
        """Take over a measurement: what the venue said, and our monotonic time before asking and after the answer."""
        self._at_zero_ms = server_ms - (asked + answered) / 2 * 1000
        self.measured += 1

    def now_ms(self) -> int:
        """The venue's time now."""
        if self._at_zero_ms is None:
            return int(self._clock.now().timestamp() * 1000)
        return int(self._at_zero_ms + self._clock.monotonic() * 1000)

    def window_left_seconds(self) -> float:
        """Seconds until the venue counts weights anew."""
        return WINDOW_SECONDS - self.now_ms() / 1000 % WINDOW_SECONDS


class Signature(httpx.Auth):
    """Adds `recvWindow`, `timestamp` and, last, the `signature` of all before it to a request's query."""

    def __init__(self, access: Access, now_ms: Callable[[], int]) -> None:
        self._access = access
        self._now_ms = now_ms

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The request, signed."""
        stamp = f"recvWindow={self._access.recv_window_ms}&timestamp={self._now_ms()}".encode()
        given = request.url.query
        url = request.url.copy_with(query=given + b"&" + stamp if given else stamp)
        # Read back: signed is what goes over the wire, whatever httpx makes of a query.
        signature = hmac.new(self._access.secret.get_secret_value().encode(), url.query, hashlib.sha256).hexdigest()
        request.url = url.copy_with(query=url.query + b"&signature=" + signature.encode())
        request.headers["X-MBX-APIKEY"] = self._access.key.get_secret_value()
        yield request
