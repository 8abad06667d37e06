"""What one fetch has found so far, and what follows from it: which assets are priced how, which books, bars and trades to read.

Asks nothing itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from exporter.normal import binance_holdings as holdings
from exporter.normal.binance_holdings import Contract, Wallet
from exporter.normal.binance_listing import Leg, Listed, Listing
from exporter.records import Sheet
from exporter.snapshot import Account, InstrumentTerms, Position, Price

NOTHING = Listing(())


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says of assets: whose they are, what prices them, which are cash, which are not counted."""

    portfolio: str
    quote_asset: str
    cash: frozenset[str]
    ignored: frozenset[str]
    minimum_notional: Decimal
    symbols: tuple[str, ...]
    reads_spot: bool
    """Whether the spot market is read, or at most asked for prices."""


@dataclass(slots=True)
class Reading:
    """One fetch. `at`: the venue's time."""

    terms: Terms
    at: datetime
    sheet: Sheet = field(default_factory=Sheet)
    notes: dict[str, str] = field(default_factory=dict)
    found: list[Wallet] = field(default_factory=list)
    """Wallets as the markets told them."""
    wallets: dict[str, Wallet] = field(default_factory=dict)
    """By asset, without what is not counted."""
    blocked: bool | None = None
    positions: tuple[Contract, ...] = ()
    spot: Listing = NOTHING
    futures: Listing = NOTHING
    legs: dict[str, Leg] = field(default_factory=dict)
    """How each asset is priced."""
    prices: dict[str, Price] = field(default_factory=dict)

    @property
    def configured(self) -> list[Listed]:
        """Spot markets wanted whether or not anything of them is held."""
        symbols = self.terms.symbols if self.terms.reads_spot else ()
        return [self.spot.markets[symbol] for symbol in symbols if symbol in self.spot.markets]

    @property
    def contracts(self) -> list[Listed]:
        """Contracts held or wanted."""
        held = [each.position.symbol for each in self.positions]
        return [self.futures.markets[symbol] for symbol in dict.fromkeys((*held, *self.terms.symbols))
                if symbol in self.futures.markets]  # fmt: skip

    @property
    def needs_spot(self) -> bool:
        """Whether an asset is held, or a contract priced, in something that is not the quote asset."""
        return bool(self._assets() - {self.terms.quote_asset})

    def settle(self) -> None:
        """Put wallets together and find out how their assets are priced. Markets under `symbols` nobody lists are rejected."""
        terms = self.terms
        named = [replace(wallet, asset=self.spot.underlying(wallet.asset)) for wallet in self.found]
        self.wallets = holdings.added(wallet for wallet in named if wallet.asset not in terms.ignored and not wallet.empty)
        left_out = sorted({wallet.asset for wallet in named if wallet.asset in terms.ignored})
        if left_out:
            self.notes["ignored_assets"] = ", ".join(left_out)
        known = {listed.symbol for listed in (*self.configured, *self.contracts)}
        for symbol in terms.symbols:
            if symbol not in known:
                self.sheet.reject("prices", f"symbols: {symbol}", "unknown_symbol", terms.portfolio)
        self._find_legs()
        if self.unpriced:
            self.notes["no market"] = ", ".join(self.unpriced)

    def leave_out_dust(self) -> None:
        """Leave out assets worth less than the least notional wanted; one without a price stays."""
        terms = self.terms
        values = {each.symbol: holdings.value(each, self.prices, terms.quote_asset) for each in self.assets()}
        dust = {asset: worth for asset, worth in values.items() if worth is not None and worth < terms.minimum_notional}
        if dust:
            total = sum(dust.values(), start=Decimal(0))
            self.notes["below minimum_notional"] = f"{len(dust)} assets worth {total:.2f} {terms.quote_asset}"
            self.wallets = {asset: wallet for asset, wallet in self.wallets.items() if asset not in dust}
            self._find_legs()
        self.prices = {asset: price for asset, price in self.prices.items() if asset in self.legs}

    def mark(self, marks: Mapping[str, Decimal]) -> None:
        """Take over the marks of contracts; those held have one already."""
        known = {each.position.symbol: each.mark for each in self.positions}
        for listed in self.contracts:
            mark = known.get(listed.symbol) or marks.get(listed.symbol)
            if mark is not None:
                self.prices[listed.symbol] = Price(listed.symbol, mark, listed.quote, self.at)

    @property
    def unmarked(self) -> list[str]:
        """Contracts wanted but not held."""
        held = {each.position.symbol for each in self.positions}
        return [listed.symbol for listed in self.contracts if listed.symbol not in held]

    def books(self) -> list[Listed]:
        """Spot markets of which the book is read: those that price what is held, and those wanted."""
        if not self.terms.reads_spot:
            return []
        quote, held = self.terms.quote_asset, [each.symbol for each in self.assets()]
        direct = [self.legs[asset].symbol for asset in held
                  if asset in self.legs and self.legs[asset].currency == quote and not self.legs[asset].inverse]  # fmt: skip
        return _unique([*(self.spot.markets[symbol] for symbol in direct), *self.configured])

    def traded(self) -> list[str]:
        """Spot markets that may have trades: those that price what is held, cash too, and those wanted."""
        held = [self.legs[asset].symbol for asset in self.wallets if asset in self.legs]
        return [listed.symbol for listed in _unique([*(self.spot.markets[symbol] for symbol in held), *self.configured])]

    def held_assets(self) -> dict[str, Hashable]:
        """How much there is of each asset."""
        return {asset: wallet.amount for asset, wallet in self.wallets.items()}

    def held_contracts(self) -> dict[str, Hashable]:
        """How much there is of each contract, both sides of a hedge."""
        found: dict[str, tuple[Decimal, ...]] = {}
        for each in self.positions:
            found[each.position.symbol] = (*found.get(each.position.symbol, ()), each.position.quantity)
        return dict(found)

    def assets(self) -> tuple[Position, ...]:
        """What is held of assets that are no cash."""
        return holdings.assets(self.wallets, self._cash, self.legs, self.terms.quote_asset, self.terms.portfolio)

    def accounts(self) -> tuple[Account, ...]:
        """Cash."""
        return holdings.accounts(self.wallets, self._cash, self.terms.quote_asset, self.terms.portfolio, self.blocked)

    def instruments(self) -> tuple[InstrumentTerms, ...]:
        """What everything held, priced or wanted is."""
        quote = self.terms.quote_asset
        currencies = {position.symbol: position.currency for position in self.assets()}
        currencies |= {asset: leg.currency for asset, leg in self.legs.items()}
        assets = (InstrumentTerms(asset, currency) for asset, currency in currencies.items() if asset != quote)
        contracts = (InstrumentTerms(each.symbol, each.quote, instrument=each.instrument) for each in self.contracts)
        return (*assets, *contracts)

    @property
    def unpriced(self) -> list[str]:
        """What is held and has no market that leads to the quote asset."""
        return sorted(asset for asset in self.wallets if asset not in self.legs and asset != self.terms.quote_asset)

    @property
    def _cash(self) -> frozenset[str]:
        return self.terms.cash | {self.terms.quote_asset}

    def _assets(self) -> set[str]:
        held = self.wallets or {
            wallet.asset for wallet in self.found if not wallet.empty and wallet.asset not in self.terms.ignored
        }
        return {*held, *(listed.base for listed in self.configured), *(listed.quote for listed in self.contracts)}

    def _find_legs(self) -> None:
        self.legs = self.spot.pricing(sorted(self._assets()), self.terms.quote_asset)


def _unique(markets: Iterable[Listed]) -> list[Listed]:
    return list({listed.symbol: listed for listed in markets}.values())
