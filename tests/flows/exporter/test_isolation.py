"""One source hangs, one flaps, one is at its quota: the others, and what is on the page, beside an exporter without faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from statistics import fmean, median
from typing import Any

import httpx
import pytest

from tests import bookkeeper
from tests.bookkeeper import NAME
from tests.flows.exporter.running import Running, Series, parsed, running, value
from tests.plug_ins import installed
from tests.stand_ins.bookkeeper import Bookkeeper
from tests.stand_ins.server import DROP, HANG, HTML, SERVER_ERROR, Answer, Received
from tests.stand_ins.venue import CUT_SHORT, TOO_MANY_FOR_2_SECONDS, TRUNCATED

FAULTY, STEADY = ("hanging", "flapping", "limited"), ("one", "two", "three")
INTERVAL_SECONDS, STALE_SECONDS, CYCLE_SECONDS = 0.25, 3.0, 0.1
WATCHED_SECONDS = 10.0
LIMIT, HEADROOM_RATIO = 6.0, 0.5
STATE = ("desk_source_", "desk_limit")
"""Families that are there whatever becomes of the data."""


class Desk:
    """An exporter, the venues it reads, and every page it has served."""

    def __init__(self, exporter: Running, venues: dict[str, Bookkeeper]) -> None:
        self.exporter = exporter
        self.venues = venues
        self.pages: list[tuple[float, str]] = []
        self.slowest = 0.0

    async def watch(self) -> None:
        """Ask for the page ten times a second; one that is not answered fails the test."""
        now = asyncio.get_running_loop().time
        async with httpx.AsyncClient(base_url=self.exporter.url, trust_env=False, timeout=5) as client:
            while True:
                begun = now()
                page = (await client.get("/metrics")).raise_for_status()
                self.slowest = max(self.slowest, now() - begun)
                self.pages.append((now(), page.text))
                await asyncio.sleep(0.1)

    def series(self, since: float) -> Iterator[tuple[float, Series]]:
        """The pages served since then."""
        return ((at, parsed(text)) for at, text in self.pages if at >= since)

    def intervals(self, first: dict[str, int]) -> list[float]:
        """Of all steady venues, from the request each had got last when the watch began."""
        return [gap for name in STEADY for gap in self.venues[name].intervals[first[name] :]]


def configuration(venues: dict[str, Bookkeeper]) -> dict[str, Any]:
    """A portfolio for each source, and one of all."""
    timing = {"interval_seconds": INTERVAL_SECONDS, "timeout_seconds": 5.0, "stale_after_seconds": STALE_SECONDS}
    sources = [
        {"type": NAME, "name": name, "base_url": venue.url, "jitter_ratio": 0, "quota_headroom_ratio": HEADROOM_RATIO, **timing}
        for name, venue in venues.items()
    ]
    portfolios = [{"name": name, "base_currency": "USD", "sources": [name]} for name in venues]
    desk = {"name": "desk", "base_currency": "USD", "members": list(venues)}
    exporter = {
        "web": {"listen": "127.0.0.1:0"},
        "cycle_seconds": CYCLE_SECONDS,
        "sources": sources,
        "portfolios": [*portfolios, desk],
        "limits": [{"portfolio": name, "limit": "concentration", "value": 1.0} for name in ("hanging", "desk")],
    }
    return {"logs": {"format": "json"}, "exporter": exporter}


@asynccontextmanager
async def desk(folder: Path, *, faulty: bool) -> AsyncIterator[Desk]:
    """Everything well; every portfolio has its numbers."""
    async with AsyncExitStack() as stack:
        venues = {name: await stack.enter_async_context(Bookkeeper(f"{name}-shares")) for name in (*FAULTY, *STEADY)}
        content = configuration(venues)
        if faulty:
            for name, settings in (("hanging", {"timeout_seconds": 1.0}), ("limited", {"limit": LIMIT})):
                content["exporter"]["sources"][FAULTY.index(name)] |= settings
        exporter = await stack.enter_async_context(running(folder, content))
        await exporter.until(lambda page: worth(page, "desk") == pytest.approx(6 * 1100.75))
        yield Desk(exporter, venues)


def worth(page: Series, portfolio: str) -> float | None:
    """Its value."""
    return value(page, "desk_portfolio_value", portfolio=portfolio, currency="USD")


def numbers(page: Series, portfolio: str) -> set[str]:
    """The families that say anything about a portfolio, its settings apart."""
    return {name for name, labels in page if ("portfolio", portfolio) in labels and not name.startswith(STATE)}


def break_down(venues: dict[str, Bookkeeper]) -> None:
    """One hangs for good; one fails in another way at every second request; one has used up its limit by somebody else."""
    venues["hanging"].always(HANG)
    faults = cycle([SERVER_ERROR, HTML, TRUNCATED, CUT_SHORT, DROP, Answer(401), TOO_MANY_FOR_2_SECONDS, Answer(404)])
    fails = cycle([True, False])

    def flaps(_: Received) -> Answer | None:
        return next(faults) if next(fails) else None

    venues["flapping"].refuse = flaps
    venues["limited"].used = int(LIMIT) - 1


async def test_faults_of_some_sources_touch_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals within 5 % of the control's, every page answered, what is stale gone and all that needs it, the rest there."""
    monkeypatch.setenv("PYTHONPATH", str(installed(tmp_path, "deskwatch.sources", {NAME: bookkeeper.__name__})))
    folders = [tmp_path / "faulty", tmp_path / "control"]
    for folder in folders:
        folder.mkdir()
    async with desk(folders[0], faulty=True) as faulty, desk(folders[1], faulty=False) as control:
        watching = [asyncio.ensure_future(each.watch()) for each in (faulty, control)]
        first = [{name: len(each.venues[name].requests) for name in STEADY} for each in (faulty, control)]
        begun = asyncio.get_running_loop().time()
        break_down(faulty.venues)
        done, _ = await asyncio.wait(watching, timeout=WATCHED_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        ended = asyncio.get_running_loop().time()
        assert not done, [each.exception() for each in done]
        intervals = [each.intervals(begin) for each, begin in zip((faulty, control), first, strict=True)]
        await check_it_comes_back(faulty)
        for each in watching:
            each.cancel()
        await asyncio.wait(watching)

    with_faults, without = intervals
    assert min(len(with_faults), len(without)) > 0.6 * len(STEADY) * WATCHED_SECONDS / INTERVAL_SECONDS
    assert median(with_faults) == pytest.approx(median(without), rel=0.05)
    assert fmean(with_faults) == pytest.approx(fmean(without), rel=0.05)
    assert len(faulty.pages) > 0.8 * len(control.pages)
    check_what_is_shown(faulty, begun, ended)
    assert all(numbers(page, name) for _, page in control.series(begun) for name in (*FAULTY, *STEADY, "desk"))


def check_what_is_shown(faulty: Desk, begun: float, ended: float) -> None:
    """From `stale_after` on: nothing of the hanging source's portfolio or of the one of all; everything of the steady ones."""
    # One interval until it is asked, one cycle until that is on the page, and as much again for a busy machine.
    gone_by = begun + STALE_SECONDS + 2 * (INTERVAL_SECONDS + CYCLE_SECONDS)
    late = [(at, page) for at, page in faulty.series(gone_by) if at < ended]
    assert len(late) > 10
    for _, page in late:
        assert numbers(page, "hanging") == numbers(page, "desk") == set()
        assert value(page, "desk_source_up", source="hanging", kind="broker") == 0
        assert value(page, "desk_limit", portfolio="hanging", limit="concentration") == 1
        for name in STEADY:
            assert worth(page, name) == 1100.75
            assert value(page, "desk_source_up", source=name, kind="broker") == 1
    early = [page for at, page in faulty.series(begun) if at < begun + STALE_SECONDS - INTERVAL_SECONDS - CYCLE_SECONDS]
    assert early
    assert all(worth(page, "hanging") == 1100.75 for page in early), "not before its time either"
    check_the_reasons(late[-1][1])
    quota = ("desk_source_quota_used_ratio", frozenset({("source", "limited")}))
    assert max(page.get(quota, 0) for _, page in late) > HEADROOM_RATIO


def check_the_reasons(last: Series) -> None:
    """Each fault under its own, none of another source."""
    failed = {(dict(labels)["source"], dict(labels)["reason"]): count for (name, labels), count in last.items()
              if name == "desk_source_fetch_failures_total" and count}  # fmt: skip
    assert {reason for source, reason in failed if source == "hanging"} == {"timeout"}
    assert {reason for source, reason in failed if source == "limited"} == {"rate_limited"}
    flapped = {reason for source, reason in failed if source == "flapping"}
    assert len(flapped) >= 4
    assert flapped <= {"server_error", "bad_response", "network", "auth", "rate_limited", "not_found"}
    assert not [source for source, _ in failed if source in STEADY]
    assert value(last, "desk_source_breaker_open", source="one") == 0


async def check_it_comes_back(faulty: Desk) -> None:
    """Once the venues are well, so is the desk; no restart is needed."""
    faulty.venues["hanging"].always(None)
    faulty.venues["flapping"].heal()
    faulty.venues["flapping"].refuse = lambda _: None
    faulty.venues["limited"].used = 0
    page = await faulty.exporter.until(lambda page: worth(page, "desk") == pytest.approx(6 * 1100.75))
    assert value(page, "desk_source_breaker_open", source="hanging") == 0
