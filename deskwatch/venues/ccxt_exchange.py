"""One exchange through ccxt's unified calls: loaded only when asked for, off the caller's event loop, errors as ours.

ccxt brings 100 exchanges and 100 MB; nothing of it is imported until an exchange is named. Everything here runs where it is
called: an event loop that serves others calls it in a `SideLoop`. Refuses calls that would change anything at the exchange.
Source: docs.ccxt.com/docs/manual, "Unified API", "Rate Limit", "Overriding Unified API Params".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpConfig
from deskwatch.venues.ccxt_errors import Seen, explained
from deskwatch.venues.ccxt_wire import LOOK_SECONDS, Line, quieten, redirected

PACKAGE = "ccxt"
MarketKind: TypeAlias = tuple[str, str | None]
"""Type and subtype of markets as ccxt calls them: ("spot", None), ("swap", "linear"), ("future", "inverse"), ..."""
_BOTH = frozenset({"type", "subtype"})
DAY, MINUTE = "1d", "1m"
READS = ("fetch_", "load_markets")
"""How the names of calls begin that only read."""
LASTING = ("Throttler.looper",)
"""Coroutines of ccxt that may go on after a call: the throttle's ends when nothing waits, and one cancelled never starts again.
Everything else a call leaves behind is to be ended: of several requests made at once one has failed, and the others go on."""
REFRESH_AGAIN_SECONDS = 300.0
"""Time until markets that could not be refreshed are tried again; the old ones serve meanwhile."""
CREDENTIALS: Mapping[str, str] = {
    "api_key": "apiKey",
    "secret": "secret",
    "password": "password",
    "uid": "uid",
    "account_id": "accountId",
    "login": "login",
    "twofa": "twofa",
    "wallet_address": "walletAddress",
    "private_key": "privateKey",
    "token": "token",
}
"""Our names of credentials, and ccxt's."""
UNREALIZED_IN_TOTALS: Mapping[str, bool] = {
    **dict.fromkeys(("okx", "myokx", "okxus", "deribit"), True),
    **dict.fromkeys(("bybit", "bybiteu", "gate", "gateeu"), False),
}
"""Whether the totals of `fetch_balance` hold the gain of open contracts already: OKX and Deribit give the equity of a currency,
Bybit and Gate the wallet's balance. Of others it is not known here."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What ccxt knows of an exchange without asking it.

    Args:
        credentials: those its private calls need, by our names.
        has: unified call, in ccxt's spelling, to whether it is there; also of candles of a `DAY` and a `MINUTE`.
        sandbox: whether it has one.
    """

    credentials: tuple[str, ...]
    has: Mapping[str, bool]
    sandbox: bool


@dataclass(frozen=True, slots=True)
class Access:
    """How an exchange is reached.

    Args:
        exchange: ccxt's id of it.
        http: certificate, proxy, deadline of one call.
        credentials: by our names; empty for public calls only.
        base_url: scheme and host that take the place of the exchange's own.
        sandbox: use its test environment.
        options: ccxt's `options` of the exchange.
        call_milliseconds: least time between two calls of cost 1; by default what ccxt knows.
        headroom_ratio: share of the rate limit left to others.
        refresh_seconds: age at which markets are loaded again.
    """

    exchange: str
    http: HttpConfig
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    base_url: str | None = None
    sandbox: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    call_milliseconds: float | None = None
    headroom_ratio: float = 0.0
    refresh_seconds: float = 21600.0


def installed() -> bool:
    """Whether the package is there; imports nothing."""
    return find_spec(PACKAGE) is not None


@cache
def exchanges() -> tuple[str, ...]:
    """Every exchange ccxt has, by id. The first call imports it, which takes half a second."""
    quieten()
    return tuple(import_module(f"{PACKAGE}.async_support").exchanges)


@cache
def traits(exchange: str) -> Traits:
    """What ccxt knows of one of `exchanges()`."""
    made = _class(exchange)({"enableRateLimit": False})
    names = {theirs: ours for ours, theirs in CREDENTIALS.items()}
    needed = tuple(names[key] for key, is_needed in made.requiredCredentials.items() if is_needed and key in names)
    has = {name: bool(value) for name, value in made.has.items()}
    return Traits(needed, has | {each: each in (made.timeframes or {}) for each in (DAY, MINUTE)}, bool(made.urls.get("test")))


def _class(exchange: str) -> Any:
    quieten()
    return getattr(import_module(f"{PACKAGE}.async_support"), exchange)


