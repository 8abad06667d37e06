"""Alpaca's orders and fills, page by page, each once: what has been read stays, so that a fetch asks for what is new or open.

A read that fails half-way, at the rate limit or its deadline, goes on from there the next time. Returns the venue's rows as
they came, those that cannot be understood too; drops what is older than the look-back, refuses to go round in circles.
Source: Alpaca, Trading API 2.0.1, `GET /v2/orders` and `GET /v2/account/activities/{activity_type}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from deskwatch.errors import Reason, Retryable
from deskwatch.venues.wire import Parameters

Page: TypeAlias = Callable[[Parameters], Awaitable[list[Any]]]
"""One call that returns one page."""

ORDERS_LIMIT = 500
FILLS_LIMIT = 100
"""Most a page may hold, and what is asked for."""
FINAL = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
"""Statuses after which nothing happens to an order."""
WAITING = "held"
"""Status of a leg that waits for its parent or its sister; such legs are in no list of open orders, only below their parent."""
ORDERS_OVERLAP = timedelta(minutes=1)
FILLS_OVERLAP = timedelta(minutes=5)
"""So far before the newest row known is read again: for rows that appear later than those after them."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as it came. `root`: the order it came below, or its own id; `root_at`: when that was submitted."""

    root: str
    root_at: datetime | None
    at: datetime | None
    content: Any

    @property
    def status(self) -> str:
        return str(self.content.get("status")) if isinstance(self.content, Mapping) else ""

    def known_since(self, since: datetime) -> bool:
        """Whether it belongs into the look-back; what has no readable time is left to whoever reads the row."""
        return self.at is None or self.at >= since


