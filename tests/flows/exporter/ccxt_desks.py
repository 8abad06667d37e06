"""Two exchanges with an account each, for tests of the source `ccxt`: Kraken's spot market, and OKX's with contracts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from deskwatch.clock import Clock, ManualClock
from deskwatch.config import validate
from exporter.sources.ccxt import CcxtSource, Config
from tests.stand_ins import kraken, okx

DAY = 86_400
NOW = int(datetime.now(UTC).timestamp())
MIDNIGHT = NOW // DAY * DAY
MS = 1000
BARS = 600
KRAKEN_LOGIN = {"api_key": kraken.KEY, "secret": kraken.SECRET}
OKX_LOGIN = {"api_key": okx.KEY, "secret": okx.SECRET, "password": okx.PASSPHRASE}
EXPIRES = (MIDNIGHT + 40 * DAY) * MS


def source(exchange: str, url: str, clock: Clock | None = None, **changes: Any) -> CcxtSource:
    """A source of one of the two accounts."""
    return CcxtSource(config(exchange, url, **changes), clock or ManualClock(datetime.fromtimestamp(NOW, UTC)))


def config(exchange: str, url: str, **changes: Any) -> Config:
    """Its configuration, as quick as a test wants it."""
    found = validate(Config, settings(exchange, url) | changes)
    assert isinstance(found, Config), [str(fault) for fault in found]
    return found


def settings(exchange: str, url: str) -> dict[str, Any]:
    """As written in the file."""
    common = {"type": "ccxt", "name": exchange, "exchange": exchange, "url": url, "call_milliseconds": 1, "portfolio": "crypto"}
    if exchange == "kraken":
        return common | {"credentials": KRAKEN_LOGIN, "quote_asset": "USD"}
    return common | {"credentials": OKX_LOGIN}


def fill_kraken(exchange: kraken.Kraken) -> None:
    """Bitcoin, euro, dust and a gift; 130 trades, two open orders and 60 that have ended."""
    exchange.list_pair("XXBTZUSD", "XBTUSD", "XXBT", "ZUSD")
    exchange.list_pair("XETHXXBT", "ETHXBT", "XETH", "XXBT")
    exchange.list_pair("XXBTZEUR", "XBTEUR", "XXBT", "ZEUR")
    exchange.list_pair("ZEURZUSD", "EURUSD", "ZEUR", "ZUSD")
    exchange.account.balances = {
        "ZUSD": {"balance": "25435.21000000001", "hold_trade": "8249.76"},
        "XXBT": {"balance": "1.24350000000000000001", "hold_trade": "0.8423"},
        "ZEUR": {"balance": "-0.5", "hold_trade": "0"},
        "XETH": {"balance": "0.0000000000", "hold_trade": "0"},
        "GIFT": {"balance": "1000000", "hold_trade": "0"},
    }
    exchange.tickers = {
        "XXBTZUSD": kraken.ticker("97000.10000", "97000.00000", "97001.50000"),
        "ZEURZUSD": kraken.ticker("1.0825", "1.0824", "1.0826"),
        "XXBTZEUR": kraken.ticker("89600", "89599", "89601"),
    }
    exchange.books["XXBTZUSD"] = {
        "asks": [[f"{97001 + level}.5", "0.25", NOW] for level in range(100)],
        "bids": [[f"{97000 - level}.0", "0.5", NOW] for level in range(100)],
    }
    exchange.books["XXBTZEUR"] = {"asks": [["89601", "1", NOW]], "bids": []}
    for pair, first in (("XXBTZUSD", 50_000), ("ZEURZUSD", 1), ("XXBTZEUR", 45_000)):
        exchange.bars[pair] = [kraken.bar(MIDNIGHT - DAY * back, f"{first + back}.5") for back in range(BARS, -1, -1)]
    for place in range(130):
        side, price = ("buy", "96000.1") if place % 2 else ("sell", "98000.7")
        exchange.account.trades[f"T{place:03}"] = kraken.trade(
            "XXBTZUSD", NOW - 600 * place - 30.25, side, price, "0.00012345", "0.03", f"O{place:03}"
        )
    exchange.account.open = {
        "OPEN-1": kraken.order("XBTUSD", NOW - 7200.5, "buy", "0.50000000", "90000.0", cl_ord_id="desk-1"),
        "OPEN-2": kraken.order("XBTUSD", NOW - 100.0, "sell", "0.40000000", "99000.0", vol_exec="0.1", price="99000.0"),
    }
    for place in range(60):
        ended: dict[str, Any] = {"status": "closed", "vol_exec": "0.10000000", "price": "95000.0"}
        if place % 3 == 0:
            ended = {"status": "canceled", "reason": "User requested"}
        exchange.account.closed[f"DONE-{place:02}"] = kraken.order(
            "XBTUSD", NOW - 3600.0 * place - 500, "buy", "0.10000000", "95000.0", closetm=NOW - 3600.0 * place - 400, **ended
        )


def fill_okx(exchange: okx.Okx) -> None:
    """A unified account: bitcoin, two linear contracts, fees in the exchange's own token."""
    future = okx.future("BTC", "USDT", "0.01", EXPIRES)
    name = future["instId"]
    exchange.instruments = [
        okx.spot("BTC", "USDT"), okx.spot("OKB", "USDT"), okx.swap("BTC", "USDT", "USDT", "0.01"),
        okx.swap("ETH", "USD", "ETH", "10"), future,
    ]  # fmt: skip
    exchange.balances = [
        okx.balance("USDT", "10100.25", "10000.25", "100"), okx.balance("BTC", "0.500000000000000001"), okx.balance("OKB", "3"),
    ]  # fmt: skip
    exchange.positions = [
        okx.position("BTC-USDT-SWAP", "150", "90000.5", "97000.25", "105"),
        okx.position(name, "-20", "98000", "97500", "-5"),
        okx.position("ETH-USD-SWAP", "0", "3000", "3000", "0"),
    ]
    exchange.tickers = [
        okx.ticker("BTC-USDT", "97000.1", "97000", "97001", (NOW - 2) * MS),
        okx.ticker("OKB-USDT", "50", "49", "51", (NOW - 3) * MS),
        okx.ticker("BTC-USDT-SWAP", "97010", "97009", "97011", NOW * MS),
        okx.ticker(name, "97510", "97509", "97511", NOW * MS),
        okx.ticker("ETH-USD-SWAP", "3000", "2999", "3001", NOW * MS),
    ]
    for each in exchange.instruments:
        exchange.books[each["instId"]] = {
            "asks": [[f"{97001 + level}", "10", "0", "1"] for level in range(200)],
            "bids": [[f"{97000 - level}", "5", "0", "1"] for level in range(200)],
            "ts": str((NOW - 1) * MS),
        }
        exchange.bars[each["instId"]] = [
            okx.bar((MIDNIGHT - DAY * back) * MS, f"{60_000 + back}", ended=back > 0) for back in range(BARS, -1, -1)
        ]
    exchange.fills = [
        okx.fill("BTC-USDT-SWAP", (NOW - 60 * place) * MS, "buy", "97000.5", "10", "-0.25", "USDT") for place in range(1, 251)
    ]
    minute = (NOW - 3600) // 60 * 60
    exchange.minutes["OKB-USDT"] = [okx.bar(minute * MS, "51.5")]
    exchange.fills += [
        okx.fill("BTC-USDT", (minute + 5) * MS, "sell", "97000", "0.1", "-0.02", "OKB", tradeId="t1"),
        okx.fill("BTC-USDT", (minute + 6) * MS, "buy", "97000", "0.2", "-0.0002", "BTC", tradeId="t2"),
        okx.fill(name, (minute + 7) * MS, "sell", "98000", "20", "0.5", "USDT", tradeId="t3"),
    ]
    exchange.orders = [
        okx.order("BTC-USDT-SWAP", (NOW - 900) * MS, "buy", "5", "90000", clOrdId="mine"),
        okx.order(
            "BTC-USDT", (NOW - 800) * MS, "sell", "0.5", "99000", state="partially_filled", accFillSz="0.2", avgPx="99001"
        ),
        okx.order("BTC-USDT", (NOW - 700) * MS, "buy", "0.1", "97000", state="filled", accFillSz="0.1", avgPx="96999"),
        okx.order(name, (NOW - 600) * MS, "sell", "20", "98000", state="canceled"),
    ]
