"""Binance's wire: signatures as documented, refusals by what they mean, lists page by page, no row twice and none left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from deskwatch.clock import ManualClock
from deskwatch.config import Secret
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.binance_paging import DAY_MS, LIMIT, ORDERS, TRADES, bars, by_time, from_id, latest
from deskwatch.venues.binance_refusals import ClockApart, UnknownSymbol, meaning
from deskwatch.venues.binance_signing import Access, Signature, VenueClock

# The documentation's own example.
ACCESS = Access(
    Secret("vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"),
    Secret("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"),
)
EXAMPLE = {"symbol": "LTCBTC", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "0.1"}
NOW_MS = 1_700_000_000_000


def signed(url: str, parameters: Mapping[str, str] | None, access: Access = ACCESS) -> httpx.Request:
    """The request as it is sent."""
    request = httpx.Request("GET", url, params=parameters)
    return next(Signature(access, lambda: 1_499_827_319_559).auth_flow(request))


def test_the_documentations_example_is_signed_as_the_documentation_says() -> None:
    """Parameters, recvWindow and timestamp in that order; the signature comes last, the key in a header."""
    request = signed("https://api.binance.com/api/v3/order", EXAMPLE)
    query, _, signature = request.url.query.decode().rpartition("&signature=")
    assert query == (
        "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
    )
    assert signature == "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert request.headers["X-MBX-APIKEY"] == ACCESS.key.get_secret_value()


def test_a_request_without_parameters_is_signed_too() -> None:
    """There is no stray separator in front of its stamp."""
    assert re.fullmatch(
        "recvWindow=5000&timestamp=1499827319559&signature=[0-9a-f]{64}", signed("https://x/a", None).url.query.decode()
    )


def test_the_venues_clock_runs_on_ours_and_not_on_our_wall_clock() -> None:
    """Measured half-way between asking and answer; a wall clock set back changes nothing."""
    clock = ManualClock()
    venue = VenueClock(clock)
    assert venue.now_ms() == int(clock.now().timestamp() * 1000)
    venue.set(NOW_MS, asked=-2.0, answered=0.0)
    assert (venue.now_ms(), venue.measured) == (NOW_MS + 1000, 1)
    clock.jump(-3600)
    assert venue.now_ms() == NOW_MS + 1000


async def test_the_window_ends_with_the_venues_minute() -> None:
    """40 seconds into a minute 20 are left."""
    clock = ManualClock()
    venue = VenueClock(clock)
    venue.set(60_000 * 28_333_333, asked=0.0, answered=0.0)
    await clock.advance(40)
    assert venue.window_left_seconds() == pytest.approx(20)


def refused(status: int, code: int | None = None, said: str = "", **headers: str) -> Retryable | Permanent | None:
    """What an answer means."""
    body = None if code is None else {"code": code, "msg": said}
    return meaning("venue", status, {name.lower().replace("_", "-"): value for name, value in headers.items()}, body, NOW_MS)


@pytest.mark.parametrize(
    ("answer", "kind", "reason", "wait"),
    [
        (refused(429, -1003, "Too much", Retry_After="7"), Retryable, Reason.RATE_LIMITED, 7.0),
        (refused(429, -1003, "Too much"), Retryable, Reason.RATE_LIMITED, 60.0),
        (refused(429), Retryable, Reason.RATE_LIMITED, 60.0),
        (refused(400, -1003, "Too many"), Retryable, Reason.RATE_LIMITED, 60.0),
        (refused(418, -1003, "Way too much", Retry_After="900"), Retryable, Reason.RATE_LIMITED, 900.0),
        (refused(418, -1003, f"IP banned until {NOW_MS + 300_000}."), Retryable, Reason.RATE_LIMITED, 300.0),
        (refused(418), Retryable, Reason.RATE_LIMITED, 120.0),
        (refused(403), Retryable, Reason.RATE_LIMITED, 60.0),
        (refused(403, 0, "blocked"), Retryable, Reason.RATE_LIMITED, 60.0),
        (refused(451, 0, "restricted location"), Permanent, Reason.REJECTED, None),
        (refused(400, -1021, "outside of the recvWindow"), ClockApart, Reason.REJECTED, None),
        (refused(400, -1022, "not valid"), Permanent, Reason.AUTH, None),
        (refused(401, -2014, "format invalid"), Permanent, Reason.AUTH, None),
        (refused(401, -2015, "Invalid API-key"), Permanent, Reason.AUTH, None),
        (refused(403, -2015, "Invalid API-key"), Permanent, Reason.AUTH, None),
        (refused(400, -1121, "Invalid symbol."), UnknownSymbol, Reason.REJECTED, None),
        (refused(503, -1008, "overloaded"), Retryable, Reason.SERVER_ERROR, None),
        (refused(400, -1001, "Internal error"), Retryable, Reason.SERVER_ERROR, None),
        (refused(200, -1000, "unknown"), Retryable, Reason.SERVER_ERROR, None),
    ],
)
def test_a_refusal_says_what_it_means(answer: Any, kind: type, reason: Reason, wait: float | None) -> None:
    """Reason, whether to come back, and when."""
    assert type(answer) is kind
    assert answer.reason is reason
    assert getattr(answer, "retry_after_seconds", None) == wait


@pytest.mark.parametrize(
    ("status", "body"), [(200, {"code": 200, "msg": "success"}), (200, []), (500, None), (404, {"code": -9999, "msg": "new"})]
)
def test_what_is_no_refusal_of_the_venues_own_is_left_to_the_status(status: int, body: Any) -> None:
    """A positive code is a success; a code nobody knows is judged by its status."""
    assert meaning("venue", status, {}, body, NOW_MS) is None


def test_the_operator_is_told_what_to_check() -> None:
    """Address restrictions and permissions of a key; the secret that does not belong to it."""
    assert "addresses it is restricted to" in str(refused(401, -2015, "Invalid API-key, IP, or permissions for action."))
    assert "api_secret" in str(refused(400, -1022, "Signature for this request is not valid."))
    assert "WAF" in str(refused(403))


class Book:
    """A list of numbered rows behind a call that enforces the documented limits of one of the two markets."""

    def __init__(self, times: list[int], window_ms: int, *, ids_with_times: bool = False) -> None:
        self.rows = [{"id": 10 * place, "orderId": 10 * place, "time": at} for place, at in enumerate(times)]
        self.window_ms = window_ms
        self.ids_with_times = ids_with_times
        self.asked: list[Mapping[str, Any]] = []

    async def __call__(self, parameters: Mapping[str, Any]) -> list[Any]:
        """One page."""
        self.asked.append(parameters)
        start, end, limit = parameters.get("startTime"), parameters.get("endTime"), parameters["limit"]
        first = parameters.get("fromId", parameters.get("orderId"))
        if start is not None and end is not None:
            assert end - start < self.window_ms
            assert first is None
            return [row for row in self.rows if start <= row["time"] <= end][:limit]
        if first is not None:
            return [row for row in self.rows if row["id"] >= first][:limit]
        return self.rows[-limit:]


def spread(count: int, days: float) -> list[int]:
    """Times over the last days, oldest first."""
    return [NOW_MS - int(days * DAY_MS * (count - place) / count) for place in range(count)]


@pytest.mark.parametrize(("count", "calls"), [(0, 1), (5, 1), (LIMIT - 1, 1), (LIMIT, 2), (2 * LIMIT + 7, 3)])
async def test_rows_from_an_id_on_are_read_to_the_end(count: int, calls: int) -> None:
    """A full page may be followed by another, which begins after its last id."""
    book = Book(spread(count, 1), DAY_MS)
    assert await from_id(book, TRADES, 0) == book.rows
    assert len(book.asked) == calls


@pytest.mark.parametrize("count", [0, 10, LIMIT, LIMIT + 1, 3 * LIMIT])
async def test_the_latest_rows_are_all_of_the_look_back(count: int) -> None:
    """Over ten days, of which seven are wanted: one page where one is enough, else windows of a day and then ids."""
    book = Book(spread(count, 10), DAY_MS)
    start = NOW_MS - 7 * DAY_MS
    found = await latest(book, ORDERS, start, NOW_MS, DAY_MS)
    assert sorted(row["id"] for row in found) == [row["id"] for row in book.rows if row["time"] >= start]
    assert len(book.asked) == (1 if 0.7 * count <= LIMIT else 4)


async def test_a_gap_before_the_first_row_costs_windows_and_no_rows() -> None:
    """All of three pages were traded in the last of seven days."""
    book = Book(spread(3 * LIMIT, 0.5), DAY_MS)
    assert await latest(book, TRADES, NOW_MS - 7 * DAY_MS, NOW_MS, DAY_MS) == book.rows


@pytest.mark.parametrize("count", [0, 10, LIMIT, LIMIT + 1, 2 * LIMIT + 500])
async def test_rows_by_time_are_read_in_windows_each_once(count: int) -> None:
    """Over twenty days in windows of seven; a page that is full is followed from its last time on."""
    book = Book(spread(count, 20), 7 * DAY_MS)
    start = NOW_MS - 20 * DAY_MS
    found = await by_time(book, TRADES, start, NOW_MS, 7 * DAY_MS)
    assert [row["id"] for row in found] == [row["id"] for row in book.rows]


async def test_rows_of_one_moment_at_the_end_of_a_page_are_not_lost() -> None:
    """Five share the millisecond at which a page ends."""
    times = spread(LIMIT - 2, 1)
    last = NOW_MS - 1000
    book = Book([*times[:-1], *[last] * 5, NOW_MS - 10], 7 * DAY_MS)
    found = await by_time(book, TRADES, NOW_MS - DAY_MS - 1, NOW_MS, 7 * DAY_MS)
    assert len(found) == len(book.rows)


async def test_a_row_that_cannot_be_placed_is_passed_on() -> None:
    """Its reader rejects it; it takes no other with it."""

    async def ask(_: Mapping[str, Any]) -> list[Any]:
        return [{"id": "7", "time": NOW_MS}, None, {"id": 1, "time": NOW_MS}]

    assert len(await by_time(ask, TRADES, NOW_MS - 5, NOW_MS, DAY_MS)) == 3
    assert len(await latest(ask, TRADES, NOW_MS - 5, NOW_MS, DAY_MS)) == 3
    assert len(await from_id(ask, TRADES, 0)) == 3


@pytest.mark.parametrize("page", [[{}] * LIMIT, [{"id": 3, "time": 3}] * LIMIT])
async def test_a_page_that_leads_nowhere_is_refused(page: list[Any]) -> None:
    """Full, without ids or with those of before: asking on would never end."""

    async def ask(_: Mapping[str, Any]) -> list[Any]:
        return page

    with pytest.raises(Retryable) as failure:
        await from_id(ask, TRADES, 100)
    assert failure.value.reason is Reason.BAD_RESPONSE
    with pytest.raises(Retryable):
        await by_time(ask, TRADES, NOW_MS, NOW_MS + 10, DAY_MS)
    with pytest.raises(Retryable):
        await bars(ask, NOW_MS, NOW_MS + 10 * DAY_MS, LIMIT)


async def test_bars_are_read_page_by_page() -> None:
    """2,500 days at a thousand each: three calls, every day once."""
    asked: list[Mapping[str, Any]] = []

    async def ask(parameters: Mapping[str, Any]) -> list[Any]:
        asked.append(parameters)
        first = -(-parameters["startTime"] // DAY_MS)
        return [[day * DAY_MS] for day in range(first, parameters["endTime"] // DAY_MS + 1)][: parameters["limit"]]

    found = await bars(ask, 0, 2_500 * DAY_MS - 1, LIMIT)
    assert [row[0] // DAY_MS for row in found] == list(range(2_500))
    assert len(asked) == 3
