"""`deskwatch demo` with real Prometheus and Alertmanager: what a newcomer sees first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.components import find
from tests.demo_run import DemoRun, Ends

pytestmark = pytest.mark.stack
STORY = ("--from", "2015-01-12", "--speed", "8")


def programs(folder: Path) -> dict[str, str]:
    """Environment in which the demo finds the programs the tests found."""
    folder.mkdir()
    for name in ("prometheus", "alertmanager"):
        (folder / name).symlink_to(find(name))
    return {"DESKWATCH_STACK": str(folder)}


async def test_the_alert_of_the_franc_break_goes_through_prometheus_and_alertmanager(tmp_path: Path) -> None:
    """Quiet until the day; then alert, runbook, proposed trade, trade and resolve on the console; no other alert."""
    async with DemoRun(*STORY, environment=programs(tmp_path / "bin")) as demo:
        await demo.until("2015-01-14")
        assert "ALERT" not in demo.text
        await demo.until("ALERT     ExpectedShortfallExceeded (carry, expected_shortfall_0.975) fires at")
        await demo.until(f"runbook: {demo.address('receiver')}/runbooks/ExpectedShortfallExceeded")
        await demo.until("reduce_position (dry_run, succeeded): It would buy")
        assert "as the hook reduce_position proposed" in await demo.until("TRADE")
        await demo.until("RESOLVED  ExpectedShortfallExceeded (carry, expected_shortfall_0.975) at Alertmanager")
        await demo.until("CONSOLE   [RESOLVED]")
        await demo.until("2015-01-19")
        # The exporter's own detector may be the first to tell Alertmanager; Prometheus must find it by itself all the same.
        for place in ("Prometheus", "Alertmanager"):
            assert f"ExpectedShortfallExceeded (carry, expected_shortfall_0.975) fires at {place}" in demo.text
        alerts = {line.split()[2] for line in demo.printed if " ALERT " in line}
        assert alerts == {"ExpectedShortfallExceeded", "RiskLimitViolation"}
        assert "ERROR" not in demo.text
        below = demo.descendants()
        assert len(below) >= 4
        with Ends(below) as ends:
            demo.process.terminate()
            assert await demo.end() == 0
            assert ends.all(0) == []
    assert max(len(line) for line in demo.printed) <= 100
