"""A server with Prometheus's query API (Prometheus, Thanos, Mimir, VictoriaMetrics): instant queries, their samples as written.

Refuses what is no instant answer: another `resultType` than the caller can use, a sample without a time, an error body.
Source: prometheus.io/docs/prometheus/latest/querying/api, "Instant queries" and "Expression query result formats".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpConfig
from deskwatch.venues.wire import Wire

QUERY = "/api/v1/query"
LONGEST_EXPRESSION = 4000
"""The expression travels in the address; a proxy in front of the server may refuse longer ones."""
THREAD_SAMPLES = 2000
"""Answers with more series are checked in a thread: the event loop must not wait for them."""
ResultType = Literal["vector", "scalar", "matrix"]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one series: `at` Unix seconds as written, `value` the text Prometheus wrote, `NaN` and `+Inf` included."""

    labels: Mapping[str, str]
    at: Any
    value: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What an expression evaluated to, and what the server remarked on it."""

    type: ResultType
    series: int
    points: tuple[Point, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """How the server knows us: a bearer token, a user with a password, a tenant. All optional."""

    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tenant: str | None = None


class PrometheusServer:
    """Asks one server.

    Args:
        base_url: address up to, without, `/api/v1`.
        config: certificate, proxy, deadline of one call.
        clock: wall time, for a `Retry-After` given as a date.
        login: how the server knows us.
    """

    def __init__(self, base_url: str, config: HttpConfig, clock: Clock, login: Login) -> None:
        headers = {"Authorization": f"Bearer {login.token}"} if login.token else {}
        headers |= {"X-Scope-OrgID": login.tenant} if login.tenant else {}
        auth = httpx.BasicAuth(login.username, login.password or "") if login.username else None
        self._wire = Wire("Prometheus", config, clock, base_url=base_url, headers=headers, auth=auth, refuse=_refusal)

    async def query(self, expression: str) -> Answer:
        """Evaluate the expression now, by the server's clock.

        Raises:
            Retryable: no answer, too busy, or an answer that is none of the query API's.
            Permanent: the expression cannot be evaluated, or we are not let in.
        """
        body = await self._wire.get(QUERY, {"query": expression})
        data = body.get("data") if isinstance(body, Mapping) else None
        if not isinstance(data, Mapping) or body.get("status") != "success":
            raise _strange("no `data` of a successful query")
        result = data.get("result")
        if isinstance(result, list) and len(result) > THREAD_SAMPLES:
            return await asyncio.to_thread(_answer, data.get("resultType"), result, _remarks(body))
        return _answer(data.get("resultType"), result, _remarks(body))

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()


def _answer(kind: Any, result: Any, remarks: tuple[str, ...]) -> Answer:
    if not isinstance(result, list):
        raise _strange(f"a result that is no list but {type(result).__name__}")
    if kind == "scalar":
        return Answer(kind, 1, (_point({}, result),), remarks)
    if kind in ("vector", "matrix"):
        return Answer(kind, len(result), tuple(point for series in result for point in _points(kind, series)), remarks)
    if kind == "string":
        raise Permanent("evaluates to text, which is no number", reason=Reason.REJECTED)
    raise _strange(f"resultType {str(kind)[:40]!r}")


def _points(kind: str, series: Any) -> Iterator[Point]:
    labels = series.get("metric") if isinstance(series, Mapping) else None
    if not isinstance(labels, Mapping) or not all(isinstance(value, str) for value in labels.values()):
        raise _strange("a series without labels")
    if series.keys() & {"histogram", "histograms"}:
        raise Permanent("evaluates to native histograms: take a quantile of them, which is a number", reason=Reason.REJECTED)
    pairs = series.get("values") if kind == "matrix" else [series.get("value")]
    if not isinstance(pairs, list):
        raise _strange("a series without values")
    for pair in pairs:
        yield _point(labels, pair)


def _point(labels: Mapping[str, str], pair: Any) -> Point:
    """`[<unix time>, "<value>"]`."""
    if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str):
        return Point(labels, pair[0], pair[1])
    raise _strange("a value that is no pair of time and text")


def _strange(what: str) -> Retryable:
    return Retryable(f"Prometheus answered {what}: is base_url a Prometheus?", reason=Reason.BAD_RESPONSE)


def _remarks(body: Mapping[str, Any]) -> tuple[str, ...]:
    found = [*(body.get("warnings") or ()), *(body.get("infos") or ())]
    return tuple(str(each)[:200] for each in found)


def _refusal(status: int, headers: Mapping[str, str], parsed: Any) -> Retryable | Permanent | None:
    """What `{"status": "error", "errorType": ..., "error": ...}` means; None where the status says it all."""
    if not isinstance(parsed, Mapping) or parsed.get("status") != "error" or status in (401, 403, 404, 429):
        return None
    said = f"{parsed.get('errorType')}: {parsed.get('error')}"[:300]
    match parsed.get("errorType"):
        case "bad_data" | "execution":
            return Permanent(f"the server cannot evaluate it: {said}", reason=Reason.REJECTED)
        case "timeout" | "canceled":
            return Retryable(f"the server gave up on it: {said}", reason=Reason.TIMEOUT)
    return None
