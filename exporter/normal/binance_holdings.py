"""Balances and contracts of an exchange of Binance's form as positions and cash. Pure.

An asset is a position, priced in the quote asset; the quote asset, and what the configuration calls cash, is cash. A contract
is a position with an entry price, the futures wallet is cash without its gain: so the net asset value is cash, assets and
gains, which on the futures market alone is the venue's margin balance. That balance is not given as equity: the desk counts no
position of a portfolio that has one, and what lies on the spot market would be lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from deskwatch.errors import Reason, Retryable
from exporter import cells
from exporter.normal.binance_listing import Leg, Listing
from exporter.records import Fields, FieldUnreadable, Sheet
from exporter.snapshot import Account, Kind, Position, Price


@dataclass(frozen=True, slots=True)
class Wallet:
    """What is held of one asset, in units of it. `available`: what may be traded with. Margins: futures only."""

    asset: str
    amount: Decimal
    available: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    unrealized_pnl: Decimal | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.amount or self.initial_margin or self.maintenance_margin or self.unrealized_pnl)


@dataclass(frozen=True, slots=True)
class Contract:
    """A position on the futures market, and what it is marked at."""

    position: Position
    mark: Decimal


def spot_wallets(answer: Any, kind: Kind, portfolio: str, sheet: Sheet) -> tuple[Wallet, ...]:
    """Free and locked balances."""

    def make(row: Fields) -> Wallet:
        free = row.number("free")
        return Wallet(row.text("asset"), free + row.number("locked"), free)

    return sheet.read(kind, _rows(answer, "balances"), make, portfolio=portfolio)


def may_not_trade(answer: Any) -> bool | None:
    """Whether the venue takes no orders for the account; None where it does not say."""
    allowed = answer.get("canTrade") if isinstance(answer, Mapping) else None
    return None if not isinstance(allowed, bool) else not allowed


def futures_wallets(answer: Any, kind: Kind, portfolio: str, sheet: Sheet) -> tuple[Wallet, ...]:
    """The futures wallet by asset, without the gain of open positions."""

    def make(row: Fields) -> Wallet:
        return Wallet(
            asset=row.text("asset"),
            amount=row.number("walletBalance"),
            available=row.optional_number("availableBalance"),
            initial_margin=row.optional_number("initialMargin"),
            maintenance_margin=row.optional_number("maintMargin"),
            unrealized_pnl=row.optional_number("unrealizedProfit"),
        )

    return sheet.read(kind, _rows(answer, "assets"), make, portfolio=portfolio)


def contracts(rows: Any, listing: Listing, kind: Kind, portfolio: str, sheet: Sheet) -> tuple[Contract, ...]:
    """Open positions; the two sides of a hedge are two. One of a market that is not listed, or of a kind nobody
    knows, is rejected: taken for something else it would be valued wrongly."""

    def make(row: Fields) -> Contract | None:
        amount = row.number("positionAmt")
        if not amount:
            return None
        symbol = row.text("symbol")
        listed = listing.markets.get(symbol)
        if listed is None:
            raise FieldUnreadable("symbol", symbol, "unlisted_symbol")
        if listed.instrument == "unknown":
            raise FieldUnreadable("symbol", symbol, "unknown_contract")
        side = row.optional("positionSide", cells.one_of("BOTH", "LONG", "SHORT"))
        position = Position(
            portfolio=portfolio,
            symbol=symbol,
            quantity=-abs(amount) if side == "SHORT" else amount,
            currency=listed.quote,
            entry_price=row.positive("entryPrice"),
            unrealized_pnl=row.optional_number("unRealizedProfit"),
        )
        return Contract(position, row.positive("markPrice"))

    return sheet.read(kind, rows, make, portfolio=portfolio)


def added(wallets: Iterable[Wallet]) -> dict[str, Wallet]:
    """Each asset once. What may be traded with is known only where all of it lies in one wallet."""
    found: dict[str, Wallet] = {}
    for wallet in wallets:
        known = found.get(wallet.asset)
        found[wallet.asset] = wallet if known is None else _sum(known, wallet)
    return found


def _sum(one: Wallet, other: Wallet) -> Wallet:
    def both(first: Decimal | None, second: Decimal | None) -> Decimal | None:
        return first if second is None else second if first is None else first + second

    return Wallet(
        asset=one.asset,
        amount=one.amount + other.amount,
        initial_margin=both(one.initial_margin, other.initial_margin),
        maintenance_margin=both(one.maintenance_margin, other.maintenance_margin),
        unrealized_pnl=both(one.unrealized_pnl, other.unrealized_pnl),
    )


def accounts(
    wallets: Mapping[str, Wallet], cash: Collection[str], quote_asset: str, portfolio: str, blocked: bool | None
) -> tuple[Account, ...]:
    """Cash by currency. The quote asset is always among it: without an account the desk would not know there is no cash."""
    known = {asset: wallet for asset, wallet in wallets.items() if asset in cash and not wallet.empty}
    known.setdefault(quote_asset, wallets.get(quote_asset, Wallet(quote_asset, Decimal(0))))
    return tuple(
        Account(
            portfolio=portfolio,
            currency=asset,
            cash=wallet.amount,
            buying_power=wallet.available,
            initial_margin=wallet.initial_margin,
            maintenance_margin=wallet.maintenance_margin,
            unrealized_pnl=wallet.unrealized_pnl,
            trading_blocked=blocked,
        )
        for asset, wallet in sorted(known.items())
    )


def assets(
    wallets: Mapping[str, Wallet], cash: Collection[str], legs: Mapping[str, Leg], quote_asset: str, portfolio: str
) -> tuple[Position, ...]:
    """What is held and no cash, in the currency it is priced in; in the quote asset where it has no price."""
    return tuple(
        Position(portfolio, asset, wallet.amount, legs[asset].currency if asset in legs else quote_asset)
        for asset, wallet in sorted(wallets.items())
        if asset not in cash and wallet.amount
    )


def prices(legs: Mapping[str, Leg], last: Mapping[str, Decimal], at: datetime) -> dict[str, Price]:
    """The price of each asset, from the last price of its market."""
    found = {}
    for asset, leg in legs.items():
        price = last.get(leg.symbol)
        if price is not None:
            found[asset] = Price(asset, 1 / price if leg.inverse else price, leg.currency, at)
    return found


def value(position: Position, known: Mapping[str, Price], quote_asset: str) -> Decimal | None:
    """Amount of a position's value in the quote asset; None where a price is missing."""
    worth, asset = abs(position.quantity), position.symbol
    while asset != quote_asset:
        price = known.get(asset)
        if price is None:
            return None
        worth, asset = worth * price.price, price.currency
    return worth


def _rows(answer: Any, name: str) -> Any:
    rows = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise Retryable(f"account: no list of {name} in the answer", reason=Reason.BAD_RESPONSE)
    return rows
