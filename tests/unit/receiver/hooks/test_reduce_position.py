"""The built-in proposal: what it asks, what it says, and that it cannot act."""

from __future__ import annotations

from typing import Any

import pytest
import respx

from deskwatch import Run
from deskwatch.errors import Permanent, Retryable
from deskwatch.hook import ExporterAccess
from receiver.hook_room import hook_spec
from receiver.hooks.reduce_position import proposal, reduce_position
from receiver.matchers import all_match, parse_matchers

LABELS = {
    "alertname": "ExpectedShortfallExceeded",
    "severity": "critical",
    "portfolio": "carry",
    "limit": "expected_shortfall_0.975",
}


def run(mode: Any = "dry_run", **more: Any) -> Run:
    """A run for the carry book."""
    return Run("reduce_position", mode, "key", 1, "e1", LABELS, **{"exporter": ExporterAccess("http://exporter:9877"), **more})


def answer(*trades: tuple[str, str, float], before: float | None = 1.37, after: float | None = 0.998) -> dict[str, Any]:
    """As the exporter's what-if answers (exporter.whatif.answer_as_dict)."""

    def figures(used: float | None) -> dict[str, Any]:
        return {
            "limits": {
                "expected_shortfall_0.975": {"limit": 0.02, "utilization": used},
                "leverage": {"limit": 3, "utilization": 0.1},
            }
        }

    return {
        "at": "2015-01-15T00:00:00+00:00",
        "trades": [{"portfolio": portfolio, "symbol": symbol, "quantity": quantity} for portfolio, symbol, quantity in trades],
        "portfolios": [
            {"portfolio": "desk", "currency": "EUR", "before": figures(9.9), "after": figures(8.8)},
            {"portfolio": "carry", "currency": "EUR", "before": figures(before), "after": figures(after)},
        ],
    }


@respx.mock
async def test_it_asks_for_the_trades_that_respect_the_limit_and_says_them() -> None:
    """Portfolio and limit from the alert; quantities, and the use of the limit before and after."""
    asked = respx.post("http://exporter:9877/api/v1/what-if").respond(
        json=answer(("carry", "CHF", 2_340_000.0), ("carry", "NOK", -125_000.5))
    )
    said = await reduce_position(run())
    assert asked.calls[0].request.content == b'{"portfolio":"carry","limit":"expected_shortfall_0.975"}'
    assert said == (
        "It would buy 2,340,000 CHF in carry, sell 125,000.5 NOK in carry: "
        "carry then uses 99.8% of its limit expected_shortfall_0.975 instead of 137.0%."
    )


def test_a_limit_that_is_respected_needs_no_trade() -> None:
    """The market has turned meanwhile."""
    said = proposal("carry", "expected_shortfall_0.975", answer(before=0.95, after=0.95))
    assert said == "carry is inside its limit expected_shortfall_0.975 now, 95.0% of it used: there is nothing to trade."


def test_many_trades_are_cut() -> None:
    """A message is read on a phone."""
    trades = [("carry", f"S{number}", 1.0) for number in range(20)]
    assert "and make 12 more trades: carry" in proposal("carry", "expected_shortfall_0.975", answer(*trades))


def test_an_undefined_utilization_is_called_so() -> None:
    """Never 0."""
    assert "uses an undefined share of its limit" in proposal(
        "carry", "expected_shortfall_0.975", answer(("carry", "A", 1.0), after=None)
    )


@pytest.mark.parametrize(
    "broken", [{}, {"portfolios": []}, {"portfolios": [{"portfolio": "carry"}], "trades": []}, {"portfolios": 5}]
)
@respx.mock
async def test_an_answer_of_another_form_is_an_error(broken: dict[str, Any]) -> None:
    """Better no proposal than a wrong one."""
    respx.post("http://exporter:9877/api/v1/what-if").respond(json=broken)
    with pytest.raises(Permanent, match="what-if answer"):
        await reduce_position(run())


@respx.mock
async def test_what_the_exporter_refuses_or_cannot_say_is_passed_on() -> None:
    """The operator reads why."""
    respx.post("http://exporter:9877/api/v1/what-if").respond(422, json={"error": "no trade restores the limit"})
    with pytest.raises(Permanent, match="no trade restores the limit"):
        await reduce_position(run())
    respx.post("http://exporter:9877/api/v1/what-if").respond(503)
    with pytest.raises(Retryable):
        await reduce_position(run())


async def test_a_live_run_refuses_rather_than_pretends() -> None:
    """And its declaration says so, so the configuration refuses live mode."""
    with pytest.raises(Permanent, match="cannot send orders"):
        await reduce_position(run("live"))
    assert hook_spec("reduce_position").can_act is False


@pytest.mark.parametrize(
    ("change", "matches"),
    [
        ({}, True),
        ({"alertname": "RiskLimitViolation"}, True),
        ({"alertname": "VaRLimitExceeded"}, True),
        ({"alertname": "StaleData"}, False),
        ({"severity": "warning"}, False),
        ({"portfolio": ""}, False),
        ({"limit": ""}, False),
    ],
)
def test_it_is_for_critical_limit_alerts_that_name_portfolio_and_limit(change: dict[str, str], matches: bool) -> None:
    """Nothing else can be asked."""
    assert all_match(parse_matchers(hook_spec("reduce_position").matchers), LABELS | change) is matches
