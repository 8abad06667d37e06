"""The life of a breach: pending, firing, held while its number is gone, ended only by a reading inside the limit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deskwatch.data import data_folder
from exporter.detection.breach import Breaches, Key
from exporter.detection.rulefile import read_rules
from exporter.limits import LIMIT, UTILIZATION
from exporter.reading import Reading

START = datetime(2015, 1, 15, 10, tzinfo=UTC)
KEY = Key("ExpectedShortfallExceeded", "carry", "expected_shortfall_0.975")
LIMITS = [("carry", "expected_shortfall_0.975"), ("carry", "concentration")]


class Desk:
    """Readings one after the other, each so many seconds after the one before."""

    def __init__(self, hold_seconds: float = 600.0) -> None:
        self.breaches = Breaches(read_rules(), hold_seconds)
        self.seconds = 0.0

    def read(self, es: float | None, concentration: float | None = 0.5, *, after: float = 0.0, limits: int = 2) -> list[Key]:
        """One reading of these utilizations; what fires then."""
        self.seconds += after
        values = dict(zip(LIMITS, (es, concentration), strict=True))
        self.verdict = self.breaches.step(reading(values, self.seconds, limits), self.seconds)
        return [breach.key for breach in self.verdict.firing]


def reading(values: Mapping[tuple[str, str], float | None], seconds: float, limits: int) -> Reading:
    """The limits, and the utilizations that are defined."""
    samples = [LIMIT.sample(*labels, value=0.02) for labels in LIMITS[:limits]]
    samples += [UTILIZATION.sample(*labels, value=value) for labels, value in values.items() if value is not None]
    return Reading(START + timedelta(seconds=seconds), tuple(samples), ())


def test_a_breach_fires_once_it_has_lasted_the_rules_for() -> None:
    """One minute in the shipped rules."""
    desk = Desk()
    assert desk.read(1.5) == []
    assert desk.read(1.5, after=59.9) == []
    assert desk.read(1.7, after=0.1) == [KEY]
    assert desk.verdict.firing[0].value == 1.7
    assert desk.verdict.firing[0].since == START + timedelta(seconds=60)


def test_a_breach_that_passes_while_pending_starts_over() -> None:
    """As in Prometheus."""
    desk = Desk()
    desk.read(1.5)
    desk.read(1.0, after=30)
    desk.read(1.5, after=10)
    assert desk.read(1.5, after=59) == []
    assert desk.read(1.5, after=1) == [KEY]


def test_exactly_at_the_limit_is_inside() -> None:
    """The rule says > 1."""
    desk = Desk()
    desk.read(1.0)
    assert desk.read(1.0, after=120) == []
    assert KEY in desk.verdict.inside


def test_a_fresh_reading_inside_the_limit_ends_it() -> None:
    """At once."""
    desk = Desk()
    desk.read(1.5)
    assert desk.read(1.5, after=60) == [KEY]
    assert desk.read(0.9, after=5) == []
    assert desk.verdict.inside == {KEY, Key("RiskLimitViolation", "carry", "concentration")}


def test_lost_data_is_not_recovery() -> None:
    """While the number is missing the breach stands with its last value and start, for `hold_seconds`, and is not `inside`."""
    desk = Desk(hold_seconds=600)
    desk.read(1.5)
    desk.read(1.6, after=60)
    assert desk.read(None, after=5) == [KEY]
    assert desk.read(None, after=595) == [KEY]
    assert (desk.verdict.firing[0].value, desk.verdict.firing[0].since) == (1.6, START + timedelta(seconds=60))
    assert KEY not in desk.verdict.inside
    assert desk.read(None, after=0.1) == []
    assert KEY not in desk.verdict.inside


def test_data_that_comes_back_still_breached_is_the_same_breach() -> None:
    """No second start."""
    desk = Desk()
    desk.read(1.5)
    desk.read(1.5, after=60)
    desk.read(None, after=100)
    desk.read(1.4, after=10)
    assert desk.verdict.firing[0].since == START + timedelta(seconds=60)


def test_a_breach_that_was_pending_when_its_data_vanished_goes_on() -> None:
    """The shipped rules look back an hour, so Prometheus counts on as well."""
    desk = Desk()
    desk.read(1.5)
    assert desk.read(None, after=60) == [KEY]


def test_a_limit_that_was_removed_is_no_longer_watched() -> None:
    """Its breach ends, and is not among the watched."""
    desk = Desk()
    desk.read(0.5, 1.5)
    assert len(desk.read(0.5, 1.5, after=60)) == 1
    assert desk.read(0.5, None, limits=1) == []
    assert desk.verdict.watched == {KEY}


def test_each_limit_has_a_life_of_its_own() -> None:
    """Two breaches, two alerts."""
    desk = Desk()
    desk.read(1.5, None)
    desk.read(1.5, 2.0, after=30)
    assert desk.read(1.5, 2.0, after=30) == [KEY]
    assert sorted(desk.read(1.5, 2.0, after=30)) == [KEY, Key("RiskLimitViolation", "carry", "concentration")]


@pytest.mark.parametrize("external", [{}, {"desk": "fx", "severity": "info", "portfolio": "x"}])
def test_labels_are_those_prometheus_gives(external: dict[str, str]) -> None:
    """Series, rule and name; external labels only where they are still free."""
    desk = Desk()
    desk.read(1.5)
    desk.read(1.5, after=60)
    expected = {
        "alertname": "ExpectedShortfallExceeded", "portfolio": "carry", "limit": "expected_shortfall_0.975",
        "severity": "critical", "priority": "P1", "category": "risk", "team": "risk",
    }  # fmt: skip
    assert desk.verdict.firing[0].labels(external) == expected | ({"desk": "fx"} if external else {})


def test_annotations_are_rendered() -> None:
    """With labels and value."""
    desk = Desk()
    desk.read(1.5)
    desk.read(1.6, after=60)
    annotations = desk.verdict.firing[0].annotations({})
    assert annotations["summary"] == "carry is over its expected-shortfall limit expected_shortfall_0.975"
    assert "160% of its limit" in annotations["description"]
    assert annotations["dashboard_url"].endswith("?var-portfolio=carry")


@pytest.mark.stack
@pytest.mark.parametrize("value", [1.2345, 3.669152957544355, 1e-3 + 1, 1234567.0, 1.5e21])
def test_prometheus_raises_the_same_alert(tmp_path: Path, value: float) -> None:
    """promtool evaluates the shipped rule and finds exactly our labels and annotations: the two detectors make one alert."""
    from tests.components import find

    breaches = Breaches(read_rules(), 600.0)
    labels = ("carry", "expected_shortfall_0.975")
    breaches.step(reading({labels: value}, 0, 1), 0.0)
    (breach,) = breaches.step(reading({labels: value}, 60, 1), 60.0).firing
    expected = {"exp_labels": breach.labels({}), "exp_annotations": breach.annotations({})}
    expected["exp_labels"].pop("alertname")
    series = {
        "series": 'desk_limit_utilization_ratio{portfolio="carry", limit="expected_shortfall_0.975", job="j", instance="i"}',
        "values": f"{value!r}x10",
    }
    test = {
        "rule_files": [str(data_folder("rules") / "risk.rules.yml")],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [series],
                "alert_rule_test": [{"eval_time": "2m", "alertname": breach.key.alert, "exp_alerts": [expected]}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))  # JSON is YAML
    done = subprocess.run([find("promtool"), "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
