"""A local server that stands in for Alpaca's trading and market data APIs, as their OpenAPI documents describe them.

async with Alpaca(now=clock.now) as alpaca:
    alpaca.positions = [position("AAPL", "5", "120.0")]
    ...
    alpaca.fault("/v2/positions", TOO_MANY)

Also does what the documents do not say and its users found: held legs are in no list of open orders, positions write pairs
without their slash (alpacahq/alpaca-trade-api-js issues 80 and 87, alpacahq/alpaca-py issues 179 and 537).
"""

from __future__ import annotations

import base64
import email.utils
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer

KEY_ID, SECRET_KEY = "PKSTANDIN0000000", "standin-secret-0000000000000000"
OPEN = {"new", "partially_filled", "accepted", "pending_new", "pending_cancel", "pending_replace", "done_for_day", "calculated"}
UNAUTHORIZED = answer({"code": 40110000, "message": "request is not authorized"}, 401)
FORBIDDEN = answer({"code": 40310000, "message": "forbidden."}, 403)
NO_SIP = answer({"message": "subscription does not permit querying recent SIP data"}, 403)
UNPROCESSABLE = answer({"code": 42210000, "message": "after is not a timestamp"}, 422)
TOO_MANY = answer({"code": 42910000, "message": "rate limit exceeded"}, 429)
TOO_MANY_FOR_7_SECONDS = answer({"code": 42910000, "message": "rate limit exceeded"}, 429, Retry_After="7")
_PAIR = re.compile(r"[A-Z]+/[A-Z]+")
_SHARE = re.compile(r"[A-Z]+(\.[A-Z]+)*")
_MINUTE = 60


