"""Queries that ask only for news: what was read before and what is new are together always complete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from deskwatch.errors import Permanent, Reason
from exporter.snapshot import Kind
from exporter.sql.access import earliest
from exporter.sql.increments import Fetched, How, Increments, settle_all

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
HOW = How(UTC, timedelta(days=7), 1000)
FILL = ["execution_id", "venue", "portfolio", "symbol", "side", "quantity", "price", "currency", "at"]
MINUTE = timedelta(minutes=1)


def fill(name: str, price: Any, at: Any, venue: str = "x") -> tuple[Any, ...]:
    """A row."""
    return (name, venue, "p", "A", "BUY", 1, price, "USD", at)


def step(before: Increments, *rows: tuple[Any, ...], at: datetime = NOW, how: How = HOW, whole: bool = False) -> Any:
    """One run: the records and rejections, and the state after."""
    found, after = settle_all([Fetched("fills", FILL, rows, True, continues=not whole)], before, how, at)
    return found[0], after


def prices(records: Any) -> dict[str, int]:
    """Execution to price."""
    return {record.execution_id: int(record.price) for record in records.records}


def test_new_rows_join_the_old_ones() -> None:
    """Three runs, one complete list."""
    _, first = step(Increments(), fill("1", 10, "2026-01-15T10:00Z"), whole=True)
    _, second = step(first, fill("2", 20, "2026-01-15T11:00Z"))
    records, _ = step(second)
    assert prices(records) == {"1": 10, "2": 20}


def test_a_row_read_again_takes_the_place_of_the_old_one() -> None:
    """The overlap reads rows twice; a correction counts. The venue tells equal numbers apart."""
    _, first = step(Increments(), fill("1", 10, "2026-01-15T10:00Z"), whole=True)
    records, _ = step(first, fill("1", 11, "2026-01-15T10:00Z"), fill("1", 99, "2026-01-15T10:00Z", venue="y"))
    assert [(record.venue, int(record.price)) for record in records.records] == [("x", 11), ("y", 99)]


def test_what_has_left_the_look_back_is_forgotten() -> None:
    """Also from memory; a rejected row with it."""
    _, first = step(Increments(), fill("1", 10, "2026-01-08T13:00Z"), fill("2", "?", "2026-01-08T13:00Z"), whole=True)
    records, after = step(first, fill("3", 30, "2026-01-15T13:00Z"), at=NOW + timedelta(hours=2))
    assert prices(records) == {"1": 10, "3": 30}
    records, after = step(after, fill("4", 40, "2026-01-15T13:30Z"), at=NOW + timedelta(hours=2))
    assert prices(records) == {"3": 30, "4": 40}
    assert records.rejected == ()
    assert len(after.known["fills"]) == 2


def test_a_rejected_row_stays_rejected_until_it_is_put_right() -> None:
    """It is not read again, and yet there is a gap where it belongs."""
    _, first = step(Increments(), fill("1", "?", "2026-01-15T10:00Z"), whole=True)
    records, second = step(first)
    assert [each.reason for each in records.rejected] == ["not_a_number"]
    records, _ = step(second, fill("1", 10, "2026-01-15T10:00Z"))
    assert (prices(records), records.rejected) == ({"1": 10}, ())


def test_a_rejected_row_without_name_and_time_goes_with_its_day() -> None:
    """It cannot be put right, nor told from others but by itself; it counts once, as long as a query gives it, and a while."""
    bad = fill("", "?", None)
    day = timedelta(days=1)
    _, state = step(Increments(), bad, whole=True)
    records, state = step(state, bad, fill("1", 1, NOW + 6 * day), at=NOW + 6 * day)
    assert len(records.rejected) == 1
    records, state = step(state, fill("2", 1, NOW + 12 * day), at=NOW + 12 * day)
    assert len(records.rejected) == 1
    records, state = step(state, fill("3", 1, NOW + 14 * day), at=NOW + 14 * day)
    assert records.rejected == ()


def test_a_whole_run_starts_over() -> None:
    """Nothing from before survives where everything has been read."""
    _, first = step(Increments(), fill("1", 10, "2026-01-15T10:00Z"), whole=True)
    records, _ = step(first, fill("2", 20, "2026-01-15T11:00Z"), whole=True)
    assert prices(records) == {"2": 20}


def test_what_grows_too_large_is_an_error() -> None:
    """As a query with too many rows is."""
    _, first = step(Increments(), fill("1", 10, NOW), whole=True)
    with pytest.raises(Permanent, match=r"queries\.fills: more than 1 rows by now: narrow the query") as caught:
        step(first, fill("2", 20, NOW), how=How(UTC, timedelta(days=7), 1))
    assert caught.value.reason is Reason.TOO_LARGE


def test_returns_are_kept_whatever_their_age() -> None:
    """A sample is as long as it is."""
    names = ["strategy", "sample", "at", "return_ratio"]
    old, new = ("s", "live", "2020-01-01", 0.01), ("s", "live", "2026-01-14", 0.02)
    _, state = settle_all([Fetched("returns", names, [old], True)], Increments(), HOW, NOW)
    (found,), _ = settle_all([Fetched("returns", names, [new], True, continues=True)], state, HOW, NOW)
    assert found.records[0].values.tolist() == [0.01, 0.02]


@pytest.mark.parametrize(
    ("read_at", "succeeded_at", "kind", "expected"),
    [
        (None, None, "fills", None),
        (NOW, None, "fills", None),
        (None, NOW, "fills", None),
        (NOW, NOW + MINUTE, "fills", NOW - MINUTE),
        (NOW, NOW - 5 * MINUTE, "fills", NOW - 6 * MINUTE),
        (NOW, NOW, "orders", None),
    ],
)
def test_the_last_run(read_at: datetime | None, succeeded_at: datetime | None, kind: Kind, expected: datetime | None) -> None:
    """When it began to read, less the overlap; from the start where nothing was read or nothing succeeded."""
    known: dict[Kind, Any] = {"fills": {}}
    assert Increments(read_at, known).last_run(kind, succeeded_at, MINUTE) == expected


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        ("2026-01-15T12:00", "UTC", "2026-01-15T12:00"),
        ("2026-01-15T12:00", "America/New_York", "2026-01-15T07:00"),
        ("2026-01-15T12:00", "Asia/Tokyo", "2026-01-15T12:00"),
        # Half past one in the morning, for the first time: at two the clock goes back to one.
        ("2026-11-01T05:30", "America/New_York", "2026-11-01T00:30"),
        ("2026-11-01T06:30", "America/New_York", "2026-11-01T01:30"),
        ("2026-03-08T06:30", "America/New_York", "2026-03-08T01:30"),
    ],
)
def test_a_bound_without_a_zone_is_never_too_late(at: str, zone: str, expected: str) -> None:
    """Whichever of the two zones the column is kept in, and when clocks are set back."""
    found = earliest(datetime.fromisoformat(at).replace(tzinfo=UTC), ZoneInfo(zone))
    assert found == datetime.fromisoformat(expected)
