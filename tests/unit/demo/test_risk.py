"""The desk trades what was proposed, the largest of it, once, and lets the replay go on."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import pytest

from deskwatch.clock import SystemClock
from deskwatch.demo import risk
from deskwatch.demo.alerts import Alerts
from deskwatch.demo.commentary import Commentary
from deskwatch.demo.desk import BOOKS, FRANC_BREAK
from deskwatch.demo.rates import Rates
from deskwatch.demo.risk import Proposal, RiskDesk, largest, parse_proposal
from deskwatch.demo.trader import Book, Dealing, Trader
from deskwatch.demo.watch import Breach, Figures, Reading, Run, Service, Trade
from receiver.hooks.reduce_position import proposal

SHORTFALL, CONCENTRATION = "expected_shortfall_0.975", "concentration"


def what_if(*trades: tuple[str, str, float]) -> dict[str, Any]:
    """An answer of the exporter, as far as the hook looks at it."""
    used = {SHORTFALL: {"limit": 0.01, "utilization": 2.98}}
    return {
        "trades": [{"portfolio": portfolio, "symbol": symbol, "quantity": units} for portfolio, symbol, units in trades],
        "portfolios": [{"portfolio": "carry", "before": {"limits": used}, "after": {"limits": used}}],
    }


def run_of(said: str, limit: str = SHORTFALL, run_id: int = 1) -> Run:
    """A finished run."""
    return Run(run_id, "reduce_position", "carry", limit, said)


def test_what_the_hook_says_is_what_the_trader_reads() -> None:
    """The hook's own sentence, several trades, fractions and other portfolios included."""
    said = proposal("carry", SHORTFALL, what_if(("carry", "CHF", 6056785.0), ("book.2", "USD", -1234.5)))
    assert parse_proposal(run_of(said)) == (
        Trade("carry", "CHF", Decimal(6056785)),
        Trade("book.2", "USD", Decimal("-1234.5")),
    )


def test_a_hook_that_proposes_nothing_proposes_no_trade() -> None:
    """The breach was over before the hook asked."""
    assert parse_proposal(run_of(proposal("carry", SHORTFALL, what_if()))) == ()


def test_of_several_proposals_the_largest_counts_not_their_sum() -> None:
    """Each alone ends its breach; together they would sell twice."""
    one = Proposal((Trade("carry", "CHF", Decimal(899993)), Trade("carry", "PLN", Decimal(-5))), "a")
    other = Proposal((Trade("carry", "CHF", Decimal(6056785)), Trade("momentum", "USD", Decimal(-7))), "b")
    assert largest([one, other]) == {
        "carry": {"CHF": Decimal(6056785), "PLN": Decimal(-5)},
        "momentum": {"USD": Decimal(-7)},
    }


class FakeReadings:
    """Readings without an exporter: breached until the desk trades."""

    def __init__(self) -> None:
        self.breaches: tuple[Breach, ...] = (
            Breach("carry", SHORTFALL, 0.01, 2.98),
            Breach("carry", CONCENTRATION, 0.9, 1.11),
        )
        self.shown = 0

    def show(self) -> None:
        """Count."""
        self.shown += 1

    async def until(self, seen: Any, _: float) -> bool:
        """Nothing changes by waiting."""
        return bool(seen())

    async def until_day(self, _: dt.date, __: float) -> bool:
        """It is always today."""
        return True


class FakeReplay:
    """Remembers the cuts and ends the breach with one."""

    def __init__(self, readings: FakeReadings, trader: Trader, at: int) -> None:
        self.cuts: list[tuple[str, dict[str, Decimal]]] = []
        self._readings, self._trader, self._at = readings, trader, at

    def cut(self, portfolio: str, changes: dict[str, Decimal]) -> Dealing:
        """Trade."""
        self.cuts.append((portfolio, dict(changes)))
        self._readings.breaches = ()
        return self._trader.cut(changes, self._at)


