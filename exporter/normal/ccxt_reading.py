"""What one fetch through ccxt has found so far, and what follows: how assets are priced, which markets to ask. Asks nothing.

Refuses balances whose meaning is not known: with borrowed money, or with the gain of open contracts in them or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from exporter.normal.binance_holdings import value
from exporter.normal.binance_listing import Leg, Listed, Listing
from exporter.normal.ccxt_records import Held, Market, Place, contract, currency_of, instrument, symbol_of, terms
from exporter.records import Fields, Sheet
from exporter.snapshot import Account, InstrumentTerms, Kind, Position, Price

LINEAR = ("perpetual", "future")
_NO_ASSETS = frozenset({"info", "timestamp", "datetime", "free", "used", "total", "debt"})
"""What a unified balance holds beside assets."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says of assets, and what is known of the exchange's balances.

    Args:
        quote_asset: what assets are priced in.
        cash: assets that are cash.
        ignored: assets that are worth nothing here.
        minimum_notional: assets worth less, in the quote asset, are left out.
        symbols: markets wanted whether or not anything of them is held.
        gains_in_totals: whether balances hold the gain of open contracts already; None where that is not known.
        counts_cash: whether cash is wanted at all.
    """

    quote_asset: str
    cash: frozenset[str]
    ignored: frozenset[str]
    minimum_notional: Decimal
    symbols: tuple[str, ...]
    gains_in_totals: bool | None
    counts_cash: bool = True


@dataclass(slots=True)
class Reading:
    """One fetch."""

    terms: Terms
    place: Place
    listing: Listing
    sheet: Sheet = field(default_factory=Sheet)
    notes: dict[str, str] = field(default_factory=dict)
    amounts: dict[str, Decimal] = field(default_factory=dict)
    """Held of each asset, cash too."""
    held: tuple[Held, ...] = ()
    legs: dict[str, Leg] = field(default_factory=dict)
    prices: dict[str, Price] = field(default_factory=dict)
    """By the desk's symbol."""

    def take_balances(self, balance: Mapping[str, Any], kind: Kind) -> None:
        """Add one account's totals; zeros and ignored assets are left out."""
        rows = [{"asset": asset, **told} for asset, told in balance.items() if asset not in _NO_ASSETS and _is_asset(told)]

        def read(fields: Fields) -> tuple[str, Decimal]:
            return fields.text("asset"), fields.number("total")

        borrowed = {row["asset"] for row in rows if Decimal(str(row.get("debt") or 0))}
        for asset in sorted(borrowed - self.terms.ignored):
            said = f"{asset}: borrowed money is not counted the same by every exchange"
            self.sheet.reject(kind, said, "borrowed", self.place.portfolio)
        for asset, total in self.sheet.read(kind, rows, read, portfolio=self.place.portfolio):
            if total and asset not in self.terms.ignored:
                self.amounts[asset] = self.amounts.get(asset, Decimal(0)) + total
        left_out = sorted(row["asset"] for row in rows if row["asset"] in self.terms.ignored)
        if left_out:
            self.notes["ignored_assets"] = ", ".join(left_out)

    def take_contracts(self, rows: Any, kind: Kind) -> None:
        """Add positions. The same one told twice, for two types of market, is one."""
        found = self.sheet.read(kind, rows, contract(self.place), portfolio=self.place.portfolio)
        known = {each.key: each for each in (*self.held, *found)}
        self.held = tuple(known.values())

    def settle(self) -> None:
        """Take the gains of open contracts out of balances that hold them, and find out how assets are priced."""
        self._without_gains()
        for symbol in self.terms.symbols:
            if self.place.markets(symbol) is None:
                self.sheet.reject("prices", f"symbols: {symbol}", "unknown_symbol", self.place.portfolio)
        self._find_legs()
        unpriced = sorted(asset for asset in self.amounts if asset not in self.legs and asset != self.terms.quote_asset)
        if unpriced:
            self.notes["no market"] = ", ".join(unpriced)
        strange = sorted(str(market["symbol"]) for market in self._contracts() if instrument(market) not in LINEAR)
        if strange:
            self.notes["no value is computed for"] = ", ".join(strange)

    def _without_gains(self) -> None:
        """An account's total with gains in it, beside positions valued from entry to now, would count them twice."""
        told = self.terms.gains_in_totals
        for each in self.held:
            uncounted = each.settle in self._cash and not self.terms.counts_cash
            if told is False or uncounted or each.settle not in self.amounts:
                continue
            if told is None or each.gain is None:
                why = "set totals_include_gains" if told is None else f"{each.position.symbol} has no unrealizedPnl"
                said = f"{each.settle}: does its total hold the gain of open contracts? {why}"
                self.sheet.reject("accounts", said, "gains_unknown", self.place.portfolio)
                del self.amounts[each.settle]
            else:
                self.amounts[each.settle] -= each.gain

    def price(self, marks: Iterable[Price]) -> None:
        """Take over the marks of markets; positions have their own. What is worth too little goes."""
        by_market = {each.symbol: each for each in marks}
        for asset, leg in self.legs.items():
            last = by_market.get(leg.symbol)
            if last is not None:
                worth = 1 / last.price if leg.inverse else last.price
                self.prices[asset] = Price(asset, worth, leg.currency, last.at)
        for market in self.linear_contracts:
            name = str(market["symbol"])
            if name in by_market:
                self.prices[name] = by_market[name]
        self._leave_out_dust()
        for each in self.held:
            if each.mark is not None and instrument(each.market) in LINEAR:
                symbol = each.position.symbol
                self.prices[symbol] = Price(symbol, each.mark, each.position.currency, self.place.at)

    def _leave_out_dust(self) -> None:
        quote, least = self.terms.quote_asset, self.terms.minimum_notional
        worths = {each.symbol: value(each, self.prices, quote) for each in self.assets()}
        dust = {asset: worth for asset, worth in worths.items() if worth is not None and worth < least}
        if dust:
            self.notes["below minimum_notional"] = (
                f"{len(dust)} assets worth {sum(dust.values(), start=Decimal(0)):.2f} {quote}"
            )
            self.amounts = {asset: amount for asset, amount in self.amounts.items() if asset not in dust}
            self._find_legs()
            contracts = {str(market["symbol"]) for market in self.linear_contracts}
            self.prices = {name: price for name, price in self.prices.items() if name in self.legs or name in contracts}

    def _find_legs(self) -> None:
        bases = (str(market["base"]) for market in self._configured if market.get("spot"))
        settles = (currency_of(market) for market in self.linear_contracts)
        self.legs = self.listing.pricing(sorted({*self.amounts, *bases, *settles}), self.terms.quote_asset)

    @property
    def _configured(self) -> list[Market]:
        found = (self.place.markets(symbol) for symbol in self.terms.symbols)
        return [market for market in found if market is not None]

    def _contracts(self) -> list[Market]:
        """Contracts held or wanted."""
        markets = (*(each.market for each in self.held), *self._configured)
        return list({str(market["symbol"]): market for market in markets if market.get("contract")}.values())

    @property
    def linear_contracts(self) -> list[Market]:
        """Those whose price says what they are worth."""
        return [market for market in self._contracts() if instrument(market) in LINEAR]

    def priced(self) -> list[Market]:
        """Markets whose price is wanted: those that price assets, and contracts that are not marked with the position."""
        marked = {each.position.symbol for each in self.held if each.mark is not None}
        legs = (self.place.markets(leg.symbol) for leg in self.legs.values())
        wanted = [*(market for market in legs if market is not None), *self.linear_contracts]
        return list({str(market["symbol"]): market for market in wanted if market["symbol"] not in marked}.values())

    def books(self) -> dict[str, Market]:
        """Order books wanted, by the desk's name: the asset's where it is the one that prices it, else the market's own."""
        quote, found = self.terms.quote_asset, {}
        for position in self.assets():
            leg = self.legs.get(position.symbol)
            market = self.place.markets(leg.symbol) if leg and leg.currency == quote and not leg.inverse else None
            if market is not None:
                found[position.symbol] = market
        for market in (*self.linear_contracts, *(each for each in self._configured if each.get("spot"))):
            found[symbol_of(market) if market["quote"] == quote else str(market["symbol"])] = market
        return found

    def traded(self) -> list[str]:
        """Markets that may have orders and trades: those that price what is held, cash too, contracts, and those wanted."""
        held = [self.legs[asset].symbol for asset in self.amounts if asset in self.legs]
        markets = (str(market["symbol"]) for market in (*self._contracts(), *self._configured))
        return list(dict.fromkeys([*held, *markets]))

    def bars(self) -> dict[str, Leg]:
        """Daily bars wanted: the desk's symbol to its market."""
        contracts = {str(market["symbol"]): Leg(str(market["symbol"]), currency_of(market)) for market in self.linear_contracts}
        return self.legs | contracts

    def assets(self) -> tuple[Position, ...]:
        """What is held and no cash, in the currency it is priced in; in the quote asset where it has no price."""
        quote, cash = self.terms.quote_asset, self._cash
        return tuple(
            Position(self.place.portfolio, asset, amount, self.legs[asset].currency if asset in self.legs else quote)
            for asset, amount in sorted(self.amounts.items())
            if asset not in cash and amount
        )

    def positions(self) -> tuple[Position, ...]:
        """Assets and contracts."""
        return (*self.assets(), *(each.position for each in self.held))

    def accounts(self) -> tuple[Account, ...]:
        """Cash by currency. The quote asset is always among it: without an account the desk would not know there is no cash."""
        told = {asset: amount for asset, amount in self.amounts.items() if asset in self._cash}
        unknown = {left_out.record.partition(":")[0] for left_out in self.sheet.rejected if left_out.reason == "gains_unknown"}
        if self.terms.quote_asset not in unknown:
            told.setdefault(self.terms.quote_asset, Decimal(0))
        return tuple(Account(self.place.portfolio, asset, amount) for asset, amount in sorted(told.items()))

    def instruments(self) -> tuple[InstrumentTerms, ...]:
        """What everything held, priced or wanted is."""
        quote = self.terms.quote_asset
        currencies = {position.symbol: position.currency for position in self.assets()}
        currencies |= {asset: leg.currency for asset, leg in self.legs.items()}
        assets = (InstrumentTerms(asset, currency) for asset, currency in currencies.items() if asset != quote)
        return (*assets, *(terms(market) for market in self._contracts()))

    @property
    def _cash(self) -> frozenset[str]:
        return self.terms.cash | {self.terms.quote_asset}


def _is_asset(told: Any) -> bool:
    return isinstance(told, Mapping) and "total" in told


def listing_of(markets: Iterable[Market]) -> Listing:
    """The spot markets that trade, for pricing assets by."""
    listed = (
        Listed(str(market["symbol"]), str(market["base"]), str(market["quote"]))
        for market in markets
        if market.get("spot") and market.get("active") is not False
    )
    return Listing(listed)
