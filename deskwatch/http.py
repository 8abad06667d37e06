"""Outgoing HTTP: one way to configure an address, one mapping from what went wrong to Retryable or Permanent.

Refuses to follow redirects (a redirected POST loses its body) and to call without a deadline.
"""

from __future__ import annotations

import email.utils
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, Field

from deskwatch.config import FilePath, Secret, Settings
from deskwatch.errors import Permanent, Reason, Retryable

MAX_WAIT_SECONDS = 24 * 3600.0


def checked_url(url: str) -> str:
    """The address without a trailing slash.

    Raises:
        ValueError: not http(s), no host, or it carries a user or password.
    """
    try:
        parsed = httpx.URL(url)
        urlsplit(url)  # refuses a bracket left open in the host, which httpx takes for a name
    except (httpx.InvalidURL, ValueError):
        raise ValueError("must be an http:// or https:// address with a host") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("must be an http:// or https:// address with a host")
    if parsed.userinfo:
        raise ValueError("must not carry a user or password: use the secret fields")
    return url.rstrip("/")


def _checked_secret(value: Secret) -> Secret:
    checked_url(value.get_secret_value())
    return value


SecretUrl = Annotated[Secret, AfterValidator(_checked_secret)]
"""An http(s) address that is itself a secret, as an incoming webhook's is: never shown."""

HttpUrl = Annotated[str, AfterValidator(checked_url)]
"""An http(s) address without credentials and without a trailing slash."""


class HttpConfig(Settings):
    """How an outgoing service is reached."""

    timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    """Deadline of one call, from connect to last byte."""
    ca_file: FilePath | None = None
    """PEM file of the authority that signed the service's certificate; the system's by default."""
    proxy: str | None = None
    """`http://host:port` of a forward proxy."""


def client(config: HttpConfig, *, base_url: str = "", headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A pooled client for one service; close it with `aclose`."""
    verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(config.ca_file)) if config.ca_file else True
    return httpx.AsyncClient(
        base_url=base_url,
        headers=dict(headers or {}),
        timeout=config.timeout_seconds,
        verify=verify,
        proxy=config.proxy,
        follow_redirects=False,
        trust_env=False,
    )


def raise_for_failure(response: httpx.Response, *, what: str, now: datetime | None = None) -> None:
    """Raise where the status is not 2xx.

    Args:
        response: the answer.
        what: the service, for the message.
        now: wall time for a `Retry-After` given as a date.

    Raises:
        Retryable: 408, 425, 429, 5xx; carries `Retry-After` in seconds.
        Permanent: any other status, redirects included.
    """
    raise_for_status(response.status_code, response.headers, what=what, said=response.reason_phrase, now=now)


def raise_for_status(
    status: int, headers: Mapping[str, str], *, what: str, said: str = "", now: datetime | None = None
) -> None:
    """As `raise_for_failure`, for clients with an answer type of their own. `said` must hold no secret."""
    if 200 <= status < 300:
        return
    text = f"{what} answered {status} {said}".strip()
    if status == 429:
        raise Retryable(text, reason=Reason.RATE_LIMITED, retry_after_seconds=retry_after(headers, now))
    if status >= 500 or status in (408, 425):
        raise Retryable(text, reason=Reason.SERVER_ERROR, retry_after_seconds=retry_after(headers, now))
    if status in (401, 403):
        raise Permanent(f"{text}: check its credentials", reason=Reason.AUTH)
    if status in (404, 410):
        raise Permanent(f"{text}: check its address", reason=Reason.NOT_FOUND)
    if status == 413:
        raise Permanent(text, reason=Reason.TOO_LARGE)
    raise Permanent(text, reason=Reason.REJECTED)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait from `Retry-After`, given as seconds or as a date; None where absent or senseless.

    Source: RFC 9110 section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (until - (now or datetime.now(UTC))).total_seconds()
    return min(seconds, MAX_WAIT_SECONDS) if 0 <= seconds < float("inf") else None


def as_retryable(error: httpx.HTTPError, *, what: str) -> Retryable:
    """What a transport failure means, with a bounded reason and no address that could hold a secret."""
    if isinstance(error, httpx.TimeoutException):
        return Retryable(f"{what} did not answer in time", reason=Reason.TIMEOUT)
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return Retryable(f"{what}: its host name does not resolve", reason=Reason.DNS)
        if isinstance(cause, ssl.SSLError):
            return Retryable(f"{what}: TLS failed: {cause.reason or 'handshake'}", reason=Reason.TLS)
        if isinstance(cause, ConnectionRefusedError):
            return Retryable(f"{what} refused the connection: is it running?", reason=Reason.REFUSED)
    if isinstance(error, httpx.ConnectError) and "connection attempts failed" in str(error).lower():
        return Retryable(f"{what} refused the connection: is it running?", reason=Reason.REFUSED)
    return Retryable(f"{what}: {type(error).__name__}", reason=Reason.NETWORK)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        if isinstance(seen, BaseExceptionGroup):
            for inner in seen.exceptions:
                yield from _causes(inner)
        seen = seen.__cause__ or seen.__context__
