"""What ccxt's exceptions mean: each as Retryable or Permanent with a bounded reason, and no secret in the message.

ccxt puts whole addresses into its messages, with keys and signatures in their query, and whole bodies. What is left of them
here is the venue's own words, cut short. Refuses to pass on an exception of ccxt's or of its HTTP client.
Source: ccxt manual, "Error Handling"; docs.ccxt.com/docs/manual#error-handling.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import retry_after

LONGEST_SAID = 160
"""Characters of the venue's own words that are shown."""
_ADDRESS = re.compile(r"\w+://\S+")
_LONG_WORD = re.compile(r"[A-Za-z0-9+/=_\-]{24,}")
"""A key, a signature, an id: nothing a person needs to understand what went wrong."""
_LOGIN = re.compile(r"invalid (api.?)?(key|sign|signature)\b|passphrase|api.?key", re.IGNORECASE)
"""Words of a refused login in an error ccxt has no class for, as Kraken's "EAPI:Invalid signature"."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last answer was, as far as there was one; the venue's headers by lower-case name."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class BadSymbol(Exception):
    """The venue does not know this symbol, or trades it no more: the others can still be asked for."""


class TypeUnsupported(Exception):
    """ccxt cannot ask this of the venue, for this type of market."""


class SymbolNeeded(Exception):
    """The venue answers this only for one symbol."""


class Redirected(aiohttp.ClientError):
    """The venue sent us elsewhere; the key does not go there."""


class TooLarge(aiohttp.ClientError):
    """A body nobody should read."""


def explained(error: BaseException, what: str, seen: Seen, secrets: Collection[str], now: datetime) -> Exception:
    """The error as ours.

    Args:
        error: what ccxt raised, or its own code did over an answer it did not expect.
        what: exchange and call, for the message.
        seen: the last answer.
        secrets: texts that must not be shown.
        now: wall time, for a `Retry-After` given as a date.
    """
    names = [each.__name__ for each in type(error).__mro__]
    if "BaseError" not in names:
        return Retryable(f"{what}: the answer cannot be read: {type(error).__name__}", reason=Reason.BAD_RESPONSE)
    said = f"{what}: {type(error).__name__}: {_said(str(error), secrets)}".rstrip(": ")
    if "BadSymbol" in names:
        return BadSymbol(said)
    if "ArgumentsRequired" in names:
        return SymbolNeeded(said)
    if "NotSupported" in names:
        return TypeUnsupported(said)
    below = _from_transport(error, what)
    if below is not None:
        return below
    return _by_class(names, said, seen, now)


def _by_class(names: Collection[str], said: str, seen: Seen, now: datetime) -> Retryable | Permanent:
    """By ccxt's hierarchy, the most special class first."""
    wait = retry_after(seen.headers, now)
    if {"DDoSProtection", "RateLimitExceeded"} & set(names) or seen.status in (418, 429):
        return Retryable(said, reason=Reason.RATE_LIMITED, retry_after_seconds=wait)
    if "InvalidNonce" in names:
        return Retryable(f"{said}: is this machine's clock right, and the key used by nobody else?", reason=Reason.AUTH)
    if "AuthenticationError" in names:
        return Permanent(f"{said}: check its credentials", reason=Reason.AUTH)
    if "RequestTimeout" in names:
        return Retryable(said, reason=Reason.TIMEOUT)
    if "ExchangeNotAvailable" in names:
        return _not_available(said, seen.status, wait)
    if "BadResponse" in names:
        return Retryable(said, reason=Reason.BAD_RESPONSE)
    if "NetworkError" in names:
        return Retryable(said, reason=Reason.NETWORK)
    if {"BadRequest", "OperationRejected", "InvalidProxySettings"} & set(names):
        return Permanent(said, reason=Reason.REJECTED)
    if _LOGIN.search(said):
        return Permanent(f"{said}: check its credentials", reason=Reason.AUTH)
    return Retryable(said, reason=Reason.REJECTED)


def _not_available(said: str, status: int | None, wait: float | None) -> Retryable | Permanent:
    """ccxt calls every status it has no other word for "not available", also 400 and 404."""
    match status:
        case 404 | 410:
            return Permanent(f"{said}: check its address", reason=Reason.NOT_FOUND)
        case 401 | 403:
            return Permanent(f"{said}: check its credentials and the addresses the key may be used from", reason=Reason.AUTH)
        case 400 | 405 | 409 | 451:
            return Permanent(said, reason=Reason.REJECTED)
    return Retryable(said, reason=Reason.SERVER_ERROR, retry_after_seconds=wait)


def _from_transport(error: BaseException, what: str) -> Retryable | Permanent | None:
    """What happened below ccxt, where something did; its own class for it says less, or something else."""
    causes = list(_causes(error))
    known = next((found for cause in causes if (found := _from_cause(cause, what)) is not None), None)
    below = next((cause for cause in causes if isinstance(cause, aiohttp.ClientError | OSError)), None)
    if known is not None or below is None:
        return known
    return Retryable(f"{what}: {type(below).__name__}", reason=Reason.NETWORK)


def _from_cause(cause: BaseException, what: str) -> Retryable | Permanent | None:
    if isinstance(cause, socket.gaierror | aiohttp.ClientConnectorDNSError):
        return Retryable(f"{what}: its host name does not resolve", reason=Reason.DNS)
    if isinstance(cause, ssl.SSLError | aiohttp.ClientSSLError):
        return Retryable(f"{what}: TLS failed: {getattr(cause, 'reason', None) or 'handshake'}", reason=Reason.TLS)
    if isinstance(cause, ConnectionRefusedError):
        return Retryable(f"{what} refused the connection: is it running?", reason=Reason.REFUSED)
    if isinstance(cause, Redirected):
        return Permanent(f"{what}: {cause}", reason=Reason.REJECTED)
    if isinstance(cause, TooLarge):
        return Retryable(f"{what}: {cause}", reason=Reason.TOO_LARGE)
    if isinstance(cause, TimeoutError):
        return Retryable(f"{what} did not answer in time", reason=Reason.TIMEOUT)
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return Retryable(f"{what}: the proxy answered {cause.status}", reason=Reason.NETWORK)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _said(text: str, secrets: Collection[str]) -> str:
    """The venue's words without addresses, secrets and anything that looks like one."""
    for secret in secrets:
        text = text.replace(secret, "...")
    text = _LONG_WORD.sub("...", _ADDRESS.sub("...", text))
    return " ".join(text.split())[:LONGEST_SAID]
