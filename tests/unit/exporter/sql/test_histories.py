"""Daily closes beside those that are kept: from which day on they are asked for, and when only everything will do."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from exporter.snapshot import History
from exporter.sql.histories import Bars, filled, first_day, past_stands

NOW = datetime(2026, 1, 15, tzinfo=UTC)
FIRST = date(2024, 7, 1)


def history(symbol: str, days: dict[str, float], currency: str = "USD") -> History:
    """Day of January 2026 to close."""
    return History(symbol, currency, np.array(list(days), "datetime64[D]"), np.array(list(days.values())))


def kept(*histories: History) -> dict[str, History]:
    """By symbol."""
    return {each.symbol: each for each in histories}


def test_nothing_kept_is_everything_wanted() -> None:
    """The first day of all."""
    assert first_day({}, FIRST) == FIRST


def test_a_week_is_asked_for_again() -> None:
    """So that an adjusted past shows."""
    assert first_day(kept(history("A", {"2026-01-14": 1.0})), FIRST) == date(2026, 1, 7)


def test_the_symbol_furthest_behind_counts_unless_it_is_not_quoted_any_more() -> None:
    """A feed that was late is caught up with; a company that is gone does not mean a year of everything."""
    late, gone = history("B", {"2026-01-02": 1.0}), history("C", {"2025-06-30": 1.0})
    assert first_day(kept(history("A", {"2026-01-14": 1.0}), late, gone), FIRST) == date(2025, 12, 26)


def test_never_before_the_first_day_wanted() -> None:
    """Fewer days may be configured than are kept."""
    assert first_day(kept(history("A", {"2026-01-14": 1.0})), date(2026, 1, 10)) == date(2026, 1, 10)


KNOWN = history("A", {"2026-01-12": 1.0, "2026-01-13": 2.0})


@pytest.mark.parametrize(
    ("read", "stands"),
    [
        (history("A", {"2026-01-13": 2.0, "2026-01-14": 3.0}), True),
        (history("A", {"2026-01-14": 3.0}), True),
        (history("A", {"2026-01-13": 2.0 * (1 + 1e-12)}), True),
        (history("A", {"2026-01-13": 1.0, "2026-01-14": 1.5}), False),
        (history("A", {"2026-01-13": 2.0}, currency="EUR"), False),
        (history("B", {"2026-01-13": 2.0}), False),
    ],
)
def test_the_past_stands_or_not(read: History, stands: bool) -> None:
    """A split, a new currency, a new symbol: then everything is read."""
    assert past_stands(kept(KNOWN), [read]) is stands


def test_days_between_that_were_not_asked_for_are_filled_in() -> None:
    """A correction of Monday and Wednesday's close say nothing against Tuesday's."""
    known = history("A", {"2026-01-09": 0.5, "2026-01-12": 1.0, "2026-01-13": 2.0})
    (found,) = filled(kept(known), [history("A", {"2026-01-12": 1.0, "2026-01-14": 3.0})])
    assert found.days.astype(str).tolist() == ["2026-01-12", "2026-01-13", "2026-01-14"]
    assert found.closes.tolist() == [1.0, 2.0, 3.0]


def test_what_has_no_gap_is_left_as_it_is() -> None:
    """No array is made for nothing."""
    read = history("A", {"2026-01-13": 2.0, "2026-01-14": 3.0})
    assert filled(kept(KNOWN), [read])[0] is read


def test_only_everything_will_do_where_something_read_is_not_kept() -> None:
    """Its past was adjusted, or the store was lost; where nothing is kept at all, what was read must be whole itself."""
    bars = Bars((KNOWN,), True, NOW, 0.0)
    part = Bars((KNOWN,), False, NOW, 0.0)
    assert not bars.must_be_whole(kept(KNOWN))
    assert bars.must_be_whole(kept(history("B", {"2026-01-12": 1.0})))
    assert not bars.must_be_whole({})
    assert part.must_be_whole({})
    assert not part.must_be_whole(kept(KNOWN))
