"""IBKR's contracts as instruments of the desk, and the one name each has here. Pure but for what it has learned so far.

A contract id is IBKR's own key; the desk wants names. Shares and coins are called by their ticker, a currency pair `EUR.USD`, a
future `ES-20261218` (its last day), an option `AAPL-20260116-C-195`. Where two contracts would have one name, the one listed in
the United States keeps it, else the one with the lowest id, and every other becomes `TICKER.CURRENCY`, or with its id behind
that where even this is taken. Refuses to guess: a derivative whose multiplier nobody tells is `unknown`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from exporter import cells
from exporter.cells import Unreadable
from exporter.records import Fields, FieldUnreadable
from exporter.snapshot import Instrument, InstrumentTerms

ONE = Decimal(1)
INSTRUMENTS: Mapping[str, Instrument] = {
    "STK": "share",
    "CASH": "spot",
    "CRYPTO": "spot",
    "FUT": "future",
    "OPT": "option",
    "FOP": "option",
    "WAR": "option",
}
"""Asset classes with a meaning here; what else there is, bonds, funds and contracts for difference among it, is `unknown`."""
WITH_MULTIPLIER = frozenset({"FUT", "OPT", "FOP", "WAR"})
LINEAR = frozenset({"STK", "CASH", "CRYPTO", "FUT"})
"""What is quoted and has daily bars here."""
_DAY = re.compile(r"\d{8}")


@dataclass(frozen=True, slots=True)
class Contract:
    """What IBKR tells of one contract. `multiplier` is None where it tells none; `expiry` is `YYYYMMDD`."""

    conid: int
    ticker: str
    asset_class: str
    currency: str
    multiplier: Decimal | None = None
    sector: str | None = None
    expiry: str = ""
    right: str = ""
    strike: str = ""
    in_us: bool | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing that another answer could add."""
        if self.asset_class in WITH_MULTIPLIER:
            return self.multiplier is not None and bool(self.expiry)
        return self.asset_class != "STK" or self.in_us is not None

    @property
    def plain_name(self) -> str:
        """Its name where nothing else has it."""
        if self.asset_class == "CASH":
            return f"{self.ticker.partition('.')[0]}.{self.currency}"
        parts = (self.ticker, self.expiry, self.right, self.strike) if self.asset_class in WITH_MULTIPLIER else (self.ticker,)
        return "-".join(part for part in parts if part)

    def terms(self, symbol: str) -> InstrumentTerms:
        """Reference data under that name."""
        instrument = INSTRUMENTS.get(self.asset_class, "unknown")
        if self.asset_class in WITH_MULTIPLIER and self.multiplier is None:
            instrument = "unknown"
        return InstrumentTerms(symbol, self.currency, self.sector, instrument, self.multiplier or ONE)


def conid(value: Any) -> int:
    """A contract id, which comes as number or text."""
    found = cells.number(value)
    if found != found.to_integral_value() or found <= 0:
        raise Unreadable("not_a_contract_id")
    return int(found)


def contract(fields: Fields) -> Contract:
    """A contract from a row of positions or of `/trsrv/secdef`. A multiplier of 0 is none.

    Raises:
        Unreadable: it has no id, ticker, asset class or currency.
    """
    multiplier = fields.optional_number("multiplier")
    asset_class = fields.optional_text("assetClass") or fields.text("secType")
    strike = fields.optional_number("strike")
    in_us = fields.optional("isUS", _flag)
    derivative = asset_class in WITH_MULTIPLIER
    return Contract(
        conid=fields.get("conid", conid),
        ticker=fields.text("ticker"),
        asset_class=asset_class,
        currency=fields.text("currency"),
        multiplier=multiplier if multiplier is not None and multiplier > 0 else None,
        sector=fields.optional_text("sector"),
        expiry=(_day(fields, "expiry") or _day(fields, "lastTradingDay")) if derivative else "",
        right=(fields.optional_text("putOrCall") or "")[:1] if derivative else "",
        strike=f"{strike.normalize():f}" if derivative and strike else "",
        in_us=in_us,
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unreadable("not_a_boolean")
    return value


def _day(fields: Fields, name: str) -> str:
    found = fields.optional_text(name) or ""
    return found if _DAY.fullmatch(found) else ""


class Contracts:
    """Every contract met so far, under its name."""

    def __init__(self) -> None:
        self._known: dict[int, Contract] = {}
        self._names: dict[int, str] = {}
        self._looked_up: dict[int, datetime] = {}
        self.magnifiers: dict[int, Decimal] = {}
        """By what market prices of a contract are to be divided, where that has been asked."""

    def learn(self, found: Iterable[Contract]) -> None:
        """Take note of contracts; what one answer leaves out stays as another told it."""
        before = dict(self._known)
        for each in found:
            known = self._known.get(each.conid)
            self._known[each.conid] = each if known is None else _together(known, each)
        if self._known != before:
            self._names = names(self._known.values())

    def lacking(self, conids: Iterable[int], now: datetime) -> list[int]:
        """Those that are not wholly known, and have not been looked up today."""
        unknown = [each for each in dict.fromkeys(conids) if each not in self._known or not self._known[each].is_complete]
        return [each for each in unknown if each not in self._looked_up or self._looked_up[each].date() != now.date()]

    def looked_up(self, conids: Iterable[int], now: datetime) -> None:
        """They have been asked for: not again today."""
        self._looked_up.update(dict.fromkeys(conids, now))

    def get(self, number: int) -> Contract | None:
        """What is known of it."""
        return self._known.get(number)

    def name(self, number: int) -> str:
        """The name of a contract that is known."""
        return self._names[number]

    def named(self, fields: Fields, field: str = "conid") -> tuple[Contract, str]:
        """The contract a record is about, and its name.

        Raises:
            Unreadable: it has no contract id, or one that IBKR has not told about.
        """
        number = fields.get(field, conid)
        known = self._known.get(number)
        if known is None:
            raise FieldUnreadable(field, number, "unknown_contract")
        return known, self._names[number]

    def magnifier(self, of: Contract) -> Decimal | None:
        """By what its market prices are to be divided; None where that is not known. A share in pence is quoted times 100."""
        if of.asset_class != "STK" or of.in_us:
            return ONE
        return self.magnifiers.get(of.conid)


def _together(known: Contract, told: Contract) -> Contract:
    return replace(
        told,
        multiplier=told.multiplier if told.multiplier is not None else known.multiplier,
        sector=told.sector or known.sector,
        expiry=told.expiry or known.expiry,
        right=told.right or known.right,
        strike=told.strike or known.strike,
        in_us=told.in_us if told.in_us is not None else known.in_us,
    )


def names(contracts: Iterable[Contract]) -> dict[int, str]:
    """One name for each contract id: depends on which contracts there are, not on their order."""
    groups: dict[str, list[Contract]] = defaultdict(list)
    for each in contracts:
        groups[each.plain_name].append(each)
    taken: dict[str, int] = {}
    others: list[Contract] = []
    for name, group in groups.items():
        first, *rest = sorted(group, key=lambda each: (not each.in_us, each.conid))
        taken[name] = first.conid
        others += rest
    for each in sorted(others, key=lambda each: each.conid):
        name = f"{each.plain_name}.{each.currency}"
        taken[f"{name}.{each.conid}" if name in taken else name] = each.conid
    return {number: name for name, number in taken.items()}
