"""The desk's reaction to a breach: waits for the alert's proposal, has the trader do it, and keeps the replay still meanwhile.

Trades only what a run of the receiver's hook proposed or, where none came in time, what the exporter's what-if answers. Never
looks at positions or limits itself.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from deskwatch.clock import Clock
from deskwatch.demo.alerts import Alerts
from deskwatch.demo.commentary import Commentary, amount, percent
from deskwatch.demo.readings import Readings
from deskwatch.demo.replay import Replay
from deskwatch.demo.trader import Dealing
from deskwatch.demo.watch import Breach, Run, Service, Trade, finished_runs, trades_within

PATIENCE_SECONDS = 25.0
"""So long a proposal is waited for before what-if is asked."""
READING_SECONDS = 1.5
"""So long a trader reads a proposal."""
SETTLE_SECONDS = 15.0
"""A breach that stands so long after a trade is a new question."""
STANDSTILL_SECONDS = 90.0
"""The replay goes on after this, whatever happens."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Trades that would end a breach, and who proposed them."""

    trades: tuple[Trade, ...]
    by: str


class RiskDesk:
    """Reacts to breaches, one after the other.

    Args:
        readings: what the exporter says.
        alerts: what fires.
        replay: has the trader trade.
        exporter: asked what-if.
        receiver: asked for runs.
        commentary: told of breaches and trades.
        clock: for waiting.
    """

    def __init__(
        self,
        readings: Readings,
        alerts: Alerts,
        replay: Replay,
        exporter: Service,
        receiver: Service,
        commentary: Commentary,
        clock: Clock,
    ) -> None:
        self._readings = readings
        self._alerts = alerts
        self._replay = replay
        self._exporter = exporter
        self._receiver = receiver
        self._commentary = commentary
        self._clock = clock
        self._used_runs: set[int] = set()

    async def gate(self, day: dt.date) -> None:
        """Let the replay leave a day only without a breach, or after the breach has been dealt with and its alerts ended."""
        if not self._readings.breaches or not await self._readings.until_day(day, SETTLE_SECONDS):
            return
        until = self._clock.monotonic() + STANDSTILL_SECONDS
        told: set[tuple[str, str]] = set()
        while (breaches := self._readings.breaches) and self._clock.monotonic() < until:
            self._tell([each for each in breaches if (each.portfolio, each.limit) not in told])
            told |= {(each.portfolio, each.limit) for each in breaches}
            if await self._deal_with(breaches, until):
                await self._readings.until(lambda: not self._readings.breaches, SETTLE_SECONDS)
        if told:
            self._readings.show()
            await self._readings.until(lambda: not self._alerts.fires(told), SETTLE_SECONDS)

    def _tell(self, breaches: Iterable[Breach]) -> None:
        for each in breaches:
            measured = f"{percent(each.used * each.value)}, allowed {percent(each.value)}"
            self._commentary.event("BREACH", f"{each.portfolio} is over its limit {each.limit}: {measured}", "bad")

    async def _deal_with(self, breaches: tuple[Breach, ...], until: float) -> bool:
        """Trade what was proposed; False where nothing was."""
        proposals = await self._proposals(breaches, until)
        await self._clock.sleep(READING_SECONDS)
        by = " and ".join(dict.fromkeys(proposal.by for proposal in proposals))
        for portfolio, changes in largest(proposals).items():
            self._say_trades(self._replay.cut(portfolio, changes), by)
        return bool(proposals)

    async def _proposals(self, breaches: tuple[Breach, ...], until: float) -> list[Proposal]:
        """One proposal for each breach, from its hook where it comes in time."""
        patience = min(self._clock.monotonic() + PATIENCE_SECONDS, until)
        while True:
            runs = [run for run in await finished_runs(self._receiver) if run.run_id not in self._used_runs]
            found = [_newest(runs, each) for each in breaches]
            if all(found) or self._clock.monotonic() >= patience:
                break
            await self._clock.sleep(0.5)
        self._used_runs |= {run.run_id for run in found if run}
        proposals = [
            (_proposed(run) if run else None) or await self._ask(breach) for run, breach in zip(found, breaches, strict=True)
        ]
        return [proposal for proposal in proposals if proposal]

    async def _ask(self, breach: Breach) -> Proposal | None:
        trades = await trades_within(self._exporter, breach.portfolio, breach.limit)
        return Proposal(tuple(trades), "the exporter's what-if") if trades else None

    def _say_trades(self, dealing: Dealing, by: str) -> None:
        for order in dealing.orders:
            verb = "buys" if order.side == "BUY" else "sells"
            price = next(fill.price for fill in dealing.fills if fill.order is order)
            sentence = f"{order.portfolio} {verb} {amount(order.quantity)} {order.symbol} at {price:.5f} EUR, as {by} proposed"
            self._commentary.event("TRADE", sentence, "good")


def largest(proposals: Iterable[Proposal]) -> Mapping[str, Mapping[str, Decimal]]:
    """By portfolio and symbol the largest of what was proposed: every proposal only reduces, so the largest serves all."""
    chosen: dict[str, dict[str, Decimal]] = {}
    for proposal in proposals:
        for trade in proposal.trades:
            changes = chosen.setdefault(trade.portfolio, {})
            if abs(trade.quantity) > abs(changes.get(trade.symbol, Decimal(0))):
                changes[trade.symbol] = trade.quantity
    return chosen


def _proposed(run: Run) -> Proposal | None:
    trades = parse_proposal(run)
    return Proposal(trades, f"the hook {run.hook}") if trades else None


def _newest(runs: Iterable[Run], breach: Breach) -> Run | None:
    return next((run for run in runs if (run.portfolio, run.limit) == (breach.portfolio, breach.limit)), None)


_TRADE = re.compile(r"\b(?P<side>buy|sell) (?P<quantity>[\d,]+(?:\.\d+)?) (?P<symbol>[A-Z]{3}) in (?P<portfolio>[\w.-]+)")


def parse_proposal(run: Run) -> tuple[Trade, ...]:
    """The trades in what a hook said: `It would buy 6,056,785 CHF in carry: ...`."""
    return tuple(_trade(found) for found in _TRADE.finditer(run.said))


def _trade(found: re.Match[str]) -> Trade:
    quantity = Decimal(found["quantity"].replace(",", ""))
    return Trade(found["portfolio"], found["symbol"], quantity if found["side"] == "buy" else -quantity)
