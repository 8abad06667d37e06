"""The tables the desk is read from: for each kind of record its canonical table, its columns and how a cell of each is read.

Columns are found by name. Declares only; `exporter.sql.rows` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Any, get_args

from exporter.cells import (
    Reader,
    Unreadable,
    day_in,
    flag,
    lower_text,
    moment,
    moment_in,
    not_negative,
    number,
    one_of,
    order_status,
    positive,
    ratio,
    text,
)
from exporter.snapshot import (
    Account,
    Alias,
    Fill,
    Instrument,
    InstrumentTerms,
    Kind,
    Order,
    Position,
    Price,
    Quote,
    Sample,
    Signal,
)

REJECT = object()
"""Stands for an unreadable value that costs its row."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how its value is read, whether the rows can do without it, what stands for NULL and for what cannot be read.

    One that is `required` but `nullable` must be there, so that a wrong name is noticed, and may be NULL.
    """

    read: Reader
    required: bool = True
    default: Any = None
    broken: Any = REJECT
    nullable: bool = False

    @property
    def may_be_null(self) -> bool:
        """Whether a row can do without a value."""
        return self.nullable or not self.required

    def reader(self, zone: tzinfo) -> Reader:
        """How its value is read where a time without a zone is one of this zone."""
        return _ZONED[self.read](zone) if self.read in _ZONED else self.read


def _optional(read: Reader, default: Any = None) -> Column:
    return Column(read, required=False, default=default, broken=default)


def _terms(
    symbol: str, currency: str, sector: str | None, instrument: Instrument, multiplier: Decimal | None
) -> InstrumentTerms:
    """Terms of a symbol. One whose multiplier cannot be read is `unknown`: no risk number is better than a wrong one."""
    if multiplier is None:
        return InstrumentTerms(symbol, currency, sector, "unknown")
    return InstrumentTerms(symbol, currency, sector, instrument, multiplier)


def _levels(value: Any) -> int:
    """A whole number of levels."""
    found = not_negative(value)
    if found != found.to_integral_value():
        raise Unreadable("not_a_whole_number")
    return int(found)


_day = day_in(UTC)
_ZONED: Mapping[Reader, Callable[[tzinfo], Reader]] = {moment: moment_in, _day: day_in}
"""Readers that depend on the zone."""
_NAME = Column(text)
_QUIET = _optional(text, "")
_SIDE = Column(one_of("BUY", "SELL"))


@dataclass(frozen=True, slots=True)
class Table:
    """How rows of one kind are read.

    Args:
        name: the canonical table.
        columns: by name.
        record: makes the record of a row's values.
        at: the column a look-back counts by.
        key: columns that tell one record from another, for kinds that may be read bit by bit.
        whole: whether records are wanted without a look-back although they have a time.
    """

    name: str
    columns: Mapping[str, Column]
    record: Callable[..., Any]
    at: str | None = None
    key: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Return:
    """One return of a strategy; grouped by strategy and sample later."""

    strategy: str
    sample: Sample
    at: datetime
    return_ratio: float


@dataclass(frozen=True, slots=True)
class Close:
    """One daily close; grouped by symbol later."""

    symbol: str
    day: date
    close: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class MarketHours:
    """One session of a market; what of it is now is told later."""

    calendar: str
    opens_at: datetime
    closes_at: datetime


TABLES: Mapping[Kind, Table] = {
    "instruments": Table(
        "instruments",
        {
            "symbol": _NAME,
            "currency": _NAME,
            "sector": _optional(text),
            "instrument": Column(one_of(*get_args(Instrument)), required=False, default="spot", broken="unknown"),
            "multiplier": Column(positive, required=False, default=Decimal(1), broken=None),
        },
        _terms,
    ),
    "positions": Table(
        "positions",
        {
            "portfolio": _NAME,
            "symbol": _NAME,
            "quantity": Column(number),
            "currency": _NAME,
            "entry_price": _optional(number),
            "unrealized_pnl": _optional(number),
        },
        Position,
    ),
    "prices": Table("prices", {"symbol": _NAME, "price": Column(number), "currency": _NAME, "at": Column(moment)}, Price),
    "quotes": Table(
        "latest_quotes",
        {
            "symbol": _NAME,
            "currency": _NAME,
            "venue": _NAME,
            "at": Column(moment),
            # A price that cannot be read must not look like an empty side.
            "bid": Column(positive, nullable=True),
            "ask": Column(positive, nullable=True),
            "bid_quantity": _optional(not_negative),
            "ask_quantity": _optional(not_negative),
            "depth_levels": Column(_levels, required=False, default=0),
            "bid_depth_value": _optional(not_negative),
            "ask_depth_value": _optional(not_negative),
        },
        Quote,
    ),
    "histories": Table(
        "daily_closes",
        {"symbol": _NAME, "day": Column(_day), "close": Column(positive), "currency": _NAME},
        Close,
        at="day",
        key=("symbol", "day"),
    ),
    "fills": Table(
        "fills",
        {
            "execution_id": _NAME,
            "portfolio": _NAME,
            "symbol": _NAME,
            "side": _SIDE,
            "quantity": Column(positive),
            "price": Column(number),
            "currency": _NAME,
            "at": Column(moment),
            "venue": _QUIET,
            "order_id": _QUIET,
            "signal_id": _QUIET,
            "strategy": _QUIET,
            "fee": _optional(number, Decimal(0)),
            "realized_pnl": _optional(number),
        },
        Fill,
        at="at",
        key=("venue", "execution_id"),
    ),
    "orders": Table(
        "orders",
        {
            "order_id": _NAME,
            "portfolio": _NAME,
            "symbol": _NAME,
            "side": _SIDE,
            "quantity": Column(positive),
            "filled_quantity": Column(not_negative),
            "status": Column(order_status),
            "submitted_at": Column(moment),
            "venue": _QUIET,
            "signal_id": _QUIET,
            "limit_price": _optional(number),
            "average_price": _optional(number),
            "updated_at": _optional(moment),
            "client_order_id": _QUIET,
            "order_type": _optional(lower_text, ""),
        },
        Order,
        at="submitted_at",
        key=("venue", "order_id"),
    ),
    "signals": Table(
        "signals",
        {
            "signal_id": _NAME,
            "strategy": _NAME,
            "portfolio": _NAME,
            "symbol": _NAME,
            "target_quantity": Column(number),
            "at": Column(moment),
            "confidence": _optional(ratio),
        },
        Signal,
        at="at",
        key=("signal_id",),
    ),
    "accounts": Table(
        "accounts",
        # A broken equity must not turn into "none reported": the net asset value would be computed another way.
        {
            "portfolio": _NAME,
            "currency": _NAME,
            "cash": Column(number),
            "equity": Column(number, required=False),
            "buying_power": _optional(number),
            "initial_margin": _optional(number),
            "maintenance_margin": _optional(number),
            "daily_pnl": _optional(number),
            "realized_pnl": _optional(number),
            "unrealized_pnl": _optional(number),
            "trading_blocked": _optional(flag),
        },
        Account,
    ),
    "returns": Table(
        "strategy_returns",
        {
            "strategy": _NAME,
            "sample": Column(one_of(*get_args(Sample))),
            "at": Column(moment),
            "return_ratio": Column(ratio),
        },
        Return,
        at="at",
        key=("strategy", "sample", "at"),
        whole=True,
    ),
    "sessions": Table(
        "market_hours",
        {"calendar": _NAME, "opens_at": Column(moment), "closes_at": Column(moment)},
        MarketHours,
    ),
    "aliases": Table("symbol_aliases", {"source": _NAME, "venue_symbol": _NAME, "symbol": _NAME}, Alias),
}
"""Every kind that can be read from rows."""
