"""What every channel promises: it leaks no secret, honours the deadline, and says Retryable or Permanent rightly.

A channel added to the room without a row in `MAKERS` fails here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import structlog

from deskwatch.clock import SystemClock
from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.logs import LogConfig, configure, get_logger
from receiver.channel import CHANNELS, Channel, ChannelConfig
from receiver.message import MessageKind
from tests.stand_ins.pagerduty import ROUTING_KEY, PagerDuty
from tests.stand_ins.server import DROP, HANG, HTML, Answer, StandIn
from tests.stand_ins.slack import Slack
from tests.stand_ins.webhook import GenericWebhook
from tests.unit.receiver.channels.messages import NOTICE, REMEDIATION, episode, message

SECRET = "X" * 24


@dataclass(frozen=True)
class Maker:
    """How a channel that calls a service is set up: its stand-in and its settings, given the stand-in's address."""

    stand_in: Callable[[], StandIn]
    settings: Callable[[str], dict[str, Any]]
    secrets: tuple[str, ...]


MAKERS = {
    "slack": Maker(Slack, lambda url: {"url": f"{url}{Slack.path}"}, (SECRET,)),
    "pagerduty": Maker(PagerDuty, lambda url: {"base_url": url, "routing_key": ROUTING_KEY}, (ROUTING_KEY, ROUTING_KEY[-4:])),
    "webhook": Maker(
        GenericWebhook,
        lambda url: {"url": f"{url}/hook?key={SECRET}", "token": "b3arer-t0ken", "signing_secret": "s1gning-s3cret"},
        (SECRET, "b3arer-t0ken", "s1gning-s3cret"),
    ),
}
LOCAL = {"console"}
"""Channels that call nobody."""


def made(name: str, settings: dict[str, Any]) -> Channel[Any]:
    """The channel with these settings."""
    config = CHANNELS.config(name).model_validate({"type": name, "timeout_seconds": 5.0, **settings})
    assert isinstance(config, ChannelConfig)
    return CHANNELS.plugin(name)(config, SystemClock())


@asynccontextmanager
async def connected(name: str, **more: Any) -> AsyncIterator[tuple[Channel[Any], Any]]:
    """The channel and its stand-in."""
    maker = MAKERS[name]
    async with maker.stand_in() as stand_in:
        channel = made(name, maker.settings(stand_in.url) | more)
        try:
            yield channel, stand_in
        finally:
            await channel.close()


def test_every_channel_is_under_this_contract() -> None:
    """None escapes it."""
    assert set(CHANNELS.modules) == set(MAKERS) | LOCAL


@pytest.mark.parametrize("name", CHANNELS.modules)
def test_a_channel_takes_notices_and_only_kinds_that_exist(name: str) -> None:
    """The receiver must be able to say that it lost something, whatever the fallback channel is."""
    takes = CHANNELS.plugin(name).takes
    assert "notice" in takes
    assert takes <= set(get_args(MessageKind))


@pytest.mark.parametrize("name", MAKERS)
async def test_every_kind_it_takes_arrives(name: str) -> None:
    """And the far side, which checks the documented form, accepts it."""
    samples = {"notice": NOTICE, "remediation": REMEDIATION, "resolve": message("resolve", episode(status="resolved"))}
    async with connected(name) as (channel, stand_in):
        for kind in sorted(channel.takes):
            await channel.send(samples.get(kind, message(kind)))
        assert len(stand_in.requests) == len(channel.takes)


