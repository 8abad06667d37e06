"""IBKR's JSON as records of the desk, one at a time. Pure; what a record lacks or has wrong is `Unreadable`, never guessed.

Money is exact as written, number or text; thousands may be set off by commas. Market prices of some shares are in pence: they
are divided by the contract's magnifier, and left out while that is not known.
Source: IBKR Campus, Web API v1.0; github.com/Voyz/ibind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from exporter import cells
from exporter.cells import Unreadable
from exporter.normal.ibkr_contracts import ONE, Contract, Contracts
from exporter.records import Fields, FieldUnreadable
from exporter.snapshot import Fill, Order, OrderStatus, Position, Price, Quote, Side

ROUND_LOT = 100
"""Sizes of quotes of US shares are in hundreds."""
SAME_UNIT = Decimal("0.1")
"""Two prices of one contract that differ by more than a factor of ten are not in one unit."""
SAME_AMOUNT = Decimal("0.02")
DELAYED = frozenset("DYNO")
"""First letters of a quote's availability that say it is delayed or not subscribed to: its time would be wrong."""
_EPOCH_SECONDS_END = 100_000_000_000
_SIDES: Mapping[str, Side] = {"B": "BUY", "BUY": "BUY", "BOT": "BUY", "S": "SELL", "SELL": "SELL", "SLD": "SELL", "SS": "SELL"}
NETTING = "N"
"""Side of an entry by which IBKR sets off two event contracts against each other: no execution."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What every record of one fetch is read against."""

    at: datetime
    contracts: Contracts
    portfolios: Mapping[str, str]
    """Account to portfolio."""
    venue: str
    marks: dict[str, Price] = field(default_factory=dict)
    """Prices of what is held, by symbol."""


def figure(value: Any) -> Decimal:
    """A finite Decimal from number or text, commas between thousands."""
    return cells.number(value.replace(",", "") if isinstance(value, str) else value)


def epoch(value: Any) -> datetime:
    """An aware UTC time from seconds or milliseconds since 1970: IBKR uses both, and they cannot be confused."""
    found = cells.number(value)
    return cells.moment(found / 1000 if found >= _EPOCH_SECONDS_END else found)


def position(fields: Fields, scene: Scene, portfolio: str, *, currencies: bool) -> Position | None:
    """A holding; one of nothing is none.

    A currency pair is left out unless `currencies`: IBKR only tracks it, the money itself stands in the ledger.
    """
    quantity = fields.get("position", figure)
    of, symbol = scene.contracts.named(fields)
    if quantity == 0 or (of.asset_class == "CASH" and not currencies):
        return None
    entry, gain = fields.optional("avgPrice", figure), fields.optional("unrealizedPnl", figure)
    return Position(portfolio, symbol, quantity, of.currency, entry, gain)


def mark(fields: Fields, scene: Scene) -> Price | None:
    """The price at which IBKR values a holding, in the contract's currency."""
    of, symbol = scene.contracts.named(fields)
    if fields.get("position", figure) == 0 or of.asset_class == "CASH":
        return None
    name = "mktPrice" if fields.optional("mktPrice", figure) is not None else "marketPrice"
    at = fields.optional("timestamp", epoch) or scene.at
    return Price(symbol, fields.get(name, cells.positive), of.currency, at)


def fill(fields: Fields, scene: Scene, since: datetime) -> Fill | None:
    """An execution; none of another account or older than `since`. Its fee is in the contract's currency."""
    portfolio = scene.portfolios.get(fields.optional_text("account") or fields.text("accountCode"))
    at = fields.milliseconds("trade_time_r")
    if portfolio is None or at < since or fields.text("side").upper() == NETTING:
        return None
    of, symbol = scene.contracts.named(fields)
    quantity = fields.get("size", cells.positive)
    return Fill(
        execution_id=fields.text("execution_id"),
        portfolio=portfolio,
        symbol=symbol,
        side=fields.get("side", side),
        quantity=quantity,
        price=_paid(fields, of, scene, quantity),
        currency=of.currency,
        at=at,
        venue=scene.venue,
        order_id=fields.optional_text("order_id") or "",
        fee=fields.optional("commission", figure) or Decimal(0),
    )


def side(value: Any) -> Side:
    """`B`, `BUY`, `S`, ... as the desk's word."""
    found = _SIDES.get(cells.text(value).upper())
    if found is None:
        raise Unreadable("not_a_choice")
    return found


def _paid(fields: Fields, of: Contract, scene: Scene, quantity: Decimal) -> Decimal:
    """The price in the contract's currency. Where market prices are in pence, the amount paid tells which this one is in."""
    price: Decimal = fields.get("price", figure)
    magnifier = scene.contracts.magnifier(of)
    if magnifier == ONE:
        return price
    amount = abs(fields.get("net_amount", figure))
    for divisor in (ONE, magnifier) if magnifier is not None else (ONE,):
        worth = abs(price * quantity / divisor) * (of.multiplier or ONE)
        if abs(worth - amount) <= SAME_AMOUNT * amount:
            return price / divisor
    raise FieldUnreadable("price", price, "unknown_unit")


