"""One venue's HTTP: a pooled client, its rate limit before each call, and every way a call can fail as a bounded reason.

What comes back is parsed JSON with numbers exact: a fraction is a Decimal as written, never a float. Refuses HTML, bodies that
are cut off, empty or larger than `MAX_BYTES`, and redirects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import httpx

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpConfig, as_retryable, raise_for_status
from deskwatch.venues.body import ACCEPTED, read_body
from deskwatch.venues.exact_json import NotJson, parse
from deskwatch.venues.quota import Quota
from deskwatch.venues.session import Session

MAX_BYTES = 64 * 1024 * 1024
"""Largest body read; the largest known honest one is an exchange's list of markets, 15 MB."""
THREAD_BYTES = 256 * 1024
"""Bodies from here on are parsed in a thread: the event loop must not wait for them."""

Parameters: TypeAlias = Mapping[str, str | int]
Refusal: TypeAlias = Callable[[int, Mapping[str, str], Any], Retryable | Permanent | None]
"""What a venue's own error body means: (status, headers, parsed body or None) to an error, or None for the usual reading."""


class Wire:
    """Calls to one venue.

    Args:
        what: the venue, for messages; no secret.
        config: certificate, proxy, deadline of one call.
        base_url: address every path is appended to.
        clock: wall time, for a `Retry-After` given as a date.
        quota: asked before each call and blocked when the venue says 429 or 418; None where there is no limit.
        headers: sent with each call.
        auth: signs each request.
        learn: told the headers of every answer.
        refuse: knows the venue's own error bodies; asked for every status that is not 2xx, and for 2xx too.
        verify_certificate: false only for a venue's program on this machine, whose certificate nobody has signed.
    """

    def __init__(
        self,
        what: str,
        config: HttpConfig,
        clock: Clock,
        *,
        base_url: str,
        quota: Quota | None = None,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        learn: Callable[[Mapping[str, str]], None] | None = None,
        refuse: Refusal | None = None,
        verify_certificate: bool = True,
    ) -> None:
        self._what = what
        self._config = config
        self._clock = clock
        self._quota = quota
        self._auth = auth
        self._learn = learn
        self._refuse = refuse
        self._session = Session(
            what,
            config,
            base_url=base_url,
            headers={**ACCEPTED, **(headers or {})},
            verify_certificate=verify_certificate,
        )

    async def get(self, path: str, parameters: Parameters | None = None, *, weight: float = 1.0) -> Any:
        """The parsed JSON body of a GET.

        Raises:
            Retryable: no answer, 429, 418, 5xx, or an answer that is not JSON.
            Permanent: refused: credentials, address, parameters.
        """
        return await self._call("GET", path, parameters, None, weight)

    async def post(self, path: str, content: Any = None, *, parameters: Parameters | None = None, weight: float = 1.0) -> Any:
        """The parsed JSON body of a POST with a JSON body. Raises as `get`."""
        return await self._call("POST", path, parameters, content, weight)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._session.close()

    async def _call(self, method: str, path: str, parameters: Parameters | None, content: Any, weight: float) -> Any:
        if self._quota is not None:
            self._quota.take(weight)
        what = f"{self._what} {method} {path}"
        status, headers, body = await self._exchange(method, path, parameters, content, what)
        if self._learn is not None:
            self._learn(headers)
        try:
            parsed = await _parsed(body, headers, what)
        except Retryable as unreadable:
            self._raise_for(status, headers, None, what)
            raise unreadable from None
        self._raise_for(status, headers, parsed, what)
        return parsed

    def _raise_for(self, status: int, headers: Mapping[str, str], parsed: Any, what: str) -> None:
        """What the status, or the venue's own error body, means. It counts for more than a body that cannot be read."""
        refusal = self._refuse(status, headers, parsed) if self._refuse is not None else None
        if refusal is not None:
            raise self._counted(refusal)
        try:
            raise_for_status(status, headers, what=what, said=_said(parsed), now=self._clock.now())
        except (Retryable, Permanent) as error:
            raise self._counted(error) from None

    def _counted(self, error: Retryable | Permanent) -> Retryable | Permanent:
        """The error; where the venue said how long to stay away, the quota knows it too."""
        if isinstance(error, Retryable) and error.reason is Reason.RATE_LIMITED and self._quota is not None:
            self._quota.block(error.retry_after_seconds or 1.0)
        return error

    async def _exchange(
        self, method: str, path: str, parameters: Parameters | None, content: Any, what: str
    ) -> tuple[int, Mapping[str, str], bytes | bytearray | Retryable]:
        """Status, headers, and the body or why it could not be read."""
        try:
            async with (
                self._session.lent() as lent,
                asyncio.timeout(self._config.timeout_seconds),
                lent.stream(
                    method,
                    path,
                    params=None if parameters is None else dict(parameters),
                    json=content,
                    auth=self._auth or httpx.USE_CLIENT_DEFAULT,
                ) as response,
            ):
                return response.status_code, response.headers, await _read(response, what)
        except TimeoutError:
            raise Retryable(f"{what} did not answer in time", reason=Reason.TIMEOUT) from None
        except httpx.HTTPError as error:
            failure = as_retryable(error, what=what)
            if failure.reason is Reason.TLS:
                self._session.doubt()
            raise failure from None
        except (UnicodeError, httpx.InvalidURL):
            raise Permanent(f"{what}: a parameter cannot be sent as it is", reason=Reason.REJECTED) from None


async def _read(response: httpx.Response, what: str) -> bytearray | Retryable:
    """The body, or why it could not be read: that is for the status to decide, which counts for more."""
    try:
        return await read_body(response, what, MAX_BYTES)
    except Retryable as unreadable:
        return unreadable
    except httpx.TimeoutException:
        raise
    except httpx.HTTPError as error:
        return as_retryable(error, what=what)


async def _parsed(body: bytes | bytearray | Retryable, headers: Mapping[str, str], what: str) -> Any:
    """The JSON value.

    Raises:
        Retryable: the body ended early, or is HTML, cut off, empty, or anything else that is not JSON: reason `bad_response`.
    """
    if isinstance(body, Retryable):
        raise body
    try:
        if len(body) >= THREAD_BYTES:
            return await asyncio.to_thread(parse, body)
        return parse(body)
    except NotJson:
        kind = headers.get("content-type", "no content type").partition(";")[0]
        said = "HTML" if "html" in kind or body.lstrip()[:1] == b"<" else f"{len(body)} bytes of {kind}"
        raise Retryable(f"{what} answered {said}, which is not JSON", reason=Reason.BAD_RESPONSE) from None


def _said(parsed: Any) -> str:
    """The venue's own words about a failure, cut short; they hold no secret of ours unless the venue repeats one."""
    if isinstance(parsed, Mapping):
        for key in ("message", "msg", "error"):
            if isinstance(parsed.get(key), str):
                return str(parsed[key])[:120]
    return ""
