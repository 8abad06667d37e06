"""Alpaca's pages: every order and every fill once, whatever shares a moment, whatever fails half-way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import raise_for_status
from deskwatch.venues import alpaca_data, alpaca_paging
from deskwatch.venues.alpaca_data import PAIRS, SHARES, MarketData
from deskwatch.venues.alpaca_paging import FillLog, OrderLog
from deskwatch.venues.wire import Parameters
from tests.stand_ins.alpaca import KEY_ID, SECRET_KEY, Alpaca, bar, fill, midnights, order
from tests.stand_ins.server import Received

NOW = datetime(2026, 1, 5, 15, tzinfo=UTC)
SINCE = NOW - timedelta(days=7)
CREDENTIALS = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": SECRET_KEY}


class Unplugged:
    """The stand-in without a socket: asked directly, and it counts what it is asked."""

    def __init__(self) -> None:
        self.venue = Alpaca(now=lambda: NOW)
        self.venue.limits = {"trading": 10_000, "data": 10_000}
        self.asked: list[Mapping[str, str]] = []

    async def get(self, path: str, parameters: Parameters) -> Any:
        """One page, as `Wire.get` returns it."""
        query = {name: str(value) for name, value in parameters.items()}
        self.asked.append(query)
        answer = self.venue._answer(Received(path, CREDENTIALS, b"", 0.0, "GET", query))
        body = json.loads(answer.body) if answer.content_type == "application/json" else {}
        raise_for_status(
            answer.status, answer.headers, what="Alpaca", said=body.get("message", "") if answer.status >= 300 else ""
        )
        return body

    async def orders(self, parameters: Parameters) -> Any:
        """A page of orders."""
        return await self.get("/v2/orders", parameters)

    async def fills(self, parameters: Parameters) -> Any:
        """A page of fills."""
        return await self.get("/v2/account/activities/FILL", parameters)


def at(seconds: float) -> str:
    """So long after the look-back begins, with nanoseconds as Alpaca writes them."""
    whole, decimals = divmod(round(seconds * 1e9), 10**9)
    return (SINCE + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S") + f".{decimals:09d}Z"


def ids(rows: list[Any]) -> list[str]:
    """Their ids, sorted: a row that came twice stands twice."""
    return sorted(row["id"] for row in rows)


def told(alpaca: Unplugged) -> list[Any]:
    """Every order and leg the venue has."""
    return [row for each in alpaca.venue.orders for row in (each, *(each["legs"] or ()))]


def statuses(rows: list[Any]) -> dict[str, str]:
    """Status by the last digits of the id."""
    return {row["id"][-3:]: row["status"] for row in rows}


async def test_every_order_comes_once_although_pages_end_within_one_moment() -> None:
    """1,203 orders, seven of each microsecond, apart by nanoseconds: three pages, none lost and none twice."""
    alpaca = Unplugged()
    alpaca.venue.orders = [order(n, at(60 + n // 7 * 1e-6 + n % 7 * 1e-9)) for n in range(1203)]
    rows = await OrderLog(alpaca.orders).read(SINCE, NOW)
    assert ids(rows) == sorted(each["id"] for each in alpaca.venue.orders)
    assert len(alpaca.asked) == 4


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["new", "filled", "canceled"]), st.integers(0, 2)), max_size=25),
    st.data(),
)
async def test_no_order_is_lost_or_doubled_whatever_happens_between_two_reads(orders: list[Any], data: st.DataObject) -> None:
    """Orders of few moments, with legs, on the smallest pages that hold a moment; then some change and some come."""
    alpaca = Unplugged()
    alpaca.venue.orders = [
        order(n * 10, at(moment), status, legs=[order(n * 10 + leg + 1, at(moment), "held") for leg in range(legs)] or None)
        for n, (moment, status, legs) in enumerate(orders)
    ]
    most = max(Counter(row["submitted_at"] for row in told(alpaca)).values(), default=0)
    log = OrderLog(alpaca.orders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alpaca_paging, "ORDERS_LIMIT", most + 2)
        first = await log.read(SINCE - timedelta(seconds=1), NOW)
        assert statuses(first) == statuses(told(alpaca))
        assert ids(first) == ids(told(alpaca))
        for each in alpaca.venue.orders:
            if each["status"] == "new" and data.draw(st.booleans()):
                each["status"] = "filled"
                for leg in each["legs"] or ():
                    leg["status"] = data.draw(st.sampled_from(["new", "held", "canceled"]))
        alpaca.venue.orders += [order(1000 + n, at(9 + n)) for n in range(data.draw(st.integers(0, 3)))]
        second = await log.read(SINCE - timedelta(seconds=1), NOW)
    assert ids(second) == ids(told(alpaca))
    assert statuses(second) == statuses(told(alpaca))


async def test_more_orders_of_one_moment_than_a_page_holds_are_an_error_not_a_gap() -> None:
    """Those after them cannot be reached by time: said, not passed over."""
    alpaca = Unplugged()
    alpaca.venue.orders = [order(n, at(60)) for n in range(501)]
    with pytest.raises(Retryable, match="500 of one moment fill a page") as caught:
        await OrderLog(alpaca.orders).read(SINCE, NOW)
    assert caught.value.reason is Reason.BAD_RESPONSE


async def test_a_brackets_legs_are_orders_of_their_own_through_their_lives() -> None:
    """Held legs are in no list of open orders; once the entry is filled, its own row is in none either."""
    alpaca = Unplugged()
    legs = [order(2, at(60), "held"), order(3, at(60), "held")]
    alpaca.venue.orders = [order(1, at(60), "new", order_class="bracket", legs=legs), order(4, at(3600))]
    log = OrderLog(alpaca.orders)
    assert statuses(await log.read(SINCE, NOW)) == {"001": "new", "002": "held", "003": "held", "004": "filled"}
    alpaca.venue.orders[0]["status"], legs[0]["status"] = "filled", "new"
    assert statuses(await log.read(SINCE, NOW)) == {"001": "filled", "002": "new", "003": "held", "004": "filled"}
    asked = len(alpaca.asked)
    assert statuses(await log.read(SINCE, NOW)) == {"001": "filled", "002": "new", "003": "held", "004": "filled"}
    assert alpaca.asked[asked + 1]["after"] > at(3000), "a leg that waits for its open sister is not read again"
    legs[0]["status"], legs[1]["status"] = "filled", "canceled"
    assert statuses(await log.read(SINCE, NOW)) == {"001": "filled", "002": "filled", "003": "canceled", "004": "filled"}


async def test_an_open_order_is_told_however_old_and_a_closed_one_only_within_the_look_back() -> None:
    """A good-till-cancelled order of last month still works; one that has ended before the look-back is past."""
    alpaca = Unplugged()
    alpaca.venue.orders = [order(1, "2025-12-01T15:00:00Z", "new"), order(2, "2025-12-01T15:00:00Z"), order(3, at(0))]
    log = OrderLog(alpaca.orders)
    assert statuses(await log.read(SINCE, NOW)) == {"001": "new", "003": "filled"}
    assert statuses(await log.read(SINCE + timedelta(seconds=1), NOW)) == {"001": "new"}


async def test_a_leg_that_waits_for_an_open_order_stays_with_it_beyond_the_look_back() -> None:
    """Once seen below its parent, a held leg is known as long as its sister works."""
    alpaca = Unplugged()
    legs = [order(2, at(60), "new"), order(3, at(60), "held")]
    alpaca.venue.orders = [order(1, at(60), order_class="bracket", legs=legs)]
    log = OrderLog(alpaca.orders)
    await log.read(SINCE, NOW)
    later = timedelta(days=1)
    assert statuses(await log.read(SINCE + later, NOW + later)) == {"002": "new", "003": "held"}
    legs[0]["status"] = "filled"
    assert statuses(await log.read(SINCE + later, NOW + later)) == {}


async def test_only_what_is_new_or_was_open_is_read_again() -> None:
    """The second read begins a minute before the newest order; one that has closed since moves that back to its own time."""
    alpaca = Unplugged()
    alpaca.venue.orders = [order(1, at(100), "new"), *(order(n, at(5000 + n)) for n in range(2, 9))]
    log = OrderLog(alpaca.orders)
    await log.read(SINCE, NOW)
    await log.read(SINCE, NOW)
    assert alpaca.asked[3]["after"] == "2025-12-29T16:22:27.999999Z"
    alpaca.venue.orders[0]["status"] = "canceled"
    assert statuses(await log.read(SINCE, NOW))["001"] == "canceled"
    assert alpaca.asked[5]["after"] == "2025-12-29T15:01:39.999999Z"


async def test_a_read_of_orders_that_fails_goes_on_where_it_stood() -> None:
    """What has been read is not asked for again: a large account gets through a small rate limit, in the end."""
    alpaca = Unplugged()
    alpaca.venue.orders = [order(n, at(60 + n)) for n in range(1600)]
    log = OrderLog(alpaca.orders)
    alpaca.venue.limits["trading"] = 3
    with pytest.raises(Retryable):
        await log.read(SINCE, NOW)
    alpaca.venue.limits["trading"] = 5
    with pytest.raises(Retryable):
        await log.read(SINCE, NOW)
    alpaca.venue.limits["trading"] = 10
    assert ids(await log.read(SINCE, NOW)) == sorted(each["id"] for each in alpaca.venue.orders)
    asked = [query["after"] for query in alpaca.asked if query["status"] == "all"]
    assert min(asked[3:]) > at(990), "two pages had been read when the limit was reached"


async def test_an_order_dated_in_the_future_hides_none_that_come_after_it() -> None:
    """A clock that ran ahead at the venue once is no reason to miss orders until it is reached."""
    alpaca = Unplugged()
    alpaca.venue.orders = [order(1, "2027-01-01T00:00:00Z")]
    log = OrderLog(alpaca.orders)
    await log.read(SINCE, NOW)
    alpaca.venue.orders.append(order(2, at(60)))
    assert statuses(await log.read(SINCE, NOW)) == {"001": "filled", "002": "filled"}


async def test_rows_that_cannot_be_understood_are_handed_on() -> None:
    """Whoever reads them rejects and counts them; a page is not lost for one of them."""
    alpaca = Unplugged()
    nameless = {"status": "new", "submitted_at": None}

    async def page(parameters: Parameters) -> Any:
        return (
            ["no object", nameless, {"id": "7", "submitted_at": at(60), "status": ["odd"], "legs": 7}]
            if parameters["status"] == "all"
            else []
        )

    log = OrderLog(page)
    first = await log.read(SINCE, NOW)
    assert nameless in first
    assert len(first) == 3
    assert len(await log.read(SINCE, NOW)) == 3
    assert not alpaca.asked


async def test_every_fill_comes_once_over_several_pages() -> None:
    """250 executions, 25 of each millisecond, partial ones among them."""
    alpaca = Unplugged()
    alpaca.venue.fills = [fill(n, at(60 + n // 25 / 1000), type="partial_fill") for n in range(250)]
    log = FillLog(alpaca.fills)
    assert ids(await log.read(SINCE, NOW)) == ids(alpaca.venue.fills)
    assert [query.get("page_token") for query in alpaca.asked] == [
        None,
        *(sorted(ids(alpaca.venue.fills))[n] for n in (99, 199)),
    ]


async def test_a_fill_that_appears_late_is_not_missed() -> None:
    """The next read begins some minutes before the newest fill; what is older than the look-back falls out."""
    alpaca = Unplugged()
    alpaca.venue.fills = [fill(1, at(0)), fill(2, at(600))]
    log = FillLog(alpaca.fills)
    assert len(await log.read(SINCE - timedelta(seconds=1), NOW)) == 2
    alpaca.venue.fills.append(fill(3, at(400)))
    assert ids(await log.read(SINCE + timedelta(seconds=1), NOW)) == ids(alpaca.venue.fills[1:])
    assert alpaca.asked[1]["after"] == "2025-12-29T15:04:59Z"
    assert await log.read(NOW, NOW) == []
    assert alpaca.asked[2]["after"] == "2026-01-05T14:59:59Z"


async def test_a_fill_dated_in_the_future_hides_none_that_come_after_it() -> None:
    """As with orders."""
    alpaca = Unplugged()
    alpaca.venue.fills = [fill(1, "2027-01-01T00:00:00Z")]
    log = FillLog(alpaca.fills)
    await log.read(SINCE, NOW)
    alpaca.venue.fills.append(fill(2, at(60)))
    assert len(await log.read(SINCE, NOW)) == 2


async def test_a_read_of_fills_that_fails_goes_on_where_it_stood() -> None:
    """A page that failed is asked for again; those before it are not."""
    alpaca = Unplugged()
    alpaca.venue.fills = [fill(n, at(3600 * n)) for n in range(150)]
    log = FillLog(alpaca.fills)
    alpaca.venue.limits["trading"] = 1
    with pytest.raises(Retryable):
        await log.read(SINCE, NOW)
    alpaca.venue.limits["trading"] = 10
    assert ids(await log.read(SINCE, NOW)) == ids(alpaca.venue.fills)
    assert alpaca.asked[-1]["after"] == "2026-01-02T17:54:59Z"


@pytest.mark.parametrize("last", [{"id": "a"}, {"id": None}, "no object"])
async def test_fills_without_a_next_page_are_an_error_not_a_circle(last: Any) -> None:
    """A page that ends with the id it began after, or with none."""

    async def page(parameters: Parameters) -> Any:
        return [*({"id": f"{n}"} for n in range(99)), last]

    with pytest.raises(Retryable, match="no next page") as caught:
        await FillLog(page).read(SINCE, NOW)
    assert caught.value.reason is Reason.BAD_RESPONSE


def market_data(alpaca: Unplugged) -> MarketData:
    """Market data of the stand-in."""
    return MarketData(alpaca)  # type: ignore[arg-type]


SPAN = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


async def test_bars_are_read_to_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts bars of all symbols together: a symbol's bars may stand on two pages."""
    monkeypatch.setattr(alpaca_data, "BARS_LIMIT", 7)
    alpaca = Unplugged()
    days = midnights(SPAN[1].date() - timedelta(days=1), 10)
    alpaca.venue.bars = {name: [bar(day, 100 + n) for n, day in enumerate(days)] for name in ("AAPL", "BRK.B", "TSLA")}
    assert await market_data(alpaca).daily_bars(SHARES, ["AAPL", "BRK.B", "TSLA", "NONE"], SPAN, {}) == alpaca.venue.bars
    assert len(alpaca.asked) == 5


