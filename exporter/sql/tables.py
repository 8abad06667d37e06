"""The tables the desk is read from: for each kind of record its canonical table, its columns and how a cell of each is read.

Columns are found by name. Declares only; `exporter.sql.rows` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args

from exporter.cells import Reader, moment, not_negative, number, one_of, order_status, positive, ratio, text
from exporter.snapshot import Account, Fill, Instrument, InstrumentTerms, Kind, Order, Position, Price, Sample, Signal

REJECT = object()
"""Stands for an unreadable value that costs its row."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how its value is read, whether a row can do without it, what stands for NULL and for what cannot be read."""

    read: Reader
    required: bool = True
    default: Any = None
    broken: Any = REJECT


def _optional(read: Reader, default: Any = None) -> Column:
    return Column(read, required=False, default=default, broken=default)


def _terms(
    symbol: str, currency: str, sector: str | None, instrument: Instrument, multiplier: Decimal | None
) -> InstrumentTerms:
    """Terms of a symbol. One whose multiplier cannot be read is `unknown`: no risk number is better than a wrong one."""
    if multiplier is None:
        return InstrumentTerms(symbol, currency, sector, "unknown")
    return InstrumentTerms(symbol, currency, sector, instrument, multiplier)


_NAME = Column(text)
_QUIET = _optional(text, "")
_SIDE = Column(one_of("BUY", "SELL"))


@dataclass(frozen=True, slots=True)
class Table:
    """How rows of one kind are read: the canonical table, its columns, the record, and the column a look-back counts by."""

    name: str
    columns: Mapping[str, Column]
    record: Callable[..., Any]
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """One return of a strategy; grouped by strategy and sample later."""

    strategy: str
    sample: Sample
    at: datetime
    return_ratio: float


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
        },
        Position,
    ),
    "prices": Table("prices", {"symbol": _NAME, "price": Column(number), "currency": _NAME, "at": Column(moment)}, Price),
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
        },
        Fill,
        at="at",
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
        },
        Order,
        at="submitted_at",
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
    ),
    "accounts": Table(
        "accounts",
        # A broken equity must not turn into "none reported": the net asset value would be computed another way.
        {"portfolio": _NAME, "currency": _NAME, "cash": Column(number), "equity": Column(number, required=False)},
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
    ),
}
"""Every kind that can be read from rows."""