class Alpaca(Venue):
    """Both APIs of one account."""

    def __init__(self, port: int = 0, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(port)
        self.now = now
        self.account: dict[str, Any] = account()
        self.positions: list[Any] = []
        self.orders: list[dict[str, Any]] = []
        """Top-level orders, their legs under `legs`."""
        self.fills: list[dict[str, Any]] = []
        self.quotes: dict[str, dict[str, Any]] = {}
        self.trades: dict[str, dict[str, Any]] = {}
        self.bars: dict[str, list[dict[str, Any]]] = {}
        self.market: dict[str, Any] = {
            "is_open": True,
            "next_open": "2026-01-06T09:30:00-05:00",
            "next_close": "2026-01-05T16:00:00-05:00",
        }
        self.unlimited_plan = False
        self.limits = {"trading": 200, "data": 200}
        self.used = {"trading": 0, "data": 0}
        """Calls of this minute, by everybody: raise it, and somebody else has called too."""
        self._minute = 0
        self._routes: dict[str, Callable[[Mapping[str, str]], Answer]] = {
            "/v2/account": lambda _: answer(self.account),
            "/v2/positions": lambda _: answer(self.positions),
            "/v2/clock": lambda _: answer({"timestamp": self.now().isoformat(), **self.market}),
            "/v2/orders": self._list_orders,
            "/v2/account/activities/FILL": self._list_fills,
            "/v2/stocks/quotes/latest": lambda query: self._latest(query, "quotes", _SHARE),
            "/v2/stocks/trades/latest": lambda query: self._latest(query, "trades", _SHARE),
            "/v2/stocks/bars": lambda query: self._list_bars(query, _SHARE),
            "/v1beta3/crypto/us/latest/quotes": lambda query: self._latest(query, "quotes", _PAIR),
            "/v1beta3/crypto/us/latest/trades": lambda query: self._latest(query, "trades", _PAIR),
            "/v1beta3/crypto/us/bars": lambda query: self._list_bars(query, _PAIR),
        }

    def respond(self, request: Received) -> Answer:
        """The documented answer."""
        api = "data" if request.path.startswith(("/v2/stocks", "/v1beta3")) else "trading"
        minute = int(self.now().timestamp()) // _MINUTE
        if minute != self._minute:
            self._minute, self.used = minute, dict.fromkeys(self.used, 0)
        if self.used[api] >= self.limits[api]:
            return self._with_limit(TOO_MANY, api)
        self.used[api] += 1
        return self._with_limit(self._respond(request), api)

    def _with_limit(self, given: Answer, api: str) -> Answer:
        left = self.limits[api] - self.used[api]
        headers = {
            "X-Ratelimit-Limit": str(self.limits[api]),
            "X-Ratelimit-Remaining": str(left),
            "X-Ratelimit-Reset": str((self._minute + 1) * _MINUTE),
            "Date": email.utils.format_datetime(self.now(), usegmt=True),
        }
        return Answer(given.status, given.body, {**headers, **given.headers}, given.content_type)

    def _respond(self, request: Received) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if (headers.get("apca-api-key-id"), headers.get("apca-api-secret-key")) != (KEY_ID, SECRET_KEY):
            return UNAUTHORIZED
        if request.method != "GET":
            return answer({"code": 40510000, "message": "this account is read only here"}, 405)
        route = self._routes.get(request.path)
        return route(request.query) if route else answer({"code": 40410000, "message": "endpoint not found."}, 404)

    def _list_orders(self, query: Mapping[str, str]) -> Answer:
        wrong = _unknown(query, "status", "limit", "after", "until", "direction", "nested", "symbols", "side", "asset_class")
        limit = int(query.get("limit", 50))
        if wrong or limit > 500:
            return answer({"code": 40010001, "message": wrong or "limit must be at most 500"}, 422)
        nested = query.get("nested", "false").lower() == "true"
        rows = self.orders if nested else [row for order in self.orders for row in _flat(order)]
        status = query.get("status", "open")
        rows = [row for row in rows if status == "all" or (row["status"] in OPEN) == (status == "open")]
        if status == "closed":
            rows = [row for row in rows if row["status"] != "held"]
        if "after" in query:
            rows = [row for row in rows if nanoseconds(row["submitted_at"]) > nanoseconds(query["after"])]
        if "until" in query:
            rows = [row for row in rows if nanoseconds(row["submitted_at"]) < nanoseconds(query["until"])]
        rows.sort(key=lambda row: nanoseconds(row["submitted_at"]), reverse=query.get("direction", "desc") == "desc")
        return answer(rows[:limit])

    def _list_fills(self, query: Mapping[str, str]) -> Answer:
        wrong = _unknown(query, "order_id", "date", "after", "until", "direction", "page_size", "page_token")
        size = int(query.get("page_size", 100))
        if wrong or size > 100:
            return answer({"code": 40010001, "message": wrong or "page_size must be at most 100"}, 422)
        backwards = query.get("direction", "desc") == "desc"
        rows = sorted(self.fills, key=lambda row: str(row["id"]), reverse=backwards)
        if "after" in query:
            rows = [row for row in rows if nanoseconds(row["transaction_time"]) > nanoseconds(query["after"])]
        if "page_token" in query:
            token = query["page_token"]
            rows = [row for row in rows if (str(row["id"]) < token if backwards else str(row["id"]) > token)]
        return answer(rows[:size])

    def _refused(self, query: Mapping[str, str], written: re.Pattern[str], end: datetime) -> Answer | None:
        for symbol in query["symbols"].split(","):
            if not written.fullmatch(symbol):
                return answer({"message": f"invalid symbol: {symbol} does not match ^{written.pattern}$"}, 400)
        recent = end > self.now() - timedelta(minutes=15)
        return NO_SIP if query.get("feed") == "sip" and recent and not self.unlimited_plan else None

    def _latest(self, query: Mapping[str, str], what: str, written: re.Pattern[str]) -> Answer:
        if wrong := _unknown(query, "symbols", "feed", "currency"):
            return answer({"message": wrong}, 400)
        known = self.quotes if what == "quotes" else self.trades
        refused = self._refused(query, written, self.now())
        return refused or answer({what: {name: known[name] for name in query["symbols"].split(",") if name in known}})

    def _list_bars(self, query: Mapping[str, str], written: re.Pattern[str]) -> Answer:
        wrong = _unknown(
            query,
            "symbols",
            "timeframe",
            "start",
            "end",
            "limit",
            "adjustment",
            "asof",
            "feed",
            "currency",
            "page_token",
            "sort",
        )
        limit, end = int(query.get("limit", 1000)), query.get("end", self.now().isoformat())
        if wrong or not 1 <= limit <= 10_000 or query["timeframe"] != "1Day":
            return answer({"message": wrong or "invalid limit or timeframe"}, 400)
        refused = self._refused(query, written, datetime.fromisoformat(end))
        if refused:
            return refused
        first, last = nanoseconds(query["start"]), nanoseconds(end)
        rows = [
            (symbol, bar)
            for symbol in sorted(query["symbols"].split(","))
            for bar in self.bars.get(symbol, [])
            if first <= nanoseconds(bar["t"]) <= last
        ]
        begin = int(base64.urlsafe_b64decode(query["page_token"])) if "page_token" in query else 0
        bars: dict[str, list[Any]] = {}
        for symbol, bar in rows[begin : begin + limit]:
            bars.setdefault(symbol, []).append(bar)
        more = begin + limit < len(rows)
        token = base64.urlsafe_b64encode(str(begin + limit).encode()).decode() if more else None
        return answer({"bars": bars, "next_page_token": token})


def _unknown(query: Mapping[str, str], *known: str) -> str:
    unknown = ", ".join(sorted(set(query) - set(known)))
    return f"unknown parameter: {unknown}" if unknown else ""


def _flat(order: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield {**order, "legs": None}
    yield from order["legs"] or ()


def nanoseconds(text: str) -> int:
    """A timestamp, with as many decimals as Alpaca writes, as nanoseconds since 1970."""
    found = datetime.fromisoformat(text)
    decimals = re.search(r"\.(\d+)", text)
    fraction = int(decimals[1].ljust(9, "0")[:9]) if decimals else 0
    whole = found.replace(microsecond=0, tzinfo=found.tzinfo or UTC)
    return int(whole.timestamp()) * 10**9 + fraction


def account(**changes: Any) -> dict[str, Any]:
    """`GET /v2/account`: money is text."""
    return {
        "id": "e6fe16f3-64a4-4921-8928-cadf02f92f98", "account_number": "PA3STANDIN", "status": "ACTIVE", "currency": "USD",
        "cash": "40000.5", "equity": "50000", "last_equity": "49600.25", "buying_power": "90000.5",
        "initial_margin": "5000.25", "maintenance_margin": "3000", "multiplier": "2", "pattern_day_trader": False,
        "trading_blocked": False, "account_blocked": False, "trade_suspended_by_user": False, "transfers_blocked": False,
        "shorting_enabled": True, "created_at": "2019-06-12T22:47:07.99658Z", "portfolio_value": "50000",
    } | changes  # fmt: skip


def position(symbol: str, qty: str | None, price: str | None, asset_class: str = "us_equity", **changes: Any) -> dict[str, Any]:
    """A row of `GET /v2/positions`: numbers are text, a short quantity negative."""
    short = (qty or "").startswith("-")
    return {
        "asset_id": "904837e3-3b76-47ec-b432-046db621571b", "symbol": symbol, "exchange": "NASDAQ", "asset_class": asset_class,
        "asset_marginable": True, "avg_entry_price": "100.0", "qty": qty, "qty_available": qty,
        "side": "short" if short else "long", "market_value": "600.0", "cost_basis": "500.0", "unrealized_pl": "12.5",
        "unrealized_plpc": "0.20", "unrealized_intraday_pl": "10.0", "unrealized_intraday_plpc": "0.0084",
        "current_price": price, "lastday_price": "119.0", "change_today": "0.0084",
    } | changes  # fmt: skip


def order(number: int, submitted_at: str, status: str = "filled", **changes: Any) -> dict[str, Any]:
    """A row of `GET /v2/orders`."""
    filled = status == "filled"
    return {
        "id": f"61e69015-8549-4bfd-b9c3-{number:012d}", "client_order_id": f"desk-{number}", "created_at": submitted_at,
        "updated_at": submitted_at, "submitted_at": submitted_at, "filled_at": submitted_at if filled else None,
        "expired_at": None, "canceled_at": None, "failed_at": None, "replaced_at": None, "replaced_by": None, "replaces": None,
        "asset_id": "904837e3-3b76-47ec-b432-046db621571b", "symbol": "AAPL", "asset_class": "us_equity", "notional": None,
        "qty": "2", "filled_qty": "2" if filled else "0", "filled_avg_price": "119.5" if filled else None,
        "order_class": "", "order_type": "limit", "type": "limit", "side": "buy", "time_in_force": "day",
        "limit_price": "120", "stop_price": None, "status": status, "extended_hours": False, "legs": None,
        "trail_percent": None, "trail_price": None, "hwm": None,
    } | changes  # fmt: skip


def fill(number: int, at: str, **changes: Any) -> dict[str, Any]:
    """A row of `GET /v2/account/activities/FILL`; ids sort as their times do."""
    moment = datetime.fromisoformat(at)
    name = f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}::{number:08d}-0000-0000-0000-000000000000"
    return {
        "activity_type": "FILL", "id": name, "transaction_time": at, "type": "fill", "price": "119.5", "qty": "2",
        "side": "buy", "symbol": "AAPL", "leaves_qty": "0", "order_id": f"61e69015-8549-4bfd-b9c3-{number:012d}",
        "cum_qty": "2", "order_status": "filled",
    } | changes  # fmt: skip


def quote(bid: float, ask: float, at: str, *, bid_size: float = 3, ask_size: float = 4, share: bool = True) -> dict[str, Any]:
    """A latest quote: numbers are numbers."""
    sides = {"t": at, "bp": bid, "bs": bid_size, "ap": ask, "as": ask_size}
    return sides | ({"ax": "Q", "bx": "K", "c": ["R"], "z": "C"} if share else {})


def bar(at: str, close: float) -> dict[str, Any]:
    """A daily bar."""
    return {"t": at, "o": close, "h": close, "l": close, "c": close, "v": 1000, "n": 10, "vw": close}


def midnights(last: date, count: int, *, pair: bool = False) -> list[str]:
    """When the last so many daily bars up to a day begin: working days in New York, of pairs every day in Chicago."""
    zone = ZoneInfo("America/Chicago" if pair else "America/New_York")
    days = (last - timedelta(days=back) for back in range(2 * count + 7))
    chosen = [day for day in days if pair or day.weekday() < 5][:count]
    return [datetime.combine(day, time(), zone).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for day in reversed(chosen)]


def walk(last: date, count: int, *, price: float, step: float = 0.01, pair: bool = False) -> list[dict[str, Any]]:
    """Daily bars that end at a price; up one day, down two, so that returns vary."""
    closes = [price]
    for back in range(count - 1):
        closes.append(closes[-1] / (1 + step * (1, -0.6, -0.4, 0.9, -1.1)[back % 5]))
    return [bar(at, round(close, 6)) for at, close in zip(midnights(last, count, pair=pair), reversed(closes), strict=True)]
