"""Sessions: open or closed as the venue says, and nothing once its clock is stale."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from exporter.analytics.sessions import NAME, NEXT_CHANGE, OPEN, compute
from exporter.reading import Gap, Undefined
from exporter.snapshot import Session
from tests.unit.exporter.desks import NOW, feed, make_config, make_state

LATER = NOW + timedelta(hours=5)
US = Session("us_equities", open=True, at=NOW, next_open=NOW + timedelta(days=1), next_close=LATER)


def test_an_open_market_says_when_it_closes() -> None:
    """1, and the time of the close."""
    state = make_state(make_config(), feed(sessions=[US]))
    assert list(compute(state)) == [
        OPEN.sample("us_equities", value=1.0),
        NEXT_CHANGE.sample("us_equities", value=LATER.timestamp()),
    ]


def test_a_closed_market_says_when_it_opens_and_nothing_where_the_venue_does_not() -> None:
    """0, never absent."""
    closed = replace(US, open=False, next_open=None)
    assert list(compute(make_state(make_config(), feed(sessions=[closed])))) == [OPEN.sample("us_equities", value=0.0)]


def test_of_two_clocks_of_one_market_the_later_counts() -> None:
    """Two accounts of one broker tell of one market."""
    old = replace(US, open=False, at=NOW - timedelta(minutes=1))
    state = make_state(make_config(), feed(sessions=[US]), feed("other", sessions=[old]))
    assert next(iter(compute(state))) == OPEN.sample("us_equities", value=1.0)


def test_a_stale_clock_is_absent() -> None:
    """A market is not closed because its venue is silent."""
    state = make_state(make_config(), feed(sessions=[US], stale=True))
    assert list(compute(state)) == [Undefined(NAME, Gap.INPUT_STALE, "book")]
