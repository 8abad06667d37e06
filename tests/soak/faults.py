"""Everything a venue can do wrong, for a soak: each fault on a venue of its own, seeded, mixed with answers that are right."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.stand_ins.bookkeeper import Bookkeeper, book
from tests.stand_ins.raw import http
from tests.stand_ins.server import DROP, HTML, SERVER_ERROR, Answer, Received
from tests.stand_ins.venue import CUT_SHORT, EMPTY, TOO_MANY, TRUNCATED, UNAUTHORIZED, answer

HANG_SECONDS = 2.5
"""Longer than any fetch may take; an answer that never came would pile up here, in the process that looks on."""
FAULTY_RATIO = 0.7
"""Share of the requests that go wrong."""
HANGS = Answer(200, "{}", content_type="application/json", delay_seconds=HANG_SECONDS)
SLOW = Answer(200, "{", content_type="application/json", delay_seconds=0.1)
ASKS_TO_WAIT = Answer(429, "{}", headers={"Retry-After": "0.3"}, content_type="application/json")
REJECTED = answer(
    {
        "cash": "1",
        "positions": [{"symbol": "OK", "qty": "1", "price": "2"}, {"symbol": "X"}, {"qty": "n/a"}, 5, None, {"symbol": []}],
    }
)
NO_CASH = answer({"positions": []})
BY_ANSWER: Mapping[str, tuple[Answer, ...]] = {
    "hang": (HANGS,),
    "slow": (SLOW,),
    "flap": (SERVER_ERROR, DROP, UNAUTHORIZED, EMPTY, Answer(302), NO_CASH),
    "limited": (TOO_MANY,),
    "limited-with-wait": (ASKS_TO_WAIT,),
    "html": (HTML,),
    "truncated": (TRUNCATED,),
    "cut": (CUT_SHORT,),
    "rejected": (REJECTED,),
}
"""Name of a source to what its venue answers when it goes wrong."""
NAMES = (*BY_ANSWER, "refused", "tls", "quota", "well")
"""Every source. `well` has no fault of its own; it too is rotated, removed and added by reloads."""
TOGGLE_SECONDS = 0.7
"""So often a port opens or closes and a certificate changes."""


@dataclass
class Venues:
    """Addresses by source, whom to trust, and the switch."""

    urls: dict[str, str]
    ca_file: Path
    venues: list[Bookkeeper]
    faults: bool = False

    def forget(self) -> None:
        """Drop the record of the requests: a soak makes hundreds of thousands."""
        for each in self.venues:
            each.requests.clear()


@asynccontextmanager
async def venues(seed: int, folder: Path) -> AsyncIterator[Venues]:
    """One for each name, all well until `faults` is set."""
    found = Venues({}, folder / "ca.pem", [])
    trusted, stranger = trustme.CA(), trustme.CA()
    trusted.cert_pem.write_to_path(str(found.ca_file))
    async with AsyncExitStack() as stack:
        for name in set(NAMES) - {"refused", "tls"}:
            venue = await stack.enter_async_context(Bookkeeper(f"{name}-shares"))
            venue.refuse = _refusing(found, random.Random(f"{seed} {name}"), BY_ANSWER.get(name, ()))  # noqa: S311 - seeded
            found.venues.append(venue)
            found.urls[name] = venue.url
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificates = [authority.issue_cert("localhost") for authority in (trusted, stranger)]
        certificates[0].configure_cert(context)
        for name, server in (("refused", Shop("refused")), ("tls", Shop("tls", context))):
            await server.open()
            stack.callback(server.close)
            found.urls[name] = server.url
            toggling = asyncio.ensure_future(_toggle(found, server, certificates))
            stack.callback(toggling.cancel)
        yield found


class Shop:
    """A venue that closes and opens again on the same port. Every answer ends its connection."""

    def __init__(self, name: str, context: ssl.SSLContext | None = None) -> None:
        self._answer = http(json.dumps(book(f"{name}-shares")).encode(), Connection="close")
        self.context = context
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """By name, as the certificate has it."""
        return f"{'https' if self.context else 'http'}://localhost:{self._port}"

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self.context)
        self._port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


async def _toggle(venues: Venues, shop: Shop, certificates: list[trustme.LeafCert]) -> None:
    """Every now and then a shop with a certificate gets another one; one without closes or opens."""
    well = True
    while True:
        await asyncio.sleep(TOGGLE_SECONDS)
        was, well = well, not (well and venues.faults)
        if shop.context is not None:
            certificates[0 if well else 1].configure_cert(shop.context)
        elif well and not was:
            await shop.open()
        elif was and not well:
            shop.close()


def _refusing(venues: Venues, chance: random.Random, answers: tuple[Answer, ...]) -> Callable[[Received], Answer | None]:
    def refuse(_: Received) -> Answer | None:
        if answers and venues.faults and chance.random() < FAULTY_RATIO:
            return chance.choice(answers)
        return None

    return refuse
