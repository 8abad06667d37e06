"""Single values from outside, a database's cell or a venue's field, as what the desk computes with: names, Decimals, times.

Pure; refuses what it cannot read. No type the outside claims is trusted: a number may come as text, a time as epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias
from uuid import UUID

from exporter.snapshot import OrderStatus

MAX_TEXT = 200
"""Longer names become label values nobody wants."""
LARGEST_EXPONENT = 300
"""A float holds at most 1.8e308: beyond it analytics would see an infinity."""
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_DATE_LENGTH, _COMPACT_LENGTH = len("2015-01-15"), len("20150115")
_REPLACED = "\ufffd"
"""Stands where bytes were not UTF-8."""

Reader: TypeAlias = Callable[[Any], Any]


class Unreadable(ValueError):
    """A value is not what its column holds; the argument is the bounded reason."""


def text(value: Any) -> str:
    """Non-empty text, at most `MAX_TEXT` characters; whole numbers and UUIDs are names too."""
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or _REPLACED in value:
        raise Unreadable("not_text")
    found = value.strip()
    if not found:
        raise Unreadable("missing")
    if len(found) > MAX_TEXT:
        raise Unreadable("too_long")
    return found


def number(value: Any) -> Decimal:
    """A finite Decimal from text, int, float (by its shortest representation) or Decimal."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str) or "_" in str(value):
        raise Unreadable("not_a_number")
    try:
        found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        raise Unreadable("not_a_number") from None
    if not found.is_finite() or found.adjusted() > LARGEST_EXPONENT:
        raise Unreadable("not_finite")
    return found


def positive(value: Any) -> Decimal:
    """A Decimal > 0."""
    found = number(value)
    if found <= 0:
        raise Unreadable("not_positive")
    return found


def not_negative(value: Any) -> Decimal:
    """A Decimal >= 0."""
    found = number(value)
    if found < 0:
        raise Unreadable("negative")
    return found


def flag(value: Any) -> bool:
    """True or false from a boolean, 0 or 1, or their usual words."""
    found = _FLAGS.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None
    if found is None:
        raise Unreadable("not_a_boolean")
    return found


_FLAGS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}


def lower_text(value: Any) -> str:
    """As `text`, in lower case."""
    return text(value).lower()


def ratio(value: Any) -> float:
    """A finite float."""
    return float(number(value))


def moment(value: Any) -> datetime:
    """An aware UTC time from ISO text, epoch seconds, date or datetime; a naive one is UTC."""
    return _moment(value, UTC)


def moment_in(zone: tzinfo) -> Reader:
    """As `moment`, but a naive time is one of that zone; of the two times a clock shows twice a year, the first is meant.

    A date without a time stays midnight UTC: it names a day, and must not become the day before.
    """
    return lambda value: _moment(value, zone)


def _moment(value: Any, zone: tzinfo) -> datetime:
    try:
        found = _time(value)
        found = found.replace(tzinfo=zone, fold=0) if found.tzinfo is None else found
        found = found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise Unreadable("not_a_time") from None
    if not _EARLIEST <= found <= _LATEST:
        raise Unreadable("not_a_time")  # epoch milliseconds, among others
    return found


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return datetime.fromtimestamp(float(value), UTC)
    if isinstance(value, str):
        found = datetime.fromisoformat(value.strip())
        return found.replace(tzinfo=UTC) if len(value.strip()) <= _DATE_LENGTH else found
    raise ValueError("neither text, number nor time")


def day_in(zone: tzinfo) -> Reader:
    """A calendar day from a date, ISO text, `20150115`, or a time, whose day in that zone is meant."""

    def read(value: Any) -> date:
        written = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
        try:
            if written.isdigit() and len(written) == _COMPACT_LENGTH:
                return date(int(written[:4]), int(written[4:6]), int(written[6:]))
            if written.isdigit():
                value = int(written)
        except ValueError:
            raise Unreadable("not_a_day") from None
        if isinstance(value, date) and not isinstance(value, datetime):
            found = value
        elif len(written) == _DATE_LENGTH and "-" in written:
            found = _moment(written, UTC).date()
        else:
            found = _moment(value, zone).astimezone(zone).date()
        if not _EARLIEST.date() <= found <= _LATEST.date():
            raise Unreadable("not_a_day")
        return found

    return read


def epoch_milliseconds(value: Any) -> datetime:
    """An aware UTC time from milliseconds since 1970."""
    return moment(number(value) / 1000)


_STATUS_WORDS: dict[OrderStatus, str] = {
    "NEW": "new open accepted pending_new accepted_for_bidding calculated held pending_replace pending_cancel submitted"
    " presubmitted pendingsubmit pending_submit pendingcancel inactive stopped suspended live working acknowledged done_for_day"
    " replaced",
    "PARTIALLY_FILLED": "partially_filled partiallyfilled partial partial_fill",
    "FILLED": "filled fill closed done executed completed",
    "CANCELED": "canceled cancelled apicancelled",
    "REJECTED": "rejected failed",
    "EXPIRED": "expired expired_in_match",
}
_ORDER_STATUSES = {word: status for status, words in _STATUS_WORDS.items() for word in words.split()}


def order_status(value: Any) -> OrderStatus:
    """The desk's word for what a venue or an operator's table calls an order's status."""
    found = _ORDER_STATUSES.get(text(value).lower().replace(" ", "_").replace("-", "_"))
    if found is None:
        raise Unreadable("unknown_status")
    return found


def one_of(*choices: str) -> Reader:
    """Text that is one of the choices, in whatever case."""
    known = {choice.lower(): choice for choice in choices}

    def read(value: Any) -> str:
        found = known.get(text(value).lower())
        if found is None:
            raise Unreadable("not_a_choice")
        return found

    return read