class Exchange:
    """One account at one exchange. Calls are made one after the other.

    Args:
        access: how it is reached.
        clock: when markets are due again, and wall time for a `Retry-After` given as a date.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._line = Line(access.http)
        self._ccxt: Any = None
        self._due = 0.0
        self._noticed: set[str] = set()
        self._told_apart: dict[str, frozenset[str]] = {}

    @property
    def markets(self) -> Mapping[str, Mapping[str, Any]]:
        """Every market by unified symbol, as of the last `refresh`."""
        return self._ccxt.markets or {} if self._ccxt is not None else {}

    def has(self, call: str) -> bool:
        """Whether the exchange offers a unified call, in ccxt's spelling: `fetchMyTrades`."""
        return traits(self._access.exchange).has.get(call, False)

    async def refresh(self) -> str:
        """Load the markets where they are due; what a person should know about it.

        Raises:
            Retryable, Permanent: as `call`, where there are no older ones.
        """
        now = self._clock.monotonic()
        if self.markets and now < self._due:
            return ""
        try:
            await self.call("load_markets", bool(self.markets))
        except (Retryable, Permanent) as error:
            if not self.markets:
                raise
            self._due = now + REFRESH_AGAIN_SECONDS
            return f"the old ones serve on: {error}"
        if not self.markets:
            raise Retryable(f"{self._access.exchange} answered no markets", reason=Reason.BAD_RESPONSE)
        self._due = now + self._access.refresh_seconds
        return ""

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """One unified call, in Python's spelling: `fetch_balance`. Money comes as Decimal, times as epoch milliseconds.

        Raises:
            Retryable: no answer, rate limit, maintenance, an answer that cannot be read.
            Permanent: refused: credentials, parameters.
            BadSymbol: the exchange does not know the symbol.
            SymbolNeeded, TypeUnsupported: ccxt cannot ask this of the exchange, or not so.
        """
        if not method.startswith(READS):
            raise ValueError(f"{method} does not only read")
        exchange = self._ready()
        what = f"{self._access.exchange} {method}"
        self._line.seen = Seen()
        try:
            found = await getattr(exchange, method)(*args, **options)
        except Exception as error:
            secrets = [secret for secret in self._access.credentials.values() if secret]
            raise explained(error, what, self._line.seen, secrets, self._clock.now()) from None
        if self._line.seen.status is not None and self._line.seen.status >= 400:
            raise Retryable(f"{what}: answered {self._line.seen.status}", reason=Reason.BAD_RESPONSE)
        return found

    async def call_as(self, kind: MarketKind, method: str, *args: Any) -> Any:
        """As `call`, for one type of market where ccxt tells types apart."""
        options = self._ready().options
        before = {name: options.get(name) for name in ("defaultType", "defaultSubType")}
        options["defaultType"], options["defaultSubType"] = kind
        self._noticed.clear()
        try:
            found = await self.call(method, *args)
        finally:
            options.update(before)
        self._told_apart[method] = self._told_apart.get(method, frozenset()) | self._noticed
        return found

    def apart(self, method: str, kinds: Sequence[MarketKind]) -> Iterator[MarketKind]:
        """The types of market to `call_as` for, one after the other: as many as ccxt's code for this exchange tells apart."""
        asked: set[MarketKind] = set()
        for kind in kinds:
            if self._distinct(method, kind) not in asked:
                yield kind
                asked.add(self._distinct(method, kind))  # by what the call has shown meanwhile

    def _distinct(self, method: str, kind: MarketKind) -> MarketKind:
        told_apart = self._told_apart.get(method, _BOTH)
        return (kind[0] if "type" in told_apart else "", kind[1] if "subtype" in told_apart else None)

    async def close(self) -> None:
        """Close the connections; a later call opens new ones and loads the markets again."""
        exchange, self._ccxt, self._due = self._ccxt, None, 0.0
        if exchange is not None:
            await exchange.close()

    def market(self, name: str) -> Mapping[str, Any] | None:
        """A market by its unified symbol or by the exchange's own name for it."""
        known = self.markets.get(name)
        if known is None and self._ccxt is not None:
            known = next(iter((self._ccxt.markets_by_id or {}).get(name, ())), None)
        return known

    def kind_of(self, symbol: str) -> MarketKind | None:
        """The type of a market."""
        market = self.markets.get(symbol)
        return None if market is None else (str(market["type"]), market.get("subType"))

    def of_kinds(self, rows: Any, kinds: Sequence[MarketKind]) -> Any:
        """Rows of these types of market; an exchange that does not tell types apart answers with all. Unknown ones stay."""
        if not isinstance(rows, list):
            return rows
        return [row for row in rows if self.kind_of(str(row.get("symbol"))) in (None, *kinds)]

    def limit(self, symbol: str, call: str) -> int | None:
        """Most rows of one answer, where ccxt knows it: `fetchOHLCV`, `fetchMyTrades`, ..."""
        return self.most_rows(self.kind_of(symbol) or ("spot", None), call)

    def most_rows(self, kind: MarketKind, call: str) -> int | None:
        """As `limit`, for a type of market."""
        found = self._ready().feature_value_by_type(*kind, call, "limit")
        return int(found) if isinstance(found, int | str) and str(found).isdigit() else None

    def wants_a_symbol(self, kind: MarketKind, call: str) -> bool:
        """Whether ccxt knows that the call needs a symbol for this type of market."""
        return self._ready().feature_value_by_type(*kind, call, "symbolRequired") is True

    def _ready(self) -> Any:
        if self._ccxt is None:
            self._ccxt = self._made()
        return self._ccxt

    def _made(self) -> Any:
        """A new instance. Nothing goes over the network yet."""
        access = self._access
        maker = _class(access.exchange)
        own_pace = access.call_milliseconds or maker({"enableRateLimit": False}).rateLimit
        exchange = maker(
            {
                **{CREDENTIALS[name]: value for name, value in access.credentials.items()},
                "enableRateLimit": True,
                # ccxt has no headers to learn the rate limit from: leaving headroom means asking less often.
                "rateLimit": own_pace / (1.0 - access.headroom_ratio),
                "tokenBucket": {"delay": LOOK_SECONDS},
                "options": {"fetchCurrencies": False, "warnOnFetchOpenOrdersWithoutSymbol": False, **access.options},
            }
        )
        if access.sandbox:
            exchange.set_sandbox_mode(True)
        if access.base_url is not None:
            exchange.urls["api"] = redirected(exchange.urls["api"], access.base_url)
        for name, told_apart in (("handle_market_type_and_params", "type"), ("handle_sub_type_and_params", "subtype")):
            setattr(exchange, name, partial(self._notice, getattr(exchange, name), told_apart))
        self._line.equip(exchange)
        return exchange

    def _notice(self, original: Any, told_apart: str, *args: Any, **options: Any) -> Any:
        self._noticed.add(told_apart)
        return original(*args, **options)
