"""A local server that stands in for IBKR's Client Portal Gateway: two tiers, accounts first, priming calls, pages and pacing.

Written from IBKR Campus, Web API v1.0, and checked with ibind, a client of it (`tests/flows/exporter/test_ibkr_client.py`).

async with Gateway() as gateway:
    gateway.hold(SPY, 5)
    gateway.expire()                     # nobody is logged in any more
    gateway.compete()                    # another program has the brokerage session
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web

from deskwatch.clock import Clock
from tests.stand_ins.ibkr_bodies import (
    AAPL,
    ES,
    EUR_USD,
    SPY,
    USD_SGD,
    Listed,
    account,
    ledger,
    milliseconds,
    position,
    summary,
    without_cache,
)
from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer

PREFIX = "/v1/api"
LOGIN_PAGE = Answer(302, "", headers={"Location": "/sso/Login?forwardTo=22&RL=1&ip2loc=US"}, content_type="text/html")
PENALTY_SECONDS = 600.0
NO_BRIDGE = answer({"error": "Bad Request: no bridge", "statusCode": 400}, 400)
ACCOUNTS_FIRST = answer({"error": "Please query /accounts first", "statusCode": 500}, 500)
TOO_MANY = answer({"error": "Too many requests"}, 429)
SLOW = {
    "/iserver/account/orders": 5.0,
    "/iserver/account/trades": 5.0,
    "/iserver/account/pnl/partitioned": 5.0,
    "/portfolio/accounts": 5.0,
    "/tickle": 1.0,
}
"""One call in so many seconds."""


class Gateway(Venue):
    """The gateway. One account, logged in, with a brokerage session, unless told otherwise."""

    def __init__(self, port: int = 0, *, accounts: Iterable[str] = ("U1234567",), tls: ssl.SSLContext | None = None) -> None:
        super().__init__(port)
        self._tls = tls
        self._routes = self._all_routes()
        self.login: Answer | None = None
        """What every call gets while nobody is logged in: 401, or the redirect to the login page."""
        self.status = {"authenticated": True, "competing": False, "connected": True}
        self.session = "bb665d0f55b6289d70bc7380089fc96f"
        self.not_listed = ACCOUNTS_FIRST
        """What `/portfolio` says before its accounts were listed: real gateways have said 400, 401 and 500."""
        self.clock: Clock | None = None
        """Set: the limits are enforced, by this clock."""
        self._called: dict[str, list[float]] = {}
        self._penalty_until = float("-inf")
        self.accounts = [account(each) for each in accounts]
        self.first = self.accounts[0]["accountId"]
        self.positions: dict[str, list[dict[str, Any]]] = {each["accountId"]: [] for each in self.accounts}
        self.ledgers = {each["accountId"]: ledger(USD={"cashbalance": 100000.5}) for each in self.accounts}
        self.summaries = {each["accountId"]: summary(each["accountId"]) for each in self.accounts}
        self.orders: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []
        self.profit: dict[str, Any] = {}
        self.order_times: dict[str, str] = {}
        self.quotes: dict[int, dict[str, Any]] = {}
        self.bars: dict[int, list[tuple[datetime, float]]] = {}
        self.pairs: list[Listed] = [EUR_USD, USD_SGD]
        self.contracts: dict[int, Listed] = {each.conid: each for each in (AAPL, SPY, ES, EUR_USD, USD_SGD)}
        self.begin()

    @property
    def base_url(self) -> str:
        """The address to configure."""
        return self.url + PREFIX

    @property
    def tls_url(self) -> str:
        """The same over TLS, with the certificate given."""
        assert self._runner is not None
        return f"https://127.0.0.1:{self._runner.addresses[1][1]}{PREFIX}"

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._tls is not None:
            assert self._runner is not None
            await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        return self

    def hold(self, what: Listed, quantity: float, price: float = 100.0, of: str | None = None, **more: Any) -> None:
        """A position, listed and told of."""
        self.contracts[what.conid] = what
        self.positions[of or self.first].append(position(what, quantity, price, account=of or self.first) | more)

    def quote(self, what: Listed, **fields: Any) -> None:
        """What its snapshot shows once it is subscribed to; fields by number, `f84="193.06"`."""
        self.contracts[what.conid] = what
        self.quotes[what.conid] = {name.removeprefix("f"): value for name, value in fields.items()}

    def expire(self, login: Answer | None = None) -> None:
        """Nobody is logged in any more."""
        self.login = login or answer({"error": "not authenticated", "statusCode": 401}, 401)

    def compete(self) -> None:
        """Another program of the same user has taken the brokerage session."""
        self.status |= {"authenticated": False, "competing": True}

    def log_in(self) -> None:
        """Somebody logs in: everything begins anew."""
        self.login = None
        self.status = {"authenticated": True, "competing": False, "connected": True}
        self.begin()

    def begin(self) -> None:
        """A new session: nothing is listed or primed."""
        self.listed = self.brokerage_listed = False
        self.primed: set[str] = set()

    def heal(self) -> None:
        """Answer as the real one again."""
        super().heal()
        self._penalty_until = float("-inf")

    def asked(self, path: str) -> list[Received]:
        """The requests whose path, below the prefix, starts so."""
        return super().asked(PREFIX + path)

    def fault(self, path: str, *answers: Answer, always: bool = False) -> None:
        """Answer the next requests whose path, below the prefix, starts so."""
        super().fault(PREFIX + path, *answers, always=always)

    def respond(self, request: Received) -> Answer:
        """As the gateway answers."""
        path = request.path.removeprefix(PREFIX).rstrip("/")
        if (refused := self._pace(path)) is not None:
            return refused
        if self.login is not None:
            return self.login
        if path.startswith("/iserver") and "/auth/" not in path:
            if not (self.status["authenticated"] and self.status["connected"]):
                return NO_BRIDGE
            if not self.brokerage_listed and path != "/iserver/accounts":
                return ACCOUNTS_FIRST
        if path.startswith(("/portfolio/", "/portfolio2/")) and not self.listed and path != "/portfolio/accounts":
            return self.not_listed
        for (method, start), route in self._routes.items():
            if request.method == method and path.startswith(start):
                return route(path.removeprefix(start), request)
        return Answer(404, "Not Found")

    def _pace(self, path: str) -> Answer | None:
        """429 where a limit is broken, and for ten minutes after."""
        if self.clock is None:
            return None
        now = self.clock.monotonic()
        if now < self._penalty_until:
            return TOO_MANY
        limits = [("", 10, 1.0)]
        limits += [(path, 1, SLOW[path])] if path in SLOW else []
        limits += [(path, 50, 60.0)] if path == "/iserver/marketdata/history" else []
        for name, count, seconds in limits:
            calls = self._called[name] = [at for at in self._called.get(name, []) if now - at < seconds - 1e-6]
            calls.append(now)
            if len(calls) > count:
                self._penalty_until = now + PENALTY_SECONDS
                return TOO_MANY
        return None

    def _all_routes(self) -> Mapping[tuple[str, str], Callable[[str, Received], Answer]]:
        return {
            ("POST", "/tickle"): self._tickle,
            ("POST", "/iserver/auth/status"): lambda _rest, _: answer(self._status()),
            ("POST", "/iserver/auth/ssodh/init"): self._init,
            ("GET", "/portfolio/accounts"): self._list_accounts,
            ("GET", "/portfolio2/"): self._positions2,
            ("GET", "/portfolio/"): self._portfolio,
            ("GET", "/trsrv/secdef"): self._secdef,
            ("GET", "/trsrv/stocks"): self._stocks,
            ("GET", "/iserver/accounts"): self._list_brokerage_accounts,
            ("GET", "/iserver/account/orders"): self._orders,
            ("GET", "/iserver/account/order/status/"): self._order_status,
            ("GET", "/iserver/account/trades"): self._trades,
            ("GET", "/iserver/account/pnl/partitioned"): self._profit,
            ("GET", "/iserver/currency/pairs"): self._pairs,
            ("GET", "/iserver/contract/"): self._rules,
            ("GET", "/iserver/secdef/search"): self._search,
            ("GET", "/iserver/marketdata/snapshot"): self._snapshot,
            ("GET", "/iserver/marketdata/history"): self._history,
        }

    def _status(self) -> dict[str, Any]:
        info = {"serverName": "JifN19053", "serverVersion": "Build 10.25.0p, Dec 5, 2023 5:48:12 PM"}
        return {**self.status, "message": "", "MAC": "98:F2:B3:23:BF:A0", "serverInfo": info}

    def _tickle(self, _rest: str, _: Received) -> Answer:
        told = {"session": self.session, "ssoExpires": 460311, "collission": False, "userId": 123456789}
        return answer(told | {"hmds": {"error": "no bridge"}, "iserver": {"authStatus": self._status()}})

    def _init(self, _rest: str, request: Received) -> Answer:
        if request.json["compete"]:
            self.status |= {"authenticated": True, "competing": False}  # somebody else has lost it
        elif not self.status["competing"]:
            self.status |= {"authenticated": self.status["connected"]}
        self.begin_brokerage()
        return answer(self._status())

    def begin_brokerage(self) -> None:
        """A new brokerage session under the same login."""
        self.brokerage_listed = False
        self.primed = set()

    def _list_accounts(self, _rest: str, _: Received) -> Answer:
        self.listed = True
        return answer(self.accounts)

    def _list_brokerage_accounts(self, _rest: str, _: Received) -> Answer:
        self.brokerage_listed = True
        ids = [each["accountId"] for each in self.accounts]
        return answer({"accounts": ids, "aliases": {each: each for each in ids}, "selectedAccount": ids[0]})

    def _portfolio(self, rest: str, _: Received) -> Answer:
        of, _slash, what = rest.partition("/")
        if of not in self.positions:
            return answer({"error": "Bad Request: account", "statusCode": 400}, 400)
        if what.startswith("positions/"):
            page = int(what.removeprefix("positions/"))
            return answer(self.positions[of][page * 100 : page * 100 + 100])
        return answer({"ledger": self.ledgers, "summary": self.summaries}[what][of])

    def _positions2(self, rest: str, _: Received) -> Answer:
        of = rest.removesuffix("/positions")
        return answer([without_cache(each) for each in self.positions[of]])

    def _secdef(self, _rest: str, request: Received) -> Answer:
        conids = [int(each) for each in request.query["conids"].split(",")]
        return answer({"secdef": [self.contracts[each].definition() for each in conids if each in self.contracts]})

    def _stocks(self, _rest: str, request: Received) -> Answer:
        def listings(symbol: str) -> list[Any]:
            found = [each for each in self.contracts.values() if each.ticker == symbol and each.asset_class == "STK"]
            contracts = [{"conid": each.conid, "exchange": each.exchange, "isUS": bool(each.is_us)} for each in found]
            return [{"name": symbol, "chineseName": None, "assetClass": "STK", "contracts": contracts}] if found else []

        return answer({symbol: listings(symbol) for symbol in request.query["symbols"].split(",")})

    def _is_primed(self, name: str) -> bool:
        known = name in self.primed
        self.primed.add(name)
        return known

    def _orders(self, _rest: str, request: Received) -> Answer:
        of = request.query.get("accountId", self.first)
        primed = self._is_primed(f"orders {of}")
        if not primed or request.query.get("force", "").lower() == "true":
            return answer({"orders": [], "snapshot": False})
        return answer({"orders": [each for each in self.orders if each["acct"] == of], "snapshot": True})

    def _order_status(self, rest: str, _: Received) -> Answer:
        if rest not in self.order_times:
            return answer({"error": "Service Unavailable", "statusCode": 503}, 503)
        return answer({"order_id": int(rest), "order_status": "Filled", "order_time": self.order_times[rest]})

    def _trades(self, _rest: str, request: Received) -> Answer:
        if int(request.query.get("days", "1")) > 7:
            return answer({"error": "Bad Request: days", "statusCode": 400}, 400)
        of = request.query.get("accountId", self.first)
        primed = self._is_primed(f"trades {of}")
        return answer([each for each in self.trades if each["account"] == of] if primed else [])

    def _profit(self, _rest: str, _: Received) -> Answer:
        return answer({"upnl": self.profit if self._is_primed("profit") else {}})

    def _pairs(self, _rest: str, request: Received) -> Answer:
        asked = request.query["currency"]

        def pair(each: Listed) -> dict[str, Any]:
            return {"symbol": each.description, "conid": each.conid, "ccyPair": ({each.ticker, each.currency} - {asked}).pop()}

        return answer({asked: [pair(each) for each in self.pairs if asked in (each.ticker, each.currency)]})

    def _rules(self, rest: str, _: Received) -> Answer:
        found = self.contracts.get(int(rest.removesuffix("/info-and-rules")))
        if found is None:
            return answer({"error": "not found", "statusCode": 404}, 404)
        told = {"con_id": found.conid, "symbol": found.ticker, "multiplier": None, "currency": found.currency}
        return answer(told | {"rules": {"priceMagnifier": found.magnifier, "negativeCapable": False}})

    def _search(self, _rest: str, request: Received) -> Answer:
        self.primed.add(f"search {request.query['symbol']}")
        return answer([{"conid": "11004968", "symbol": request.query["symbol"], "sections": []}])

    def _snapshot(self, _rest: str, request: Received) -> Answer:
        rows = []
        for conid in (int(each) for each in request.query["conids"].split(",")):
            found = self.contracts[conid]
            if found.asset_class in ("FUT", "OPT") and f"search {found.ticker}" not in self.primed:
                return answer({"error": "unknown contract, query /secdef/search", "statusCode": 500}, 500)
            row: dict[str, Any] = {"conid": conid, "conidEx": str(conid)}
            if self._is_primed(f"quote {conid}"):
                row |= {"server_id": "q1", "6119": "serverId", "6509": "RpB"} | self.quotes.get(conid, {})
            rows.append(row)
        return answer(rows)

    def _history(self, _rest: str, request: Received) -> Answer:
        conid = int(request.query["conid"])
        found = self.contracts.get(conid)
        if found is None or conid not in self.bars:
            return answer({"error": "No data.", "statusCode": 500}, 500)
        if found.asset_class == "CASH" and request.query.get("source") != "Midpoint":
            return answer({"error": "Chart data unavailable", "statusCode": 500}, 500)
        assert request.query["bar"] == "1d"
        assert request.query["outsideRth"] == "false"
        days = int(request.query["period"].removesuffix("d"))
        assert 1 <= days <= 1000
        until = request.query.get("startTime")
        end = (
            datetime.strptime(until, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC) if until else max(at for at, _ in self.bars[conid])
        )
        chosen = [each for each in self.bars[conid] if end - timedelta(days=days) <= each[0] <= end][-1000:]
        data = [{"o": close, "c": close, "h": close, "l": close, "v": 1.0, "t": milliseconds(at)} for at, close in chosen]
        told = {"symbol": found.ticker, "priceFactor": 100, "barLength": 86400, "mdAvailability": "S", "outsideRth": False}
        return answer(told | {"data": data, "points": len(data), "travelTime": 48})
