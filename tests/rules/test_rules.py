"""The alerting rules: accepted by the real promtool, proven to fire and to stay silent, complete in labels and links."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.profile import build, profiles
from tests.components import REPOSITORY, find
from tests.rules.catalogue import families, faults
from tests.rules.promql import selectors
from tests.rules.rulebook import ALERTS, RECORDS, RULE_FILES, RULE_LIST, rules_of

CASES = Path(__file__).parent
PROFILES = profiles()
CASE_FILES = sorted(CASES.glob("*.test.yml"))
LABELS = {"severity", "priority", "category", "team"}
ANNOTATIONS = {"summary", "description", "impact", "action", "runbook_url", "dashboard_url"}
LIMIT_ALERTS = {
    "RiskLimitViolation": 'limit!~"var_.*|expected_shortfall_.*"',
    "VaRLimitExceeded": 'limit=~"var_.*"',
    "ExpectedShortfallExceeded": 'limit=~"expected_shortfall_.*"',
}


def test_promtool_accepts_every_rule_file() -> None:
    """`promtool check rules` passes for the rules and for each generated profile."""
    files = [*RULE_FILES, *(profile.with_suffix(".rules.yml") for profile in PROFILES)]
    done = subprocess.run([find("promtool"), "check", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("cases", CASE_FILES, ids=lambda path: path.stem)
def test_rules_fire_and_stay_silent_as_promised(cases: Path) -> None:
    """`promtool test rules` passes: expected labels and annotations are compared in full."""
    done = subprocess.run([find("promtool"), "test", "rules", cases], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alert_cases() -> Iterator[tuple[str, bool]]:
    """Every case as (alert, whether it must fire), of the files that test the rules themselves."""
    for path in CASE_FILES:
        content = yaml.safe_load(path.read_text())
        if any("profiles" in name for name in content["rule_files"]):
            continue
        for test in content["tests"]:
            for case in test.get("alert_rule_test", []):
                yield case["alertname"], bool(case.get("exp_alerts"))


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    """Both directions are proven for 100 % of the alerts; only an alert that fires always has no silent case."""
    cases = set(alert_cases())
    wanted = {(name, True) for name in ALERTS}
    wanted |= {(name, False) for name, rule in ALERTS.items() if rule["expr"] != "vector(1)"}
    assert wanted - cases == set()


def test_no_case_names_an_unknown_alert() -> None:
    """promtool passes a case about an alert that does not exist; a renamed alert must not lose its tests that way."""
    assert {name for name, _ in alert_cases()} - set(ALERTS) == set()


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_a_rule_file_is_one_document(path: Path) -> None:
    """Prometheus ignores every document after the first without a word (prometheus#15834)."""
    assert len(list(yaml.safe_load_all(path.read_text()))) == 1


def test_names_are_unique_over_all_files() -> None:
    """One alert, one rule; one recorded series, one rule."""
    names = [rule.get("alert") or rule["record"] for rule in RULE_LIST]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_is_complete(name: str) -> None:
    """All labels of the contract and no other, all annotations, and links to its own runbook and to a shipped dashboard."""
    rule = ALERTS[name]
    assert set(rule["labels"]) == LABELS
    assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}
    assert rule["labels"]["priority"] in {"P0", "P1", "P2", "INFO"}
    annotations = rule["annotations"]
    assert set(annotations) == ANNOTATIONS
    assert annotations["runbook_url"] == f"http://127.0.0.1:9878/runbooks/{name}"
    dashboard = re.fullmatch(
        r"http://127\.0\.0\.1:3000/d/(\w+)(\?var-portfolio=\{\{ \$labels\.portfolio \}\})?", annotations["dashboard_url"]
    )
    assert dashboard is not None
    assert (REPOSITORY / "dashboards" / f"{dashboard[1]}.json").is_file()
    assert "$labels.alertname" not in str(annotations), "is empty in Prometheus's templates"


@pytest.mark.parametrize("name", sorted(LIMIT_ALERTS))
def test_a_limit_alert_has_the_form_the_second_detector_reads(name: str) -> None:
    """Breach, or last reading in breach while there is none: the same text for all three but for the selector."""
    series = f"desk_limit_utilization_ratio{{{LIMIT_ALERTS[name]}}}"
    by = "max by (portfolio, limit)"
    form = f"{by} ({series}) > 1 or ( {by} (last_over_time({series}[1h])) > 1 unless {by} ({series}) )"
    assert " ".join(ALERTS[name]["expr"].split()) == form


@pytest.mark.parametrize("name", sorted(LIMIT_ALERTS))
def test_a_limit_alert_uses_only_templates_the_second_detector_knows(name: str) -> None:
    """Both detectors must write the same annotations; anything cleverer than these would differ."""
    known = re.compile(r"{{ \$labels\.(portfolio|limit) }}|{{ \$value \| humanize(Percentage)? }}")
    for text in ALERTS[name]["annotations"].values():
        assert "{{" not in known.sub("", text), text


def test_every_limit_belongs_to_exactly_one_alert() -> None:
    """A limit a desk can set is watched, and a breach raises one alert, not two."""
    from exporter.config import LIMITS

    def matches(matcher: str, limit: str) -> bool:
        operator, pattern = re.fullmatch(r'limit(=~|!~)"(.*)"', matcher).groups()  # type: ignore[union-attr]
        return bool(re.fullmatch(pattern, limit)) == (operator == "=~")

    owners = {limit: [name for name, matcher in LIMIT_ALERTS.items() if matches(matcher, limit)] for limit in LIMITS}
    assert {limit: names for limit, names in owners.items() if len(names) != 1} == {}


@pytest.mark.parametrize("rule", RULE_LIST, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_series_that_exist(rule: dict[str, Any]) -> None:
    """Every family of ours in an expression stands in the catalogue, with the labels asked for; recorded names are recorded."""
    found = selectors(rule["expr"])
    assert faults(found, families()) == []
    assert {selector.name for selector in found if ":" in (selector.name or "")} <= RECORDS


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_a_committed_profile_is_current(profile: Path) -> None:
    """`python -m rules.profile` was run after the last change of the rules."""
    assert profile.with_suffix(".rules.yml").read_text() == build(profile)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_a_profile_changes_waiting_times_only(profile: Path) -> None:
    """Same alerts, labels and annotations; what differs in an expression is the hold window."""
    derived = {rule["alert"]: rule for rule in rules_of(profile.with_suffix(".rules.yml")) if "alert" in rule}
    hold = yaml.safe_load(profile.read_text())["hold"]
    assert set(derived) == set(ALERTS)
    for name, rule in derived.items():
        assert rule["labels"] == ALERTS[name]["labels"]
        assert rule["annotations"] == ALERTS[name]["annotations"]
        assert rule["expr"].replace(f"[{hold}]", "[1h]") == ALERTS[name]["expr"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hold: 1m\nfor: {RiskLimitViolation: 2s}", "missing"),
        ("hold: 1m\nfor: {NoSuchAlert: 2s}", "unknown"),
        ("hold: soon\nfor: {}", "hold must be a duration"),
        ("hold: 1m\nfor: {RiskLimitViolation: 2}", "for.RiskLimitViolation must be a duration"),
        ("for: {}", "must have the keys"),
        ("hold: 1m\nfor: {}\nlabels: {}", "must have the keys"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """A profile that forgets an alert or invents one never becomes a rule file."""
    profile = tmp_path / "odd.yml"
    profile.write_text(text)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        build(profile)
