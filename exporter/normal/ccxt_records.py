"""ccxt's unified structures as records of the desk, one at a time. Pure; what a record lacks or has wrong is `Unreadable`.

Names: what is held on a spot market is an asset (`BTC`), a contract is its unified symbol (`BTC/USDT:USDT`), an order or a fill
on a spot market is one in its base asset. Amounts of contracts come as numbers of contracts and leave as units.
Source: docs.ccxt.com/docs/manual, "Market Structure", "Position Structure", "Order Structure", "Trade Structure".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from exporter import cells
from exporter.records import Fields, FieldUnreadable, Sheet
from exporter.snapshot import Fill, History, Instrument, InstrumentTerms, Order, OrderStatus, Position, Price, Quote

Market: TypeAlias = Mapping[str, Any]
Markets: TypeAlias = Callable[[str], Market | None]
"""A market by its unified symbol."""
Worth: TypeAlias = Callable[[str, str, datetime], Decimal | None]
"""What one unit of an asset was worth in another at a time; None where that is not known."""
_WORDS: Mapping[str, OrderStatus] = {"canceling": "NEW", "open": "NEW", "closed": "FILLED"}
"""ccxt's own; the others are everybody's."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where records come from: portfolio, label `venue`, the exchange's markets, and when it was asked."""

    portfolio: str
    venue: str
    markets: Markets
    at: datetime

    def market(self, fields: Fields) -> Market:
        """The market a record names."""
        name = fields.text("symbol")
        found = self.markets(name)
        if found is None:
            raise FieldUnreadable("symbol", name, "unknown_symbol")
        return found


def instrument(market: Market) -> Instrument:
    """What a market trades. A contract that pays in what it is about, or in a third currency, is `unknown`: its risk is not
    linear in its price."""
    if market.get("spot"):
        return "spot"
    if market.get("option"):
        return "option"
    if market.get("linear") is True and market.get("inverse") is not True:
        if market.get("swap"):
            return "perpetual"
        if market.get("future"):
            return "future"
    return "unknown"


def symbol_of(market: Market) -> str:
    """The desk's name of what is traded: the asset of a spot market, else the market's own."""
    return str(market["base"] if market.get("spot") else market["symbol"])


def currency_of(market: Market) -> str:
    """What the price is in: a linear contract's gain is paid in what it settles in."""
    linear = instrument(market) in ("perpetual", "future")
    return str(market["settle"] if linear and market.get("settle") else market["quote"])


def number(market: Market, count: str) -> str:
    """An id nothing else has: at some exchanges ids count by market."""
    return f"{market['id']}-{count}"


def terms(market: Market) -> InstrumentTerms:
    """Reference data. Quantities are in units already, so one point of one unit is one unit of currency."""
    return InstrumentTerms(symbol_of(market), currency_of(market), instrument=instrument(market))


def size_of(market: Market, fields: Fields | None = None) -> Decimal:
    """Units in one of what amounts are counted in: 1 on a spot market, the contract's size elsewhere."""
    if not market.get("contract"):
        return Decimal(1)
    told = fields.optional("contractSize", cells.positive) if fields is not None else None
    known = told if told is not None else market.get("contractSize")
    if known is None:
        raise FieldUnreadable("contractSize", None, "missing")
    found: Decimal = cells.positive(known)
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """A position in contracts, with what else the exchange says of it. `gain` is in `settle`.

    `key`: what tells it from others; one contract may be held long and short, and in several margin modes.
    """

    key: tuple[str, str, str | None, str | None]
    position: Position
    market: Market
    mark: Decimal | None
    gain: Decimal | None
    settle: str


