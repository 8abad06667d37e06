"""ccxt's exceptions: each has one bounded reason, and no message shows a key, a signature or an address."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime

import aiohttp
import ccxt.async_support as ccxt
import pytest

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.ccxt_errors import BadSymbol, Redirected, Seen, SymbolNeeded, TooLarge, TypeUnsupported, explained

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
KEY, SECRET = "kEy-of-the-desk", "s3cret/with+signs=="


def of(error: Exception, seen: Seen | None = None) -> Exception:
    """What it means."""
    return explained(error, "kraken fetch_balance", seen or Seen(), [KEY, SECRET], NOW)


@pytest.mark.parametrize(
    ("error", "status", "kind", "reason"),
    [
        (ccxt.AuthenticationError, None, Permanent, Reason.AUTH),
        (ccxt.PermissionDenied, None, Permanent, Reason.AUTH),
        (ccxt.AccountNotEnabled, None, Permanent, Reason.AUTH),
        (ccxt.AccountSuspended, None, Permanent, Reason.AUTH),
        (ccxt.InvalidNonce, None, Retryable, Reason.AUTH),
        (ccxt.RateLimitExceeded, None, Retryable, Reason.RATE_LIMITED),
        (ccxt.DDoSProtection, None, Retryable, Reason.RATE_LIMITED),
        (ccxt.ExchangeError, 429, Retryable, Reason.RATE_LIMITED),
        (ccxt.ExchangeNotAvailable, 418, Retryable, Reason.RATE_LIMITED),
        (ccxt.RequestTimeout, None, Retryable, Reason.TIMEOUT),
        (ccxt.ExchangeNotAvailable, 503, Retryable, Reason.SERVER_ERROR),
        (ccxt.ExchangeNotAvailable, None, Retryable, Reason.SERVER_ERROR),
        (ccxt.OnMaintenance, 200, Retryable, Reason.SERVER_ERROR),
        (ccxt.ExchangeNotAvailable, 404, Permanent, Reason.NOT_FOUND),
        (ccxt.ExchangeNotAvailable, 403, Permanent, Reason.AUTH),
        (ccxt.ExchangeNotAvailable, 400, Permanent, Reason.REJECTED),
        (ccxt.ExchangeNotAvailable, 451, Permanent, Reason.REJECTED),
        (ccxt.BadResponse, None, Retryable, Reason.BAD_RESPONSE),
        (ccxt.NullResponse, None, Retryable, Reason.BAD_RESPONSE),
        (ccxt.NetworkError, None, Retryable, Reason.NETWORK),
        (ccxt.BadRequest, None, Permanent, Reason.REJECTED),
        (ccxt.RestrictedLocation, None, Permanent, Reason.REJECTED),
        (ccxt.ExchangeError, None, Retryable, Reason.REJECTED),
        (ccxt.InsufficientFunds, None, Retryable, Reason.REJECTED),
    ],
)
def test_each_class_has_its_reason(error: type[Exception], status: int | None, kind: type[Exception], reason: Reason) -> None:
    """By ccxt's hierarchy, and by the status where ccxt has one class for several."""
    found = of(error("kraken said so"), Seen(status))
    assert type(found) is kind
    assert found.reason is reason  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ccxt.BadSymbol, BadSymbol), (ccxt.ArgumentsRequired, SymbolNeeded), (ccxt.NotSupported, TypeUnsupported)],
)
def test_what_concerns_one_question_only_is_no_failure_of_the_venue(error: type[Exception], kind: type[Exception]) -> None:
    """The caller asks otherwise, or leaves it out."""
    assert type(of(error("kraken"))) is kind


@pytest.mark.parametrize(
    ("cause", "kind", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), Retryable, Reason.DNS),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), Retryable, Reason.TLS),
        (ConnectionRefusedError(111, "refused"), Retryable, Reason.REFUSED),
        (ConnectionResetError(104, "reset"), Retryable, Reason.NETWORK),
        (aiohttp.ServerDisconnectedError(), Retryable, Reason.NETWORK),
        (aiohttp.ClientPayloadError("cut short"), Retryable, Reason.NETWORK),
        (TimeoutError(), Retryable, Reason.TIMEOUT),
        (Redirected("answered 302, a redirect"), Permanent, Reason.REJECTED),
        (TooLarge("over 5 bytes"), Retryable, Reason.TOO_LARGE),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_happened_below_counts_for_more(cause: Exception, kind: type[Exception], reason: Reason, wrapped: bool) -> None:
    """ccxt calls a refused connection, a broken certificate and half an answer by classes of its own."""
    if wrapped:
        outer = aiohttp.ClientError("wrapped")
        outer.__cause__ = cause
        cause = outer
    for error in (ccxt.ExchangeNotAvailable("kraken POST https://x"), ccxt.ExchangeError("kraken POST https://x")):
        error.__cause__ = cause
        found = of(error)
        assert type(found) is kind
        assert found.reason is reason  # type: ignore[attr-defined]


@pytest.mark.parametrize("header", ["7", "Thu, 15 Jan 2026 12:00:07 GMT"])
def test_the_wait_the_venue_asked_for_is_passed_on(header: str) -> None:
    """From the last answer's headers, which ccxt does not carry in its exceptions."""
    found = of(ccxt.DDoSProtection("kraken"), Seen(429, {"retry-after": header}))
    assert isinstance(found, Retryable)
    assert found.retry_after_seconds == 7


def test_no_message_shows_a_secret_or_an_address() -> None:
    """Neither as given, nor in an address, nor signed."""
    text = (
        f"okx GET https://www.okx.com/api/v5/account?apiKey={KEY}&signature=0123456789abcdef0123456789abcdef 401 "
        f'{{"code":"50111","msg":"Invalid OK-ACCESS-KEY {KEY} {SECRET} MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="}}'
    )
    for error in (ccxt.AuthenticationError(text), ccxt.ExchangeError(text), ccxt.BadSymbol(text), ccxt.NotSupported(text)):
        said = str(of(error))
        assert "50111" in said
        for hidden in (KEY, SECRET, "www.okx.com", "0123456789abcdef", "MDEyMzQ1"):
            assert hidden not in said
        assert len(said) < 300


def test_an_answer_ccxts_own_code_trips_over_cannot_be_read() -> None:
    """A field that is no list, a number that is none: its parsers raise whatever they meet, with the data in the message."""
    found = of(KeyError(SECRET))
    assert isinstance(found, Retryable)
    assert found.reason is Reason.BAD_RESPONSE
    assert str(found) == "kraken fetch_balance: the answer cannot be read: KeyError"
