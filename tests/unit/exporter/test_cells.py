"""Single values from outside: zones, days, flags, names."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from exporter.cells import Unreadable, day_in, flag, lower_text, moment_in, text

NEW_YORK, TOKYO = ZoneInfo("America/New_York"), ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-15T09:30:00", "2026-01-15T14:30:00"),
        ("2026-07-15 09:30:00", "2026-07-15T13:30:00"),
        (datetime(2026, 3, 8, 1, 59), "2026-03-08T06:59:00"),  # noqa: DTZ001 - as a database gives it
        (datetime(2026, 3, 8, 3, 0), "2026-03-08T07:00:00"),  # noqa: DTZ001
        # What the clock skipped is as if it had gone on; what it showed twice is taken for the first time.
        (datetime(2026, 3, 8, 2, 30), "2026-03-08T07:30:00"),  # noqa: DTZ001
        (datetime(2026, 11, 1, 1, 30), "2026-11-01T05:30:00"),  # noqa: DTZ001
        (datetime(2026, 11, 1, 2, 0), "2026-11-01T07:00:00"),  # noqa: DTZ001
        # Zones of their own stay; numbers have none to lack; a date names a day.
        ("2026-01-15T09:30:00+01:00", "2026-01-15T08:30:00"),
        (datetime(2026, 1, 15, 9, tzinfo=timezone(timedelta(hours=9))), "2026-01-15T00:00:00"),
        (1768435200, "2026-01-15T00:00:00"),
        (date(2026, 1, 15), "2026-01-15T00:00:00"),
        ("2026-01-15", "2026-01-15T00:00:00"),
    ],
)
def test_a_time_without_a_zone_is_one_of_the_zone(value: Any, expected: str) -> None:
    """Over both changes of the clocks."""
    assert moment_in(NEW_YORK)(value) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        date(2026, 1, 15), "2026-01-15", " 2026-01-15 ", "20260115", 20260115, "2026-01-15 00:00:00", "2026-01-15T23:59:59",
        datetime(2026, 1, 15), datetime(2026, 1, 14, 15, tzinfo=UTC), "2026-01-15T00:00:00+09:00",  # noqa: DTZ001
        1768402800, "1768402800",
    ],
)  # fmt: skip
def test_a_day_comes_in_every_form(value: Any) -> None:
    """A time is the day it was in the zone: midnight in Tokyo is three in the afternoon, UTC, of the day before."""
    assert day_in(TOKYO)(value) == date(2026, 1, 15)


@pytest.mark.parametrize(
    "value",
    [None, "", "yesterday", True, 20261315, "2026-02-30", 1768402800000, Decimal("NaN"), b"2026-01-15", [], "0001-01-01"],
)
def test_what_is_no_day_is_refused(value: Any) -> None:
    """Months that do not exist, milliseconds, the year one."""
    with pytest.raises(Unreadable, match="not_a_"):
        day_in(UTC)(value)


@pytest.mark.parametrize(("value", "expected"), [(True, True), (0, False), ("TRUE", True), ("f", False), (" no ", False)])
def test_flags(value: Any, expected: bool) -> None:
    """As databases write them."""
    assert flag(value) is expected


@pytest.mark.parametrize("value", [None, 2, "maybe", 1.0, ""])
def test_what_is_no_flag_is_refused(value: Any) -> None:
    """Nothing is guessed."""
    with pytest.raises(Unreadable, match="not_a_boolean"):
        flag(value)


def test_names() -> None:
    """A UUID is a name; an order's type is in lower case."""
    assert text(UUID("7F2C1D0A-3B4E-4C5D-8E9F-0A1B2C3D4E5F")) == "7f2c1d0a-3b4e-4c5d-8e9f-0a1b2c3d4e5f"
    assert lower_text("LIMIT") == "limit"
