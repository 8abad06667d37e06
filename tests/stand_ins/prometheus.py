"""Prometheus's query API: instant queries by GET or POST form, results by expression, errors as `{"status": "error", ...}`.

Source: prometheus.io/docs/prometheus/latest/querying/api, "Instant queries". What a real server answers is held beside it in
tests/stack/test_prometheus_source.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer

QUERY = "/api/v1/query"
MIMIR_TOO_MANY = answer(
    {"status": "error", "errorType": "too_many_requests", "error": "the request has been rejected"}, 429, Retry_After="1"
)
TIMED_OUT = answer({"status": "error", "errorType": "timeout", "error": "query timed out in expression evaluation"}, 503)
"""Prometheus's own, when an expression takes longer than `query.timeout`."""


class Prometheus(Venue):
    """One server."""

    def __init__(self, token: str = "") -> None:
        super().__init__()
        self.vectors: dict[str, list[tuple[Mapping[str, str], str]]] = {}
        """Expression to labels and value; an expression that is not here has no series."""
        self._token = token

    @property
    def expressions(self) -> list[str]:
        """What was asked, in order."""
        return [request.query["query"] for request in self.asked(QUERY)]

    def respond(self, request: Received) -> Answer:
        """As the real server would."""
        if request.path != QUERY:
            return Answer(404, "404 page not found\n")
        if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
            return Answer(401, "Unauthorized\n")
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        expression = (form | dict(request.query)).get("query", "")
        if not expression or expression.count("(") != expression.count(")"):
            said = 'invalid parameter "query": 1:1: parse error: unexpected end of input'
            return answer({"status": "error", "errorType": "bad_data", "error": said}, 400)
        now = round(time.time(), 3)
        result: list[Any] = [
            {"metric": dict(labels), "value": [now, value]} for labels, value in self.vectors.get(expression, ())
        ]
        return answer({"status": "success", "data": {"resultType": "vector", "result": result}})