CASES: list[tuple[Answer, type[Exception], Reason, float | None]] = [
    (Answer(400, "invalid_payload"), Permanent, Reason.REJECTED, None),
    (Answer(401, "no"), Permanent, Reason.AUTH, None),
    (Answer(403, "action_prohibited"), Permanent, Reason.AUTH, None),
    (Answer(404, "no_service"), Permanent, Reason.NOT_FOUND, None),
    (Answer(410, "channel_is_archived"), Permanent, Reason.NOT_FOUND, None),
    (Answer(413, "too large"), Permanent, Reason.TOO_LARGE, None),
    (Answer(429, "slow down"), Retryable, Reason.RATE_LIMITED, None),
    (Answer(429, "slow down", {"Retry-After": "30"}), Retryable, Reason.RATE_LIMITED, 30.0),
    (Answer(500, "Internal Server Error"), Retryable, Reason.SERVER_ERROR, None),
    (Answer(503, "<html>", {"Retry-After": "7"}, "text/html"), Retryable, Reason.SERVER_ERROR, 7.0),
    (DROP, Retryable, Reason.NETWORK, None),
]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("answer", "error", "reason", "wait"), CASES, ids=lambda value: getattr(value, "status", None))
async def test_a_failure_is_classified(
    name: str, answer: Answer, error: type[Exception], reason: Reason, wait: float | None
) -> None:
    """Permanent where repeating cannot help, Retryable with the wait the far side named where it can; one call each."""
    async with connected(name) as (channel, stand_in):
        stand_in.always(answer)
        with pytest.raises(error) as raised:
            await channel.send(message())
        assert raised.value.reason is reason  # type: ignore[attr-defined]
        assert getattr(raised.value, "retry_after_seconds", None) == wait
        assert len(stand_in.requests) == 1


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"webhook"}))
@pytest.mark.parametrize("answer", [HTML, Answer(200, ""), Answer(202, "{}", content_type="application/json")], ids=str)
async def test_a_success_that_is_not_the_vendors_is_none(name: str, answer: Answer) -> None:
    """A login page of a proxy answers 200 to everything."""
    async with connected(name) as (channel, stand_in):
        stand_in.always(answer)
        with pytest.raises(Retryable) as raised:
            await channel.send(message())
        assert raised.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize("name", MAKERS)
async def test_a_refused_connection_is_retryable(name: str) -> None:
    """The service restarts."""
    async with StandInAddress() as url:
        channel = made(name, MAKERS[name].settings(url))
        with pytest.raises(Retryable) as raised:
            await channel.send(message())
        assert raised.value.reason is Reason.REFUSED
        await channel.close()


class StandInAddress:
    """An address nobody listens at."""

    async def __aenter__(self) -> str:
        async with GenericWebhook() as gone:
            return gone.url

    async def __aexit__(self, *_: object) -> None:
        return


@pytest.mark.parametrize("name", MAKERS)
async def test_a_host_that_does_not_resolve_is_retryable(name: str) -> None:
    """A name server is down."""
    settings = MAKERS[name].settings("https://does-not-exist.invalid")
    channel = made(name, settings)
    with pytest.raises(Retryable) as raised:
        await channel.send(message())
    assert raised.value.reason in (Reason.DNS, Reason.REFUSED, Reason.NETWORK)
    await channel.close()


@pytest.mark.parametrize("name", MAKERS)
async def test_a_hanging_service_costs_the_deadline_and_no_more(name: str) -> None:
    """The engine's deadline cancels it; another message can be sent at once."""
    async with connected(name) as (channel, stand_in):
        stand_in.next(HANG)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await channel.send(message())
        assert time.monotonic() - began < 2
        async with asyncio.timeout(5):
            await channel.send(message())


@pytest.mark.parametrize("name", MAKERS)
async def test_its_own_timeout_is_retryable(name: str) -> None:
    """Where the configured deadline passes inside the client."""
    async with connected(name, timeout_seconds=0.3) as (channel, stand_in):
        stand_in.next(HANG)
        with pytest.raises(Retryable) as raised:
            await channel.send(message())
        assert raised.value.reason is Reason.TIMEOUT


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "answer", [answer for answer, *_ in CASES] + [HTML, Answer(200, "ok")], ids=lambda answer: str(answer.status)
)
async def test_no_secret_leaks(name: str, answer: Answer, process_logs: None, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in an error or what caused it, not in the process's log at any level, not in the configuration shown."""
    maker = MAKERS[name]
    async with connected(name) as (channel, stand_in):
        stand_in.always(Answer(answer.status, f"{answer.body} {' '.join(maker.secrets)}", answer.headers, drop=answer.drop))
        said = [repr(channel.config), str(channel.config)]
        try:
            await channel.send(message())
        except (Retryable, Permanent) as error:
            said += chain(error)
    get_logger().debug("logged at the lowest level")
    out, err = capfd.readouterr()
    assert "logged at the lowest level" in err
    for text in (*said, out, err):
        for secret in maker.secrets:
            assert secret not in text


@pytest.fixture
def process_logs(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Logging as the process sets it up, at its most talkative."""
    handlers, level = list(logging.root.handlers), logging.root.level
    configure(LogConfig(format="json", level="debug"), component="test")
    yield
    logging.basicConfig(handlers=handlers, level=level, force=True)
    structlog.reset_defaults()


def chain(error: BaseException | None) -> list[str]:
    """The texts a traceback of the error would show."""
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return texts
