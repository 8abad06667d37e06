"""Alpaca's JSON as records of the desk, one at a time. Pure; what a record lacks or has wrong is `Unreadable`, never guessed.

One instrument has one symbol here, whatever the venue calls it where: a pair is `BTC/USD`, also where a position or an old
execution says `BTCUSD`.
Source: Alpaca, Trading API 2.0.1 and Market Data API 1.1, schemas Account, Position, Order, TradingActivities, legacy_clock,
stock_quote, crypto_quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from exporter.cells import moment, not_negative, number, one_of, order_status, positive, text
from exporter.records import Fields, FieldUnreadable
from exporter.snapshot import (
    Account,
    Fill,
    Instrument,
    InstrumentTerms,
    Order,
    OrderStatus,
    Position,
    Price,
    Quote,
    Session,
    Side,
)

CALENDAR = "XNYS"
"""The market whose clock Alpaca shows, by its ISO 10383 code."""
DEFAULT_CURRENCY = "USD"
"""What an account that names none is in: "currently will always be the value USD" (alpaca-py, TradeAccount)."""
OPTION_MULTIPLIER = Decimal(100)
"""Shares of one US option contract."""
SIZES_IN_SHARES = datetime(2025, 11, 3, tzinfo=UTC)
"""Sizes of older quotes of shares are in round lots, whose size is not told."""
INSTRUMENTS: Mapping[str, Instrument] = {
    "us_equity": "share",
    "us_option": "option",
    "crypto": "spot",
    "crypto_perp": "perpetual",
}
"""Asset classes with a meaning here; what else there is, bonds among it, is `unknown`."""
_PAIR = re.compile(r"([A-Z0-9]+?)(USDT|USDC|USD|BTC)")
LONGEST_TICKER = 5
"""Letters of a share's symbol, but for a class behind a dot: a longer one that ends as pairs do is a pair."""
_OPTION = re.compile(r"[A-Z0-9]{1,6}\d{6}[CP]\d{8}")
_STATUSES: Mapping[str, OrderStatus] = {"replaced": "CANCELED", "pending_review": "NEW"}
"""Words of Alpaca's own: a replaced order has ended, its successor is an order of its own."""
_SIDES: Mapping[str, Side] = {"buy": "BUY", "sell": "SELL", "sell_short": "SELL"}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose records they are: portfolio, label `venue`, currency of the account, and when it was asked."""

    portfolio: str
    venue: str
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """A position, what it is a position in, and what one unit of it is worth where the venue says."""

    position: Position
    terms: InstrumentTerms
    price: Price | None


def pair_of(symbol: str) -> str | None:
    """`BTC/USD` for `BTCUSD` and for itself, None for what is no pair."""
    if "/" in symbol:
        return symbol
    found = _PAIR.fullmatch(symbol)
    return f"{found[1]}/{found[2]}" if found else None


def instrument_of(symbol: str) -> Instrument:
    """What a symbol that is not held is, by how it is written."""
    if "/" in symbol:
        return "spot"
    return "option" if _OPTION.fullmatch(symbol) else "share"


def symbols_in(rows: Iterable[Any]) -> Iterable[str]:
    """The symbols some rows are about."""
    found = (row.get("symbol") for row in rows if isinstance(row, Mapping))
    return (symbol for symbol in found if isinstance(symbol, str))


def symbol_names(known: Iterable[str]) -> Mapping[str, str]:
    """How pairs are written without their slash, to how they are written here."""
    return {symbol.replace("/", ""): symbol for symbol in known if "/" in symbol}


def currency_of(symbol: str, account_currency: str) -> str:
    """What the symbol is priced in: a pair in its second part, all else in what the account is in."""
    return symbol.partition("/")[2] or account_currency


def account(fields: Fields, owner: Owner) -> Account:
    """Cash, equity and margins. The day's P&L is equity less that of the previous day's close, deposits included."""
    equity, last_equity = fields.optional_number("equity"), fields.optional_number("last_equity")
    return Account(
        portfolio=owner.portfolio,
        currency=owner.currency,
        cash=fields.number("cash"),
        equity=equity,
        buying_power=fields.optional_number("buying_power"),
        initial_margin=fields.optional_number("initial_margin"),
        maintenance_margin=fields.optional_number("maintenance_margin"),
        daily_pnl=None if equity is None or last_equity is None else equity - last_equity,
        trading_blocked=_blocked(fields),
    )


def _blocked(fields: Fields) -> bool | None:
    """Whether the venue takes no orders, for whichever of its reasons; None where it tells none of them."""
    told = [
        fields.flag(name)
        for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
        if fields.optional(name, _anything) is not None
    ]
    return any(told) if told else None


def held(fields: Fields, owner: Owner) -> Held:
    """A position. Short is negative, whether the venue says so by the sign, by the side or by both."""
    instrument = INSTRUMENTS.get(fields.text("asset_class"), "unknown")
    written = fields.text("symbol")
    symbol = (pair_of(written) or written) if instrument == "spot" else written
    currency = currency_of(symbol, owner.currency)
    price = fields.optional("current_price", not_negative)
    return Held(
        position=Position(
            portfolio=owner.portfolio,
            symbol=symbol,
            quantity=_signed(fields),
            currency=currency,
            entry_price=fields.optional("avg_entry_price", not_negative),
            unrealized_pnl=fields.optional_number("unrealized_pl"),
        ),
        terms=InstrumentTerms(symbol, currency, None, instrument, OPTION_MULTIPLIER if instrument == "option" else Decimal(1)),
        price=None if price is None else Price(symbol, price, currency, owner.at),
    )


def _signed(fields: Fields) -> Decimal:
    quantity = fields.number("qty")
    if fields.get("side", one_of("long", "short")) == "short":
        return -abs(quantity)
    if quantity < 0:
        raise FieldUnreadable("qty", quantity, "negative")
    return quantity


def order(fields: Fields, owner: Owner) -> Order | None:
    """An order or a leg; None for what only holds legs together, and for an amount of money whose quantity nobody knows yet."""
    written = fields.optional_text("symbol")
    if written is None and fields.optional_text("order_class") == "mleg":
        return None
    written = fields.text("symbol")
    filled = fields.optional("filled_qty", not_negative) or Decimal(0)
    average = fields.optional("filled_avg_price", not_negative) or None
    limit = fields.optional_number("limit_price")
    status: OrderStatus = fields.get("status", _status)
    quantity = _ordered(fields, status, filled, average or limit)
    if quantity is None:
        return None
    return Order(
        order_id=fields.text("id"),
        portfolio=owner.portfolio,
        symbol=(pair_of(written) or written) if fields.optional_text("asset_class") == "crypto" else written,
        side=_side(fields),
        quantity=quantity,
        filled_quantity=filled,
        status="PARTIALLY_FILLED" if status == "NEW" and 0 < filled < quantity else status,
        submitted_at=fields.optional("submitted_at", moment) or fields.moment("created_at"),
        venue=owner.venue,
        limit_price=limit,
        average_price=average,
        updated_at=fields.optional("updated_at", moment),
        client_order_id=fields.optional_text("client_order_id") or "",
        order_type=(fields.optional_text("type") or fields.optional_text("order_type") or "").lower(),
    )


def _ordered(fields: Fields, status: OrderStatus, filled: Decimal, price: Decimal | None) -> Decimal | None:
    """Units ordered. An order for an amount of money has as many as that buys at its price; once filled, as were bought."""
    if fields.optional("qty", positive) is not None or fields.optional("notional", positive) is None:
        quantity: Decimal = fields.positive("qty")
        return quantity
    if status == "FILLED":
        return filled or None
    return max(filled, fields.positive("notional") / price) if price else filled or None


def _status(value: Any) -> OrderStatus:
    return _STATUSES.get(text(value).lower()) or order_status(value)


def _side(fields: Fields) -> Side:
    found: Side = _SIDES[fields.get("side", one_of(*_SIDES))]
    return found


def fill(fields: Fields, owner: Owner, names: Mapping[str, str]) -> Fill:
    """An execution. It does not say what kind of instrument it was: `names` are the pairs the account is known to trade."""
    written = fields.text("symbol")
    symbol = names.get(written) or (pair_of(written) if len(written) > LONGEST_TICKER else None) or written
    return Fill(
        execution_id=fields.text("id"),
        portfolio=owner.portfolio,
        symbol=symbol,
        side=_side(fields),
        quantity=fields.get("qty", _amount),
        price=fields.get("price", not_negative),
        currency=currency_of(symbol, owner.currency),
        at=fields.moment("transaction_time"),
        venue=owner.venue,
        order_id=fields.optional_text("order_id") or "",
    )


def quote(fields: Fields, owner: Owner) -> Quote:
    """A latest quote, as `{"symbol": ..., "data": ...}`. A price of 0 is a side that is empty."""
    symbol, at = fields.text("symbol"), fields.moment("data.t")
    bid, ask = fields.get("data.bp", not_negative) or None, fields.get("data.ap", not_negative) or None
    in_units = "/" in symbol or at >= SIZES_IN_SHARES
    return Quote(
        symbol=symbol,
        currency=currency_of(symbol, owner.currency),
        venue=owner.venue,
        at=at,
        bid=bid,
        ask=ask,
        bid_quantity=fields.get("data.bs", not_negative) if bid and in_units else None,
        ask_quantity=fields.get("data.as", not_negative) if ask and in_units else None,
    )


def last_price(fields: Fields, owner: Owner) -> Price:
    """The price of a latest trade, as `{"symbol": ..., "data": ...}`."""
    symbol = fields.text("symbol")
    return Price(symbol, fields.positive("data.p"), currency_of(symbol, owner.currency), fields.moment("data.t"))


def session(fields: Fields) -> Session:
    """The market's clock."""
    return Session(
        calendar=CALENDAR,
        open=fields.flag("is_open"),
        at=fields.moment("timestamp"),
        next_open=fields.optional("next_open", moment),
        next_close=fields.optional("next_close", moment),
    )


def _amount(value: Any) -> Decimal:
    """A quantity whose sign says no more than the side does."""
    return positive(abs(number(value)))


def _anything(value: Any) -> Any:
    return value
