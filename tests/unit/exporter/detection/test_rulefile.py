"""The second detector's view of rule files: every critical limit alert is understood, or the exporter does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from deskwatch.config import validate
from deskwatch.data import data_folder
from deskwatch.errors import ConfigError
from exporter.config import LIMITS, DetectorConfig
from exporter.detection.rulefile import duration_seconds, humanize, humanize_percentage, read_rules, render

SELECTOR = 'desk_limit_utilization_ratio{limit=~"var_.*"}'
NOW = f"max by (portfolio, limit) ({SELECTOR})"
HELD = f"max by (portfolio, limit) (last_over_time({SELECTOR}[1h]))"


def rule_file(folder: Path, expression: str, severity: str = "critical", **fields: object) -> Path:
    """A rule file with one alert."""
    rule = {"alert": "TooMuch", "expr": expression, "for": "1m", "labels": {"severity": severity}, **fields}
    path = folder / "desk.rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "desk", "rules": [{"record": "a:b", "expr": "up"}, rule]}]}))
    return path


def test_the_shipped_rules_cover_every_limit_exactly_once() -> None:
    """A limit without a critical alert would be a limit nobody hears of; with two, one breach would be two pages."""
    rules = read_rules()
    for limit in LIMITS:
        assert len([rule for rule in rules if rule.covers("carry", limit)]) == 1, limit
    assert {rule.alert for rule in rules} == {"RiskLimitViolation", "VaRLimitExceeded", "ExpectedShortfallExceeded"}
    assert all(rule.threshold == 1.0 and rule.for_seconds == 60.0 for rule in rules)
    assert all(set(rule.annotations) >= {"summary", "description", "runbook_url"} for rule in rules)


def test_every_profile_is_understood() -> None:
    """The demo's among them, with its own `for`."""
    for profile in (data_folder("rules") / "profiles").glob("*.rules.yml"):
        assert {rule.for_seconds for rule in read_rules([profile])} == {2.0}


@pytest.mark.parametrize(
    "expression",
    [
        f"{NOW} > 1",
        f"{NOW} > 1.0 # the limit",
        f"max({SELECTOR}) by (limit, portfolio) > 1",
        f"max without (instance, job) ({SELECTOR}) > 1",
        f"{NOW} > 1 or ({HELD} > 1 unless {NOW})",
        f"{NOW}>1 or {HELD}>1 unless {NOW}",
        f"{HELD} > 1",
        NOW.replace('"var_.*"', "`var_.*`") + " > 1",
        NOW.replace('"var_.*"', "'var_.*',") + "\n\t> 1",
        "max by (portfolio, limit) (desk_limit_utilization_ratio) > 0.9",
    ],
)
def test_the_form_is_understood_however_it_is_written(tmp_path: Path, expression: str) -> None:
    """White space, comments, quotes, parentheses, grouping before or after."""
    (rule,) = read_rules([rule_file(tmp_path, expression)])
    assert rule.covers("carry", "var_0.99")
    assert rule.threshold in (1.0, 0.9)


@pytest.mark.parametrize(
    ("selector", "covered"),
    [
        ('{portfolio="carry"}', [("carry", "var_0.99"), ("carry", "leverage")]),
        ('{portfolio!="carry"}', [("desk", "var_0.99"), ("desk", "leverage")]),
        ('{limit=~"var"}', []),
        ('{limit!~"var_.*", portfolio=~"car.*"}', [("carry", "leverage")]),
        ('{limit="var_0.99"}', [("carry", "var_0.99"), ("desk", "var_0.99")]),
        ('{limit=~"var_0\\\\.99"}', [("carry", "var_0.99"), ("desk", "var_0.99")]),
        ("", [("carry", "var_0.99"), ("carry", "leverage"), ("desk", "var_0.99"), ("desk", "leverage")]),
    ],
)
def test_matchers_mean_what_they_mean_in_prometheus(tmp_path: Path, selector: str, covered: list[tuple[str, str]]) -> None:
    """Patterns are anchored, dots in `=` are dots."""
    (rule,) = read_rules([rule_file(tmp_path, f"max by (portfolio, limit) (desk_limit_utilization_ratio{selector}) > 1")])
    pairs = [("carry", "var_0.99"), ("carry", "leverage"), ("desk", "var_0.99"), ("desk", "leverage")]
    assert [pair for pair in pairs if rule.covers(*pair)] == covered


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (f"{SELECTOR} > 1", "does not understand the expression; it must be max by (portfolio, limit)"),
        (f"sum by (portfolio, limit) ({SELECTOR}) > 1", "does not understand"),
        (f"{NOW} >= 1", "does not understand"),
        (f"{NOW} > 1 and {NOW} < 2", "does not understand"),
        (f"{NOW} > 1 or vector(1) > 1", "does not understand"),
        (f"{NOW} > 1 or ({HELD} > 2 unless {NOW})", "the two thresholds of the expression differ"),
        (f"{NOW} > 1 or ({HELD.replace('var', 'es')} > 1 unless {NOW})", "the selectors of the expression differ"),
        ('max by (portfolio, limit) (desk_limit_utilization_ratio{job="x"}) > 1', "asks for the label job"),
        ('max by (portfolio, limit) (desk_limit_utilization_ratio{limit=~"("}) > 1', "is not understood: missing )"),
        ('{__name__="desk_limit_utilization_ratio"} > 1', "does not understand"),
    ],
)
def test_a_critical_alert_in_another_form_stops_the_start(tmp_path: Path, expression: str, message: str) -> None:
    """Never silently not covered: the file, the alert, what is understood, and what was found."""
    file = rule_file(tmp_path, expression)
    with pytest.raises(ConfigError) as caught:
        read_rules([file])
    assert str(caught.value).startswith(f"{file}: TooMuch: ")
    assert message in str(caught.value)


