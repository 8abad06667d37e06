"""Daily closes from many rows to one array per symbol, quickly: a thousand symbols times a thousand days in half a second.

Days and closes are converted by the thousand; only what does not convert is looked at one by one, and rejected. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.cells import Unreadable
from exporter.snapshot import History, Rejected
from exporter.sql.rows import SHOWN
from exporter.sql.tables import TABLES

LISTED = 1000
"""So many rejected closes are listed; of more, only how many there are."""
SEPARATOR = ";"
_COLUMNS = TABLES["histories"].columns


class _Series(NamedTuple):
    days: NDArray[np.int64]
    closes: NDArray[np.float64]


@dataclass(slots=True)
class Closes:
    """Collects closes, in any order, and makes histories of them.

    Args:
        today: the day it is: neither it nor a later one has ended, so they have no close.
        days: calendar days wanted, before the newest that has ended.
        zone: zone of times that carry none.
    """

    today: date
    days: int
    zone: tzinfo = UTC
    rejected: list[Rejected] = field(default_factory=list)
    unlisted: int = 0
    """Rejected closes beyond those listed."""
    unended: int = 0
    """Closes of days that have not ended."""
    _series: dict[tuple[str, str], list[_Series]] = field(default_factory=dict)
    _days: dict[Any, int] = field(default_factory=dict)
    """Days since 1900 by what the database gives for them; -1 for what is no day."""
    _why: dict[Any, str] = field(default_factory=dict)
    """Why it is none."""

    def add_joined(self, symbol: Any, currency: Any, count: int, days: str, closes: str) -> None:
        """Closes of one symbol and currency as the server has put them together."""
        day, close = days.split(SEPARATOR), closes.split(SEPARATOR)
        if len(day) != count or len(close) != count:
            self._reject(f"{symbol!r}: {count} closes, found {len(day)} days and {len(close)} prices", "not_a_number", count)
            return
        self.add(symbol, currency, day, close)

    def add_rows(self, rows: Iterable[Sequence[Any]], places: Mapping[str, int]) -> None:
        """Closes row by row; `places` says where the columns stand."""
        symbol, currency, day, close = (places[name] for name in ("symbol", "currency", "day", "close"))
        groups: dict[tuple[Any, Any], tuple[list[Any], list[Any]]] = {}
        for row in rows:
            days, closes = groups.setdefault((row[symbol], row[currency]), ([], []))
            days.append(row[day])
            closes.append(row[close])
        for names, group in groups.items():
            self.add(*names, *group)

    def add(self, symbol: Any, currency: Any, days: Sequence[Any], closes: Sequence[Any]) -> None:
        """Closes of one symbol and currency, day by day."""
        try:
            names = _COLUMNS["symbol"].read(symbol), _COLUMNS["currency"].read(currency)
        except Unreadable as unreadable:
            self._reject(f"symbol={symbol!r}, currency={currency!r}", _why(symbol, currency, unreadable), len(days))
            return
        number = self._numbers(days)
        price = _floats(closes)
        with np.errstate(invalid="ignore"):
            good = (number >= 0) & np.isfinite(price) & (price > 0.0)
        for at in np.flatnonzero(~good):
            self._reject_one(names[0], days[int(at)], closes[int(at)])
        today = _number_of(self.today)
        self.unended += int((good & (number >= today)).sum())
        good &= number < today
        if good.any():
            self._series.setdefault(names, []).append(_Series(number[good], price[good]))

    def histories(self) -> tuple[History, ...]:
        """One history per symbol, in order of the symbols. Of two currencies of one symbol that of its newest day counts."""
        newest = max((int(part.days.max()) for parts in self._series.values() for part in parts), default=0)
        whole = {names: self._whole(names[0], parts, newest - self.days) for names, parts in self._series.items()}
        chosen: dict[str, tuple[str, _Series]] = {}
        for (symbol, currency), series in sorted(whole.items(), key=lambda item: item[1].days[-1:].tolist()):
            if symbol in chosen:
                before = chosen[symbol]
                said = f"{symbol!r} in {before[0]!r}, later in {currency!r}"
                self._reject(said, "other_currency", before[1].days.size)
            chosen[symbol] = currency, series
        found = ((symbol, *chosen[symbol]) for symbol in sorted(chosen) if chosen[symbol][1].days.size)
        return tuple(_history(symbol, currency, series) for symbol, currency, series in found)

    def _whole(self, symbol: str, parts: Sequence[_Series], first: int) -> _Series:
        """All parts in order from the first day on, each day once. A day with two different closes has none."""
        days = np.concatenate([part.days for part in parts])
        closes = np.concatenate([part.closes for part in parts])
        order = np.argsort(days, kind="stable")
        order = order[days[order] >= first]
        days, closes = days[order], closes[order]
        same = days[1:] == days[:-1]
        if not same.any():
            return _Series(days, closes)
        torn = np.unique(days[1:][same & (closes[1:] != closes[:-1])])
        for day in torn:
            self._reject(f"{symbol!r} has two closes on {_date(day)}", "conflicting", 1)
        keep = np.append(True, ~same) & ~np.isin(days, torn)
        return _Series(days[keep], closes[keep])

    def _numbers(self, days: Sequence[Any]) -> NDArray[np.int64]:
        """Days since 1900, -1 for what is no day. There are few different ones, so each is read once."""
        known = self._days
        for value in set(days).difference(known):
            known[value] = self._number(value)
        return np.array([known[value] for value in days], dtype=np.int64)

    def _number(self, value: Any) -> int:
        try:
            return _number_of(_COLUMNS["day"].reader(self.zone)(value))
        except Unreadable as unreadable:
            self._why[value] = "missing" if value in (None, "") else str(unreadable)
            return -1

    def _reject_one(self, symbol: str, day: Any, close: Any) -> None:
        if day in self._why:
            self._reject(f"{symbol!r} day={_shown(day)}", self._why[day], 1)
            return
        try:
            _COLUMNS["close"].read(close)
            reason = "not_finite"
        except Unreadable as unreadable:
            reason = "missing" if close in (None, "") else str(unreadable)
        self._reject(f"{symbol!r} on {_date(self._days[day])} close={_shown(close)}", reason, 1)

    def _reject(self, said: str, reason: str, count: int) -> None:
        room = max(0, LISTED - len(self.rejected))
        listed = min(count, room)
        self.rejected += [Rejected(f"histories: {said}", reason, "histories")] * listed
        self.unlisted += count - listed


_ORIGIN = 25_567
"""Days from 1900 to 1970: what is no day is -1."""


def _number_of(day: date) -> int:
    return (day - date(1970, 1, 1)).days + _ORIGIN


_NUMBERS = {int, float, Decimal, str}


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    """Numbers, NaN for what is none."""
    types = set(map(type, values))
    # numpy would take True and b"1" for 1, and `1_000` for a thousand.
    if types <= _NUMBERS and not (str in types and "_" in "".join(map(str, values))):
        try:
            return np.array(values, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            pass
    return np.fromiter(_one_by_one(values), dtype=np.float64, count=len(values))


def _one_by_one(values: Sequence[Any]) -> Iterator[float]:
    for value in values:
        try:
            yield float(_COLUMNS["close"].read(value))
        except Unreadable:
            yield float("nan")


def _history(symbol: str, currency: str, series: _Series) -> History:
    days = (series.days - _ORIGIN).astype("datetime64[D]")
    closes = series.closes.copy()
    days.setflags(write=False)
    closes.setflags(write=False)
    return History(symbol, currency, days, closes)


def newest_day(histories: Iterable[History]) -> datetime | None:
    """Start of the newest day of any of them, UTC."""
    days = [history.days[-1] for history in histories if history.days.size]
    return datetime.combine(max(days).astype(date), time(), UTC) if days else None


def _date(number: Any) -> str:
    return str(np.datetime64(int(number) - _ORIGIN, "D"))


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."


def _why(symbol: Any, currency: Any, unreadable: Unreadable) -> str:
    return "missing" if symbol is None or currency is None else str(unreadable)
