"""A local server that stands in for a broker or an exchange: answers by path, fails as told, counts what it is asked.

class Broker(Venue):
    def respond(self, request):                      # the documented wire format
        match request.path: ...

broker.fault("/v2/positions", TOO_MANY, HTML)        # the next two requests of this path; `always=True`: every one
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from typing import Any

from tests.stand_ins.server import Answer, Received, StandIn

TOO_MANY = Answer(429, '{"message": "too many requests"}', content_type="application/json")
"""429 that names no wait."""
TOO_MANY_FOR_2_SECONDS = Answer(
    429, '{"message": "too many requests"}', headers={"Retry-After": "2"}, content_type="application/json"
)
FORBIDDEN = Answer(403, '{"message": "forbidden"}', content_type="application/json")
UNAUTHORIZED = Answer(401, '{"message": "unauthorized"}', content_type="application/json")
UNAVAILABLE = Answer(503, "Service Unavailable")
TRUNCATED = Answer(200, '[{"symbol": "AAPL", "qty": "5', content_type="application/json")
"""A whole answer whose JSON is not."""
CUT_SHORT = Answer(200, '[{"symbol": "AAPL", "qty": "5"}]', content_type="application/json", cut=True)
"""An answer whose connection ends in the middle."""
EMPTY = Answer(200, "", content_type="application/json")


def answer(content: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON answer. A header's name is written with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(content), headers=named, content_type="application/json")


class Venue(StandIn):
    """The server. A subclass says how the real venue answers."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self._faults: dict[str, deque[Answer]] = defaultdict(deque)
        self._standing: dict[str, Answer] = {}
        self.refuse = self._fault

    def fault(self, path: str, *answers: Answer, always: bool = False) -> None:
        """Answer the next requests whose path starts so; with `always` every one, until `heal`."""
        if always:
            (self._standing[path],) = answers
        else:
            self._faults[path].extend(answers)

    def heal(self) -> None:
        """Answer as the real venue again."""
        self._faults.clear()
        self._standing.clear()

    def asked(self, path: str) -> list[Received]:
        """The requests whose path starts so."""
        return [each for each in self.requests if each.path.startswith(path)]

    def _fault(self, received: Received) -> Answer | None:
        for path, queued in self._faults.items():
            if received.path.startswith(path) and queued:
                return queued.popleft()
        return next((fault for path, fault in self._standing.items() if received.path.startswith(path)), None)
