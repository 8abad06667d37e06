"""OKX's REST API v5: spot, swaps and futures in one account, `{"code", "msg", "data"}`, signed GETs, pages of 100 newest first.

Sources: www.okx.com/docs-v5/en: "REST Authentication" (`OK-ACCESS-*`), "Get instruments", "Get balance" (`eq` is `cashBal` and
the `upl` of open positions), "Get positions", "Get order list", "Get order history (last 7 days)", "Get transaction details
(last 3 months)" (`instType` required; `begin`, `end` in milliseconds; 100 newest), "Get tickers", "Get order book", "Get
candlesticks" (`after` older than, `before` newer than, newest first, `confirm`), "Error Code" (50011 with 429, 5010x and 5011x
with 401).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer

KEY, SECRET, PASSPHRASE = "0a1b2c3d-okx-key-7788", "OKXSECRET1234567890ABCDEF12345678", "the-desk's-passphrase"
PAGE = 100
BARS_PAGE = 300
DAY = 86_400_000
RECENT_BARS = 1440
_PUBLIC = "/api/v5/"


def refused(status: int, code: str, said: str, **headers: str) -> Answer:
    """As OKX refuses."""
    return answer({"code": code, "data": [], "msg": said}, status, **headers)


INVALID_KEY = refused(401, "50111", "Invalid OK-ACCESS-KEY")
INVALID_SIGN = refused(401, "50113", "Invalid Sign")
WRONG_PASSPHRASE = refused(401, "50105", "Request header OK-ACCESS-PASSPHRASE incorrect.")
EXPIRED = refused(401, "50102", "Timestamp request expired")
TOO_MANY = refused(429, "50011", "Too Many Requests")
TOO_MANY_FOR_3_SECONDS = refused(429, "50011", "Too Many Requests", Retry_After="3")
UNAVAILABLE = refused(503, "50001", "Service temporarily unavailable. Please try again later")
BUSY = refused(200, "50013", "Systems are busy. Please try again later.")
NO_INSTRUMENT = refused(200, "51001", "Instrument ID does not exist")
NOT_ALLOWED_HERE = refused(401, "50110", "Your IP is not included in your API key's IP whitelist")
PARAMETER = refused(400, "50014", "Parameter instType can not be empty.")


class Okx(Venue):
    """The exchange with one account. Lists hold what OKX writes, newest last."""

    def __init__(self, key: str = KEY, secret: str = SECRET, passphrase: str = PASSPHRASE) -> None:
        super().__init__()
        self.instruments: list[dict[str, str]] = []
        self.balances: list[dict[str, str]] = []
        self.positions: list[dict[str, str]] = []
        self.orders: list[dict[str, str]] = []
        self.fills: list[dict[str, str]] = []
        self.tickers: list[dict[str, str]] = []
        self.books: dict[str, dict[str, Any]] = {}
        self.bars: dict[str, list[list[str]]] = {}
        """Daily candles of UTC days."""
        self.minutes: dict[str, list[list[str]]] = {}
        self._login = (key, secret, passphrase)

    def respond(self, request: Received) -> Answer:
        """As the exchange would."""
        if not request.path.startswith(_PUBLIC) or request.method != "GET":
            return Answer(404, "<html>not found</html>", content_type="text/html")
        area, _, method = request.path.removeprefix(_PUBLIC).partition("/")
        if area in ("account", "trade", "asset"):
            refusal = self._check(request)
            if refusal is not None:
                return refusal
        found = self._read(f"{area}/{method}", request.query)
        if isinstance(found, Answer):
            return found
        return answer({"code": "0", "msg": "", "data": found})

    def _check(self, request: Received) -> Answer | None:
        key, secret, passphrase = self._login
        stamp = request.headers.get("OK-ACCESS-TIMESTAMP", "")
        if request.headers.get("OK-ACCESS-KEY") != key:
            return INVALID_KEY
        if request.headers.get("OK-ACCESS-PASSPHRASE") != passphrase:
            return WRONG_PASSPHRASE
        path = request.path + (f"?{request.raw_query}" if request.raw_query else "")
        made = hmac.new(secret.encode(), f"{stamp}{request.method}{path}".encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(made).decode(), request.headers.get("OK-ACCESS-SIGN", "")):
            return INVALID_SIGN
        if abs(datetime.fromisoformat(stamp).timestamp() - time.time()) > 30:
            return EXPIRED
        return None

    def _read(self, method: str, query: Mapping[str, str]) -> Any:  # noqa: C901 - one line for each address
        kind, name = query.get("instType"), query.get("instId")
        match method:
            case "public/instruments":
                return [each for each in self.instruments if each["instType"] == kind] if kind else PARAMETER
            case "asset/currencies":
                return [{"ccy": each["ccy"], "chain": f"{each['ccy']}-X", "name": each["ccy"]} for each in self.balances]
            case "account/balance":
                return [{"uTime": "1700000000000", "totalEq": "0", "details": self.balances}]
            case "account/positions":
                return self.positions
            case "trade/orders-pending":
                pending = (each for each in self.orders if each["state"] in ("live", "partially_filled"))
                return _newest(pending, "cTime", query, kind)
            case "trade/orders-history":
                ended = (each for each in self.orders if each["state"] == query.get("state", each["state"]))
                ended = (each for each in ended if each["state"] in ("filled", "canceled"))
                return _newest(ended, "cTime", query, kind) if kind else PARAMETER
            case "trade/fills-history":
                return _newest(self.fills, "ts", query, kind) if kind else PARAMETER
            case "market/tickers":
                return [each for each in self.tickers if each["instType"] == kind] if kind else PARAMETER
            case "market/ticker":
                return [each for each in self.tickers if each["instId"] == name] or NO_INSTRUMENT
            case "market/books":
                book = self.books.get(name or "")
                depth = int(query.get("sz", 1))
                return [{**book, "asks": book["asks"][:depth], "bids": book["bids"][:depth]}] if book else NO_INSTRUMENT
            case "market/candles" | "market/history-candles":
                return self._candles(name or "", method, query)
        return refused(404, "50404", "no such address")

    def _candles(self, name: str, method: str, query: Mapping[str, str]) -> Any:
        kept = {"1Dutc": self.bars, "1m": self.minutes}.get(query.get("bar", ""))
        if kept is None:
            return PARAMETER
        rows = kept.get(name)
        if rows is None:
            return NO_INSTRUMENT
        after, before = float(query.get("after", "inf")), float(query.get("before", "-inf"))
        recent = rows if method.endswith("history-candles") else rows[-RECENT_BARS:]
        found = [row for row in recent if before < float(row[0]) < after]
        return found[::-1][: min(int(query.get("limit", 100)), BARS_PAGE)]


def _newest(rows: Iterable[dict[str, str]], at: str, query: Mapping[str, str], kind: str | None) -> list[dict[str, str]]:
    begin, end = float(query.get("begin", "-inf")), float(query.get("end", "inf"))
    found = [row for row in rows if begin <= float(row[at]) <= end and kind in (None, row["instType"])]
    found = [row for row in found if query.get("instId", row["instId"]) == row["instId"]]
    return sorted(found, key=lambda row: float(row[at]), reverse=True)[: int(query.get("limit", PAGE))]


def spot(base: str, quote: str) -> dict[str, str]:
    """A spot instrument."""
    return _instrument("SPOT", f"{base}-{quote}", baseCcy=base, quoteCcy=quote)


def swap(base: str, quote: str, settle: str, value: str) -> dict[str, str]:
    """A perpetual swap of `value` units of `base`, or of `quote` where it settles in `base`."""
    linear = settle == quote
    return _instrument(
        "SWAP", f"{base}-{quote}-SWAP", uly=f"{base}-{quote}", instFamily=f"{base}-{quote}", settleCcy=settle, ctVal=value,
        ctValCcy=base if linear else quote, ctType="linear" if linear else "inverse", ctMult="1",
    )  # fmt: skip


def future(base: str, quote: str, value: str, expires: int) -> dict[str, str]:
    """A future settled in `quote`, whose time of expiry is in milliseconds."""
    return _instrument(
        "FUTURES", f"{base}-{quote}-{time.strftime('%y%m%d', time.gmtime(expires / 1000))}", uly=f"{base}-{quote}",
        instFamily=f"{base}-{quote}", settleCcy=quote, ctVal=value, ctValCcy=base, ctType="linear", ctMult="1",
        expTime=str(expires),
    )  # fmt: skip


def _instrument(kind: str, name: str, **changes: str) -> dict[str, str]:
    return {
        "alias": "", "baseCcy": "", "category": "1", "ctMult": "", "ctType": "", "ctVal": "", "ctValCcy": "", "expTime": "",
        "instFamily": "", "instId": name, "instType": kind, "lever": "10", "listTime": "1548133413000", "lotSz": "0.01",
        "minSz": "0.01", "optType": "", "quoteCcy": "", "settleCcy": "", "state": "live", "stk": "", "tickSz": "0.1", "uly": "",
    } | changes  # fmt: skip


def balance(currency: str, equity: str, cash: str | None = None, gain: str = "0") -> dict[str, str]:
    """One currency of the account."""
    return {
        "availBal": cash or equity, "availEq": "", "cashBal": cash or equity, "ccy": currency, "eq": equity, "eqUsd": "0",
        "frozenBal": "0", "isoEq": "0", "liab": "", "ordFrozen": "0", "uTime": "1700000000000", "upl": gain,
    }  # fmt: skip


def position(name: str, contracts: str, entry: str, mark: str, gain: str, side: str = "net", **changes: str) -> dict[str, str]:
    """One position; `contracts` is signed in net mode."""
    return {
        "adl": "1", "avgPx": entry, "cTime": "1700000000000", "ccy": "USDT", "imr": "", "instId": name,
        "instType": kind_of(name), "last": mark, "lever": "3", "liqPx": "", "margin": "", "markPx": mark, "mgnMode": "cross",
        "mgnRatio": "50", "mmr": "1", "notionalUsd": "1", "pos": contracts, "posId": f"id-{name}-{side}", "posSide": side,
        "uTime": "1700000000000", "upl": gain, "uplRatio": "0.1", "realizedPnl": "0",
    } | changes  # fmt: skip


def fill(name: str, at: int, side: str, price: str, size: str, fee: str, fee_currency: str, **changes: str) -> dict[str, str]:
    """One execution; a fee paid is negative."""
    return {
        "billId": f"b{at}", "clOrdId": "", "execType": "T", "fee": fee, "feeCcy": fee_currency, "fillPx": price,
        "fillSz": size, "instId": name, "instType": kind_of(name), "ordId": "o1", "posSide": "net", "side": side, "tag": "",
        "tradeId": f"t{at}", "ts": str(at),
    } | changes  # fmt: skip


def order(name: str, created: int, side: str, size: str, price: str, state: str = "live", **changes: str) -> dict[str, str]:
    """One limit order."""
    return {
        "accFillSz": "0", "avgPx": "", "cTime": str(created), "category": "normal", "ccy": "", "clOrdId": "", "fee": "0",
        "feeCcy": "USDT", "fillPx": "", "fillSz": "0", "fillTime": "", "instId": name, "instType": kind_of(name), "lever": "",
        "ordId": f"o{created}", "ordType": "limit", "pnl": "0", "posSide": "net", "px": price, "rebate": "0",
        "rebateCcy": "USDT", "reduceOnly": "false", "side": side, "slTriggerPx": "", "state": state, "sz": size, "tag": "",
        "tdMode": "cross", "tpTriggerPx": "", "tradeId": "", "uTime": str(created),
    } | changes  # fmt: skip


def ticker(name: str, last: str, bid: str, ask: str, at: int) -> dict[str, str]:
    """One instrument's ticker."""
    return {
        "instType": kind_of(name), "instId": name, "last": last, "lastSz": "1", "askPx": ask, "askSz": "3", "bidPx": bid,
        "bidSz": "4", "open24h": last, "high24h": last, "low24h": last, "volCcy24h": "1", "vol24h": "1", "ts": str(at),
        "sodUtc0": last, "sodUtc8": last,
    }  # fmt: skip


def bar(at: int, close: str, *, ended: bool = True) -> list[str]:
    """One candle; OKX's own flag says whether it has ended."""
    return [str(at), close, close, close, close, "1", "1", "1", "1" if ended else "0"]


def kind_of(name: str) -> str:
    """`instType` of an instrument's name."""
    parts = name.split("-")
    return "SWAP" if parts[-1] == "SWAP" else "SPOT" if len(parts) == 2 else "FUTURES"
