"""Proposes the trades that bring a portfolio back inside the limit it has breached. It only proposes: it cannot send orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deskwatch import Run, hook
from deskwatch.errors import Permanent, Reason

TRADES_SHOWN = 8


@hook(
    matchers=[
        'alertname=~"RiskLimitViolation|ExpectedShortfallExceeded|VaRLimitExceeded"',
        'severity="critical"',
        'portfolio!=""',
        'limit!=""',
    ],
    timeout="20s",
    cooldown="5m",
    max_runs_per_hour=30,
    approval="required",
    on="firing",
)
async def reduce_position(run: Run) -> str:
    """Say which trades would bring the portfolio back inside its breached limit."""
    if run.live:
        raise Permanent("reduce_position cannot send orders: set its mode to dry_run", reason=Reason.REJECTED)
    portfolio, limit = run.labels["portfolio"], run.labels["limit"]
    answer = await run.what_if(portfolio=portfolio, limit=limit)
    try:
        return proposal(portfolio, limit, answer)
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise Permanent(f"the exporter's what-if answer has no {error}", reason=Reason.BAD_RESPONSE) from error


def proposal(portfolio: str, limit: str, answer: Mapping[str, Any]) -> str:
    """What would be traded, and how much of the limit is used before and after, as one sentence.

    Args:
        portfolio: whose limit it is.
        limit: its name.
        answer: of the exporter's `POST /api/v1/what-if`; quantities are signed, a sale negative, in units of the symbol.
    """
    change = next((each for each in answer["portfolios"] if each["portfolio"] == portfolio), None)
    if change is None:
        raise KeyError(f"portfolio {portfolio}")
    before, after = (_used(change[state]["limits"], limit) for state in ("before", "after"))
    trades = answer["trades"]
    if not trades:
        return f"{portfolio} is inside its limit {limit} now, {before} of it used: there is nothing to trade."
    return f"It would {_trades(trades)}: {portfolio} then uses {after} of its limit {limit} instead of {before}."


def _used(limits: Mapping[str, Any], limit: str) -> str:
    utilization = limits[limit]["utilization"]
    return "an undefined share" if utilization is None else f"{float(utilization):.1%}"


def _trades(trades: Sequence[Mapping[str, Any]]) -> str:
    shown = [
        f"{'buy' if trade['quantity'] > 0 else 'sell'} {abs(trade['quantity']):,.10g} {trade['symbol']} in {trade['portfolio']}"
        for trade in trades[:TRADES_SHOWN]
    ]
    more = len(trades) - TRADES_SHOWN
    return ", ".join(shown) + (f" and make {more} more trades" if more > 0 else "")
