"""The keep-alive of IBKR's login outlives everything, ends when it is closed, and takes nothing from anybody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deskwatch.clock import ManualClock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.venues.ibkr_session import RETRY_SECONDS, TICKLE_SECONDS, Login, Session

THERE = {"authenticated": True, "competing": False, "connected": True}
GONE = {"authenticated": False, "competing": False, "connected": True}
TAKEN = {"authenticated": False, "competing": True, "connected": True}


def tickled(status: Any = THERE) -> dict[str, Any]:
    """The answer to a tickle."""
    return {"session": "s", "ssoExpires": 460311, "collission": False, "userId": 1, "iserver": {"authStatus": status}}


class Venue:
    """Answers posts as told; the last answer again where none is left."""

    def __init__(self, *answers: Any) -> None:
        self.answers = deque(answers or (tickled(),))
        self.posts: list[tuple[str, Any]] = []
        self.init: Any = THERE

    async def post(self, path: str, content: Any) -> Any:
        """One POST."""
        self.posts.append((path, content))
        told = self.init
        if path == "/tickle":
            told = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(told, Exception):
            raise told
        return told

    @property
    def tickles(self) -> int:
        """How many so far."""
        return sum(path == "/tickle" for path, _ in self.posts)


@asynccontextmanager
async def session(venue: Venue, clock: ManualClock, *, restore: bool = False) -> AsyncIterator[Session]:
    """One that is closed in the end."""
    made = Session("IBKR", clock, venue.post, restore=restore)
    try:
        yield made
    finally:
        await made.close()


async def opened(login: Session, clock: ManualClock) -> None:
    """Open it and let the keep-alive begin to wait."""
    try:
        await login.open()
    finally:
        await clock.advance(0.0)


def failing(reason: Reason, wait: float | None = None) -> Retryable:
    """A call that fails."""
    return Retryable("no", reason=reason, retry_after_seconds=wait)


async def test_a_tickle_a_minute_keeps_the_login_alive() -> None:
    """Between fetches too: it is nobody's turn but its own."""
    venue, clock = Venue(), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        assert venue.tickles == 1
        await clock.advance(TICKLE_SECONDS - 1)
        assert venue.tickles == 1
        await clock.advance(1.0)
        assert venue.tickles == 2
        for _ in range(10):
            await clock.advance(TICKLE_SECONDS)
        assert venue.tickles == 12
        assert login.lacks is None
        assert login.login == Login(authenticated=True, connected=True, competing=False, expires_seconds=460.311)


async def test_opening_again_asks_nothing_and_starts_no_second_keep_alive() -> None:
    """A fetch knows the login already."""
    venue, clock = Venue(), ManualClock()
    async with session(venue, clock) as login:
        for _ in range(5):
            await opened(login, clock)
        assert venue.tickles == 1
        await clock.advance(TICKLE_SECONDS + 30.0)
        assert venue.tickles == 2


async def test_the_keep_alive_survives_whatever_comes() -> None:
    """The known bug of others: theirs ended at one network error, and the session died in the night."""
    bad: list[Any] = [
        failing(Reason.REFUSED),
        failing(Reason.TIMEOUT),
        failing(Reason.NETWORK),
        failing(Reason.DNS),
        failing(Reason.BAD_RESPONSE),
        failing(Reason.SERVER_ERROR),
        Permanent("no", reason=Reason.REJECTED),
        RuntimeError("unforeseen"),
        [],
        {},
    ]
    venue, clock = Venue(tickled(), *bad, tickled()), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        await clock.advance(TICKLE_SECONDS)
        for count in range(len(bad)):
            assert venue.tickles == 2 + count
            assert login.lacks is None, "what is known stays known while nothing else is"
            await clock.advance(RETRY_SECONDS)
        assert venue.tickles == 2 + len(bad)
        await clock.advance(TICKLE_SECONDS - 1)
        assert venue.tickles == 2 + len(bad), "back to one a minute"
        await clock.advance(1.0)
        assert venue.tickles == 3 + len(bad)


async def test_the_keep_alive_waits_as_long_as_it_is_told() -> None:
    """In the penalty box a tickle would be refused too."""
    venue, clock = Venue(tickled(), failing(Reason.RATE_LIMITED, 600.0), tickled()), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        await clock.advance(TICKLE_SECONDS)
        await clock.advance(599.0)
        assert venue.tickles == 2
        await clock.advance(1.0)
        assert venue.tickles == 3


async def test_it_ends_when_it_is_closed() -> None:
    """And not before: no tickle after, and closing twice is no error."""
    venue, clock = Venue(), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        await login.close()
        await clock.advance(10 * TICKLE_SECONDS)
        assert venue.tickles == 1


