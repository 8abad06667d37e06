"""Outgoing HTTP: what each failure means, and how long to wait."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

import httpx
import pytest

from deskwatch.config import validate
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpConfig, HttpUrl, as_retryable, client, raise_for_failure, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (301, Permanent, Reason.REJECTED),
        (400, Permanent, Reason.REJECTED),
        (401, Permanent, Reason.AUTH),
        (403, Permanent, Reason.AUTH),
        (404, Permanent, Reason.NOT_FOUND),
        (407, Permanent, Reason.AUTH),
        (408, Retryable, Reason.SERVER_ERROR),
        (413, Permanent, Reason.TOO_LARGE),
        (429, Retryable, Reason.RATE_LIMITED),
        (500, Retryable, Reason.SERVER_ERROR),
        (503, Retryable, Reason.SERVER_ERROR),
    ],
)
def test_a_status_says_whether_to_try_again(status: int, kind: type[Exception], reason: Reason) -> None:
    """5xx and 429 may pass; 4xx and redirects will not."""
    with pytest.raises(kind) as caught:
        raise_for_failure(httpx.Response(status), what="the venue")
    assert caught.value.reason is reason  # type: ignore[attr-defined]
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_success_raises_nothing(status: int) -> None:
    """2xx is success."""
    raise_for_failure(httpx.Response(status), what="the venue")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2025 00:01:00 GMT", None),
        ("-5", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("999999999", 86400.0),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
        ("Thu, 01 Jan 2026 00:01:00", 60.0),
        ("Thu, 01 Jan 2026 00:01:00 +9999999999", None),
        ("Thu, 01 Jan 99999999999 00:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    """Seconds or an HTTP date (RFC 9110 10.2.3); nonsense is no wait; never more than a day."""
    assert retry_after({"retry-after": value}, NOW) == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [("Wed, 31 Dec 2025 23:00:30 GMT", 3630.0), ("yesterday", 60.0), ("Thu, 01 Jan 2026 00:02:00 GMT", None)],
)
def test_a_retry_after_date_counts_from_the_answers_own_date(date: str, seconds: float | None) -> None:
    """Whichever clock is wrong, the venue's two dates are by the same one."""
    headers = {"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT", "date": date}
    assert retry_after(headers, NOW) == seconds


async def test_an_address_that_cannot_be_reached_has_not_refused() -> None:
    """`is it running?` would be the wrong question."""
    async with client(HttpConfig(timeout_seconds=5)) as session:
        with pytest.raises(httpx.HTTPError) as caught:
            await session.get("http://255.255.255.255/")
    assert as_retryable(caught.value, what="the exporter").reason is Reason.NETWORK


@pytest.mark.parametrize("proxy", ["proxy:3128", "socks5://proxy:1080", "http://user:pw@proxy:3128"])
def test_a_proxy_is_an_http_address_without_credentials(proxy: str) -> None:
    """A fault of the configuration, not of every call; its password has a field of its own."""
    assert isinstance(validate(HttpConfig, {"proxy": proxy}), list)
    found = validate(HttpConfig, {"proxy": "http://proxy:3128", "proxy_user": "desk", "proxy_password": "s3cr3t"})
    assert isinstance(found, HttpConfig)
    assert "s3cr3t" not in repr(found)


async def test_a_refused_connection_says_so() -> None:
    """The commonest failure names its cause and leaks no address."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        async with client(HttpConfig(timeout_seconds=5)) as session:
            with pytest.raises(httpx.HTTPError) as caught:
                await session.get(url)
    failure = as_retryable(caught.value, what="the exporter")
    assert failure.reason is Reason.REFUSED
    assert str(failure) == "the exporter refused the connection: is it running?"


def test_a_timeout_is_its_own_reason() -> None:
    """Slow is not down."""
    assert as_retryable(httpx.ReadTimeout("slow"), what="the venue").reason is Reason.TIMEOUT


class Service(HttpConfig):
    """An outgoing service."""

    base_url: HttpUrl


@pytest.mark.parametrize("url", ["ftp://host", "localhost:9090", "http://", "file:///etc/passwd", "javascript:alert(1)"])
def test_only_http_addresses_are_taken(url: str) -> None:
    """An address is http or https and has a host."""
    faults = validate(Service, {"base_url": url})
    assert isinstance(faults, list)
    assert "http:// or https://" in str(faults[0])


def test_credentials_in_an_address_are_refused() -> None:
    """They would end up in logs."""
    faults = validate(Service, {"base_url": "http://user:pw@host"})
    assert isinstance(faults, list)
    assert "use the secret fields" in str(faults[0])
