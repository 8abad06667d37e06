"""The simulated trader: turns target weights into orders and fills at the day's reference rate, and keeps exact accounts.

Deterministic: the same days give the same fills. Money is Decimal and settles in cents; what a fill pays or earns is exactly
what the cash account changes by. Refuses to know about limits: what risk asks for comes in as quantities (`cut`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal
from typing import Literal

from deskwatch.demo.desk import CAPITAL, BookPlan
from deskwatch.demo.rates import Rates
from deskwatch.demo.strategies import SIZING_DAYS

CENT = Decimal("0.01")
FEE_RATIO = Decimal("0.00002")
"""Brokerage, 0.2 basis points of the notional."""
LEAST_TRADE_RATIO = Decimal("0.01")
"""A strategy's deal below this share of net asset value is not worth its fee."""
CLIP = Decimal(2_000_000)
"""Largest single execution, euro: an order above it is filled in parts."""
LOTS = {"JPY": Decimal(100_000), "CZK": Decimal(10_000)}
LOT = Decimal(1_000)
"""Units of currency an order is a multiple of."""
FIXING = dt.time(15, 0, tzinfo=dt.UTC)
"""When the ECB publishes, about 16:00 CET."""
RISK_DELAY = dt.timedelta(minutes=30)
"""How long after the fixing a trade that risk asked for is booked."""
VENUE = "ECB fixing"
Side = Literal["BUY", "SELL"]


@dataclass(frozen=True, slots=True)
class Signal:
    """What a strategy wants: signed units."""

    signal_id: str
    portfolio: str
    symbol: str
    target_quantity: Decimal
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Order:
    """An order, always filled. `quantity` > 0; `signal_id` is empty where risk and not the strategy asked for it."""

    order_id: str
    portfolio: str
    symbol: str
    side: Side
    quantity: Decimal
    signal_id: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Fill:
    """An execution. `quantity` > 0, `price` in euro per unit, `fee` in euro."""

    execution_id: str
    order: Order
    quantity: Decimal
    price: Decimal
    fee: Decimal
    at: dt.datetime

    @property
    def signed_quantity(self) -> Decimal:
        """Positive buys."""
        return self.quantity if self.order.side == "BUY" else -self.quantity

    @property
    def cash(self) -> Decimal:
        """What the cash account changes by, whole cents: the notional against the position, less the fee."""
        return -(self.signed_quantity * self.price).quantize(CENT, ROUND_HALF_EVEN) - self.fee


@dataclass(frozen=True, slots=True)
class Book:
    """What one portfolio holds: euro in cash, signed units by symbol, none zero."""

    portfolio: str
    cash: Decimal = CAPITAL
    quantities: Mapping[str, Decimal] = field(default_factory=dict)

    def after(self, fills: Iterable[Fill]) -> Book:
        """The book once these fills have settled."""
        cash, held = self.cash, dict(self.quantities)
        for fill in fills:
            cash += fill.cash
            held[fill.order.symbol] = held.get(fill.order.symbol, Decimal(0)) + fill.signed_quantity
        return Book(self.portfolio, cash, {symbol: held[symbol] for symbol in sorted(held) if held[symbol]})

    def net_asset_value(self, rates: Rates, at: int) -> Decimal:
        """Cash and positions at the rates of day number `at`, euro."""
        return self.cash + sum((held * rates.price(symbol, at) for symbol, held in self.quantities.items()), Decimal(0))


@dataclass(frozen=True, slots=True)
class Dealing:
    """What one book did on one day, and where it stands after it."""

    book: Book
    signals: tuple[Signal, ...] = ()
    orders: tuple[Order, ...] = ()
    fills: tuple[Fill, ...] = ()


def lot(symbol: str) -> Decimal:
    """Units of a currency an order is a multiple of."""
    return LOTS.get(symbol, LOT)


