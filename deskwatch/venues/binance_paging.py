"""Binance's lists page by page: trades and orders of one symbol by id or by window of time, and daily or minute bars.

Returns the venue's rows, each once, in no promised order; a row without the id or time paging goes by is passed on, for the
caller to reject. Refuses a full page in which no row has them: it could not go on from there.
Source: github.com/binance/binance-spot-api-docs, rest-api.md ("Data is returned in ascending order. Oldest first");
developers.binance.com, USDS-margined futures, "Account Trade List", "All Orders", "Kline/Candlestick Data".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from deskwatch.errors import Reason, Retryable
from deskwatch.venues.wire import Parameters

LIMIT = 1000
"""Rows asked for at a time: the most every list gives."""
DAY_MS = 24 * 3600 * 1000

Ask: TypeAlias = Callable[[Parameters], Awaitable[list[Any]]]
"""One call; what it is about stands in it already."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A list whose rows are numbered. `id`: the field; `start`: the parameter that names the first wanted."""

    id: str
    start: str


TRADES = Numbered("id", "fromId")
ORDERS = Numbered("orderId", "orderId")


async def from_id(ask: Ask, numbered: Numbered, first: int) -> list[Any]:
    """Every row from this id on."""
    rows: list[Any] = []
    while True:
        page = await ask({numbered.start: first, "limit": LIMIT})
        rows += page
        if len(page) < LIMIT:
            return rows
        first = 1 + _newest(page, numbered.id, first)


async def latest(ask: Ask, numbered: Numbered, start_ms: int, end_ms: int, window_ms: int) -> list[Any]:
    """Every row from `start_ms` on, of a list that without parameters gives the most recent page.

    That one page is enough for most; else the first row is looked for window by window, and all from it on are read by id.
    """
    page = await ask({"limit": LIMIT})
    if len(page) < LIMIT or min(_known(page, "time")) < start_ms:
        return [row for row in page if (at := whole(row, "time")) is None or at >= start_ms]
    for begin, end in _windows(start_ms, end_ms, window_ms):
        page = await ask({"startTime": begin, "endTime": end, "limit": LIMIT})
        if page:
            return page + await from_id(ask, numbered, 1 + _newest(page, numbered.id))
    return []


async def by_time(ask: Ask, numbered: Numbered, start_ms: int, end_ms: int, window_ms: int) -> list[Any]:
    """Every row from `start_ms` to `end_ms`, window by window, for a list whose ids do not go together with times."""
    found: dict[Any, Any] = {}
    for begin, end in _windows(start_ms, end_ms, window_ms):
        page: list[Any] = []
        while True:
            page = await ask({"startTime": begin, "endTime": end, "limit": LIMIT})
            # The last row of a page comes again on the next; a row without an id stands for itself.
            found.update((whole(row, numbered.id) or object(), row) for row in page)
            if len(page) < LIMIT:
                break
            begin = max(begin + 1, _newest(page, "time", begin))
    return list(found.values())


async def bars(ask: Ask, start_ms: int, end_ms: int, limit: int) -> list[Any]:
    """Every bar that opens from `start_ms` to `end_ms`, so many at a time; a bar is a list, its first item when it opens."""
    rows: list[Any] = []
    while start_ms <= end_ms:
        page = await ask({"startTime": start_ms, "endTime": end_ms, "limit": limit})
        rows += page
        if len(page) < limit:
            break
        opened = page[-1][0] if isinstance(page[-1], list) and page[-1] else None
        if not isinstance(opened, int) or opened < start_ms:
            raise Retryable("bars: a full page ends with a row that has no time", reason=Reason.BAD_RESPONSE)
        start_ms = opened + 1
    return rows


def whole(row: Any, field: str) -> int | None:
    """A row's id or time; None where it has none."""
    value = row.get(field) if isinstance(row, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _known(page: Iterable[Any], field: str) -> list[int]:
    known = [value for row in page if (value := whole(row, field)) is not None]
    if not known:
        raise Retryable(f"a full page in which no row has {field!r}", reason=Reason.BAD_RESPONSE)
    return known


def _newest(page: Iterable[Any], field: str, first: int = 0) -> int:
    """The largest of a full page: where the next begins. One below what was asked for would lead round in circles."""
    found = max(_known(page, field))
    if found < first:
        raise Retryable(f"a page of rows before the {field!r} asked for", reason=Reason.BAD_RESPONSE)
    return found


def _windows(start_ms: int, end_ms: int, window_ms: int) -> Iterator[tuple[int, int]]:
    """First and last millisecond of each window, oldest first."""
    while start_ms <= end_ms:
        yield start_ms, min(start_ms + window_ms - 1, end_ms)
        start_ms += window_ms
