"""Binance's REST APIs, spot (`/api/v3`) and USD-margined futures (`/fapi`), one account each, as their documentation has them.

Every signed request is checked: key, signature over the query as sent, timestamp and recvWindow against the server's clock.
Weights are counted by the minute, told in `X-MBX-USED-WEIGHT-1M` and enforced: 429 with `Retry-After`, then 418. Limits of
lists are enforced: windows, page sizes, parameters that exclude each other.
Sources: github.com/binance/binance-spot-api-docs, rest-api.md and errors.md; developers.binance.com, USDS-margined futures.

    async with Binance() as venue:
        venue.balances["BTC"] = ("1.5", "0.5")
        venue.trade("spot", "BTCUSDT", "BUY", "0.1", "60000", ago_seconds=60)
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from tests.stand_ins.server import Answer, Received
from tests.stand_ins.venue import Venue, answer

DAY_MS = 86_400_000
KEY, SECRET = (
    "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
    "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XA",
)
"""The key of the documentation's example; the secret is made up."""
WAF = Answer(403, "<html><body><h1>403 Forbidden</h1></body></html>", content_type="text/html")
SPOT_PRICES = {
    "BTCUSDT": "60000.00", "ETHUSDT": "3000.00", "BNBUSDT": "600.00", "USDCUSDT": "0.9990", "ETHBTC": "0.05000",
    "BNBBTC": "0.010000", "ABCBTC": "0.00001000", "USDTTRY": "40.000", "BTCTRY": "2400000", "BTCUSDC": "60060.06",
}  # fmt: skip
QUOTES = ("USDT", "USDC", "BTC", "TRY")
CONTRACTS = {"BTCUSDT": "60100.00", "ETHUSDT": "3010.00", "BTCUSDC": "60150.00", "BTCUSDT_260626": "61000.00"}


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.answer = answer({"code": code, "msg": message}, status, **headers)


@dataclass(frozen=True)
class Call:
    """One endpoint: its weight, what it may and must be sent, whether it is signed."""

    respond: Callable[[dict[str, str]], Any]
    weight: int | Callable[[dict[str, str]], int]
    allowed: str = ""
    required: str = ""
    signed: bool = False


def error(status: int, code: int, message: str = "refused") -> Answer:
    """An error body as both APIs send it."""
    return answer({"code": code, "msg": message}, status)


