"""A venue with one call, `GET /book`: positions, prices and cash of one account, and the share used of its rate limit.

What every real venue's stand-in can do and little else: for tests of the fetching itself, whatever the wire format.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer


def book(symbol: str) -> dict[str, Any]:
    """One share, and cash."""
    return {"positions": [{"symbol": symbol, "qty": "1", "price": "100.25"}], "cash": "1000.50"}


class Bookkeeper(Venue):
    """Holds one share of a symbol of its own."""

    def __init__(self, symbol: str = "AAPL") -> None:
        super().__init__()
        self.symbol = symbol
        self.book = book(symbol)
        self.used = 0

    def respond(self, request: Received) -> Answer:
        """The whole book; how much of the limit is used, by everybody."""
        return answer(self.book, X_Used=str(self.used))

    @property
    def intervals(self) -> list[float]:
        """Seconds from each request to the next."""
        return [after.at - before.at for before, after in pairwise(self.requests)]
