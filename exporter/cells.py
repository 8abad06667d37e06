"""Single values from outside, a database's cell or a venue's field, as what the desk computes with: names, Decimals, times.

Pure; refuses what it cannot read. No type the outside claims is trusted: a number may come as text, a time as epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from exporter.snapshot import OrderStatus

MAX_TEXT = 200
"""Longer names become label values nobody wants."""
LARGEST_EXPONENT = 300
"""A float holds at most 1.8e308: beyond it analytics would see an infinity."""
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_REPLACED = "\ufffd"
"""Stands where bytes were not UTF-8."""

Reader: TypeAlias = Callable[[Any], Any]


class Unreadable(ValueError):
    """A value is not what its column holds; the argument is the bounded reason."""


def text(value: Any) -> str:
    """Non-empty text, at most `MAX_TEXT` characters; whole numbers are names too."""
    if isinstance(value, int) and not isinstance(value, bool):
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


def ratio(value: Any) -> float:
    """A finite float."""
    return float(number(value))


def moment(value: Any) -> datetime:
    """An aware UTC time from ISO text, epoch seconds, date or datetime; a naive one is UTC."""
    try:
        found = _moment(value)
    except (ValueError, OverflowError, OSError):
        raise Unreadable("not_a_time") from None
    if not _EARLIEST <= found <= _LATEST:
        raise Unreadable("not_a_time")  # epoch milliseconds, among others
    return found


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        found = value
    elif isinstance(value, date):
        found = datetime(value.year, value.month, value.day, tzinfo=UTC)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        found = datetime.fromtimestamp(float(value), UTC)
    elif isinstance(value, str):
        found = datetime.fromisoformat(value.strip())
    else:
        raise ValueError("neither text, number nor time")  # noqa: TRY004 - a value of the database, not of a caller
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


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