@pytest.mark.parametrize("reason", [Reason.AUTH, Reason.RATE_LIMITED])
async def test_opening_says_that_nobody_is_logged_in_or_that_we_are_refused(reason: Reason) -> None:
    """Nothing else can be asked then; the keep-alive goes on and notices when that has changed."""
    venue, clock = Venue(failing(reason), tickled()), ManualClock()
    async with session(venue, clock) as login:
        with pytest.raises(Retryable) as caught:
            await opened(login, clock)
        assert (caught.value.reason, login.lacks) == (reason, "not_logged_in")
        await clock.advance(TICKLE_SECONDS)
        assert (venue.tickles, login.lacks) == (2, None)


async def test_opening_leaves_other_failures_to_the_calls_that_follow() -> None:
    """They have the same and say it for themselves."""
    venue, clock = Venue(failing(Reason.SERVER_ERROR)), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        assert login.lacks == "not_logged_in"


async def test_a_login_that_expires_is_forgotten_and_its_return_is_a_new_session() -> None:
    """What was primed is to be primed again."""
    venue, clock = Venue(tickled(), failing(Reason.AUTH), tickled()), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        assert login.generation == 1
        await clock.advance(TICKLE_SECONDS)
        assert (login.lacks, login.generation) == ("not_logged_in", 1)
        await clock.advance(RETRY_SECONDS)
        assert (login.lacks, login.generation) == (None, 2)


async def test_tickles_are_never_closer_than_a_second() -> None:
    """The limit is one a second, also when fetches fail and come again at once."""
    venue, clock = Venue(failing(Reason.AUTH)), ManualClock()
    async with session(venue, clock) as login:
        with pytest.raises(Retryable):
            await login.open()
        again = asyncio.ensure_future(login.open())
        await clock.advance(0.9)
        assert venue.tickles == 1
        await clock.advance(0.2)
        assert venue.tickles == 2
        with pytest.raises(Retryable):
            await again


@pytest.mark.parametrize(
    ("status", "lacks"),
    [
        (THERE, None),
        (GONE, "no_brokerage_session"),
        (TAKEN, "competing_session"),
        (THERE | {"competing": True}, "competing_session"),
        (THERE | {"connected": False}, "no_brokerage_session"),
        ({}, "no_brokerage_session"),
        ("no bridge", "no_brokerage_session"),
    ],
)
async def test_what_the_brokerage_session_lacks(status: Any, lacks: str | None) -> None:
    """Only one that is there, connected and nobody else's can be used; a login without permissions has none to tell of."""
    venue, clock = Venue(tickled(status)), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        assert login.lacks == lacks


async def test_a_session_found_gone_by_a_call_is_gone_until_the_next_tickle() -> None:
    """And is another one when it is there again."""
    venue, clock = Venue(), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        login.lost()
        assert login.lacks == "no_brokerage_session"
        await clock.advance(TICKLE_SECONDS)
        assert (login.lacks, login.generation) == (None, 2)


async def test_by_default_no_brokerage_session_is_started() -> None:
    """Whoever started the last one may want to start the next."""
    venue, clock = Venue(tickled(GONE)), ManualClock()
    async with session(venue, clock) as login:
        await opened(login, clock)
        await clock.advance(5 * TICKLE_SECONDS)
        assert {path for path, _ in venue.posts} == {"/tickle"}


async def test_where_asked_for_it_is_started_again_without_competing() -> None:
    """`compete` true would end the trader's session."""
    venue, clock = Venue(tickled(GONE)), ManualClock()
    async with session(venue, clock, restore=True) as login:
        await opened(login, clock)
        assert venue.posts[1:] == [("/iserver/auth/ssodh/init", {"publish": True, "compete": False})]
        assert (login.lacks, login.generation) == (None, 1)


@pytest.mark.parametrize("status", [THERE, TAKEN, GONE | {"connected": False}])
async def test_it_is_not_started_where_it_is_there_or_another_programs_or_unreachable(status: Any) -> None:
    """There is nothing to start, or nothing to start it with."""
    venue, clock = Venue(tickled(status)), ManualClock()
    async with session(venue, clock, restore=True) as login:
        await opened(login, clock)
        await clock.advance(3 * TICKLE_SECONDS)
        assert {path for path, _ in venue.posts} == {"/tickle"}


@pytest.mark.parametrize(
    "init", [failing(Reason.SERVER_ERROR), failing(Reason.AUTH), Permanent("no", reason=Reason.REJECTED), []]
)
async def test_a_session_that_does_not_start_is_tried_again_with_the_next_tickle(init: Any) -> None:
    """The login is known all the same."""
    venue, clock = Venue(tickled(GONE)), ManualClock()
    venue.init = init
    async with session(venue, clock, restore=True) as login:
        await opened(login, clock)
        assert login.lacks == "no_brokerage_session"
        venue.init = THERE
        await clock.advance(TICKLE_SECONDS)
        assert login.lacks is None
