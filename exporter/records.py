"""Records of a venue's answer as the desk's: fields by name, one record at a time.

One that lacks a field or has a wrong type is rejected, counted and shown by the poller; the others, and the fetch, stand.
Pure.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from deskwatch.errors import Reason, Retryable
from exporter import cells
from exporter.cells import Reader, Unreadable
from exporter.snapshot import Kind, Rejected

T = TypeVar("T")
SHOWN = 60
"""Characters of a rejected value that are shown."""
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = SHOWN  # a whole answer in the wrong place is not spelt out to show its beginning


class Fields:
    """One record, a JSON object. Every question names a field; `a.b` is field `b` of the object in `a`.

    Raises:
        Unreadable: from each question, with a bounded reason: `missing`, `not_a_number`, ...; also where it is no object.
    """

    def __init__(self, record: Any) -> None:
        if not isinstance(record, Mapping):
            raise FieldUnreadable("", record, "not_an_object")
        self._record = record

    def get(self, name: str, read: Reader) -> Any:
        """The field as `read` (of `exporter.cells`) understands it."""
        value = self._value(name)
        if value is None:
            raise FieldUnreadable(name, value, "missing")
        try:
            return read(value)
        except Unreadable as unreadable:
            raise FieldUnreadable(name, value, str(unreadable)) from None

    def optional(self, name: str, read: Reader) -> Any:
        """As `get`; None where the field is absent, null or empty text. One that is there must be readable."""
        value = self._value(name)
        empty = value is None or (isinstance(value, str) and not value.strip())
        return None if empty else self.get(name, read)

    def text(self, name: str) -> str:
        """Non-empty text; a whole number is a name too."""
        return str(self.get(name, cells.text))

    def number(self, name: str) -> Decimal:
        """A finite Decimal, from text or number."""
        found: Decimal = self.get(name, cells.number)
        return found

    def positive(self, name: str) -> Decimal:
        """A Decimal > 0."""
        found: Decimal = self.get(name, cells.positive)
        return found

    def moment(self, name: str) -> datetime:
        """An aware UTC time, from ISO text or epoch seconds."""
        found: datetime = self.get(name, cells.moment)
        return found

    def milliseconds(self, name: str) -> datetime:
        """An aware UTC time, from epoch milliseconds."""
        found: datetime = self.get(name, cells.epoch_milliseconds)
        return found

    def optional_text(self, name: str) -> str | None:
        """Text, None where there is none."""
        found: str | None = self.optional(name, cells.text)
        return found

    def optional_number(self, name: str) -> Decimal | None:
        """A finite Decimal, None where there is none."""
        found: Decimal | None = self.optional(name, cells.number)
        return found

    def flag(self, name: str) -> bool:
        """A JSON boolean."""
        value = self._value(name)
        if not isinstance(value, bool):
            raise FieldUnreadable(name, value, "missing" if value is None else "not_a_boolean")
        return value

    def _value(self, name: str) -> Any:
        value: Any = self._record
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


class FieldUnreadable(Unreadable):
    """A field that cannot be read: its name, what stands there, and the bounded reason."""

    def __init__(self, field: str, value: Any, reason: str) -> None:
        shown = _brief.repr(value)
        super().__init__(reason)
        self.reason = reason
        self.said = f"{field or 'record'}={shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + '...'}"


class Sheet:
    """What one fetch read, and what it had to leave out."""

    def __init__(self) -> None:
        self._rejected: list[Rejected] = []

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """Everything left out so far."""
        return tuple(self._rejected)

    def read(
        self, kind: Kind, records: Any, make: Callable[[Fields], T | None], *, portfolio: str | None = None
    ) -> tuple[T, ...]:
        """Every record that can be read.

        Args:
            kind: what they are.
            records: the list the venue sent.
            make: one record of the desk; None leaves the record out without rejecting it (a dust balance, a cancelled bar).
            portfolio: whose they are, where a record does not say: what a rejected one leaves undefined.

        Raises:
            Retryable: `records` is no list: reason `bad_response`.
        """
        if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
            raise Retryable(f"{kind}: a list was expected, found {type(records).__name__}", reason=Reason.BAD_RESPONSE)
        found: list[T] = []
        for index, record in enumerate(records):
            try:
                made = make(Fields(record))
            except (Unreadable, ArithmeticError) as error:
                said, reason = _why(record, error)
                self.reject(kind, f"{kind}[{index}]{said}", reason, portfolio)
            else:
                if made is not None:
                    found.append(made)
        return tuple(found)

    def reject(self, kind: Kind, record: str, reason: str, portfolio: str | None = None) -> None:
        """Leave a record out for a reason of the source's own."""
        self._rejected.append(Rejected(record, reason, kind, portfolio))


def _why(record: Any, error: Unreadable | ArithmeticError) -> tuple[str, str]:
    """What to show of a record that cannot be read, and the bounded reason."""
    if isinstance(error, FieldUnreadable):
        return f".{error.said}", error.reason
    # A reader asked without a field's name, or numbers that can be read but not computed with, as a price divided by zero.
    reason = str(error) if isinstance(error, Unreadable) else "not_computable"
    return f": {_brief.repr(record)[:SHOWN]}", reason
