"""A circuit breaker: a source that keeps failing is left alone, then tried once. Knows no time; `exporter.schedule` does."""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed: fetches go on. Open, after `limit` failures in a row: nothing is asked. Half-open: one fetch decides.

    Args:
        limit: failures in a row that open it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.failures = 0
        """Failures in a row."""
        self.state: State = "closed"

    @property
    def tripped(self) -> bool:
        """Whether it is open or half-open: no fetch has succeeded since it opened."""
        return self.state != "closed"

    def begin(self) -> None:
        """A fetch begins; if it is open, this is the one that decides."""
        if self.state == "open":
            self.state = "half_open"

    def succeeded(self) -> None:
        """The fetch succeeded."""
        self.failures, self.state = 0, "closed"

    def failed(self) -> None:
        """The fetch failed."""
        self.failures += 1
        if self.failures >= self._limit:
            self.state = "open"

    def abstained(self) -> None:
        """The fetch ended without asking the other side: it showed nothing."""
        if self.state == "half_open":
            self.state = "open"
