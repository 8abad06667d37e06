"""A venue's records as the desk's: what can be read stands, what cannot is left out alone, with a bounded reason."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskwatch.errors import Reason, Retryable
from exporter import cells
from exporter.cells import Unreadable
from exporter.records import SHOWN, Fields, FieldUnreadable, Sheet

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["symbol", "qty", "at"]), inner, max_size=3),
    max_leaves=12,
)


def symbol_and_quantity(fields: Fields) -> tuple[str, Decimal]:
    """A position, say."""
    return fields.text("symbol"), fields.number("qty")


def reason(ask: Any) -> str:
    """Why a question could not be answered."""
    with pytest.raises(FieldUnreadable) as raised:
        ask()
    return raised.value.reason


def test_numbers_come_as_text_or_as_numbers() -> None:
    """Exact in both cases."""
    fields = Fields({"text": " 0.10 ", "decimal": Decimal("0.1"), "float": 0.1, "whole": 5})
    assert fields.number("text") == fields.number("decimal") == fields.number("float") == Decimal("0.1")
    assert fields.positive("whole") == 5


def test_a_name_may_be_a_number() -> None:
    """A contract's id is one at IBKR."""
    assert Fields({"conid": 265598}).text("conid") == "265598"


def test_nested_fields_are_named_with_a_dot() -> None:
    """`a.b` of an object in an object; missing at any level is missing."""
    fields = Fields({"quote": {"bid": "1.5", "deep": None}, "flat": 3})
    assert fields.number("quote.bid") == Decimal("1.5")
    for absent in ("quote.ask", "quote.deep.er", "flat.bid", "nothing.at.all"):
        assert reason(lambda name=absent: fields.number(name)) == "missing"


def test_times_come_as_text_or_since_1970() -> None:
    """Aware UTC in each case."""
    fields = Fields({"iso": "2026-01-02T03:04:05Z", "s": 1767323045, "ms": "1767323045000"})
    assert fields.moment("iso") == fields.moment("s") == fields.milliseconds("ms") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert reason(lambda: fields.moment("ms")) == "not_a_time"


def test_an_optional_field_may_be_absent_null_or_empty() -> None:
    """But one that is there must be readable: half a number is no number."""
    fields = Fields({"null": None, "empty": "", "blank": "  ", "there": "1", "wrong": "n/a"})
    assert [fields.optional_number(name) for name in ("absent", "null", "empty", "blank")] == [None] * 4
    assert fields.optional_text("blank") is None
    assert fields.optional_number("there") == 1
    assert reason(lambda: fields.optional_number("wrong")) == "not_a_number"


@pytest.mark.parametrize(("value", "why"), [("true", "not_a_boolean"), (1, "not_a_boolean"), (None, "missing")])
def test_a_flag_is_true_or_false(value: Any, why: str) -> None:
    """Nothing is taken for it."""
    assert Fields({"flag": True}).flag("flag")
    assert not Fields({"flag": False}).flag("flag")
    assert reason(lambda: Fields({"flag": value}).flag("flag")) == why


def test_a_record_that_cannot_be_read_is_left_out_alone() -> None:
    """The others stand in their order; what stood there, where, and why is kept."""
    sheet = Sheet()
    records = [
        {"symbol": "A", "qty": "1"}, {"symbol": "B"}, {"symbol": "C", "qty": [3]}, {"qty": "4"}, "E", None,
        {"symbol": "F", "qty": "6"},
    ]  # fmt: skip
    found = sheet.read("positions", records, symbol_and_quantity, portfolio="carry")
    assert found == (("A", 1), ("F", 6))
    assert [(each.record, each.reason) for each in sheet.rejected] == [
        ("positions[1].qty=None", "missing"),
        ("positions[2].qty=[3]", "not_a_number"),
        ("positions[3].symbol=None", "missing"),
        ("positions[4].record='E'", "not_an_object"),
        ("positions[5].record=None", "not_an_object"),
    ]
    assert {(each.kind, each.portfolio) for each in sheet.rejected} == {("positions", "carry")}


def test_a_record_can_be_left_out_without_being_rejected() -> None:
    """A dust balance is no gap."""
    sheet = Sheet()
    assert sheet.read("accounts", [{"qty": "0"}, {"qty": "1"}], lambda fields: fields.number("qty") or None) == (1,)
    assert sheet.rejected == ()


def test_a_reader_asked_without_a_field_rejects_the_record_too() -> None:
    """Not the fetch."""
    sheet = Sheet()
    assert sheet.read("fills", [{"side": "HOLD"}], lambda _: cells.one_of("BUY", "SELL")("HOLD")) == ()
    assert [(each.record, each.reason) for each in sheet.rejected] == [("fills[0]: {'side': 'HOLD'}", "not_a_choice")]


def test_numbers_that_cannot_be_computed_with_reject_the_record() -> None:
    """A value divided by a price of zero."""
    sheet = Sheet()
    assert sheet.read("prices", [{"qty": "0"}], lambda fields: 1 / fields.number("qty")) == ()
    assert [each.reason for each in sheet.rejected] == ["not_computable"]


def test_a_mistake_of_ours_is_not_taken_for_the_venues() -> None:
    """It must be seen."""
    with pytest.raises(AttributeError):
        Sheet().read("prices", [{}], lambda fields: fields.nothing)  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", [None, {}, {"positions": []}, "[]", b"[]", 5, True])
def test_an_answer_that_is_no_list_fails_as_a_whole(answer: Any) -> None:
    """Nothing of it can be trusted: an empty book would be a lie."""
    with pytest.raises(Retryable) as raised:
        Sheet().read("positions", answer, symbol_and_quantity)
    assert raised.value.reason is Reason.BAD_RESPONSE
    assert "positions: a list was expected" in str(raised.value)


def test_what_is_shown_of_a_value_is_short() -> None:
    """Whatever stands where a number should."""
    for value in ("x" * 10**6, {str(key): "y" * 100 for key in range(10**5)}, [[["z" * 1000]] * 1000] * 1000):
        with pytest.raises(FieldUnreadable) as raised:
            Fields({"price": value}).number("price")
        assert len(raised.value.said) <= len("price=") + SHOWN


@given(st.lists(JSON, max_size=6))
def test_no_record_however_wrong_fails_the_others(records: list[Any]) -> None:
    """Each is read or rejected, and none is both."""
    good = {"symbol": "GOOD", "qty": "1", "at": 1767323045}
    sheet = Sheet()

    def make(fields: Fields) -> tuple[str, Decimal, datetime]:
        return *symbol_and_quantity(fields), fields.moment("at")

    found = sheet.read("fills", [*records, good], make)
    assert found[-1][0] == "GOOD"
    assert len(found) + len(sheet.rejected) == len(records) + 1
    assert all(each.reason.isidentifier() for each in sheet.rejected)


def test_fields_outside_a_sheet_raise() -> None:
    """A single object, such as the account: the source or the poller says what it means."""
    with pytest.raises(Unreadable):
        Fields([])