def contract(place: Place) -> Callable[[Fields], Held | None]:
    """Reads positions. One on a spot market is borrowed money and refused: exchanges disagree on what of it is a balance."""

    def read(fields: Fields) -> Held | None:
        contracts = fields.number("contracts")
        if not contracts:
            return None
        market = place.market(fields)
        if not market.get("contract"):
            raise FieldUnreadable("symbol", market["symbol"], "margin_position")
        side = fields.get("side", cells.one_of("long", "short"))
        quantity = abs(contracts) * size_of(market, fields) * (1 if side == "long" else -1)
        gain, linear = fields.optional_number("unrealizedPnl"), instrument(market) in ("perpetual", "future")
        position = Position(
            portfolio=place.portfolio,
            symbol=symbol_of(market),
            quantity=quantity,
            currency=currency_of(market),
            entry_price=fields.optional_number("entryPrice") or None,
            unrealized_pnl=gain if linear else None,
        )
        mark = fields.optional_number("markPrice") or None
        key = (position.symbol, str(side), fields.optional_text("id"), fields.optional_text("marginMode"))
        return Held(key, position, market, mark, gain, str(market.get("settle") or market["quote"]))

    return read


def mark(place: Place, market: Market, fields: Fields) -> Price:
    """The price of a market now: the mark of a contract where the exchange has one, else the last trade."""
    marked = fields.optional_number("markPrice") if market.get("contract") else None
    price = marked if marked is not None and marked > 0 else fields.positive("last")
    return Price(str(market["symbol"]), price, currency_of(market), _when(fields, "timestamp") or place.at)


def ticker_quote(place: Place, market: Market, name: str, fields: Fields) -> Quote | None:
    """Best bid and ask; None where there is neither. Quantities of spot markets only: of contracts they mean several things."""
    bid, ask = fields.optional_number("bid") or None, fields.optional_number("ask") or None
    if bid is None and ask is None:
        return None
    spot = bool(market.get("spot"))
    return Quote(
        symbol=name,
        currency=currency_of(market),
        venue=place.venue,
        at=_when(fields, "timestamp") or place.at,
        bid=bid,
        ask=ask,
        bid_quantity=fields.optional_number("bidVolume") if spot and bid else None,
        ask_quantity=fields.optional_number("askVolume") if spot and ask else None,
    )


def depth_quote(place: Place, market: Market, name: str, levels: int, fields: Fields) -> Quote:
    """An order book's best levels, as many as there are up to `levels`."""
    size = size_of(market)
    bids, asks = (_levels(fields, side, levels, size) for side in ("bids", "asks"))
    return Quote(
        symbol=name,
        currency=currency_of(market),
        venue=place.venue,
        at=_when(fields, "timestamp") or place.at,
        bid=bids[0][0] if bids else None,
        ask=asks[0][0] if asks else None,
        bid_quantity=bids[0][1] if bids else None,
        ask_quantity=asks[0][1] if asks else None,
        depth_levels=max(len(bids), len(asks)),
        bid_depth_value=_value(bids),
        ask_depth_value=_value(asks),
    )


def _levels(fields: Fields, side: str, levels: int, size: Decimal) -> list[tuple[Decimal, Decimal]]:
    def read(rows: Any) -> list[tuple[Decimal, Decimal]]:
        if not isinstance(rows, list) or not all(isinstance(row, list | tuple) and len(row) >= 2 for row in rows):
            raise cells.Unreadable("not_a_list")
        return [(cells.positive(row[0]), cells.not_negative(row[1]) * size) for row in rows[:levels]]

    found: list[tuple[Decimal, Decimal]] = fields.get(side, read)
    return found


def _value(levels: Sequence[tuple[Decimal, Decimal]]) -> Decimal:
    return sum((price * quantity for price, quantity in levels), start=Decimal(0))


