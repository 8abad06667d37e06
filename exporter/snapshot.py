"""What one fetch of one source returned: frozen records in the desk's words. Holds data; computes nothing.

Money and quantities are Decimal as the venue gave them; times are aware UTC; price histories are float64 arrays because
nothing but statistics is done with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exporter.reading import Sample as Measure

Instrument = Literal["spot", "share", "future", "perpetual", "option", "unknown"]
"""`unknown` is what a source calls something else: like an option it has no linear risk number, and none is guessed."""
Side = Literal["BUY", "SELL"]
Sample = Literal["live", "backtest"]
OrderStatus = Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"]
"""What became of an order so far; `exporter.cells.order_status` translates the venues' words."""
Kind = Literal[
    "instruments", "positions", "prices", "quotes", "histories", "fills", "orders", "signals", "accounts", "returns",
    "sessions", "aliases", "measures",
]  # fmt: skip
"""A kind of record; also the name of the snapshot's field that holds it."""


@dataclass(frozen=True, slots=True)
class InstrumentTerms:
    """Reference data of one symbol. `multiplier`: currency units per point and contract."""

    symbol: str
    currency: str
    sector: str | None = None
    instrument: Instrument = "spot"
    multiplier: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Position:
    """A holding. `quantity` is signed: negative is short. `currency` is what the symbol is priced in.

    `unrealized_pnl` is the venue's own, in `currency`, positive is a gain.
    """

    portfolio: str
    symbol: str
    quantity: Decimal
    currency: str
    entry_price: Decimal | None = None
    unrealized_pnl: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """The latest mark of one unit of `symbol` in `currency`, at market time `at` (when asked, where a venue tells none)."""

    symbol: str
    price: Decimal
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask of `symbol` on `venue` at market time `at`, prices in `currency`, quantities in units.

    A side that is empty is None. `depth_levels` > 0: the depth values are price x quantity, in `currency`, of so many best
    levels of each side; 0 where the venue gave no depth.
    """

    symbol: str
    currency: str
    venue: str
    at: datetime
    bid: Decimal | None
    ask: Decimal | None
    bid_quantity: Decimal | None = None
    ask_quantity: Decimal | None = None
    depth_levels: int = 0
    bid_depth_value: Decimal | None = None
    ask_depth_value: Decimal | None = None


@dataclass(frozen=True, slots=True)
class History:
    """Daily closes of one unit of `symbol` in `currency`: `days` ascending datetime64[D], `closes` float64 > 0, same length.

    Adjusted for splits and, where the venue can, dividends, as of the newest day. Days that have ended only: a bar still being
    made is a price, not a close.
    """

    symbol: str
    currency: str
    days: NDArray[np.datetime64]
    closes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fill:
    """An execution. `quantity` > 0, `side` gives the sign; `fee` in `currency`, positive when paid."""

    execution_id: str
    portfolio: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    currency: str
    at: datetime
    venue: str = ""
    order_id: str = ""
    signal_id: str = ""
    strategy: str = ""
    fee: Decimal = Decimal(0)
    realized_pnl: Decimal | None = None
    """The venue's own, in `currency`, before the fee; positive is a gain."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order as last reported. `quantity` > 0, `filled_quantity` >= 0; prices in what the symbol is priced in."""

    order_id: str
    portfolio: str
    symbol: str
    side: Side
    quantity: Decimal
    filled_quantity: Decimal
    status: OrderStatus
    submitted_at: datetime
    venue: str = ""
    signal_id: str = ""
    limit_price: Decimal | None = None
    average_price: Decimal | None = None
    """Mean price of what is filled."""
    updated_at: datetime | None = None
    """When the venue last changed it."""
    client_order_id: str = ""
    """The id the desk's own program gave it."""
    order_type: str = ""
    """`market`, `limit`, ... in lower case, as the venue calls it."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What a strategy wanted: `target_quantity` signed, `confidence` a ratio 0 to 1 where the strategy gives one."""

    signal_id: str
    strategy: str
    portfolio: str
    symbol: str
    target_quantity: Decimal
    at: datetime
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Cash of one portfolio in one currency; `equity` is the venue's own net asset value where it reports one.

    All money in `currency`. P&L is the venue's own, positive is a gain. `trading_blocked`: the venue takes no orders.
    """

    portfolio: str
    currency: str
    cash: Decimal
    equity: Decimal | None = None
    buying_power: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    daily_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    trading_blocked: bool | None = None


@dataclass(frozen=True, slots=True)
class StrategyReturns:
    """Per-period simple returns of a strategy, oldest first; ratio, float64, finite."""

    strategy: str
    sample: Sample
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Session:
    """Whether a market trades at `at`, as a venue's clock says, and when it next opens and closes."""

    calendar: str
    open: bool
    at: datetime
    next_open: datetime | None = None
    next_close: datetime | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """What `source` calls `venue_symbol` is the desk's `symbol`."""

    source: str
    venue_symbol: str
    symbol: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record the source could not read: left out, counted by `reason`, the fetch stands.

    What it leaves a gap in is undefined, because a book without one of its positions is not a smaller book: the portfolio
    it names, or every portfolio of the source where even that (None) could not be read.
    """

    record: str
    reason: str
    kind: Kind
    portfolio: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One fetch. `fetched_at` is wall time; `data_at` is the market time of the newest data in it, where known."""

    fetched_at: datetime
    data_at: datetime | None = None
    instruments: tuple[InstrumentTerms, ...] = ()
    positions: tuple[Position, ...] = ()
    prices: tuple[Price, ...] = ()
    histories: tuple[History, ...] = ()
    fills: tuple[Fill, ...] = ()
    orders: tuple[Order, ...] = ()
    signals: tuple[Signal, ...] = ()
    accounts: tuple[Account, ...] = ()
    returns: tuple[StrategyReturns, ...] = ()
    quotes: tuple[Quote, ...] = ()
    sessions: tuple[Session, ...] = ()
    aliases: tuple[Alias, ...] = ()
    measures: tuple[Measure, ...] = ()
    """Numbers to be exported as they are, of families the source declares."""
    rejected: tuple[Rejected, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    """What a person debugging the source would want to see; never a secret."""
