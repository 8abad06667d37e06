"""Daily closes: quickly, exactly, and one bad cell costs one day."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.snapshot import History
from exporter.sql.closes import LISTED, Closes, newest_day

TODAY = date(2026, 1, 15)
PLACES = {"symbol": 0, "day": 1, "close": 2, "currency": 3}


def closes(days: int = 550) -> Closes:
    """Of the time before 15 January 2026."""
    return Closes(TODAY, days)


def told(histories: tuple[History, ...]) -> dict[str, tuple[str, list[str], list[float]]]:
    """Symbol to currency, days and closes."""
    return {each.symbol: (each.currency, each.days.astype(str).tolist(), each.closes.tolist()) for each in histories}


ROWS = [
    ("B", "2026-01-14", "2.5", "EUR"), ("A", "2026-01-14", "1.25", "USD"), ("A", "2026-01-12", "1", "USD"),
    ("A", "2026-01-13", "1.125", "USD"),
]  # fmt: skip
EXPECTED = {"A": ("USD", ["2026-01-12", "2026-01-13", "2026-01-14"], [1.0, 1.125, 1.25]), "B": ("EUR", ["2026-01-14"], [2.5])}


def test_rows_become_one_history_per_symbol_in_order_of_days() -> None:
    """Whatever order the database gives them in."""
    found = closes()
    found.add_rows(ROWS, PLACES)
    assert told(found.histories()) == EXPECTED
    assert not found.histories()[0].closes.flags.writeable
    assert not found.histories()[0].days.flags.writeable
    assert found.histories()[0].days.dtype == "datetime64[D]"


def test_what_the_server_has_put_together_is_the_same() -> None:
    """Days and closes joined by semicolons."""
    found = closes()
    found.add_joined("A", "USD", 3, "2026-01-14;2026-01-12;2026-01-13", "1.25;1;1.125")
    found.add_joined("B", "EUR", 1, "2026-01-14", "2.5")
    assert told(found.histories()) == EXPECTED
    assert found.rejected == []


@pytest.mark.parametrize("close", [1.5, "1.5", Decimal("1.5"), " 1.5 "])
@pytest.mark.parametrize("day", [date(2026, 1, 14), "2026-01-14", "20260114", 20260114, datetime(2026, 1, 14, 22, tzinfo=UTC)])
def test_every_form_of_day_and_number(day: Any, close: Any) -> None:
    """What drivers give."""
    found = closes()
    found.add("A", "USD", [day], [close])
    assert told(found.histories()) == {"A": ("USD", ["2026-01-14"], [1.5])}


@pytest.mark.parametrize(
    ("day", "close", "reason"),
    [
        (None, 1, "missing"), ("", 1, "missing"), ("soon", 1, "not_a_time"), ("2026-01-14", None, "missing"),
        ("2026-01-14", "", "missing"), ("2026-01-14", "much", "not_a_number"), ("2026-01-14", "NaN", "not_finite"),
        ("2026-01-14", float("inf"), "not_finite"), ("2026-01-14", 0, "not_positive"), ("2026-01-14", "-1", "not_positive"),
        ("2026-01-14", True, "not_a_number"), ("2026-01-14", "1_000", "not_a_number"), ("2026-01-14", b"1", "not_a_number"),
    ],
)  # fmt: skip
def test_a_bad_cell_costs_one_day(day: Any, close: Any, reason: str) -> None:
    """It is counted with its reason; the days around it stand."""
    found = closes()
    found.add("A", "USD", ["2026-01-12", day, "2026-01-13"], [Decimal(1), close, Decimal(2)])
    assert told(found.histories()) == {"A": ("USD", ["2026-01-12", "2026-01-13"], [1.0, 2.0])}
    assert [(each.kind, each.reason) for each in found.rejected] == [("histories", reason)]
    assert "'A'" in found.rejected[0].record


@pytest.mark.parametrize(("symbol", "currency"), [(None, "USD"), ("A", None), ("", "USD"), ("A", 1.5)])
def test_closes_of_nothing_are_rejected(symbol: Any, currency: Any) -> None:
    """All of them."""
    found = closes()
    found.add(symbol, currency, ["2026-01-12", "2026-01-13"], [1, 2])
    assert found.histories() == ()
    assert len(found.rejected) == 2


def test_a_day_that_has_not_ended_has_no_close() -> None:
    """Today's price is a price; tomorrow's a mistake."""
    found = closes()
    found.add("A", "USD", ["2026-01-14", "2026-01-15", "2026-01-16"], [1, 2, 3])
    assert told(found.histories()) == {"A": ("USD", ["2026-01-14"], [1.0])}
    assert (found.unended, found.rejected) == (2, [])


def test_so_many_days_before_the_newest_are_kept() -> None:
    """Counted from the newest close, so that a replay of the past has its history."""
    found = closes(days=2)
    found.add("A", "USD", ["2015-01-15", "2015-01-13", "2015-01-12"], [3, 2, 1])
    assert told(found.histories()) == {"A": ("USD", ["2015-01-13", "2015-01-15"], [2.0, 3.0])}


def test_a_time_is_the_day_it_was_in_the_zone() -> None:
    """Closes at midnight in Tokyo."""
    found = Closes(TODAY, 550, ZoneInfo("Asia/Tokyo"))
    found.add("A", "JPY", [datetime(2026, 1, 13, 15, tzinfo=UTC)], [1])
    assert told(found.histories())["A"][1] == ["2026-01-14"]


def test_a_day_given_twice_counts_once_and_two_closes_for_it_not_at_all() -> None:
    """Which of the two is right is not ours to guess."""
    found = closes()
    found.add("A", "USD", ["2026-01-12", "2026-01-13"], [1, 2])
    found.add("A", "USD", ["2026-01-13", "2026-01-12", "2026-01-14"], [2, 1.5, 3])
    assert told(found.histories()) == {"A": ("USD", ["2026-01-13", "2026-01-14"], [2.0, 3.0])}
    assert [(each.reason, each.record) for each in found.rejected] == [
        ("conflicting", "histories: 'A' has two closes on 2026-01-12")
    ]


def test_of_two_currencies_the_newest_counts() -> None:
    """A share that was redenominated: francs and euros make no series."""
    found = closes()
    found.add("A", "EUR", ["2026-01-13", "2026-01-14"], [1, 2])
    found.add("A", "CHF", ["2026-01-09", "2026-01-12"], [9, 8])
    assert told(found.histories()) == {"A": ("EUR", ["2026-01-13", "2026-01-14"], [1.0, 2.0])}
    assert [each.reason for each in found.rejected] == ["other_currency"] * 2


def test_parts_that_do_not_fit_together_are_rejected() -> None:
    """A semicolon within a value, or a result the server cut off."""
    found = closes()
    found.add_joined("A", "USD", 2, "2026-01-13;2026-01-14", "1;2;3")
    found.add_joined("B", "USD", 3, "2026-01-13;2026-01-14", "1;2")
    assert found.histories() == ()
    assert len(found.rejected) == 5


def test_a_table_of_nonsense_does_not_fill_the_memory() -> None:
    """The first thousand are listed, the rest counted."""
    found = closes()
    found.add("A", "USD", ["2026-01-14"] * (LISTED + 5), ["?"] * (LISTED + 5))
    assert (len(found.rejected), found.unlisted) == (LISTED, 5)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.dates(), st.binary()),
            st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.decimals(), st.booleans(), st.binary()),
        )
    )
)
def test_no_cell_makes_reading_fail(cells: list[tuple[Any, Any]]) -> None:
    """Every close is kept, rejected, or of another time."""
    found = Closes(TODAY, 100_000)
    found.add("A", "USD", [day for day, _ in cells], [close for _, close in cells])
    kept = sum(history.days.size for history in found.histories())
    assert kept + found.unended + len(found.rejected) + found.unlisted <= len(cells)
    assert all((history.closes > 0).all() for history in found.histories())


def test_the_newest_day() -> None:
    """Of any symbol, as the market time of the snapshot."""
    found = closes()
    found.add_rows(ROWS, PLACES)
    assert newest_day(found.histories()) == datetime(2026, 1, 14, tzinfo=UTC)
    assert newest_day(()) is None


def test_a_million_closes_cost_less_than_one_row_at_a_time_would() -> None:
    """Beside a control in the same run: the ordinary reader of rows on a hundredth of them."""
    from exporter.sql.rows import RowReader

    days = ";".join((date(2020, 1, 1) + timedelta(days=at)).isoformat() for at in range(1000))
    prices = ";".join(str(100 + at / 4) for at in range(1000))
    begun = time.process_time()
    found = Closes(TODAY, 10_000)
    for symbol in range(1000):
        found.add_joined(f"S{symbol}", "USD", 1000, days, prices)
    assert len(found.histories()) == 1000
    seconds = time.process_time() - begun
    rows = [("S", day, price, "USD") for day, price in zip(days.split(";"), prices.split(";"), strict=True)] * 10
    begun = time.process_time()
    reader = RowReader("histories", list(PLACES))
    for index, row in enumerate(rows):
        reader.entry(index, row)
    assert seconds < (time.process_time() - begun) * 100 / 3
