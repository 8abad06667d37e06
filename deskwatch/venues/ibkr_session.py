"""The login at IBKR's Client Portal: kept alive in the background, and whether its brokerage session can be used.

IBKR ends a login that has been silent for some minutes. The keep-alive therefore outlives everything: a network that fails,
an HTML page, a server error, an answer that makes no sense. It never takes the brokerage session from anybody.
Source: IBKR Campus, Web API v1.0, "Session": tickle, auth/status, ssodh/init.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.logs import get_logger
from deskwatch.venues.ibkr_pacing import Burst

TICKLE_SECONDS = 60.0
"""IBKR recommends a call a minute, and ends a session after about six without one."""
RETRY_SECONDS = 10.0
"""After a call that failed: many tries before the session ends."""
SHORTEST_SECONDS = 1.1
"""Between two tickles whatever happens: the limit is one a second."""

Post: TypeAlias = Callable[[str, Any], Awaitable[Any]]
"""Makes one POST: path, JSON body."""


@dataclass(frozen=True, slots=True)
class Login:
    """What IBKR says of the brokerage session of this login.

    `authenticated`: it is there. `connected`: the gateway reaches IBKR's servers. `competing`: another program of the same user
    has it, or wants it.
    """

    authenticated: bool = False
    connected: bool = False
    competing: bool = False
    expires_seconds: float | None = None
    """When the login itself ends, by the gateway's count at the time."""

    @property
    def lacks(self) -> str | None:
        """Why `/iserver` cannot be asked, as a bounded word; None where it can."""
        if self.competing:
            return "competing_session"
        return None if self.authenticated and self.connected else "no_brokerage_session"


class Session:
    """One login.

    Args:
        what: the venue, for messages.
        clock: monotonic time and waiting.
        post: makes the calls.
        restore: start the brokerage session again where it has ended and nobody else has it. Never competes.
    """

    def __init__(self, what: str, clock: Clock, post: Post, *, restore: bool) -> None:
        self._what = what
        self._clock = clock
        self._post = post
        self._restore = restore
        self._pace = Burst(clock, 1, SHORTEST_SECONDS)
        self._task: asyncio.Task[None] | None = None
        self._failing: set[Reason] = set()
        self._wait = TICKLE_SECONDS
        self.login: Login | None = None
        """As last told; None before the first answer and while nobody is logged in."""
        self.generation = 0
        """Grows whenever the brokerage session is a new one, as far as it shows: everything primed is to be primed again."""

    @property
    def lacks(self) -> str | None:
        """Why `/iserver` cannot be asked now, None where it can."""
        return "not_logged_in" if self.login is None else self.login.lacks

    async def open(self) -> None:
        """Know the login, and keep it alive from now on.

        Raises:
            Retryable: nobody is logged in, or IBKR refuses us for a while. Any other failure shows in the calls that follow.
        """
        try:
            if self.login is None:
                await self._know()
        except (Retryable, Permanent) as error:
            if error.reason in (Reason.AUTH, Reason.RATE_LIMITED):
                raise
        finally:
            self._keep_on()

    def lost(self) -> None:
        """The brokerage session has gone, as a call has shown; the next tickle looks again."""
        if self.login is not None:
            self.login = replace(self.login, authenticated=False)

    async def close(self) -> None:
        """End the keep-alive. The login itself is the operator's: it stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def _keep_on(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_alive(), name=f"keep-alive {self._what}")

    async def _keep_alive(self) -> None:
        while True:
            await self._clock.sleep(self._wait)
            try:
                await self._know()
            except (Retryable, Permanent) as error:
                self._missed(error)
            except Exception:
                self._wait = RETRY_SECONDS
                get_logger().exception("the keep-alive failed in an unforeseen way; it goes on", venue=self._what)

    def _missed(self, error: Retryable | Permanent) -> None:
        wanted = error.retry_after_seconds if isinstance(error, Retryable) else None
        self._wait = max(RETRY_SECONDS, wanted or 0.0)
        if error.reason not in self._failing:
            self._failing.add(error.reason)
            get_logger().warning(
                "the keep-alive failed; it goes on", venue=self._what, reason=error.reason.value, error=str(error)
            )

    async def _know(self) -> None:
        """Tickle once and take note.

        Raises:
            Retryable: no usable answer; with reason `auth` nobody is logged in.
        """
        await self._pace.turn()
        try:
            login = _login(await self._post("/tickle", {}), self._what)
        except (Retryable, Permanent) as error:
            if error.reason is Reason.AUTH:
                self.login = None
            raise
        if self._restore and login.lacks == "no_brokerage_session" and login.connected:
            login = await self._restored(login)
        if login.lacks is None and self.lacks is not None:
            self.generation += 1
        self.login = login
        self._wait = TICKLE_SECONDS
        if self._failing:
            self._failing.clear()
            get_logger().info("the keep-alive is back", venue=self._what)

    async def _restored(self, login: Login) -> Login:
        """The login after an attempt to start its brokerage session again, unless another program has it."""
        try:
            answer = await self._post("/iserver/auth/ssodh/init", {"publish": True, "compete": False})
        except (Retryable, Permanent) as error:
            get_logger().info("the brokerage session does not start", venue=self._what, error=str(error))
            return login
        return _status(answer, login.expires_seconds) if isinstance(answer, Mapping) else login


def _login(answer: Any, what: str) -> Login:
    """What a tickle's answer says.

    Raises:
        Retryable: it is not an answer to a tickle.
    """
    if not isinstance(answer, Mapping) or not {"session", "iserver"} & answer.keys():
        raise Retryable(f"{what}: a tickle was answered without a session", reason=Reason.BAD_RESPONSE)
    expires = answer.get("ssoExpires")
    seconds = float(expires) / 1000.0 if isinstance(expires, int) else None
    brokerage = answer.get("iserver")
    status = brokerage.get("authStatus") if isinstance(brokerage, Mapping) else None
    # A login without trading permissions has no brokerage session to tell of.
    return _status(status, seconds) if isinstance(status, Mapping) else Login(expires_seconds=seconds)


def _status(status: Mapping[str, Any], expires_seconds: float | None) -> Login:
    return Login(
        authenticated=status.get("authenticated") is True,
        connected=status.get("connected") is True,
        competing=status.get("competing") is True,
        expires_seconds=expires_seconds,
    )
