"""Rows of an exchange of Binance's form as the desk's records: quotes, orders, fills, daily closes. Pure.

Names: what is held on the spot market is an asset (`BTC`), a contract is its symbol (`BTCUSDT`): one desk can hold both. A fill
or order on the spot market is one in its base asset, priced in its quote asset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from exporter import cells
from exporter.cells import Unreadable
from exporter.normal.binance_listing import Leg, Listed
from exporter.records import Fields, FieldUnreadable, Sheet
from exporter.snapshot import Fill, History, Order, Quote

Worth: TypeAlias = Callable[[str, str, datetime], Decimal | None]
"""What one unit of an asset was worth in another at a time; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record comes from. `market`: the venue's own name of it, part of the ids, which count by market and symbol."""

    portfolio: str
    venue: str
    market: str

    def number(self, symbol: str, count: Any) -> str:
        """An id nothing else has."""
        return f"{self.market}-{symbol}-{count}"


@dataclass(frozen=True, slots=True)
class Named:
    """A market in the desk's words."""

    market: str
    symbol: str
    currency: str


def asset_of(market: Listed) -> Named:
    """A spot market as what is bought and sold on it."""
    return Named(market.symbol, market.base, market.quote)


def book_of(market: Listed, quote_asset: str) -> Named:
    """A spot market as an order book: the asset's where it is the one that prices it, else one of the market's own name."""
    return Named(market.symbol, market.base if market.quote == quote_asset else market.symbol, market.quote)


def contract_of(market: Listed) -> Named:
    """A contract is its symbol."""
    return Named(market.symbol, market.symbol, market.quote)


def depth_quote(named: Named, venue: str, levels: int, at: datetime, row: Fields) -> Quote:
    """A book of so many levels. Futures say when it was (`T`); elsewhere it is when it was asked."""
    bids, asks = row.get("bids", _levels), row.get("asks", _levels)
    return Quote(
        symbol=named.symbol,
        currency=named.currency,
        venue=venue,
        at=row.optional("T", cells.epoch_milliseconds) or at,
        bid=bids[0][0] if bids else None,
        ask=asks[0][0] if asks else None,
        bid_quantity=bids[0][1] if bids else None,
        ask_quantity=asks[0][1] if asks else None,
        depth_levels=levels,
        bid_depth_value=sum((price * quantity for price, quantity in bids), start=Decimal(0)),
        ask_depth_value=sum((price * quantity for price, quantity in asks), start=Decimal(0)),
    )


def _levels(side: Any) -> list[tuple[Decimal, Decimal]]:
    if not isinstance(side, list) or not all(isinstance(level, list) and len(level) >= 2 for level in side):
        raise Unreadable("not_a_list")
    return [(cells.positive(level[0]), cells.not_negative(level[1])) for level in side]


def ticker_quote(named: Named, venue: str, at: datetime, row: Fields) -> Quote:
    """Best bid and ask; a price of 0 is a side without orders."""
    bid, ask = row.get("bidPrice", cells.not_negative) or None, row.get("askPrice", cells.not_negative) or None
    return Quote(
        symbol=named.symbol,
        currency=named.currency,
        venue=venue,
        at=row.optional("time", cells.epoch_milliseconds) or at,
        bid=bid,
        ask=ask,
        bid_quantity=row.optional_number("bidQty") if bid else None,
        ask_quantity=row.optional_number("askQty") if ask else None,
    )


def order(place: Place, named: Named, row: Fields) -> Order | None:
    """An order. One without a quantity, which closes whatever is held when it is triggered, is none yet."""
    quantity, filled = row.number("origQty"), row.get("executedQty", cells.not_negative)
    if not quantity and not filled:
        return None
    return Order(
        order_id=place.number(named.market, row.text("orderId")),
        portfolio=place.portfolio,
        symbol=named.symbol,
        side=row.get("side", cells.one_of("BUY", "SELL")),
        quantity=row.positive("origQty"),
        filled_quantity=filled,
        status=row.get("status", cells.order_status),
        submitted_at=row.milliseconds("time"),
        venue=place.venue,
        limit_price=row.optional_number("price") or None,
        average_price=_average(row, filled),
        updated_at=row.optional("updateTime", cells.epoch_milliseconds),
        client_order_id=row.optional_text("clientOrderId") or "",
        order_type=(row.optional_text("type") or "").lower(),
    )


def _average(row: Fields, filled: Decimal) -> Decimal | None:
    """Mean price of what is filled. The spot market gives its value, which is negative where it is not known."""
    if not filled:
        return None
    average: Decimal | None = row.optional_number("avgPrice")
    value = row.optional_number("cummulativeQuoteQty")
    if average is None and value is not None and value > 0:
        average = value / filled
    return average or None


@dataclass(frozen=True, slots=True)
class Paid:
    """A commission, in the asset it was taken in."""

    amount: Decimal
    asset: str
    at: datetime


def commission(row: Fields) -> Paid:
    """What a trade cost; positive when paid. Recorded answers of both markets have it positive, though the futures
    documentation's example does not."""
    return Paid(row.number("commission"), row.optional_text("commissionAsset") or "", row.milliseconds("time"))


def fee_in(paid: Paid, base: str, currency: str, price: Decimal, worth: Worth) -> Decimal | None:
    """A commission in the fill's currency; None where its asset's price then is not known."""
    if not paid.amount or paid.asset == currency:
        return paid.amount
    if paid.asset == base:
        return paid.amount * price
    value = worth(paid.asset, currency, paid.at)
    return None if value is None else paid.amount * value


def fill(place: Place, named: Named, fee: Decimal, row: Fields) -> Fill:
    """An execution; `side` stands in a futures trade, a spot trade says whether the account bought."""
    return Fill(
        execution_id=place.number(named.market, row.text("id")),
        portfolio=place.portfolio,
        symbol=named.symbol,
        side=row.optional("side", cells.one_of("BUY", "SELL")) or ("BUY" if row.flag("isBuyer") else "SELL"),
        quantity=row.positive("qty"),
        price=row.positive("price"),
        currency=named.currency,
        at=row.milliseconds("time"),
        venue=place.venue,
        order_id=place.number(named.market, row.text("orderId")),
        fee=fee,
        realized_pnl=row.optional_number("realizedPnl"),
    )


def closes(symbol: str, leg: Leg, rows: list[Any], now_ms: int, sheet: Sheet) -> History | None:
    """Daily closes of one unit of the symbol in the leg's currency, of days that have ended; None where there is none."""
    found: dict[int, float] = {}
    for index, row in enumerate(rows):
        try:
            opened, close, closed = _bar(row)
        except FieldUnreadable as unreadable:
            sheet.reject("histories", f"bars of {leg.symbol}[{index}].{unreadable.said}", unreadable.reason)
            continue
        if closed < now_ms:
            found[opened // 86_400_000] = 1.0 / close if leg.inverse else close
    if not found:
        return None
    days = np.array(sorted(found), dtype="datetime64[D]")
    prices = np.array([found[day] for day in sorted(found)], dtype=np.float64)
    days.setflags(write=False)
    prices.setflags(write=False)
    return History(symbol, leg.currency, days, prices)


def _bar(row: Any) -> tuple[int, float, int]:
    """When a bar opens, its close, and when it ends."""
    if not isinstance(row, list) or len(row) < 7:
        raise FieldUnreadable("", row, "not_a_list")
    bar = Fields({"opens": row[0], "close": row[4], "ends": row[6]})
    return int(bar.number("opens")), float(bar.positive("close")), int(bar.number("ends"))


def time_of(ms: int) -> datetime:
    """The aware UTC time of so many milliseconds since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC)