class Desk:
    """A risk desk with everything around it."""

    def __init__(self, rates: Rates) -> None:
        self.readings = FakeReadings()
        trader = Trader(BOOKS[0], rates)
        trader.book = Book("carry", Decimal(17_000_000), {"CHF": Decimal(-8_900_000)})
        self.replay = FakeReplay(self.readings, trader, rates.index(FRANC_BREAK))
        self.said = io.StringIO()
        commentary = Commentary(self.said, lambda: 0.0, [])
        clock = SystemClock()
        nowhere = Service("127.0.0.1:9")
        parts: tuple[Any, ...] = (self.readings, Alerts(commentary, clock), self.replay, nowhere, nowhere, commentary, clock)
        self.risk = RiskDesk(*parts)


@pytest.fixture
def desk(rates: Rates, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Nobody waits in a unit test."""
    monkeypatch.setattr(risk, "READING_SECONDS", 0.0)
    monkeypatch.setattr(risk, "PATIENCE_SECONDS", 0.0)
    return Desk(rates)


def answers(monkeypatch: pytest.MonkeyPatch, runs: list[Run], asked: dict[str, list[Trade]]) -> None:
    """What receiver and exporter say."""

    async def finished_runs(_: Service) -> list[Run]:
        return runs

    async def trades_within(_: Service, __: str, limit: str) -> list[Trade] | None:
        return asked.get(limit)

    monkeypatch.setattr(risk, "finished_runs", finished_runs)
    monkeypatch.setattr(risk, "trades_within", trades_within)


async def test_a_breach_is_cut_as_the_hook_proposed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two limits, two proposals, one trade; told with its price and who proposed it."""
    runs = [
        run_of("It would buy 6,056,785 CHF in carry: carry then uses 100.0% of it", SHORTFALL, 2),
        run_of("It would buy 899,993 CHF in carry: carry then uses 100.0% of it", CONCENTRATION, 1),
    ]
    answers(monkeypatch, runs, {})
    await desk.risk.gate(FRANC_BREAK)
    assert desk.replay.cuts == [("carry", {"CHF": Decimal(6056785)})]
    assert "carry buys 6,057,000 CHF at 0.97276 EUR, as the hook reduce_position proposed" in " ".join(
        desk.said.getvalue().split()
    )


async def test_without_a_proposal_what_if_is_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that failed or is off leaves the desk its own question."""
    answers(monkeypatch, [], {SHORTFALL: [Trade("carry", "CHF", Decimal(5000000))], CONCENTRATION: []})
    await desk.risk.gate(FRANC_BREAK)
    assert desk.replay.cuts == [("carry", {"CHF": Decimal(5000000)})]
    assert "as the exporter's what-if proposed" in " ".join(desk.said.getvalue().split())


async def test_a_proposal_is_used_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second breach of the same limit is not answered with yesterday's trade."""
    answers(
        monkeypatch,
        [run_of("It would buy 1,000 CHF in carry", SHORTFALL, 7)],
        {SHORTFALL: [Trade("carry", "CHF", Decimal(2000))]},
    )
    desk.readings.breaches = desk.readings.breaches[:1]
    again = desk.readings.breaches
    await desk.risk.gate(FRANC_BREAK)
    desk.readings.breaches = again
    await desk.risk.gate(FRANC_BREAK)
    assert [changes["CHF"] for _, changes in desk.replay.cuts] == [Decimal(1000), Decimal(2000)]


async def test_a_quiet_day_is_left_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """No breach, no question, no word."""
    desk.readings.breaches = ()
    await desk.risk.gate(FRANC_BREAK)
    assert (desk.replay.cuts, desk.said.getvalue(), desk.readings.shown) == ([], "", 0)


async def test_a_breach_nobody_can_answer_does_not_hold_the_replay(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The days go on, the alert stays open."""
    monkeypatch.setattr(risk, "STANDSTILL_SECONDS", 0.05)
    answers(monkeypatch, [], {})
    await desk.risk.gate(FRANC_BREAK)
    assert desk.replay.cuts == []


def test_a_reading_names_its_breaches() -> None:
    """Used more than wholly, in the exporter's order."""
    figures = Figures(1.0, None, None, {"a": 0.1, "b": 0.2, "c": 0.3}, {"a": 1.5, "b": 1.0, "c": 1.001})
    assert Reading(FRANC_BREAK, {"carry": figures}).breaches == (
        Breach("carry", "a", 0.1, 1.5),
        Breach("carry", "c", 0.3, 1.001),
    )
