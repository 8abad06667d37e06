"""The exporter's HTTP: the landing page, `/metrics`, what is undefined, what a source delivered, what-if.

Answers come from the last cycle and the last fetches; nothing here computes on the event loop. A fetch uses up a
venue's rate limit, which the trader needs too: so reading shows the last one, and only `POST /debug/source`, which needs the
token, makes one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from aiohttp import web
from jinja2 import Environment, PackageLoader

from deskwatch import __version__
from deskwatch.clock import Clock
from deskwatch.errors import Permanent, Retryable
from deskwatch.logs import captured
from deskwatch.web import Readiness, Route, problem
from exporter.analytic import Analytic
from exporter.book import Trade
from exporter.cycle import Cycle, Latest
from exporter.exposition import Exposition, choose
from exporter.limits import LIMIT, UTILIZATION
from exporter.poller import Poller, Tracked
from exporter.reading import Reading
from exporter.snapshot import History
from exporter.source_view import details, presentable, summary
from exporter.whatif import answer_as_dict, trades_within, what_if

QUESTIONS_AT_ONCE = 2
"""What-if questions computed side by side; more wait their turn."""
SHOWN_RECORDS, MOST_SHOWN_RECORDS = 10, 1000
"""Records of each kind under `/debug/source`, unless `records=` asks for another number."""


class AskedTrade(msgspec.Struct, forbid_unknown_fields=True):
    """One trade of a question; `portfolio` where it is not the question's own."""

    symbol: str
    quantity: float
    portfolio: str | None = None


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/what-if`: trades, or a limit whose trades are sought."""

    portfolio: str
    trades: list[AskedTrade] | None = None
    limit: str | None = None
    headroom: float = 0.0


_QUESTION = msgspec.json.Decoder(Question)


class Api:
    """Handlers over the running exporter.

    Args:
        clock: monotonic time.
        poller: the sources.
        cycle: the last reading.
        exposition: the page.
        analytics: for what-if.
        bars: the daily bars kept of a source.
    """

    def __init__(
        self,
        clock: Clock,
        poller: Poller,
        cycle: Cycle,
        exposition: Exposition,
        analytics: Sequence[Analytic],
        bars: Callable[[str], tuple[History, ...]] = lambda _: (),
    ) -> None:
        self._clock = clock
        self._poller = poller
        self._cycle = cycle
        self._exposition = exposition
        self._analytics = analytics
        self._bars = bars
        self._asking = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._pages = Environment(
            loader=PackageLoader("exporter", "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )

    def routes(self) -> tuple[Route, ...]:
        """What the exporter answers, beside health and readiness."""
        return (
            Route("GET", "/", self.landing, "read"),
            Route("GET", "/metrics", self.metrics, "read"),
            Route("GET", "/debug/undefined", self.undefined, "read"),
            Route("GET", "/debug/source", self.show_source, "read"),
            Route("POST", "/debug/source", self.fetch_source, "change"),
            Route("POST", "/api/v1/what-if", self.what_if, "read"),
        )

    def readiness(self) -> Readiness:
        """Ready once the first cycle has been published."""
        return Readiness() if self._cycle.latest else Readiness(("the first reading",))

    async def metrics(self, request: web.Request) -> web.Response:
        """The page of the last cycle in the form asked for."""
        form = choose(request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", ""))
        page = self._exposition.current(form)
        body = page.bodies.get(form) or await asyncio.to_thread(page.body, form)
        headers = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
        if form.gzip:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def landing(self, _: web.Request) -> web.Response:
        """A page for a person."""
        now = self._clock.monotonic()
        sources = [summary(tracked, now) for tracked in self._poller.sources.values()]
        page = await asyncio.to_thread(self._landing, sources, self._cycle.latest)
        return web.Response(text=page, content_type="text/html")

    def _landing(self, sources: Sequence[dict[str, Any]], latest: Latest | None) -> str:
        return self._pages.get_template("landing.html").render(
            version=__version__,
            at=latest.reading.at if latest else None,
            series=self._exposition.series,
            sources=sources,
            portfolios=list(_about_portfolios(latest)) if latest else [],
            undefined=_about_undefined(latest.reading) if latest else [],
        )

    async def undefined(self, _: web.Request) -> web.Response:
        """Every number without a value, and why."""
        latest = self._cycle.latest
        if latest is None:
            return problem(503, "there is no reading yet")
        return _json({"at": latest.reading.at.isoformat(), "undefined": _about_undefined(latest.reading)})

    async def show_source(self, request: web.Request) -> web.Response:
        """What is known of a source from its last fetches. Asks the venue nothing."""
        name, records = _source_name(request, self._poller), _record_count(request)
        return await self._about(self._poller.sources[name], records, None)

    async def fetch_source(self, request: web.Request) -> web.Response:
        """Fetch a source now, whether or not its breaker is open, and show what came of it, its log lines too."""
        name, records = _source_name(request, self._poller), _record_count(request)
        with captured() as lines:
            try:
                tracked = await self._poller.inspect(name)
            except KeyError:
                raise web.HTTPNotFound(text=f"name: a reload has just taken the source {name!r} away") from None
        return await self._about(tracked, records, lines)

    async def _about(self, tracked: Tracked, records: int, lines: list[dict[str, Any]] | None) -> web.Response:
        bars = self._bars(tracked.name) if tracked.source.keeps_histories else ()
        found = details(tracked, self._clock.monotonic(), records, bars, lines)
        return await asyncio.to_thread(lambda: _json(presentable(found, tracked.config)))

    async def what_if(self, request: web.Request) -> web.Response:
        """The desk's numbers after trades, or the trades that respect a limit and the numbers after them."""
        try:
            question = _QUESTION.decode(await request.read())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return problem(
                422, f"the body must be {{portfolio, trades: [{{symbol, quantity}}]}} or {{portfolio, limit}}: {error}"
            )
        if (question.trades is None) == (question.limit is None):
            return problem(422, "give either trades or limit")
        latest = self._cycle.latest
        if latest is None:
            return problem(503, "there is no reading yet: ask again in a moment")
        try:
            async with self._asking:
                return _json(await asyncio.to_thread(_answer, latest, question, self._analytics))
        except Permanent as error:
            return problem(422, str(error))
        except Retryable as error:
            return problem(503, str(error))


def _answer(latest: Latest, question: Question, analytics: Sequence[Analytic]) -> dict[str, Any]:
    state = latest.state
    if question.limit is not None:
        trades = trades_within(state, question.portfolio, question.limit, analytics, question.headroom)
    else:
        trades = tuple(
            Trade(each.portfolio or question.portfolio, each.symbol, each.quantity) for each in question.trades or ()
        )
    return answer_as_dict(what_if(state, trades, analytics, (question.portfolio,)))


def _json(content: Any) -> web.Response:
    return web.Response(body=json.dumps(content, allow_nan=False).encode(), content_type="application/json")


def _source_name(request: web.Request, poller: Poller) -> str:
    name = request.query.get("name", "")
    if name not in poller.sources:
        raise web.HTTPNotFound(text=f"name: no source is called {name[:80]!r}; there are: {', '.join(poller.sources)}")
    return name


def _record_count(request: web.Request) -> int:
    text = request.query.get("records", str(SHOWN_RECORDS))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= MOST_SHOWN_RECORDS):
        message = f"records: must be a whole number from 0 to {MOST_SHOWN_RECORDS}, was {text[:40]!r}"
        raise web.HTTPUnprocessableEntity(text=message)
    return int(text)


def _about_portfolios(latest: Latest) -> Iterator[dict[str, Any]]:
    """Every portfolio: its headline numbers, those with no label beside it and its currency, and its limits."""
    used = {sample.labels: sample.value for sample in latest.reading.of(UTILIZATION)}
    limits = [(*sample.labels, sample.value, used.get(sample.labels)) for sample in latest.reading.of(LIMIT)]
    for portfolio in latest.state.config.portfolios:
        numbers = [
            (sample.family.name, sample.value, portfolio.base_currency if "currency" in sample.family.labels else "")
            for sample in latest.reading.samples
            if sample.labels[:1] == (portfolio.name,) and sample.family.labels in (("portfolio",), ("portfolio", "currency"))
        ]
        yield {
            "name": portfolio.name,
            "members": portfolio.members,
            "numbers": sorted(numbers, key=lambda number: (not number[2], number[0])),  # money first
            "limits": [(limit, value, share) for name, limit, value, share in limits if name == portfolio.name],
        }


def _about_undefined(reading: Reading) -> list[dict[str, str]]:
    return [{"analytic": each.analytic, "reason": each.reason.value, "subject": each.subject} for each in reading.undefined]
