"""Routing: which channels an alert goes to. First match wins unless the route says `continue`, as in Alertmanager.

An alert no route takes goes to the fallback channel: nothing is lost for want of a route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from receiver.matchers import Matcher, all_match


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the routing table: the channels of alerts that satisfy every matcher; `then_continue` looks further."""

    matchers: tuple[Matcher, ...]
    channels: tuple[str, ...]
    then_continue: bool = False


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """The routes in order, and where what none of them takes goes."""

    routes: Sequence[Route]
    fallback: str

    def channels(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the channels for an alert with these labels, each once, in order of the table; never empty."""
        chosen: list[str] = []
        for route in self.routes:
            if all_match(route.matchers, labels):
                chosen += [name for name in route.channels if name not in chosen]
                if not route.then_continue:
                    break
        return tuple(chosen) or (self.fallback,)