class Binance(Venue):
    """The server."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.seconds: Callable[[], float] = time.time
        """This machine's wall clock."""
        self.skew_ms = 0
        """How far the server's clock is ahead of this machine's."""
        self.limits = {"spot": 6000, "usd_m": 2400}
        self.used: dict[tuple[str, int], int] = defaultdict(int)
        """Weight used, by market and minute."""
        self.warned: dict[str, int] = defaultdict(int)
        self.can_trade = True
        self.prices = dict(SPOT_PRICES)
        self.halted: set[str] = set()
        """Spot markets that do not trade."""
        self.marks = dict(CONTRACTS)
        self.balances: dict[str, tuple[str, str]] = {}
        """Spot: free and locked."""
        self.wallets: dict[str, dict[str, str]] = {}
        self.positions: list[dict[str, Any]] = []
        self.trades: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self.orders: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self.income: list[dict[str, Any]] = []
        self.listed_since: dict[str, int] = {}
        """First day of a market's bars, counted from 1970; all have many years."""
        self.padding = 0
        """Spot markets nobody trades, to make the listing as long as the real one."""
        self.calls = self._spot_calls() | self._futures_calls()

    # What a test sets up.

    def now_ms(self) -> int:
        """The server's clock."""
        return int(self.seconds() * 1000) + self.skew_ms

    @property
    def today(self) -> int:
        """The day that has not ended, counted from 1970."""
        return self.now_ms() // DAY_MS

    def close(self, symbol: str, day: int) -> str:
        """The close of a market's day; futures markets are told apart by `fapi:`."""
        name = symbol.removeprefix("fapi:")
        base = self.marks[name] if symbol != name else self.prices[name]
        swing = 1 + 0.02 * math.sin(day * (1 + len(name)) + len(base)) + 0.01 * math.cos(day * 0.7)
        return f"{float(base) * swing:.8f}"

    def wallet(self, asset: str, balance: str, unrealized: str = "0", **fields: str) -> None:
        """What lies in the futures wallet."""
        margin = str(Decimal(balance) + Decimal(unrealized))
        self.wallets[asset] = {
            "walletBalance": balance, "unrealizedProfit": unrealized, "marginBalance": margin, "maintMargin": "0",
            "initialMargin": "0", "positionInitialMargin": "0", "openOrderInitialMargin": "0", "crossWalletBalance": balance,
            "crossUnPnl": unrealized, "availableBalance": balance, "maxWithdrawAmount": balance,
        } | fields  # fmt: skip

    def position(self, symbol: str, amount: str, entry: str, side: str = "BOTH", **fields: Any) -> None:
        """A futures position; its gain is what the mark makes of it."""
        mark = self.marks.get(symbol, "1")
        gain = Decimal(amount) * (Decimal(mark) - Decimal(entry))
        self.positions.append(
            {
                "symbol": symbol, "positionSide": side, "positionAmt": amount, "entryPrice": entry, "breakEvenPrice": entry,
                "markPrice": mark, "unRealizedProfit": f"{gain:.8f}", "liquidationPrice": "0", "isolatedMargin": "0",
                "notional": f"{Decimal(amount) * Decimal(mark):.8f}", "marginAsset": "USDT", "isolatedWallet": "0",
                "initialMargin": "100", "maintMargin": "10", "positionInitialMargin": "100", "openOrderInitialMargin": "0",
                "adl": 2, "bidNotional": "0", "askNotional": "0", "updateTime": self.now_ms(),
            }
            | fields
        )  # fmt: skip

    def order(
        self, market: str, symbol: str, side: str, quantity: str, price: str, *, status: str = "NEW", filled: str = "0",
        ago_seconds: float = 0, **fields: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """An order; the row may be changed afterwards, as the venue would."""
        at = self.now_ms() - int(ago_seconds * 1000)
        rows = self.orders[market, symbol]
        row = {
            "symbol": symbol, "orderId": 1_000_000 + len(rows), "clientOrderId": f"mine-{len(rows)}", "price": price,
            "origQty": quantity, "executedQty": filled, "status": status, "timeInForce": "GTC", "type": "LIMIT",
            "side": side, "stopPrice": "0", "time": at, "updateTime": at,
        }  # fmt: skip
        value = f"{Decimal(filled) * Decimal(price):.8f}"
        if market == "spot":
            row |= {"orderListId": -1, "cummulativeQuoteQty": value, "icebergQty": "0", "isWorking": True,
                    "origQuoteOrderQty": "0", "workingTime": at, "selfTradePreventionMode": "NONE"}  # fmt: skip
        else:
            row |= {"avgPrice": price if Decimal(filled) else "0.00", "cumQuote": value, "reduceOnly": False,
                    "closePosition": False, "positionSide": "BOTH", "origType": "LIMIT", "workingType": "CONTRACT_PRICE",
                    "priceProtect": False, "priceMatch": "NONE", "selfTradePreventionMode": "NONE"}  # fmt: skip
        rows.append(row | fields)
        return rows[-1]

    def trade(
        self, market: str, symbol: str, side: str, quantity: str, price: str, *, ago_seconds: float = 0,
        commission: str = "0", asset: str = "USDT", order_id: int = 1_000_000, **fields: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """An execution."""
        rows = self.trades[market, symbol]
        row: dict[str, Any] = {
            "symbol": symbol, "id": 28_000 + len(rows), "orderId": order_id, "price": price, "qty": quantity,
            "quoteQty": f"{Decimal(quantity) * Decimal(price):.8f}", "commission": commission, "commissionAsset": asset,
            "time": self.now_ms() - int(ago_seconds * 1000),
        }  # fmt: skip
        if market == "spot":
            row |= {"orderListId": -1, "isBuyer": side == "BUY", "isMaker": False, "isBestMatch": True}
        else:
            row |= {"buyer": side == "BUY", "maker": False, "side": side, "positionSide": "BOTH", "realizedPnl": "0"}
        rows.append(row | fields)
        return rows[-1]

    # What the venue does.

    def respond(self, request: Received) -> Answer:
        """As the vendor would."""
        market = "usd_m" if request.path.startswith("/fapi") else "spot"
        call = self.calls.get(request.path)
        if request.method != "GET" or call is None:
            return Answer(404, "Not Found")
        query = dict(parse_qsl(request.raw_query, keep_blank_values=True))
        minute = self.now_ms() // 60_000
        try:
            self._admit(market, minute, call, query)
            self._validate(call, query)
            if call.signed:
                self._authenticate(request, query)
            told = answer(call.respond(query))
        except Refused as refused:
            told = refused.answer
        used = str(self.used[market, minute])
        return Answer(told.status, told.body, {**told.headers, "x-mbx-used-weight": used, "x-mbx-used-weight-1m": used},
                      told.content_type)  # fmt: skip

    def _admit(self, market: str, minute: int, call: Call, query: dict[str, str]) -> None:
        weight = call.weight if isinstance(call.weight, int) else call.weight(query)
        self.used[market, minute] += weight
        if self.used[market, minute] <= self.limits[market]:
            self.warned[market] = 0
            return
        self.warned[market] += 1
        left = 60 - self.now_ms() // 1000 % 60
        if self.warned[market] > 3:
            until = self.now_ms() + 120_000
            raise Refused(418, -1003, f"Way too much request weight used; IP banned until {until}.", Retry_After="120")
        limit = f"current limit is {self.limits[market]} request weight per 1 MINUTE"
        raise Refused(429, -1003, f"Too much request weight used; {limit}.", Retry_After=str(left))

    def _validate(self, call: Call, query: Mapping[str, str]) -> None:
        for name in call.required.split():
            if not query.get(name):
                raise Refused(400, -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        known = {*call.allowed.split(), *call.required.split()}
        known |= {"timestamp", "recvWindow", "signature"} if call.signed else set()
        if set(query) - known:
            raise Refused(400, -1104, f"Not all sent parameters were read; read '{len(known)}' parameter(s).")

    def _authenticate(self, request: Received, query: Mapping[str, str]) -> None:
        key = {name.lower(): value for name, value in request.headers.items()}.get("x-mbx-apikey", "")
        if len(key) != 64:
            raise Refused(401, -2014, "API-key format invalid.")
        if key != KEY:
            raise Refused(401, -2015, "Invalid API-key, IP, or permissions for action.")
        if not query.get("timestamp"):
            raise Refused(400, -1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
        signed, _, signature = request.raw_query.partition("&signature=")
        expected = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if signature.lower() != expected:
            raise Refused(400, -1022, "Signature for this request is not valid.")
        window, at, now = int(query.get("recvWindow", "5000")), int(query["timestamp"]), self.now_ms()
        if window > 60_000:
            raise Refused(400, -1131, "recvWindow must be less than 60000.")
        if at >= now + 1000:
            raise Refused(400, -1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now - at > window:
            raise Refused(400, -1021, "Timestamp for this request is outside of the recvWindow.")

    def _spot_calls(self) -> dict[str, Call]:
        def several(query: dict[str, str]) -> int:
            return 2 if "symbol" in query else 4

        dated, named = "startTime endTime limit", "symbol symbols symbolStatus"
        return {
            "/api/v3/time": Call(lambda _: {"serverTime": self.now_ms()}, 1),
            "/api/v3/exchangeInfo": Call(self._exchange_info, 20, "permissions showPermissionSets symbolStatus symbol symbols"),
            "/api/v3/depth": Call(lambda query: self._depth("spot", query), 5, "limit", "symbol"),
            "/api/v3/klines": Call(lambda query: self._klines("", query), 2, f"timeZone {dated}", "symbol interval"),
            "/api/v3/ticker/price": Call(lambda query: self._tickers(query, self._price), several, named),
            "/api/v3/ticker/bookTicker": Call(lambda query: self._tickers(query, self._best), several, named),
            "/api/v3/ticker/24hr": Call(lambda query: self._tickers(query, self._day), several, f"type {named}"),
            "/api/v3/account": Call(self._account, 20, "omitZeroBalances", signed=True),
            "/api/v3/openOrders": Call(
                lambda query: self._open("spot", query), lambda query: 6 if "symbol" in query else 80, "symbol", signed=True
            ),
            "/api/v3/allOrders": Call(
                lambda query: self._list("spot", self.orders, "orderId", "orderId", query), 20, f"orderId {dated}", "symbol",
                signed=True,
            ),
            "/api/v3/myTrades": Call(
                lambda query: self._list("spot", self.trades, "id", "fromId", query), 20, f"fromId orderId {dated}", "symbol",
                signed=True,
            ),
        }  # fmt: skip

    def _futures_calls(self) -> dict[str, Call]:
        def bars_weight(query: dict[str, str]) -> int:
            limit = int(query.get("limit", "500"))
            return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10

        def depth_weight(query: dict[str, str]) -> int:
            limit = int(query.get("limit", "500"))
            return 2 if limit <= 50 else 5 if limit <= 100 else 10

        def one_or_all(one: int, every: int) -> Callable[[dict[str, str]], int]:
            return lambda query: one if "symbol" in query else every

        dated = "startTime endTime limit"
        return {
            "/fapi/v1/time": Call(lambda _: {"serverTime": self.now_ms()}, 1),
            "/fapi/v1/exchangeInfo": Call(self._contracts, 1),
            "/fapi/v1/depth": Call(lambda query: self._depth("usd_m", query), depth_weight, "limit", "symbol"),
            "/fapi/v1/klines": Call(lambda query: self._klines("fapi:", query), bars_weight, dated, "symbol interval"),
            "/fapi/v1/premiumIndex": Call(lambda query: self._marked(query, self._mark), one_or_all(1, 10), "symbol"),
            "/fapi/v1/ticker/bookTicker": Call(lambda query: self._marked(query, self._bid), one_or_all(2, 5), "symbol"),
            "/fapi/v1/ticker/24hr": Call(lambda query: self._marked(query, self._day_contract), one_or_all(1, 40), "symbol"),
            "/fapi/v3/account": Call(lambda _: self._futures_account(), 5, signed=True),
            "/fapi/v3/positionRisk": Call(self._position_risk, 5, "symbol", signed=True),
            "/fapi/v1/leverageBracket": Call(lambda _: self._brackets(), 1, "symbol", signed=True),
            "/fapi/v1/income": Call(self._income, 30, f"symbol incomeType page {dated}", signed=True),
            "/fapi/v1/openOrders": Call(lambda query: self._open("usd_m", query), one_or_all(1, 40), "symbol", signed=True),
            "/fapi/v1/allOrders": Call(
                lambda query: self._list("usd_m", self.orders, "orderId", "orderId", query), 5, f"orderId {dated}", "symbol",
                signed=True,
            ),
            "/fapi/v1/userTrades": Call(
                lambda query: self._list("usd_m", self.trades, "id", "fromId", query), 5, f"fromId orderId {dated}", "symbol",
                signed=True,
            ),
        }  # fmt: skip

    def _exchange_info(self, query: dict[str, str]) -> Any:
        rows = [self._listed(symbol, "BREAK" if symbol in self.halted else "TRADING") for symbol in self.prices]
        rows += [self._listed(f"PAD{number}USDT", "TRADING") for number in range(self.padding)]
        if "symbolStatus" in query:
            rows = [row for row in rows if row["status"] == query["symbolStatus"]]
        if query.get("showPermissionSets") != "false":
            rows = [row | {"permissionSets": [["SPOT", *(f"TRD_GRP_{group:03}" for group in range(180))]]} for row in rows]
        return {"timezone": "UTC", "serverTime": self.now_ms(), "rateLimits": self._rate_limits("spot"), "exchangeFilters": [],
                "symbols": rows}  # fmt: skip

    def _listed(self, symbol: str, status: str) -> dict[str, Any]:
        quote = next(each for each in QUOTES if symbol.endswith(each))
        return {
            "symbol": symbol, "status": status, "baseAsset": symbol.removesuffix(quote), "baseAssetPrecision": 8,
            "quoteAsset": quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT", "MARKET"],
            "icebergAllowed": True, "isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "permissions": [],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.00000001", "maxPrice": "1000000", "tickSize": "0.00000001"},
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
            ],
            "permissionSets": [], "defaultSelfTradePreventionMode": "NONE", "allowedSelfTradePreventionModes": ["NONE"],
        }  # fmt: skip

    def _rate_limits(self, market: str) -> list[dict[str, Any]]:
        minute = {"interval": "MINUTE", "limit": self.limits[market]}
        return [
            {"rateLimitType": "REQUEST_WEIGHT", "intervalNum": 1, **minute},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
            {"rateLimitType": "RAW_REQUESTS", "intervalNum": 5, **minute, "limit": 61_000},
        ]

    def _contracts(self, _: dict[str, str]) -> Any:
        return {"timezone": "UTC", "serverTime": self.now_ms(), "rateLimits": self._rate_limits("usd_m"), "exchangeFilters": [],
                "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
                "symbols": [self._contract(symbol) for symbol in self.marks]}  # fmt: skip

    def _contract(self, symbol: str) -> dict[str, Any]:
        pair, _, delivery = symbol.partition("_")
        quote = next(each for each in QUOTES if pair.endswith(each))
        return {
            "symbol": symbol, "pair": pair, "contractType": "CURRENT_QUARTER" if delivery else "PERPETUAL",
            "deliveryDate": 1_782_460_800_000 if delivery else 4_133_404_800_000, "onboardDate": 1_569_398_400_000,
            "status": "TRADING",
            "baseAsset": pair.removesuffix(quote), "quoteAsset": quote, "marginAsset": quote, "pricePrecision": 2,
            "quantityPrecision": 3, "baseAssetPrecision": 8, "quotePrecision": 8, "underlyingType": "COIN",
            "underlyingSubType": [], "orderTypes": ["LIMIT", "MARKET"], "timeInForce": ["GTC", "IOC"],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
            ],
        }  # fmt: skip

    def book(self, symbol: str, price: str, levels: int) -> tuple[list[list[str]], list[list[str]]]:
        """Both sides: a tick of 0.01 % between levels, quantities that grow."""
        middle = Decimal(price)
        steps = [Decimal(place) for place in range(1, levels + 1)]
        bids = [[f"{middle * (1 - step / 10_000):.8f}", f"{step / 4:.8f}"] for step in steps]
        asks = [[f"{middle * (1 + step / 10_000):.8f}", f"{step / 2:.8f}"] for step in steps]
        return bids, asks

    def _depth(self, market: str, query: dict[str, str]) -> Any:
        limit = int(query.get("limit", "100"))
        if market == "usd_m" and limit not in (5, 10, 20, 50, 100, 500, 1000):
            raise Refused(400, -4021, f"{limit} is not valid depth limit.")
        bids, asks = self.book(query["symbol"], self._of(market, query["symbol"]), min(limit, 25))
        found: dict[str, Any] = {"lastUpdateId": 1027024, "bids": bids, "asks": asks}
        return found | ({"E": self.now_ms(), "T": self.now_ms() - 5} if market == "usd_m" else {})

    def _of(self, market: str, symbol: str) -> str:
        prices = self.prices if market == "spot" else self.marks
        if symbol not in prices:
            raise Refused(400, -1121, "Invalid symbol.")
        return prices[symbol]

    def _klines(self, prefix: str, query: dict[str, str]) -> Any:
        symbol, span = query["symbol"], {"1d": DAY_MS, "1m": 60_000}[query["interval"]]
        self._of("usd_m" if prefix else "spot", symbol)
        limit, now = min(int(query.get("limit", "500")), 1500 if prefix else 1000), self.now_ms()
        end = min(int(query.get("endTime", now)), now)
        start = int(query.get("startTime", (end // span - limit + 1) * span))
        first = max(-(-start // span), self.listed_since.get(prefix + symbol, 17_000) * DAY_MS // span)
        return [self._kline(prefix + symbol, number, span) for number in range(first, min(first + limit, end // span + 1))]

    def _kline(self, name: str, number: int, span: int) -> list[Any]:
        close, before = self.close(name, number), self.close(name, number - 1)
        high, low = max(close, before, key=float), min(close, before, key=float)
        return [
            number * span,
            before,
            high,
            low,
            close,
            "148.9",
            number * span + span - 1,
            "2434.1",
            308,
            "75.1",
            "1228.4",
            "0",
        ]

    def _tickers(self, query: dict[str, str], make: Callable[[str], Any]) -> Any:
        if "symbol" in query:
            self._of("spot", query["symbol"])
            return make(query["symbol"])
        symbols = json.loads(query["symbols"]) if "symbols" in query else list(self.prices)
        for symbol in symbols:
            self._of("spot", symbol)
        return [make(symbol) for symbol in symbols]

    def _price(self, symbol: str) -> Any:
        return {"symbol": symbol, "price": self.prices[symbol]}

    def _best(self, symbol: str) -> Any:
        bids, asks = self.book(symbol, self.prices[symbol], 1)
        return {"symbol": symbol, "bidPrice": bids[0][0], "bidQty": bids[0][1], "askPrice": asks[0][0], "askQty": asks[0][1]}

    def _day(self, symbol: str) -> Any:
        price = self.prices[symbol]
        return self._best(symbol) | {
            "priceChange": "0", "priceChangePercent": "0", "weightedAvgPrice": price, "prevClosePrice": price,
            "lastPrice": price, "lastQty": "1", "openPrice": price, "highPrice": price, "lowPrice": price, "volume": "1",
            "quoteVolume": "1", "openTime": self.now_ms() - DAY_MS, "closeTime": self.now_ms(), "firstId": 1, "lastId": 2,
            "count": 2,
        }  # fmt: skip

    def _marked(self, query: dict[str, str], make: Callable[[str], Any]) -> Any:
        if "symbol" in query:
            self._of("usd_m", query["symbol"])
            return make(query["symbol"])
        return [make(symbol) for symbol in self.marks]

    def _mark(self, symbol: str) -> Any:
        mark = self.marks[symbol]
        return {"symbol": symbol, "markPrice": mark, "indexPrice": mark, "estimatedSettlePrice": mark,
                "lastFundingRate": "0.0001", "nextFundingTime": self.now_ms() + 1000, "time": self.now_ms()}  # fmt: skip

    def _bid(self, symbol: str) -> Any:
        bids, asks = self.book(symbol, self.marks[symbol], 1)
        return {"symbol": symbol, "bidPrice": bids[0][0], "bidQty": bids[0][1], "askPrice": asks[0][0], "askQty": asks[0][1],
                "time": self.now_ms(), "lastUpdateId": 1}  # fmt: skip

    def _day_contract(self, symbol: str) -> Any:
        price = self.marks[symbol]
        return {"symbol": symbol, "priceChange": "0", "priceChangePercent": "0", "weightedAvgPrice": price, "lastPrice": price,
                "lastQty": "1", "openPrice": price, "highPrice": price, "lowPrice": price, "volume": "1", "quoteVolume": "1",
                "openTime": self.now_ms() - DAY_MS, "closeTime": self.now_ms(), "firstId": 1, "count": 2}  # fmt: skip

    def _account(self, query: dict[str, str]) -> Any:
        rows = [{"asset": asset, "free": free, "locked": locked} for asset, (free, locked) in self.balances.items()]
        if query.get("omitZeroBalances") == "true":
            rows = [row for row in rows if not _is_zero(row["free"]) or not _is_zero(row["locked"])]
        return {
            "makerCommission": 15, "takerCommission": 15, "buyerCommission": 0, "sellerCommission": 0,
            "commissionRates": {"maker": "0.001", "taker": "0.001", "buyer": "0", "seller": "0"}, "canTrade": self.can_trade,
            "canWithdraw": False, "canDeposit": True, "brokered": False, "requireSelfTradePrevention": False,
            "preventSor": False, "updateTime": self.now_ms(), "accountType": "SPOT", "balances": rows, "permissions": ["SPOT"],
            "uid": 354937868,
        }  # fmt: skip

    def _futures_account(self) -> Any:
        at = self.now_ms()
        names = {
            "totalInitialMargin": "initialMargin",
            "totalMaintMargin": "maintMargin",
            "totalWalletBalance": "walletBalance",
            "totalUnrealizedProfit": "unrealizedProfit",
            "totalMarginBalance": "marginBalance",
        }
        total = {name: str(sum(Decimal(wallet[field]) for wallet in self.wallets.values())) for name, field in names.items()}
        return total | {
            "assets": [{"asset": asset, **wallet, "updateTime": at} for asset, wallet in self.wallets.items()],
            "positions": [{name: row[name] for name in ("symbol", "positionSide", "positionAmt", "notional", "initialMargin",
                                                        "maintMargin", "updateTime")} for row in self.positions],
        }  # fmt: skip

    def _position_risk(self, query: dict[str, str]) -> Any:
        return [row for row in self.positions if query.get("symbol", row["symbol"]) == row["symbol"]]

    def _brackets(self) -> Any:
        bracket = {"bracket": 1, "initialLeverage": 75, "notionalCap": 10_000, "notionalFloor": 0, "maintMarginRatio": 0.0065,
                   "cum": 0}  # fmt: skip
        return [{"symbol": symbol, "notionalCoef": 1.5, "brackets": [bracket]} for symbol in self.marks]

    def _income(self, query: dict[str, str]) -> Any:
        start, end = int(query.get("startTime", 0)), int(query.get("endTime", self.now_ms()))
        rows = [row for row in self.income if start <= row["time"] <= end]
        rows = [row for row in rows if query.get("incomeType", row["incomeType"]) == row["incomeType"]]
        limit, page = int(query.get("limit", "100")), int(query.get("page", "1"))
        return rows[(page - 1) * limit : page * limit]

    def _open(self, market: str, query: dict[str, str]) -> Any:
        if "symbol" in query:
            self._of(market, query["symbol"])
        return [
            row
            for (of, symbol), rows in self.orders.items()
            for row in rows
            if of == market and query.get("symbol", symbol) == symbol and row["status"] in ("NEW", "PARTIALLY_FILLED")
        ]

    def _list(
        self,
        market: str,
        lists: Mapping[tuple[str, str], list[dict[str, Any]]],
        number: str,
        cursor: str,
        query: dict[str, str],
    ) -> Any:
        self._of(market, query["symbol"])
        rows = sorted(lists.get((market, query["symbol"]), []), key=lambda row: int(row[number]))
        limit, now = int(query.get("limit", "500")), self.now_ms()
        if limit > 1000:
            raise Refused(400, -1130, "Data sent for parameter 'limit' is not valid.")
        longest, timed = DAY_MS if market == "spot" else 7 * DAY_MS, "startTime" in query or "endTime" in query
        if timed and cursor in query:
            raise Refused(400, -1128, "Combination of optional parameters invalid.")
        if {"startTime", "endTime"} <= set(query) and int(query["endTime"]) - int(query["startTime"]) > longest:
            raise Refused(400, *((-1127, "More than 24 hours between startTime and endTime.") if market == "spot"
                                 else (-4165, "Maximum time interval is 7 days.")))  # fmt: skip
        if cursor in query:
            return [row for row in rows if row[number] >= int(query[cursor])][:limit]
        if timed:
            start = int(query.get("startTime", int(query.get("endTime", now)) - longest))
            end = int(query.get("endTime", start + longest))
            return [row for row in rows if start <= row["time"] <= end][:limit]
        if market == "usd_m":
            rows = [row for row in rows if row["time"] >= now - longest]
        return rows[-limit:]


def _is_zero(amount: str) -> bool:
    return not amount.strip("0.")