class Trader:
    """Runs one book day by day."""

    def __init__(self, plan: BookPlan, rates: Rates) -> None:
        self.plan = plan
        self.book = Book(plan.portfolio)
        self._rates = rates
        self._closes = rates.closes[:, rates.columns(plan.strategy.universe)]
        self._dealt_on: dt.date | None = None
        self._cuts = 0

    def deal(self, at: int) -> Dealing:
        """Follow the strategy on day number `at`, at that day's rate, on what was known the day before."""
        day = self._rates.days[at]
        since = (day - self._dealt_on).days if self._dealt_on else None
        if since is not None and not self.plan.strategy.deals_on(day, since):
            return Dealing(self.book)
        self._dealt_on = day
        value = self.book.net_asset_value(self._rates, at)
        targets = self.plan.strategy.targets(self._closes[at - SIZING_DAYS - 1 : at])
        signals = tuple(self._signal(symbol, weight, value, at) for symbol, weight in targets.items())
        orders = tuple(order for signal in signals if (order := self._order(signal, value, at)))
        return self._execute(signals, orders, at)

    def cut(self, changes: Mapping[str, Decimal], at: int) -> Dealing:
        """Trade signed quantities that risk asks for, rounded up to whole lots but never past flat.

        Args:
            changes: signed units by symbol; each must reduce what is held, what does not is left out.
            at: day number.
        """
        self._cuts += 1
        orders = tuple(self._reducing_orders(changes, at))
        return self._execute((), orders, at)

    def _reducing_orders(self, changes: Mapping[str, Decimal], at: int) -> Iterator[Order]:
        for symbol, change in changes.items():
            held = self.book.quantities.get(symbol, Decimal(0))
            if held * change >= 0:
                continue
            size = min((abs(change) / lot(symbol)).to_integral_value(ROUND_UP) * lot(symbol), abs(held))
            side: Side = "BUY" if change > 0 else "SELL"
            name = f"{self._rates.days[at]:%Y%m%d}-{self.plan.portfolio}-{symbol}-risk{self._cuts}"
            yield Order(name, self.plan.portfolio, symbol, side, size, "", self._moment(at) + RISK_DELAY)

    def _signal(self, symbol: str, weight: float, value: Decimal, at: int) -> Signal:
        units = Decimal(weight) * value / self._rates.price(symbol, at)
        wanted = (units / lot(symbol)).to_integral_value() * lot(symbol)
        name = f"{self._rates.days[at]:%Y%m%d}-{self.plan.portfolio}-{symbol}"
        return Signal(name, self.plan.portfolio, symbol, wanted, self._moment(at))

    def _order(self, signal: Signal, value: Decimal, at: int) -> Order | None:
        change = signal.target_quantity - self.book.quantities.get(signal.symbol, Decimal(0))
        if abs(change) * self._rates.price(signal.symbol, at) < LEAST_TRADE_RATIO * value:
            return None
        side: Side = "BUY" if change > 0 else "SELL"
        return Order(signal.signal_id, signal.portfolio, signal.symbol, side, abs(change), signal.signal_id, signal.at)

    def _execute(self, signals: Sequence[Signal], orders: Sequence[Order], at: int) -> Dealing:
        fills = tuple(fill for order in orders for fill in self._fills(order, at))
        self.book = self.book.after(fills)
        return Dealing(self.book, tuple(signals), tuple(orders), fills)

    def _fills(self, order: Order, at: int) -> Iterator[Fill]:
        price = self._rates.price(order.symbol, at)
        clip = max((CLIP / price // lot(order.symbol)) * lot(order.symbol), lot(order.symbol))
        left, number = order.quantity, 0
        while left:
            number += 1
            size = min(left, clip)
            left -= size
            fee = (size * price * FEE_RATIO).quantize(CENT, ROUND_HALF_EVEN)
            yield Fill(f"{order.order_id}/{number}", order, size, price, fee, order.at + dt.timedelta(seconds=number))

    def _moment(self, at: int) -> dt.datetime:
        return dt.datetime.combine(self._rates.days[at], FIXING)
