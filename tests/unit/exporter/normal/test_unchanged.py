"""Rows that come again are not read again; what cannot be read is rejected each time."""

from __future__ import annotations

from typing import Any

from exporter.normal.unchanged import Unchanged
from exporter.records import Fields, Sheet


class Reader:
    """Reads names, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, fields: Fields) -> str | None:
        """The name; nothing of dust."""
        self.asked += 1
        name = fields.text("name")
        return None if name == "dust" else name


def test_a_row_is_read_once_while_it_is_the_same_object() -> None:
    """Another object is another row, also where it says the same; one that is gone is forgotten."""
    unchanged: Unchanged[str] = Unchanged()
    read, rows = Reader(), [{"name": "a"}, {"name": "b"}]
    assert unchanged.read(Sheet(), "orders", rows, read) == ("a", "b")
    assert unchanged.read(Sheet(), "orders", rows[::-1], read) == ("b", "a")
    assert read.asked == 2
    assert unchanged.read(Sheet(), "orders", [dict(rows[0])], read) == ("a",)
    assert unchanged.read(Sheet(), "orders", rows, read) == ("a", "b")
    assert read.asked == 5


def test_a_row_that_cannot_be_read_is_rejected_each_time() -> None:
    """The gap it leaves does not close because it was seen before; one left out on purpose leaves none."""
    unchanged: Unchanged[str] = Unchanged()
    rows: list[Any] = [{"name": None}, {"name": "dust"}, 7, {"name": "a"}]
    for _ in range(2):
        sheet = Sheet()
        assert unchanged.read(sheet, "orders", rows, Reader(), portfolio="book") == ("a",)
        assert [(each.reason, each.portfolio) for each in sheet.rejected] == [("missing", "book"), ("not_an_object", "book")]
