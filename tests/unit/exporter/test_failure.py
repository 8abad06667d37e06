"""Every exception that can end a fetch has a bounded reason, and words without a secret."""

from __future__ import annotations

import errno
import socket
import ssl

import aiohttp
import httpx
import pytest

from deskwatch.errors import Permanent, Reason, Retryable, Throttled
from exporter import cells
from exporter.cells import Unreadable
from exporter.failure import failure_of
from exporter.records import Fields

LIMITED = Retryable("429", reason=Reason.RATE_LIMITED, retry_after_seconds=30)
DOWN = Retryable("down", reason=Reason.REFUSED)
REFUSED = Permanent("wrong key", reason=Reason.AUTH)


def caused(error: Exception, cause: BaseException) -> Exception:
    """As a library raises it."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), Reason.TIMEOUT),
        (httpx.ReadTimeout("x"), Reason.TIMEOUT),
        (OSError(errno.ETIMEDOUT, "x"), Reason.TIMEOUT),
        (caused(ValueError("cannot ask"), TimeoutError()), Reason.TIMEOUT),
        (socket.gaierror(-2, "x"), Reason.DNS),
        (caused(httpx.ConnectError("x"), socket.gaierror(-2, "x")), Reason.DNS),
        (ssl.SSLCertVerificationError("x"), Reason.TLS),
        (caused(aiohttp.ClientError("x"), ssl.SSLError("x")), Reason.TLS),
        (ConnectionRefusedError(), Reason.REFUSED),
        (ExceptionGroup("all addresses", [ConnectionRefusedError(), ConnectionRefusedError()]), Reason.REFUSED),
        (ConnectionResetError(), Reason.NETWORK),
        (OSError(errno.ENETUNREACH, "x"), Reason.NETWORK),
        (httpx.RemoteProtocolError("x"), Reason.NETWORK),
        (FileNotFoundError("x"), Reason.INTERNAL),
        (KeyError("x"), Reason.INTERNAL),
        (RecursionError(), Reason.INTERNAL),
    ],
    ids=repr,
)
def test_what_a_library_raises_has_a_reason(error: Exception, reason: Reason) -> None:
    """Its own words stay in the log: they may hold an address with a password."""
    failure = failure_of(error)
    assert failure.reason is reason
    assert failure.unforeseen
    assert "see the log" in failure.message


def test_what_happened_before_a_mistake_is_not_its_cause() -> None:
    """A mistake made while handling a timeout is a mistake."""
    error = ZeroDivisionError()
    error.__context__ = TimeoutError()
    assert failure_of(error).reason is Reason.INTERNAL


def test_what_a_source_raises_itself_is_taken_as_it_is() -> None:
    """Reason, words, wait."""
    assert failure_of(LIMITED).asked_seconds == 30
    assert (failure_of(REFUSED).reason, failure_of(REFUSED).message) == (Reason.AUTH, "wrong key")
    throttled = failure_of(Throttled("quota", retry_after_seconds=2))
    assert (throttled.reason, throttled.asked_seconds, throttled.throttled) == (Reason.RATE_LIMITED, 2, True)
    assert not failure_of(LIMITED).throttled


@pytest.mark.parametrize(
    ("errors", "reason", "asked"),
    [
        ([DOWN, LIMITED], Reason.RATE_LIMITED, 30),
        ([Throttled("quota", retry_after_seconds=5), DOWN], Reason.REFUSED, None),
        ([Throttled("quota", retry_after_seconds=5), Throttled("quota", retry_after_seconds=9)], Reason.RATE_LIMITED, 9),
        ([DOWN, ExceptionGroup("inner", [KeyError("x"), LIMITED])], Reason.INTERNAL, None),
        ([ExceptionGroup("inner", [REFUSED])], Reason.AUTH, None),
    ],
)
def test_of_several_at_once_the_one_that_matters_most_counts(
    errors: list[Exception], reason: Reason, asked: float | None
) -> None:
    """A source that asks for several things at once fails with a group."""
    failure = failure_of(ExceptionGroup("several", errors))
    assert (failure.reason, failure.asked_seconds) == (reason, asked)


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        ({}, Reason.MISSING_FIELD, "cash=None: missing"),
        ({"cash": "much"}, Reason.BAD_RESPONSE, "cash='much': not_a_number"),
        ([], Reason.BAD_RESPONSE, "record=[]: not_an_object"),
    ],
)
def test_a_field_outside_a_list_of_records_fails_the_fetch(record: object, reason: Reason, said: str) -> None:
    """An account without its cash: which field, what stands there."""
    with pytest.raises(Unreadable) as raised:
        Fields(record).number("cash")
    failure = failure_of(raised.value)
    assert (failure.reason, failure.message, failure.unforeseen) == (reason, f"the answer cannot be used: {said}", False)


def test_a_value_without_a_field_fails_the_fetch() -> None:
    """A reader asked directly."""
    with pytest.raises(Unreadable) as raised:
        cells.number("much")
    assert failure_of(raised.value).reason is Reason.BAD_RESPONSE
