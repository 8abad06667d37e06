"""Kraken's spot REST API: 200 with `{"error": [...], "result": ...}` for everything, signed POSTs, pages of 50 newest first.

Sources: docs.kraken.com/api/docs/rest-api: "Get Tradable Asset Pairs", "Get Asset Info", "Get Ticker Information", "Get OHLC
Data" (at most 720 rows, whatever `since` says, the last one unfinished), "Get Order Book", "Get Extended Balance", "Get Open
Positions", "Get Open Orders", "Get Closed Orders" and "Get Trades History" (50 results at a time; `start` exclusive, `end`
inclusive, `ofs`); docs.kraken.com/api/docs/guides/spot-rest-auth (`API-Sign`), guides/spot-errors.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer

KEY = "kraken-key-4rT0fQ9s8ZxW1uYp7LmN"
SECRET = base64.b64encode(b"kraken-secret-of-the-desk").decode()
PAGE = 50
DAYS = 720
DAY_SECONDS = 86400


def refused(error: str) -> Answer:
    """As Kraken refuses: 200, and why in the body."""
    return answer({"error": [error]})


INVALID_KEY = refused("EAPI:Invalid key")
INVALID_SIGNATURE = refused("EAPI:Invalid signature")
INVALID_NONCE = refused("EAPI:Invalid nonce")
PERMISSION_DENIED = refused("EGeneral:Permission denied")
RATE_LIMITED = refused("EAPI:Rate limit exceeded")
LOCKED_OUT = refused("EGeneral:Temporary lockout")
UNAVAILABLE = refused("EService:Unavailable")
BUSY = refused("EService:Busy")
CANCEL_ONLY = refused("EService:Market in cancel_only mode")
UNKNOWN_PAIR = refused("EQuery:Unknown asset pair")
INVALID_ARGUMENTS = refused("EGeneral:Invalid arguments")
UNHEARD_OF = refused("EGeneral:Something new")


@dataclass
class Account:
    """What the account holds and has done; each entry is what Kraken writes."""

    balances: dict[str, dict[str, str]] = field(default_factory=dict)
    positions: list[dict[str, Any]] = field(default_factory=list)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    closed: dict[str, dict[str, Any]] = field(default_factory=dict)
    trades: dict[str, dict[str, Any]] = field(default_factory=dict)


class Kraken(Venue):
    """The exchange with one account."""

    def __init__(self, key: str = KEY, secret: str = SECRET) -> None:
        super().__init__()
        self.account = Account()
        self.pairs: dict[str, dict[str, Any]] = {}
        self.tickers: dict[str, dict[str, Any]] = {}
        self.books: dict[str, dict[str, Any]] = {}
        self.bars: dict[str, list[list[Any]]] = {}
        self.strict_nonce = True
        self._key, self._secret = key, secret
        self._nonce = 0

    def list_pair(self, name: str, altname: str, base: str, quote: str) -> None:
        """Trade a pair."""
        self.pairs[name] = {
            "altname": altname, "wsname": f"{altname}", "aclass_base": "currency", "base": base, "aclass_quote": "currency",
            "quote": quote, "lot": "unit", "cost_decimals": 5, "pair_decimals": 1, "lot_decimals": 8, "lot_multiplier": 1,
            "leverage_buy": [2, 3], "leverage_sell": [2, 3], "fees": [[0, 0.4], [10000, 0.35]], "fees_maker": [[0, 0.25]],
            "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40, "ordermin": "0.00005", "costmin": "0.5",
            "tick_size": "0.1", "status": "online",
        }  # fmt: skip

    def respond(self, request: Received) -> Answer:
        """As the exchange would."""
        _, version, access, method, *_ = [*request.path.split("/"), "", "", ""]
        if version != "0" or access not in ("public", "private"):
            return Answer(404, "<html>not found</html>", content_type="text/html")
        if access == "public":
            found = self._public(method, request.query)
        else:
            form = dict(parse_qsl(request.body.decode()))
            refusal = self._check(request, form)
            if refusal is not None:
                return refusal
            found = self._private(method, form)
        return found if isinstance(found, Answer) else answer({"error": [], "result": found})

    def _check(self, request: Received, form: Mapping[str, str]) -> Answer | None:
        """The login, as the guide tells how to make it."""
        if request.method != "POST" or request.headers.get("API-Key") != self._key:
            return INVALID_KEY
        nonce = int(form.get("nonce", 0))
        hashed = hashlib.sha256(f"{nonce}{request.body.decode()}".encode()).digest()
        made = hmac.new(base64.b64decode(self._secret), request.path.encode() + hashed, hashlib.sha512).digest()
        if not hmac.compare_digest(base64.b64encode(made).decode(), request.headers.get("API-Sign", "")):
            return INVALID_SIGNATURE
        if self.strict_nonce and nonce < self._nonce:
            return INVALID_NONCE
        self._nonce = nonce
        return None

    def _public(self, method: str, query: Mapping[str, str]) -> Any:
        asked = [name for name in query.get("pair", "").split(",") if name]
        if any(name not in self.pairs for name in asked):
            return UNKNOWN_PAIR
        match method:
            case "AssetPairs":
                return self.pairs
            case "Assets":
                names = {pair[side] for pair in self.pairs.values() for side in ("base", "quote")} | {*self.account.balances}
                return {name: _asset(name) for name in sorted(names)}
            case "Ticker":
                return {name: self.tickers[name] for name in asked if name in self.tickers}
            case "Depth":
                count = int(query.get("count", 100))
                return {asked[0]: {side: rows[:count] for side, rows in self.books[asked[0]].items()}}
            case "OHLC":
                since = int(query.get("since", 0))
                rows = [row for row in self.bars.get(asked[0], ())[-DAYS:] if row[0] > since]
                return {asked[0]: rows, "last": rows[-2][0] if len(rows) > 1 else 0}
        return refused("EGeneral:Unknown method")

    def _private(self, method: str, form: Mapping[str, str]) -> Any:
        if not form.keys() <= _PARAMETERS:
            return INVALID_ARGUMENTS
        match method:
            case "BalanceEx":
                return self.account.balances
            case "OpenPositions":
                return self.account.positions
            case "OpenOrders":
                return {"open": self.account.open}
            case "ClosedOrders":
                return self._page("closed", self.account.closed, "opentm", form)
            case "TradesHistory":
                return self._page("trades", self.account.trades, "time", form)
        return refused("EGeneral:Unknown method")

    def _page(self, name: str, rows: Mapping[str, Mapping[str, Any]], at: str, form: Mapping[str, str]) -> Any:
        start, end, offset = float(form.get("start", 0)), float(form.get("end", "inf")), int(form.get("ofs", 0))
        found = sorted(
            ((key, row) for key, row in rows.items() if start < row[at] <= end), key=lambda pair: pair[1][at], reverse=True
        )
        return {name: dict(found[offset : offset + PAGE]), "count": len(found)}


_PARAMETERS = {"nonce", "start", "end", "ofs", "docalcs", "consolidation", "trades", "closetime", "userref", "type"}


def _asset(name: str) -> dict[str, Any]:
    legacy = len(name) == 4 and name[0] in "XZ"
    return {
        "aclass": "currency", "altname": name[1:] if legacy else name, "decimals": 10, "display_decimals": 5,
        "status": "enabled",
    }  # fmt: skip


def ticker(last: str, bid: str, ask: str) -> dict[str, Any]:
    """One pair's ticker."""
    return {
        "a": [ask, "1", "1.000"], "b": [bid, "2", "2.000"], "c": [last, "0.0044"], "v": ["1", "2"], "p": [last, last],
        "t": [1, 2], "l": [last, last], "h": [last, last], "o": last,
    }  # fmt: skip


