"""Rows become records: exact money, aware times, and one bad row costs nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskwatch.errors import Permanent, Reason
from exporter.cells import MAX_TEXT, Unreadable, moment, number, positive, text
from exporter.snapshot import Kind
from exporter.sql.rows import Records, read_rows
from exporter.sql.tables import TABLES

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
POSITION = ["portfolio", "symbol", "quantity", "currency"]


def read(kind: Kind, names: Sequence[str], *rows: Sequence[Any], days: float = 7) -> Records:
    """Rows of one kind, read at noon of 15 January 2026."""
    return read_rows(kind, names, rows, look_back=timedelta(days=days), now=NOW)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.1", "0.1"),
        (0.1, "0.1"),
        (1, "1"),
        ("-1000000", "-1000000"),
        (Decimal("1.230"), "1.230"),
        (1e22, "1E+22"),
        (" 7 ", "7"),
    ],
)
def test_money_is_exact_whatever_type_the_database_gives(value: Any, expected: str) -> None:
    """0.1 stored as a float is 0.1, not 0.1000000000000000055."""
    assert number(value) == Decimal(expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NaN", "not_finite"), (float("nan"), "not_finite"), (float("inf"), "not_finite"), ("-Infinity", "not_finite"),
        ("1e400", "not_finite"), ("twelve", "not_a_number"), ("1,000", "not_a_number"), ("1_000", "not_a_number"),
        ("", "not_a_number"), (True, "not_a_number"), (b"1", "not_a_number"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_for_a_bounded_reason(value: Any, reason: str) -> None:
    """Never a zero, never a NaN."""
    with pytest.raises(Unreadable, match=reason):
        number(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15))
def test_decimal_text_survives_unchanged(value: Decimal) -> None:
    """Whatever the books hold is what is computed with."""
    assert number(str(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        "2015-01-15T14:15:00Z", "2015-01-15 14:15:00", "2015-01-15T15:15:00+01:00",
        1421331300, 1421331300.0, Decimal(1421331300),
        datetime(2015, 1, 15, 14, 15), datetime(2015, 1, 15, 15, 15, tzinfo=timezone(timedelta(hours=1))),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_times_come_as_text_number_or_datetime_and_naive_means_utc(value: Any) -> None:
    """The same moment in every form."""
    assert moment(value) == datetime(2015, 1, 15, 14, 15, tzinfo=UTC)


def test_a_date_is_its_midnight() -> None:
    """A column of type DATE."""
    assert moment(date(2015, 1, 15)) == moment("2015-01-15") == datetime(2015, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize("value", ["yesterday", "", None, True, 1421331300000, "0001-01-01", float("nan"), 1e300])
def test_what_is_no_time_is_refused(value: Any) -> None:
    """Epoch milliseconds among them: a fill in the year 47010 helps nobody."""
    with pytest.raises(Unreadable, match="not_a_time"):
        moment(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "missing"), ("  ", "missing"), ("x" * (MAX_TEXT + 1), "too_long"), (1.5, "not_text"), ("a\ufffdb", "not_text")],
)
def test_a_name_must_be_usable_as_a_label(value: Any, reason: str) -> None:
    """Empty, endless and undecodable names are refused."""
    with pytest.raises(Unreadable, match=reason):
        text(value)


def test_a_bad_row_is_rejected_and_the_others_stand() -> None:
    """NULL, NaN, infinity and a wrong type in a required column: four reasons, four rows, one good position."""
    found = read(
        "positions", POSITION,
        ("carry", "CHF", "-1000000", "CHF"), ("carry", "USD", None, "USD"), ("carry", "USD", float("nan"), "USD"),
        ("carry", "USD", "much", "USD"), (None, "USD", 1, "USD"),
    )  # fmt: skip
    assert [(each.symbol, each.quantity) for each in found.records] == [("CHF", Decimal(-1000000))]
    assert [each.reason for each in found.rejected] == ["missing", "not_finite", "not_a_number", "missing"]
    assert found.rejected[1].record == "positions[2].quantity=nan"


def test_columns_are_found_by_name_and_unknown_ones_noted_once() -> None:
    """Order and case do not matter."""
    found = read(
        "positions", ["Currency", "trader", "SYMBOL", "quantity", "portfolio"], *[("CHF", "kim", "CHF", 1, "carry")] * 2
    )
    assert found.records[0].currency == "CHF"
    assert found.notes == ("columns not used: trader",)


def test_a_missing_required_column_says_which_and_what_there_is() -> None:
    """And how to name it."""
    with pytest.raises(
        Permanent, match=r"positions: the required column quantity is missing; there are: portfolio, symbol, "
    ) as caught:
        read("positions", ["portfolio", "symbol", "size", "currency"])
    assert caught.value.reason is Reason.MISSING_FIELD
    assert "SELECT ... AS quantity" in str(caught.value)


def test_an_unreadable_optional_value_does_not_cost_the_position() -> None:
    """It counts as unknown, and a note says so."""
    found = read("positions", [*POSITION, "entry_price"], ("carry", "CHF", 1, "CHF", "n/a"), ("carry", "USD", 1, "USD", None))
    assert [each.entry_price for each in found.records] == [None, None]
    assert found.notes == ("entry_price: 1 values cannot be read and count as unknown",)


def test_an_unreadable_equity_costs_the_row() -> None:
    """As "none reported" it would change how the net asset value is computed."""
    found = read("accounts", ["portfolio", "currency", "cash", "equity"], ("carry", "EUR", 1, "n/a"), ("carry", "USD", 1, None))
    assert [each.currency for each in found.records] == ["USD"]
    assert [each.reason for each in found.rejected] == ["not_a_number"]


@pytest.mark.parametrize(("instrument", "multiplier"), [("warrant", 1), ("future", "fifty"), ("future", 0)])
def test_terms_that_cannot_be_read_make_the_instrument_unknown(instrument: str, multiplier: Any) -> None:
    """Not `spot` with multiplier 1: that would be a wrong number."""
    names = ["symbol", "currency", "instrument", "multiplier"]
    assert read("instruments", names, ("ESZ6", "USD", instrument, multiplier)).records[0].instrument == "unknown"


def test_defaults_of_terms() -> None:
    """Only symbol and currency are needed."""
    terms = read("instruments", ["symbol", "currency"], ("SAP", "EUR")).records[0]
    assert (terms.instrument, terms.multiplier, terms.sector) == ("spot", Decimal(1), None)


def fill(at: Any, side: str = "buy") -> tuple[Any, ...]:
    """A fill at that time."""
    return ("e1", "carry", "CHF", side, 1, "0.83", "CHF", at)


FILL = ["execution_id", "portfolio", "symbol", "side", "quantity", "price", "currency", "at"]


def test_the_look_back_counts_from_the_newest_fill() -> None:
    """So a replay of 2015 in 2026 still has the trades of its last week."""
    found = read("fills", FILL, fill("2015-01-15"), fill("2015-01-09"), fill("2015-01-07"))
    assert [each.at.day for each in found.records] == [15, 9]
    assert found.newest == datetime(2015, 1, 15, tzinfo=UTC)


def test_a_fill_from_the_future_does_not_move_the_look_back() -> None:
    """One wrong clock must not hide everyone else's trades."""
    assert len(read("fills", FILL, fill("2099-01-01"), fill("2026-01-14")).records) == 2


