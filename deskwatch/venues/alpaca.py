"""Calls to Alpaca: credentials, its two rate limits, and what its answers mean. Reads only; pages are put together elsewhere.

Two APIs with a limit each: trading (account, positions, orders, activities, clock) and market data. Returns the venue's JSON.
Source: Alpaca's OpenAPI documents, Trading API 2.0.1 and Market Data API 1.1 (github.com/alpacahq/cli, api/specs).
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Mapping
from typing import Any

from deskwatch.clock import Clock
from deskwatch.config import Secret
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import HttpConfig, retry_after
from deskwatch.venues.quota import Quota
from deskwatch.venues.wire import Parameters, Refusal, Wire

LIVE_URL = "https://api.alpaca.markets"
PAPER_URL = "https://paper-api.alpaca.markets"
DATA_URL = "https://data.alpaca.markets"
CALLS_A_MINUTE = 200
"""Limit of each API until its headers tell another; better market data plans have more."""
LONGEST_WINDOW_SECONDS = 600.0
"""A reset further away than this is a clock that is wrong, ours or theirs."""
SAID = 120
"""Characters of the venue's own words that are shown."""


class Alpaca:
    """One account.

    Args:
        key_id: sent as `APCA-API-KEY-ID`.
        secret_key: sent as `APCA-API-SECRET-KEY`.
        config: certificate, proxy, deadline of one call.
        clock: wall time for `X-Ratelimit-Reset`, monotonic time for the limits.
        paper: whether it is the paper account: decides the address, and what a refusal advises.
        trading_url: address of the trading API; by default the paper or live account's.
        data_url: address of the market data API.
        headroom_ratio: share of each limit left to the trader.
    """

    def __init__(
        self,
        key_id: Secret,
        secret_key: Secret,
        config: HttpConfig,
        clock: Clock,
        *,
        paper: bool = True,
        trading_url: str | None = None,
        data_url: str = DATA_URL,
        headroom_ratio: float = 0.0,
    ) -> None:
        headers = {"APCA-API-KEY-ID": key_id.get_secret_value(), "APCA-API-SECRET-KEY": secret_key.get_secret_value()}
        advice = {
            "Alpaca trading": _account_advice(paper=paper),
            "Alpaca data": "check key_id and secret_key, and that the account's market data plan includes the feed asked for",
        }
        address = {"Alpaca trading": trading_url or (PAPER_URL if paper else LIVE_URL), "Alpaca data": data_url}
        self._quotas = {
            what: Quota(what, clock, limit=CALLS_A_MINUTE, window_seconds=60.0, headroom_ratio=headroom_ratio)
            for what in address
        }
        self._trading, self.data = (
            Wire(
                what,
                config,
                clock,
                base_url=url,
                quota=self._quotas[what],
                headers=headers,
                learn=_learner(self._quotas[what], clock),
                refuse=_refusal(what, clock, advice[what]),
            )
            for what, url in address.items()
        )

    @property
    def quota_used_ratio(self) -> float:
        """The larger share used of the two limits, by everybody as far as the headers tell."""
        return max(quota.used_ratio for quota in self._quotas.values())

    async def account(self) -> Mapping[str, Any]:
        """`GET /v2/account`."""
        return an_object(await self._trading.get("/v2/account"), "the account")

    async def positions(self) -> list[Any]:
        """`GET /v2/positions`: every open position, on one page."""
        return a_list(await self._trading.get("/v2/positions"), "positions")

    async def market_clock(self) -> Mapping[str, Any]:
        """`GET /v2/clock`: the US market's."""
        return an_object(await self._trading.get("/v2/clock"), "the clock")

    async def orders(self, parameters: Parameters) -> list[Any]:
        """`GET /v2/orders`: one page."""
        return a_list(await self._trading.get("/v2/orders", parameters), "orders")

    async def fills(self, parameters: Parameters) -> list[Any]:
        """`GET /v2/account/activities/FILL`: one page."""
        return a_list(await self._trading.get("/v2/account/activities/FILL", parameters), "fills")

    async def close(self) -> None:
        """Close the connections."""
        await self._trading.close()
        await self.data.close()


def an_object(answer: Any, what: str) -> Mapping[str, Any]:
    """The answer.

    Raises:
        Retryable: it is no JSON object.
    """
    if not isinstance(answer, Mapping):
        raise _unexpected(what, "an object", answer)
    return answer


def a_list(answer: Any, what: str) -> list[Any]:
    """The answer.

    Raises:
        Retryable: it is no JSON array.
    """
    if not isinstance(answer, list):
        raise _unexpected(what, "a list", answer)
    return answer


def _unexpected(what: str, wanted: str, answer: Any) -> Retryable:
    return Retryable(f"Alpaca, {what}: {wanted} was expected, found {type(answer).__name__}", reason=Reason.BAD_RESPONSE)


def _account_advice(*, paper: bool) -> str:
    this, other = ("paper", "live") if paper else ("live", "paper")
    return (
        f"check key_id and secret_key: paper is {str(paper).lower()}, so they must be the {this} account's"
        f" (with those of the {other} account set paper to {str(not paper).lower()})"
    )


def _learner(quota: Quota, clock: Clock) -> Callable[[Mapping[str, str]], None]:
    """Tell the quota what the headers say."""

    def learn(headers: Mapping[str, str]) -> None:
        limit, remaining = (_number(headers, f"x-ratelimit-{name}") for name in ("limit", "remaining"))
        used = None if limit is None or remaining is None else limit - remaining
        quota.learn(used=used, limit=limit, resets_in_seconds=_seconds_to_reset(headers, clock))

    return learn


def _refusal(what: str, clock: Clock, advice: str) -> Refusal:
    """What a status means that the usual reading does not tell well enough."""

    def refuse(status: int, headers: Mapping[str, str], parsed: Any) -> Retryable | Permanent | None:
        text = f"{what} answered {status} {_said(parsed)}".strip()
        if status in (401, 403):
            return Permanent(f"{text}: {advice}", reason=Reason.AUTH)
        if status == 429:
            wait = retry_after(headers, clock.now())
            if wait is None and (reset := _seconds_to_reset(headers, clock)) is not None:
                wait = reset + 1.0  # the header has whole seconds
            return Retryable(text, reason=Reason.RATE_LIMITED, retry_after_seconds=wait)
        return None

    return refuse


def _seconds_to_reset(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds until the window ends, by the venue's own clock where it shows one; None where absent or senseless."""
    reset = _number(headers, "x-ratelimit-reset")
    if reset is None:
        return None
    try:
        now = email.utils.parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        now = clock.now()
    seconds = reset - now.timestamp()
    return seconds if 0.0 <= seconds <= LONGEST_WINDOW_SECONDS else None


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers.get(name, ""))
    except ValueError:
        return None


def _said(parsed: Any) -> str:
    message = parsed.get("message") if isinstance(parsed, Mapping) else None
    return message[:SAID] if isinstance(message, str) else ""
