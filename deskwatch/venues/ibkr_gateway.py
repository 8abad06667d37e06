"""IBKR's Client Portal as far as every call needs it: the login's limits, accounts first, and what its refusals mean.

Two tiers: the login reads `/portfolio`, its brokerage session `/iserver`. Each wants its own list of accounts to have been
asked for, and forgets that when the session is a new one. Refuses to start, switch or end one; `ibkr_session` keeps it alive.
Source: IBKR Campus, Web API v1.0; github.com/Voyz/ibind.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable, Throttled
from deskwatch.http import HttpConfig, retry_after
from deskwatch.venues.ibkr_pacing import CALLS_A_SECOND, PENALTY_SECONDS, SLOW_SECONDS, Burst, Spacing
from deskwatch.venues.ibkr_session import Session
from deskwatch.venues.quota import Quota
from deskwatch.venues.wire import Parameters, Wire

BURST_SECONDS = 1.05
"""The second of the limit of all calls, and a little: IBKR counts when they arrive."""
ACCOUNTS_SECONDS = 600.0
"""How long the list of accounts is taken for unchanged."""
SAID = 120
"""Characters of the venue's own words that are shown."""
_ACCOUNTS_FIRST = re.compile(r"query \S*accounts first", re.IGNORECASE)
_NO_BROKERAGE = re.compile(r"no bridge|init session first|not authenticated", re.IGNORECASE)
"""How `/iserver` says, under various statuses, that there is no brokerage session."""


class AccountsFirst(Retryable):
    """The session is a new one: the list of accounts must be asked for before anything else."""