def test_deskwatch_check_finds_it_too(tmp_path: Path) -> None:
    """With the key path."""
    faults = validate(DetectorConfig, {"rules": [rule_file(tmp_path, f"{SELECTOR} > 1").name]}, folder=tmp_path)
    assert isinstance(faults, list)
    assert str(faults[0]).startswith(f"rules: {tmp_path}/desk.rules.yml: TooMuch: the second detector does not understand")


def test_alerts_that_are_not_critical_are_not_read(tmp_path: Path) -> None:
    """They may have any form: Prometheus alone decides them."""
    assert read_rules([rule_file(tmp_path, "whatever(desk_limit_utilization_ratio)", severity="warning")]) == ()


def test_a_groups_labels_are_its_alerts(tmp_path: Path) -> None:
    """Prometheus 3 lets a group give them; the alert's own win."""
    rule = {"alert": "TooMuch", "expr": f"{NOW} > 1", "labels": {"team": "risk"}}
    path = tmp_path / "r.yml"
    path.write_text(
        yaml.safe_dump({"groups": [{"name": "g", "labels": {"severity": "critical", "team": "x"}, "rules": [rule]}]})
    )
    assert read_rules([path])[0].labels == {"severity": "critical", "team": "risk"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("groups: [", "cannot read the rules: while parsing"),
        ("rules: []", "must hold `groups`"),
        (None, "cannot read the rules: No such file or directory"),
    ],
)
def test_a_file_that_is_no_rule_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    """Path and reason."""
    path = tmp_path / "r.yml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_rules([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_label_with_an_unknown_template_stops_the_start_an_annotation_is_left_out(tmp_path: Path) -> None:
    """Labels are the alert's identity; prose is not worth refusing to start."""
    with pytest.raises(ConfigError, match=r"labels\.who: the template {{ query \"up\" }} is not understood"):
        read_rules([rule_file(tmp_path, f"{NOW} > 1", labels={"severity": "critical", "who": '{{ query "up" }}'})])
    with capture_logs() as logs:
        (rule,) = read_rules(
            [
                rule_file(
                    tmp_path, f"{NOW} > 1", annotations={"summary": "{{ $labels.limit }}", "odd": "{{ if $value }}x{{ end }}"}
                )
            ]
        )
    assert rule.annotations == {"summary": "{{ $labels.limit }}"}
    assert logs[0]["annotation"] == "odd"


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m", 60), ("1h30m", 5400), ("0s", 0), ("0", 0), ("500ms", 0.5), ("1d", 86400), ("2w1d", 1296000)]
)
def test_durations_are_prometheus_durations(text: str, seconds: float) -> None:
    """Units from years to milliseconds."""
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "m", "1x", "-1m", "1m1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Not guessed."""
    with pytest.raises(ValueError, match="for: must be a duration such as 1m or 1h30m"):
        duration_seconds(text)


# From prometheus/prometheus template/template_test.go ("humanize" and "humanizePercentage" cases).
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (1234567.0, "1.235M"),
        (0.12, "120m"),
        (-0.0001, "-100u"),
        (1e30, "1e+06Y"),
        (float("inf"), "+Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_humanize_is_prometheus_humanize(value: float, expected: str) -> None:
    """Metric prefixes."""
    assert humanize(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(-0.22222, "-22.22%"), (0.0, "0%"), (0.1234567, "12.35%"), (1.23456, "123.5%"), (3.669, "366.9%")]
)
def test_humanize_percentage_is_prometheus_humanize_percentage(value: float, expected: str) -> None:
    """Four digits."""
    assert humanize_percentage(value) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ $labels.portfolio }} uses {{ $value | humanizePercentage }}", "carry uses 123.4%"),
        ("{{$labels.nothing}}|  {{- $externalLabels.desk -}}  |", "|fx|"),
        ("{{ $value }} {{ $value | humanize }}", "1.2345 1.234"),
        ("no template { } }}", "no template { } }}"),
    ],
)
def test_templates_are_filled(template: str, expected: str) -> None:
    """Text of labels is text, whatever stands in it."""
    assert render(template, {"portfolio": "carry"}, 1.2345, {"desk": "fx"}) == expected


def test_a_label_that_looks_like_a_template_is_not_one() -> None:
    """Nothing is filled twice."""
    assert render("{{ $labels.portfolio }}", {"portfolio": "{{ $value }}"}, 1.0, {}) == "{{ $value }}"