class OrderLog:
    """The orders of the look-back and every open one, with their legs.

    Args:
        page: `GET /v2/orders`.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._rows: dict[str, _Row] = {}
        self._read_to: datetime | None = None
        """Every order submitted up to here has been read once."""

    async def read(self, since: datetime, now: datetime) -> list[Any]:
        """Every open order, and every order submitted at `since` or later; legs as orders of their own.

        Open orders are asked for first, one by one: an order that closes in between is then in both answers, and the later
        counts. Legs come below their parents, the only place where a held one is to be found.

        Raises:
            Retryable: a page cannot be read, or more orders share one moment than a page can hold.
        """
        open_ids: set[str] = set()
        async for rows in self._pages({"status": "open", "nested": "false"}, None):
            for key, row in rows:
                open_ids.add(key)
                known = self._rows.get(key, row)
                self._rows[key] = replace(row, root=known.root, root_at=known.root_at)
        # A heavy trader's look-back has tens of thousands of orders: too many to look through on the event loop.
        resume = await asyncio.to_thread(self._resume, since, open_ids)
        async for rows in self._pages({"status": "all", "nested": "true"}, resume):
            self._rows.update(rows)
            self._read_to = max((at for at in (self._read_to, *_submitted(rows, now)) if at is not None), default=None)
        self._rows = await asyncio.to_thread(self._current, since, open_ids)
        return [row.content for row in self._rows.values()]

    def _current(self, since: datetime, open_ids: set[str]) -> dict[str, _Row]:
        """What is open, belongs to what is open, or belongs into the look-back."""
        families = {self._rows[key].root for key in open_ids}
        return {
            key: row
            for key, row in self._rows.items()
            if key in open_ids or row.known_since(since) or (row.status == WAITING and row.root in families)
        }

    def _resume(self, since: datetime, open_ids: set[str]) -> datetime:
        """From when on orders are to be read again: the newest known, or the oldest that was open and is not any more."""
        families = {self._rows[key].root for key in open_ids}
        vanished = [
            row.root_at
            for key, row in self._rows.items()
            if row.root_at is not None
            and key not in open_ids
            and row.status not in FINAL
            and not (row.status == WAITING and row.root in families)
        ]
        if self._read_to is None:
            return _before(since)
        return _before(max(since, min([self._read_to - ORDERS_OVERLAP, *vanished])))

    async def _pages(self, parameters: Parameters, after: datetime | None) -> AsyncIterator[list[tuple[str, _Row]]]:
        """The pages, oldest order first. Orders that share the last moment of a page come on the next one again.

        Whether the limit counts legs is not documented: a page that is full either way is followed by another.
        """
        while True:
            moment = {} if after is None else {"after": _stamp(after)}
            page = await self._page({**parameters, **moment, "limit": ORDERS_LIMIT, "direction": "asc"})
            rows = list(_with_legs(page))
            yield rows
            if len(rows) < ORDERS_LIMIT:
                return
            last = _time(page[-1], "submitted_at")
            if last is None or (after is not None and _before(last) <= after):
                raise Retryable(
                    f"Alpaca, orders: {len(rows)} of one moment fill a page, those after them cannot be reached: last"
                    f" submitted_at {last}",
                    reason=Reason.BAD_RESPONSE,
                )
            after = _before(last)


class FillLog:
    """The executions of the look-back.

    Args:
        page: `GET /v2/account/activities/FILL`.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._rows: dict[str, _Row] = {}
        self._newest: datetime | None = None

    async def read(self, since: datetime, now: datetime) -> list[Any]:
        """Every execution at `since` or later.

        Raises:
            Retryable: a page cannot be read, or has no id to go on from.
        """
        after = since if self._newest is None else max(since, self._newest - FILLS_OVERLAP)
        whole_second = _stamp(after - timedelta(seconds=1), "seconds")  # documented with seconds only, and it excludes
        parameters: dict[str, str | int] = {"after": whole_second, "direction": "asc", "page_size": FILLS_LIMIT}
        while True:
            page = await self._page(parameters)
            rows = [(_key(content), _execution(content)) for content in page]
            self._rows.update(rows)
            times = [self._newest, *(row.at for _, row in rows if row.at is not None and row.at <= now)]
            self._newest = max((at for at in times if at is not None), default=None)
            if len(page) < FILLS_LIMIT:
                break
            token = page[-1].get("id") if isinstance(page[-1], Mapping) else None
            if not isinstance(token, str) or token == parameters.get("page_token"):
                raise Retryable(
                    f"Alpaca, fills: a full page ends with the id {token!r}, from which there is no next page",
                    reason=Reason.BAD_RESPONSE,
                )
            parameters["page_token"] = token
        self._rows = await asyncio.to_thread(self._current, since)
        return [row.content for row in self._rows.values()]

    def _current(self, since: datetime) -> dict[str, _Row]:
        return {key: row for key, row in self._rows.items() if row.known_since(since)}


def _with_legs(page: Iterable[Any]) -> Iterator[tuple[str, _Row]]:
    """Every order of a page and every leg below one."""
    for content in page:
        root, at = _key(content), _time(content, "submitted_at")
        yield root, _Row(root, at, at, content)
        legs = content.get("legs") if isinstance(content, Mapping) else None
        for leg in legs if isinstance(legs, list) else ():
            yield _key(leg), _Row(root, at, _time(leg, "submitted_at"), leg)


def _submitted(rows: Iterable[tuple[str, _Row]], now: datetime) -> Iterator[datetime]:
    """When the orders by which a page is sorted were submitted; one dated later than now moves nothing."""
    for key, row in rows:
        if key == row.root and row.at is not None and row.at <= now:
            yield row.at


def _execution(content: Any) -> _Row:
    at = _time(content, "transaction_time")
    return _Row("", at, at, content)


def _key(content: Any) -> str:
    """The row's id; a row without one is known by all it says."""
    name = content.get("id") if isinstance(content, Mapping) else None
    return name if isinstance(name, str) and name else repr(content)


def _time(content: Any, field: str) -> datetime | None:
    value = content.get(field) if isinstance(content, Mapping) else None
    try:
        found = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _before(moment: datetime) -> datetime:
    """The last moment before it: what `after`, which excludes, must say for it to be included."""
    return moment - timedelta(microseconds=1)


def _stamp(moment: datetime, precision: str = "microseconds") -> str:
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