class Gateway:
    """One login.

    Args:
        what: the venue, for messages.
        config: certificate, proxy, deadline of one call.
        clock: wall and monotonic time.
        base_url: the gateway's address.
        verify_certificate: false for a gateway on this machine with the certificate it was delivered with.
        headroom_ratio: share of the limits left to the trader's programs on the same login.
        restore: start the brokerage session again where it has ended and nobody else has it.
        forget: told when the brokerage session is a new one.
    """

    def __init__(
        self,
        what: str,
        config: HttpConfig,
        clock: Clock,
        *,
        base_url: str,
        verify_certificate: bool,
        headroom_ratio: float,
        restore: bool,
        forget: Callable[[], None],
    ) -> None:
        self._what = what
        self._clock = clock
        # The burst keeps the headroom by waiting; the quota knows the penalty box, and counts.
        self._burst = Burst(clock, max(1, int(CALLS_A_SECOND * (1.0 - headroom_ratio) + 1e-9)), BURST_SECONDS)
        self.quota = Quota(what, clock, limit=CALLS_A_SECOND, window_seconds=1.0, headroom_ratio=0.0)
        self._wire = Wire(
            what,
            config,
            clock,
            base_url=base_url,
            quota=self.quota,
            refuse=self._refusal,
            verify_certificate=verify_certificate,
        )
        self.session = Session(what, clock, self._post, restore=restore)
        self._listing = Spacing(clock, SLOW_SECONDS)
        self._accounts: list[Any] | None = None
        self._listed_at = 0.0
        self._tell = forget
        self._generation = 0
        self._brokerage_listed = False

    async def close(self) -> None:
        """End the keep-alive and close the connections."""
        await self.session.close()
        await self._wire.close()

    async def accounts(self) -> list[Any]:
        """`GET /portfolio/accounts`, asked again every ten minutes, and whenever IBKR has forgotten that it was.

        Raises:
            Retryable: the login sees no account, or it is too early to ask again.
        """
        known, age = self._accounts, self._clock.monotonic() - self._listed_at
        if known is not None and (age < ACCOUNTS_SECONDS or self._listing.wait_seconds):
            return known
        if not self._listing.take():
            message = f"{self._what}: the list of accounts may be asked for once in {SLOW_SECONDS:g} seconds"
            raise Throttled(message, retry_after_seconds=self._listing.wait_seconds)
        return await self._list()

    async def portfolio(self, path: str, parameters: Parameters | None = None) -> Any:
        """A GET that needs the list of accounts to have been asked for; IBKR says so in many ways, so it is asked for again."""
        if self._accounts is None:
            await self.accounts()
        try:
            return await self._get(path, parameters)
        except (Retryable, Permanent) as error:
            if not (isinstance(error, AccountsFirst) or error.reason in (Reason.AUTH, Reason.REJECTED)):
                raise
            self._accounts = None
            if not self._listing.take():
                raise
            await self._list()
        return await self._get(path, parameters)

    async def iserver(self, path: str, parameters: Parameters | None = None) -> Any:
        """A GET within the brokerage session.

        Raises:
            Retryable: as any; with reason `auth` the session has gone, and as AccountsFirst it is a new one.
        """
        self.look_for_a_new_session()
        try:
            if not self._brokerage_listed:
                await self._get("/iserver/accounts")
                self._brokerage_listed = True
            return await self._get(path, parameters)
        except AccountsFirst:
            self._forget()
            raise
        except (Retryable, Permanent) as error:
            if error.reason is Reason.AUTH:
                self.session.lost()
            raise

    def look_for_a_new_session(self) -> None:
        """Forget what holds within one brokerage session only, where it is another one."""
        if self._generation != self.session.generation:
            self._generation = self.session.generation
            self._forget()

    def _forget(self) -> None:
        self._brokerage_listed = False
        self._tell()

    async def _list(self) -> list[Any]:
        found = a_list(await self._get("/portfolio/accounts"), self._what, "accounts")
        if not found:
            raise Retryable(f"{self._what}: the login sees no account", reason=Reason.BAD_RESPONSE)
        self._accounts, self._listed_at = found, self._clock.monotonic()
        return found

    async def _get(self, path: str, parameters: Parameters | None = None) -> Any:
        return await self._in_turn(lambda: self._wire.get(path, parameters))

    async def _post(self, path: str, content: Any) -> Any:
        return await self._in_turn(lambda: self._wire.post(path, content))

    async def _in_turn(self, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._burst.turn()
        try:
            return await call()
        except Throttled as early:
            # A machine that is busy makes calls late, so that they come together: the quota sees what the burst cannot.
            if early.wait_seconds > BURST_SECONDS:
                raise
            await self._clock.sleep(early.wait_seconds)
        return await call()

    def _refusal(self, status: int, headers: Mapping[str, str], parsed: Any) -> Retryable | Permanent | None:
        """What IBKR's own answers mean that the usual reading does not tell."""
        said = _said(parsed)
        text = f"{self._what} answered {status} {said}".strip()
        if status == 429:
            wait = max(PENALTY_SECONDS, retry_after(headers, self._clock.now()) or 0.0)
            message = f"{text}: a limit was broken, and this address is refused for some minutes"
            return Retryable(message, reason=Reason.RATE_LIMITED, retry_after_seconds=wait)
        if _ACCOUNTS_FIRST.search(said):
            return AccountsFirst(text, reason=Reason.SERVER_ERROR)
        if _NO_BROKERAGE.search(said):
            return Retryable(f"{text}: there is no brokerage session", reason=Reason.AUTH)
        if status == 401 or 300 <= status < 400:
            advice = "nobody is logged in: log in at the gateway's page in a browser"
            return Retryable(f"{text}: {advice}", reason=Reason.AUTH)
        if 200 <= status < 300 and said:
            return Retryable(text, reason=Reason.SERVER_ERROR)
        return None


def a_list(answer: Any, what: str, of: str) -> list[Any]:
    """The answer.

    Raises:
        Retryable: it is no JSON array.
    """
    if not isinstance(answer, list):
        message = f"{what}: a list of {of} was expected, found {type(answer).__name__}"
        raise Retryable(message, reason=Reason.BAD_RESPONSE)
    return answer


def an_object(answer: Any, what: str, of: str) -> Mapping[str, Any]:
    """The answer.

    Raises:
        Retryable: it is no JSON object.
    """
    if not isinstance(answer, Mapping):
        message = f"{what}: an object for {of} was expected, found {type(answer).__name__}"
        raise Retryable(message, reason=Reason.BAD_RESPONSE)
    return answer


def _said(parsed: Any) -> str:
    """IBKR's own words about a failure; empty for any other answer."""
    error = parsed.get("error") if isinstance(parsed, Mapping) else None
    return error[:SAID] if isinstance(error, str) else ""