def current(fills: Iterable[Fill]) -> tuple[Fill, ...]:
    """Without what was corrected since: a correction has the execution's id but for the digits behind its last point."""
    newest: dict[tuple[str, str], Fill] = {}
    for each in fills:
        stem, _, edition = each.execution_id.rpartition(".")
        key = each.portfolio, stem or edition
        if key not in newest or newest[key].execution_id <= each.execution_id:
            newest[key] = each
    return tuple(newest.values())


def order(fields: Fields, scene: Scene, since: datetime, submitted: Mapping[str, datetime]) -> Order | None:
    """An order as last reported; none of another account or last changed before `since`.

    `submitted` has when each was sent, as far as that is known.
    """
    portfolio = scene.portfolios.get(fields.optional_text("acct") or fields.text("account"))
    updated = fields.get("lastExecutionTime_r", epoch)
    if portfolio is None or updated < since:
        return None
    of, symbol = scene.contracts.named(fields)
    number = fields.text("orderId")
    if number not in submitted:
        raise FieldUnreadable("orderId", number, "no_submission_time")
    filled = fields.get("filledQuantity", cells.not_negative)
    total = fields.optional("totalSize", figure)
    magnifier = scene.contracts.magnifier(of)
    limit = fields.optional("price", figure) if is_limit(fields) else None
    average = fields.optional("avgPrice", figure) if filled and magnifier == ONE else None
    return Order(
        order_id=number,
        portfolio=portfolio,
        symbol=symbol,
        side=fields.get("side", side),
        quantity=total if total else filled + fields.get("remainingQuantity", cells.positive),
        filled_quantity=filled,
        status=_status(fields, filled),
        submitted_at=submitted[number],
        venue=scene.venue,
        limit_price=None if limit is None or magnifier is None else limit / magnifier if magnifier != ONE else limit,
        average_price=average,
        updated_at=updated,
        client_order_id=fields.optional_text("order_ref") or "",
        order_type=(fields.optional_text("orderType") or "").lower(),
    )


def is_limit(fields: Fields) -> bool:
    """Whether the order's price is a limit, not a trigger."""
    kind = (fields.optional_text("origOrderType") or fields.optional_text("orderType") or "").upper()
    return "LIMIT" in kind or kind == "LMT"


def _status(fields: Fields, filled: Decimal) -> OrderStatus:
    status: OrderStatus = fields.get("status", cells.order_status)
    return "PARTIALLY_FILLED" if status == "NEW" and filled > 0 else status


def order_time(value: Any) -> datetime:
    """`YYMMDDhhmmss`, UTC."""
    try:
        return datetime.strptime(cells.text(value), "%y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise Unreadable("not_a_time") from None


def quote(fields: Fields, scene: Scene) -> Quote | None:
    """Best bid and ask; none before IBKR has any, and none that is delayed."""
    bid, ask = _offered(fields, "84"), _offered(fields, "86")
    if (bid is None and ask is None) or is_delayed(fields):
        return None
    of, symbol = scene.contracts.named(fields)
    magnifier = scene.contracts.magnifier(of)
    if magnifier is None:
        return None
    lot = ROUND_LOT if of.asset_class == "STK" and of.in_us else 1
    return Quote(
        symbol=symbol,
        currency=of.currency,
        venue=scene.venue,
        at=fields.milliseconds("_updated"),
        bid=_in_unit(bid, magnifier, symbol, scene, "84"),
        ask=_in_unit(ask, magnifier, symbol, scene, "86"),
        bid_quantity=_size(fields, "88", lot),
        ask_quantity=_size(fields, "85", lot),
    )


def last(fields: Fields, scene: Scene) -> Price | None:
    """The last price of what is not held; what is held has IBKR's own mark. `C` before it: yesterday's close; `H`: halted."""
    of, symbol = scene.contracts.named(fields)
    magnifier = scene.contracts.magnifier(of)
    if symbol in scene.marks or magnifier is None or is_delayed(fields):
        return None
    price = fields.optional("31", _prefixed)
    if price is None:
        return None
    return Price(symbol, price if magnifier == ONE else price / magnifier, of.currency, fields.milliseconds("_updated"))


def is_delayed(fields: Fields) -> bool:
    """Whether IBKR says the quote is delayed, or not to be had."""
    return (fields.optional_text("6509") or "R")[0] in DELAYED


def _prefixed(value: Any) -> Decimal:
    found = figure(value.lstrip("CH") if isinstance(value, str) else value)
    if found <= 0:
        raise Unreadable("not_positive")
    return found


def _offered(fields: Fields, name: str) -> Decimal | None:
    """A price; one that is not above 0 says that there is none."""
    found: Decimal | None = fields.optional(name, figure)
    return found if found is not None and found > 0 else None


def _size(fields: Fields, name: str, lot: int) -> Decimal | None:
    found: Decimal | None = fields.optional(name, figure)
    return None if found is None else found * lot


def _in_unit(price: Decimal | None, magnifier: Decimal, symbol: str, scene: Scene, name: str) -> Decimal | None:
    """The price in the contract's currency; refused where the mark of what is held is in another unit."""
    if price is None:
        return None
    found = price if magnifier == ONE else price / magnifier
    if symbol in scene.marks and not same_unit(found, scene.marks[symbol].price):
        raise FieldUnreadable(name, price, "unknown_unit")
    return found


def same_unit(one: Decimal, other: Decimal) -> bool:
    """Whether two prices of one contract can be in one unit."""
    return SAME_UNIT * other <= one <= other / SAME_UNIT