def bar(at: int, close: str) -> list[Any]:
    """One daily candle: open, high, low, close, vwap, volume, count."""
    return [at, close, close, close, close, close, "1.5", 3]


def trade(pair: str, at: float, side: str, price: str, volume: str, fee: str, order: str = "O1") -> dict[str, Any]:
    """One execution."""
    return {
        "ordertxid": order, "postxid": "TKH2SE-M7IF5-CFI7LT", "pair": pair, "time": at, "type": side, "ordertype": "limit",
        "price": price, "cost": "0", "fee": fee, "vol": volume, "margin": "0.00000", "misc": "", "trade_id": 1, "maker": True,
    }  # fmt: skip


def order(pair: str, opened: float, side: str, volume: str, limit: str, **changes: Any) -> dict[str, Any]:
    """One limit order."""
    described = f"{side} {volume} {pair} @ limit {limit}"
    return {
        "refid": None, "userref": None, "status": "open", "opentm": opened, "starttm": 0, "expiretm": 0,
        "descr": {
            "pair": pair, "type": side, "ordertype": "limit", "price": limit, "price2": "0", "leverage": "none",
            "order": described, "close": "",
        },
        "vol": volume, "vol_exec": "0.00000000", "cost": "0.00000", "fee": "0.00000", "price": "0.00000",
        "stopprice": "0.00000", "limitprice": "0.00000", "misc": "", "oflags": "fciq",
    } | changes  # fmt: skip