def order(place: Place) -> Callable[[Fields], Order]:
    """Reads orders. Of one for an amount of money that is done, what was filled is what was ordered."""

    def read(fields: Fields) -> Order:
        market = place.market(fields)
        size = size_of(market)
        filled = fields.optional("filled", cells.not_negative) or Decimal(0)
        status = _status(fields, filled)
        amount = fields.optional("amount", cells.positive)
        if amount is None and status == "FILLED":
            amount = filled or None
        if amount is None:
            amount = fields.positive("amount")
        kind = (fields.optional_text("type") or "").lower()
        return Order(
            order_id=number(market, fields.text("id")),
            portfolio=place.portfolio,
            symbol=symbol_of(market),
            side=fields.get("side", cells.one_of("BUY", "SELL")),
            quantity=amount * size,
            filled_quantity=filled * size,
            status=status,
            submitted_at=fields.milliseconds("timestamp"),
            venue=place.venue,
            limit_price=fields.optional_number("price") or None if "limit" in kind else None,
            average_price=fields.optional_number("average") or None if filled else None,
            updated_at=_when(fields, "lastUpdateTimestamp") or _when(fields, "lastTradeTimestamp"),
            client_order_id=fields.optional_text("clientOrderId") or "",
            order_type=kind,
        )

    return read


def _status(fields: Fields, filled: Decimal) -> OrderStatus:
    word = fields.text("status")
    status: OrderStatus = _WORDS[word] if word in _WORDS else fields.get("status", cells.order_status)
    return "PARTIALLY_FILLED" if status == "NEW" and filled else status


def fees(fields: Mapping[str, Any]) -> list[tuple[str, Decimal]]:
    """What a trade cost: currency and amount, positive when paid. One without a currency has an empty name."""
    listed = fields.get("fees") or ([fields["fee"]] if fields.get("fee") else [])
    found = []
    for each in listed:
        paid = Fields(each)
        amount = paid.optional_number("cost")
        if amount:
            found.append((paid.optional_text("currency") or "", amount))
    return found


def fill(place: Place, worth: Worth, row: Mapping[str, Any]) -> Callable[[Fields], Fill]:
    """Reads an execution. A fee in a third asset is worth what that asset was then; one whose worth is not known is refused."""

    def read(fields: Fields) -> Fill:
        market = place.market(fields)
        price, at, currency = fields.positive("price"), fields.milliseconds("timestamp"), currency_of(market)
        total = Decimal(0)
        for asset, amount in fees(row):
            rate = Decimal(1) if asset == currency else price if asset == market["base"] else worth(asset, currency, at)
            if rate is None:
                raise FieldUnreadable("fee.currency", asset, "fee_not_convertible")
            total += amount * rate
        ordered = fields.optional_text("order")
        return Fill(
            execution_id=number(market, fields.text("id")),
            portfolio=place.portfolio,
            symbol=symbol_of(market),
            side=fields.get("side", cells.one_of("BUY", "SELL")),
            quantity=fields.positive("amount") * size_of(market),
            price=price,
            currency=currency,
            at=at,
            venue=place.venue,
            order_id=number(market, ordered) if ordered else "",
            fee=total,
        )

    return read


def closes(name: str, currency: str, candles: Sequence[Sequence[Any]], sheet: Sheet, *, inverse: bool) -> History | None:
    """Daily closes of one unit of `name` in `currency`; None where there is none.

    Args:
        name: the desk's symbol.
        currency: what the closes are in.
        candles: open time in milliseconds, open, high, low, close, ...; of days that have ended.
        sheet: takes candles that cannot be read.
        inverse: the market prices the currency in `name`, not `name` in the currency.
    """

    def read(fields: Fields) -> tuple[datetime, float]:
        close = float(fields.positive("close"))
        return fields.milliseconds("at"), 1.0 / close if inverse else close

    rows = ({"at": row[0], "close": row[4] if len(row) > 4 else None} for row in candles)
    found = dict(sorted((at.astimezone(UTC).date(), close) for at, close in sheet.read("histories", rows, read)))
    if not found:
        return None
    history = History(name, currency, np.array([*found], "datetime64[D]"), np.array([*found.values()], dtype=np.float64))
    history.days.setflags(write=False)
    history.closes.setflags(write=False)
    return history


def _when(fields: Fields, name: str) -> datetime | None:
    found: datetime | None = fields.optional(name, cells.epoch_milliseconds)
    return found
