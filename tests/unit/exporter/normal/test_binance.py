"""Binance's rows as records: bodies of the real venue, what a listing says of a market, and which way an asset is priced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from exporter.normal.binance_fees import MinutePrices
from exporter.normal.binance_listing import Leg, Listed, Listing, futures_listing, spot_listing
from exporter.normal.binance_records import Named, Place, depth_quote, order, ticker_quote
from exporter.records import Fields, Sheet
from exporter.snapshot import Order, Quote
from tests.payloads import payload

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
PLACE = Place("book", "binance", "spot")


@pytest.mark.payloads
def test_a_recorded_book() -> None:
    """One level on each side."""
    named = Named("LTCBTC", "LTC", "BTC")
    quote = depth_quote(named, "binance", 5, NOW, Fields(payload("xchange-binance/depth.json")))
    assert quote == Quote(
        "LTC", "BTC", "binance", NOW, Decimal("4.00000000"), Decimal("4.00000200"), Decimal("431.00000000"),
        Decimal("12.00000000"), 5, Decimal(1724), Decimal("48.000024"),
    )  # fmt: skip


@pytest.mark.payloads
def test_recorded_orders() -> None:
    """An open limit order, and a market order whose price is what its value over its quantity says."""
    sheet, named = Sheet(), Named("LTCBTC", "LTC", "BTC")
    (found,) = sheet.read("orders", payload("xchange-binance/open-orders.json"), lambda row: order(PLACE, named, row))
    at = datetime.fromtimestamp(1499827319.559, UTC)
    assert found == Order(
        "spot-LTCBTC-1", "book", "LTC", "BUY", Decimal("1.0"), Decimal("0.0"), "NEW", at, "binance",
        limit_price=Decimal("0.1"), updated_at=at, client_order_id="myOrder1", order_type="limit",
    )  # fmt: skip
    assert sheet.rejected == ()
    filled = order(PLACE, Named("ETHBTC", "ETH", "BTC"), Fields(payload("xchange-binance/filled-market-order.json")))
    assert filled is not None
    assert (filled.status, filled.side, filled.order_type, filled.limit_price) == ("FILLED", "SELL", "market", None)
    assert (filled.quantity, filled.filled_quantity) == (Decimal("0.107"), Decimal("0.107"))
    assert filled.average_price == Decimal("0.00198847") / Decimal("0.10700000")


@pytest.mark.payloads
def test_a_recorded_ticker() -> None:
    """Best prices without quantities."""
    row = Fields(payload("xchange-binance/single-24hr-ticker.json"))
    quote = ticker_quote(Named("BNBBTC", "BNB", "BTC"), "binance", NOW, row)
    assert quote == Quote("BNB", "BTC", "binance", NOW, Decimal("4.00000000"), Decimal("4.00000200"))


def test_a_trigger_without_a_quantity_is_no_order_yet() -> None:
    """It closes whatever is held when its time comes. A value that is not known gives no mean price."""
    row = {"orderId": 1, "origQty": "0", "executedQty": "0", "status": "NEW", "side": "SELL", "time": 1_700_000_000_000}
    named = Named("BTCUSDT", "BTCUSDT", "USDT")
    assert order(PLACE, named, Fields(row)) is None
    known = order(PLACE, named, Fields(row | {"origQty": "2", "executedQty": "1", "cummulativeQuoteQty": "-1"}))
    assert known is not None
    assert known.average_price is None


@pytest.mark.parametrize(
    ("contract", "instrument"),
    [
        ("PERPETUAL", "perpetual"),
        ("TRADIFI_PERPETUAL", "perpetual"),
        ("PERPETUAL DELIVERING", "perpetual"),
        ("CURRENT_QUARTER", "future"),
        ("NEXT_QUARTER DELIVERING", "future"),
        ("CURRENT_MONTH", "future"),
        ("", "unknown"),
        ("SOMETHING_NEW", "unknown"),
    ],
)
def test_a_contract_is_what_its_type_says(contract: str, instrument: str) -> None:
    """What nobody knows has no linear risk number."""
    row = {"symbol": "X", "baseAsset": "A", "quoteAsset": "B", "contractType": contract}
    assert futures_listing([row]).markets["X"].instrument == instrument


def test_only_spot_markets_that_trade_are_listed() -> None:
    """A halted one's last price is no price."""
    row = {"symbol": "AB", "baseAsset": "A", "quoteAsset": "B", "status": "TRADING"}
    listing = spot_listing([row, row | {"symbol": "CD", "status": "BREAK"}, row | {"symbol": "EF", "status": "HALT"}])
    assert set(listing.markets) == {"AB"}
    assert listing.rejected == ()


async def test_minute_prices_are_kept_for_the_look_back_only() -> None:
    """Each piece of a thousand minutes is asked for once; what lies before the look-back is dropped."""
    asked: list[tuple[str, int, int]] = []

    async def bars(symbol: str, first: int, last: int) -> list[object]:
        asked.append((symbol, first, last))
        return [[at, "600", "1", "1", "1"] for at in range(first, last, 60_000)]

    prices, listing = MinutePrices(), Listing([Listed("BNBUSDT", "BNB", "USDT")])
    needed = [("BNB", "USDT", NOW), ("BNB", "USDT", NOW - timedelta(days=3)), ("BNB", "USDT", NOW), ("X", "USDT", NOW)]
    await prices.load(needed, listing, bars)
    assert len(asked) == 2
    assert prices.worth("BNB", "USDT", NOW) == 600
    assert prices.worth("X", "USDT", NOW) is None
    prices.forget_before(NOW - timedelta(days=1))
    assert prices.worth("BNB", "USDT", NOW) == 600
    assert prices.worth("BNB", "USDT", NOW - timedelta(days=3)) is None
    await prices.load(needed[:2], listing, bars)
    assert len(asked) == 3


def test_an_asset_is_priced_the_shortest_way() -> None:
    """Directly before the other way round, before a second market; of those bitcoin's before others; else not at all."""
    pairs = ["A-USDT", "A-BTC", "USDT-B", "C-ZZZ", "C-BTC", "ZZZ-USDT", "BTC-USDT", "D-B", "E-F"]
    listing = Listing(Listed(pair.replace("-", ""), *pair.split("-")) for pair in pairs)
    assert listing.pricing(["USDT", "A", "B"], "USDT") == {"A": Leg("AUSDT", "USDT"), "B": Leg("USDTB", "USDT", inverse=True)}
    assert listing.pricing(["C"], "USDT") == {"C": Leg("CBTC", "BTC"), "BTC": Leg("BTCUSDT", "USDT")}
    assert listing.pricing(["D"], "USDT") == {"D": Leg("DB", "B"), "B": Leg("USDTB", "USDT", inverse=True)}
    assert listing.pricing(["E", "NONE"], "USDT") == {}
