"""Outgoing HTTP: one way to configure an address, one mapping from what went wrong to Retryable or Permanent.

Refuses to follow redirects (a redirected POST loses its body) and to call without a deadline.
"""

from __future__ import annotations

import email.utils
import errno
import hashlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Self
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from deskwatch.config import CrossFault, LoadedFile, Secret, Settings
from deskwatch.errors import Permanent, Reason, Retryable

MAX_WAIT_SECONDS = 24 * 3600.0
MOST_CONNECTIONS = 100
KEPT_CONNECTIONS = 20
IDLE_SECONDS = 30.0
"""An unused connection is kept so long: from one fetch to the next, and less than the minute after which servers close them."""


_NETWORK_ERRNOS = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENETRESET, errno.EADDRNOTAVAIL}
)


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
    ca_file: LoadedFile | None = None
    """PEM file of the authority that signed the service's certificate; the system's by default."""
    proxy: HttpUrl | None = None
    """`http://host:port` of a forward proxy."""
    proxy_user: str | None = None
    """The proxy's user, where it wants one."""
    proxy_password: Secret | None = None
    _authority: str = PrivateAttr(default="")
    """Digest of what stands in `ca_file`: under another authority this is another configuration, which a reload notices."""

    @model_validator(mode="after")
    def _read_authority(self) -> Self:
        if self.ca_file is None:
            return self
        try:
            self._authority = hashlib.sha256(self.ca_file.read_bytes()).hexdigest()
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.ca_file)
        except ssl.SSLError:
            raise CrossFault([(["ca_file"], f"{self.ca_file} holds no usable PEM certificate")]) from None
        except OSError as error:
            raise CrossFault([(["ca_file"], f"cannot read {self.ca_file}: {error.strerror}")]) from None
        return self


def client(
    config: HttpConfig, *, base_url: str = "", headers: Mapping[str, str] | None = None, verify_certificate: bool = True
) -> httpx.AsyncClient:
    """A pooled client for one service; close it with `aclose`.

    `verify_certificate` may be false only for a service on this machine, whose certificate nobody has signed.
    """
    verify = _trusted(config) if verify_certificate else False
    return httpx.AsyncClient(
        base_url=base_url,
        headers=dict(headers or {}),
        timeout=config.timeout_seconds,
        verify=verify,
        proxy=_proxy(config, verify),
        limits=httpx.Limits(
            max_connections=MOST_CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=IDLE_SECONDS
        ),
        follow_redirects=False,
        trust_env=False,
    )


def _trusted(config: HttpConfig) -> ssl.SSLContext | bool:
    """Whom to trust: the authority configured, else the system's, else those that come with httpx."""
    if config.ca_file:
        found = config.ca_file.stat()
        return _context(str(config.ca_file), found.st_mtime_ns, found.st_size)
    system = ssl.get_default_verify_paths()
    return _context(None) if system.cafile or system.capath else True


@lru_cache(maxsize=16)
def _context(ca_file: str | None, *_version: int) -> ssl.SSLContext:
    """Shared by all clients that trust the same: reading a system's authorities takes 40 ms and a megabyte."""
    return ssl.create_default_context(cafile=ca_file)


def _proxy(config: HttpConfig, verify: ssl.SSLContext | bool) -> httpx.Proxy | None:
    if config.proxy is None:
        return None
    password = config.proxy_password.get_secret_value() if config.proxy_password else ""
    auth = (config.proxy_user, password) if config.proxy_user else None
    context = verify if config.proxy.startswith("https") and isinstance(verify, ssl.SSLContext) else None
    return httpx.Proxy(config.proxy, auth=auth, ssl_context=context)


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
    if status == 407:
        raise Permanent(f"{text}: check proxy_user and proxy_password", reason=Reason.AUTH)
    if 300 <= status < 400:
        raise Permanent(f"{text}, a redirect: check its address", reason=Reason.REJECTED)
    if status in (404, 410):
        raise Permanent(f"{text}: check its address", reason=Reason.NOT_FOUND)
    if status == 413:
        raise Permanent(text, reason=Reason.TOO_LARGE)
    raise Permanent(text, reason=Reason.REJECTED)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait from `Retry-After`, given as seconds or as a date; None where absent or senseless.

    A date counts from the answer's own `Date`, so that it does not matter whose clock is wrong; from `now` where it has none.
    Source: RFC 9110 section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = _http_date(value)
        if until is None:
            return None
        seconds = (until - (_http_date(headers.get("date", "")) or now or datetime.now(UTC))).total_seconds()
    return min(seconds, MAX_WAIT_SECONDS) if 0 <= seconds < float("inf") else None


def _http_date(value: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def transport_reason(error: BaseException) -> Reason | None:
    """Why a connection failed, whichever library says so; None where the error is none of a connection."""
    for cause in _causes(error):
        if isinstance(cause, httpx.TimeoutException | TimeoutError):
            return Reason.TIMEOUT
        if isinstance(cause, socket.gaierror):
            return Reason.DNS
        if isinstance(cause, ssl.SSLError):
            return Reason.TLS
        if isinstance(cause, ConnectionRefusedError):
            return Reason.REFUSED
    known = any(isinstance(cause, httpx.TransportError | ConnectionError) or _is_of_network(cause) for cause in _causes(error))
    return Reason.NETWORK if known else None


def _is_of_network(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _NETWORK_ERRNOS


def as_retryable(error: httpx.HTTPError, *, what: str) -> Retryable:
    """What a transport failure means, with a bounded reason and no address that could hold a secret."""
    reason = transport_reason(error) or Reason.NETWORK
    said = {
        Reason.TIMEOUT: " did not answer in time",
        Reason.DNS: ": its host name does not resolve",
        Reason.TLS: f": TLS failed: {_tls_fault(error)}",
        Reason.REFUSED: " refused the connection: is it running?",
    }
    return Retryable(f"{what}{said.get(reason, f': {type(error).__name__}')}", reason=reason)


def _tls_fault(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{cause.verify_message}: is ca_file needed?"
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason
    return "handshake"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on; of a group all members. What merely happened before it counts for nothing."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop(0)
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        # httpcore raises its errors `from None` once they leave its pool.
        own = type(found).__module__.partition(".")[0] == "httpcore"
        waiting.append(found.__context__ if own else found.__cause__)
