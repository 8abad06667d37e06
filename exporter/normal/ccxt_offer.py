"""What an exchange offers through ccxt, and what a configuration may therefore ask of it. Pure but for importing ccxt."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from deskwatch.config import Secret, Settings
from deskwatch.venues import ccxt_exchange as venue
from deskwatch.venues.ccxt_exchange import Traits
from exporter.snapshot import Kind

KeyPath = list[str | int]
OFFERS: Mapping[Kind, tuple[str, ...]] = {
    "instruments": (),
    "positions": ("fetchBalance", "fetchPositions"),
    "accounts": ("fetchBalance",),
    "prices": ("fetchTickers", "fetchTicker"),
    "quotes": ("fetchOrderBook", "fetchTickers", "fetchTicker"),
    "histories": ("fetchOHLCV",),
    "fills": ("fetchMyTrades",),
    "orders": ("fetchOpenOrders", "fetchClosedOrders", "fetchOrders", "fetchCanceledAndClosedOrders"),
}
"""The kinds there can be, and the unified calls of which one is enough."""
PRIVATE: frozenset[Kind] = frozenset({"positions", "accounts", "fills", "orders"})
"""Kinds that need credentials."""


class Credentials(Settings):
    """What the exchange knows the account by; which of them it wants, differs."""

    api_key: Secret | None = None
    secret: Secret | None = None
    password: Secret | None = None
    """The passphrase of the key, at OKX, KuCoin, Bitget, ..."""
    twofa: Secret | None = None
    private_key: Secret | None = None
    """Of a wallet. Never needed where the wallet's address is enough to read."""
    token: Secret | None = None
    uid: str | None = Field(default=None, min_length=1)
    account_id: str | None = Field(default=None, min_length=1)
    login: str | None = Field(default=None, min_length=1)
    wallet_address: str | None = Field(default=None, min_length=1)

    @property
    def given(self) -> dict[str, str]:
        """Those that are set."""
        found = ((name, getattr(self, name)) for name in venue.CREDENTIALS)
        return {
            name: value.get_secret_value() if isinstance(value, Secret) else value for name, value in found if value is not None
        }


SECRETS = frozenset({"api_key", "secret", "password", "twofa", "private_key", "token"})
"""Credentials that nobody else may know; the others say which account is meant."""


def offered(traits: Traits) -> frozenset[Kind]:
    """The kinds the exchange has a call for, credentials or not."""
    found = {kind for kind, calls in OFFERS.items() if not calls or any(traits.has.get(call) for call in calls)}
    return frozenset(found if traits.has[venue.DAY] else found - {"histories"})


def missing(exchange: str) -> str | None:
    """Why there is no such exchange; None where there is."""
    if exchange in venue.exchanges():
        return None
    near = difflib.get_close_matches(exchange.lower(), venue.exchanges(), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "docs.ccxt.com lists them"
    return f"must be an exchange ccxt knows, was {exchange!r}; {hint}"


def credential_faults(exchange: str, given: Mapping[str, str], wanted: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    """Credentials the exchange does not use, and those it needs beside the given ones."""
    for name in sorted(given.keys() - set(wanted)):
        yield ["credentials", name], f"{exchange} does not use it; it uses {', '.join(wanted) or 'none'}"
    # A wallet's address is enough to read what lies there; its private key could move it.
    needed = ["wallet_address"] if "wallet_address" in wanted else wanted
    for name in needed if given else ():
        if name not in given:
            file = f" (or {name}_file)" if name in SECRETS else ""
            yield ["credentials", name], f"is required by {exchange}{file}"


def read_faults(
    exchange: str, read: Sequence[Kind], offers: frozenset[Kind], *, private: bool
) -> Iterator[tuple[KeyPath, str]]:
    """Kinds the exchange does not offer, or not without credentials."""
    for place, kind in enumerate(read):
        if kind not in offers:
            yield ["read", place], f"must be one of {', '.join(sorted(offers))}, which {exchange} offers, was {kind!r}"
        elif kind in PRIVATE and not private:
            yield ["read", place], f"{kind} needs credentials"
