"""Sessions: whether each market trades now, as the venues' own clocks say. A clock that is stale is absent, not closed."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.analytic import Result
from exporter.desk import DeskState
from exporter.reading import Family, Undefined
from exporter.snapshot import Session

OPEN = Family("desk_market_session_open", "Whether the market trades now, 0 or 1, as the venue's clock says", ("calendar",))
NEXT_CHANGE = Family(
    "desk_market_session_next_change_timestamp_seconds",
    "When the market next opens or closes, as the venue's clock says, Unix time",
    ("calendar",),
)
METRICS = (OPEN, NEXT_CHANGE)
NAME = "sessions"


def compute(state: DeskState) -> Iterator[Result]:
    """Every market some source has a clock of; of two clocks of one market the later counts."""
    found: dict[str, Session] = {}
    for feed in state.feeds:
        if "sessions" not in feed.provides:
            continue
        if feed.gap is not None:
            yield Undefined(NAME, feed.gap, feed.source)
        elif feed.snapshot is not None:
            for session in feed.snapshot.sessions:
                known = found.get(session.calendar)
                if known is None or session.at > known.at:
                    found[session.calendar] = session
    for calendar, session in sorted(found.items()):
        yield OPEN.sample(calendar, value=float(session.open))
        change = session.next_close if session.open else session.next_open
        if change is not None:
            yield NEXT_CHANGE.sample(calendar, value=change.timestamp())