def test_the_side_is_read_in_any_case_and_nothing_else_passes() -> None:
    """`buy`, `BUY`; not `long`."""
    found = read("fills", FILL, fill(NOW, "BUY"), fill(NOW, "sell"), fill(NOW, "long"))
    assert [each.side for each in found.records] == ["BUY", "SELL"]
    assert found.rejected[0].reason == "not_a_choice"


def test_a_quantity_of_a_fill_is_positive() -> None:
    """The side carries the sign."""
    with pytest.raises(Unreadable, match="not_positive"):
        positive("-1")


def test_returns_are_grouped_and_ordered_by_time() -> None:
    """Whatever order the database returns them in: float64, read-only."""
    names = ["strategy", "sample", "at", "return_ratio"]
    rows = [
        ("trend", "live", "2026-01-03", "0.03"),
        ("trend", "LIVE", "2026-01-01", 0.01),
        ("trend", "backtest", "2020-01-01", 0),
    ]
    found = read("returns", names, *rows, ("trend", "live", "2026-01-02", "oops"))
    assert [(each.strategy, each.sample, each.values.tolist()) for each in found.records] == [
        ("trend", "backtest", [0.0]), ("trend", "live", [0.01, 0.03]),
    ]  # fmt: skip
    assert not found.records[0].values.flags.writeable
    assert len(found.rejected) == 1


@given(st.lists(st.tuples(*[st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.binary(), st.booleans())] * 8)))
def test_no_row_makes_reading_fail(rows: list[tuple[Any, ...]]) -> None:
    """Every row is a record or rejected, whatever stands in it."""
    found = read("fills", FILL, *rows, days=1e6)
    assert len(found.records) + len(found.rejected) == len(rows)


def test_every_kind_that_rows_can_be_has_a_table_in_the_schema() -> None:
    """`schema.sql` and the reader agree on tables and columns."""
    import importlib.resources
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.executescript(importlib.resources.files("exporter.sources").joinpath("schema.sql").read_text())
    for table in TABLES.values():
        columns = {row[1]: bool(row[3]) for row in connection.execute(f"PRAGMA table_info({table.name})")}
        assert columns == {name: not column.may_be_null for name, column in table.columns.items()}
    connection.close()