async def test_a_symbol_the_venue_does_not_take_costs_no_other_its_data() -> None:
    """It is left out, remembered, and not asked for again."""
    alpaca = Unplugged()
    alpaca.venue.trades = {"AAPL": {"p": 1}}
    data = market_data(alpaca)
    for _ in range(2):
        assert await data.latest(SHARES, "trades", ["912ESC014", "AAPL", "BTC/USD"], {}) == {"AAPL": {"p": 1}}
    assert data.unknown == {"912ESC014", "BTC/USD"}
    assert [query["symbols"] for query in alpaca.asked] == ["912ESC014,AAPL,BTC/USD", "AAPL,BTC/USD", "AAPL", "AAPL"]
    assert await data.latest(SHARES, "trades", ["912ESC014"], {}) == {}
    assert len(alpaca.asked) == 4


async def test_a_refusal_that_names_no_symbol_is_a_refusal() -> None:
    """Asking again without one of them would not help."""
    alpaca = Unplugged()
    with pytest.raises(Permanent, match="unknown parameter: colour") as caught:
        await market_data(alpaca).latest(SHARES, "quotes", ["AAPL"], {"colour": "red"})
    assert caught.value.reason is Reason.REJECTED


async def test_many_symbols_are_asked_for_in_portions() -> None:
    """So that the address stays short; pairs have an address of their own."""
    alpaca = Unplugged()
    names = [f"A{chr(65 + n // 26)}{chr(65 + n % 26)}/USD" for n in range(450)]
    alpaca.venue.quotes = {name: {"bp": n} for n, name in enumerate(names)}
    assert await market_data(alpaca).latest(PAIRS, "quotes", names, {}) == alpaca.venue.quotes
    assert [query["symbols"].count(",") for query in alpaca.asked] == [199, 199, 49]


class Says:
    """Answers the same, always."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def get(self, path: str, parameters: Parameters) -> Any:
        """The answer."""
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [[], {}, {"bars": []}, {"bars": {"AAPL": {}}}, {"bars": {}, "next_page_token": 7}, {"bars": {}, "next_page_token": "a"}],
)
async def test_bars_that_are_not_as_documented_are_a_bad_response(answer: Any) -> None:
    """Another shape, or pages without end."""
    with pytest.raises(Retryable) as caught:
        await MarketData(Says(answer)).daily_bars(SHARES, ["AAPL"], SPAN, {})  # type: ignore[arg-type]
    assert caught.value.reason is Reason.BAD_RESPONSE


async def test_null_is_no_data() -> None:
    """As the venue writes it where there is nothing."""
    data = MarketData(Says({"bars": None, "quotes": None, "next_page_token": None}))  # type: ignore[arg-type]
    assert await data.daily_bars(SHARES, ["AAPL"], SPAN, {}) == {}
    assert await data.latest(SHARES, "quotes", ["AAPL"], {}) == {}
