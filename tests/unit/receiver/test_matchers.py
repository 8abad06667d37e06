"""Alertmanager's matcher syntax, as its own documentation and amtool read it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.matchers import Matcher, all_match, parse_matcher, parse_matchers

LABELS = {"alertname": "VaRLimitExceeded", "severity": "critical", "portfolio": "carry"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('severity="critical"', True),
        ("severity=critical", True),
        (' severity = "critical" ', True),
        ('severity!="critical"', False),
        ('severity!="warning"', True),
        ('alertname=~"VaR.*"', True),
        ('alertname=~"VaR"', False),  # anchored
        ("alertname=~VaR.+", True),
        ('alertname!~"VaR.*|ES.*"', False),
        ('team=""', True),  # absent is empty
        ('team!=""', False),
        ('team!~".+"', True),
        ('"alertname"="VaRLimitExceeded"', True),
        ('portfolio=~"carry|momentum"', True),
        ("portfolio=", False),
    ],
)
def test_a_matcher_matches_as_in_alertmanager(text: str, matches: bool) -> None:
    """prometheus.io/docs/alerting/configuration, matcher."""
    assert parse_matcher(text).matches(LABELS) is matches


@pytest.mark.parametrize("text", ["", "severity", "=critical", '1x="y"', 'a="b', 'a=b"c', 'a=="b"c"', 'a=~"("', "a>1"])
def test_what_is_no_matcher_is_refused_with_its_text(text: str) -> None:
    """The operator sees what they wrote."""
    with pytest.raises(ValueError, match=r"matcher|regular expression"):
        parse_matcher(text)


def test_escapes_in_a_quoted_value_are_undone() -> None:
    """Quote, backslash and line feed."""
    assert parse_matcher(r'a="say \"hi\" \\ \n"').value == 'say "hi" \\ \n'


@given(st.text(max_size=30), st.sampled_from(["=", "!="]))
def test_a_matcher_written_out_reads_as_itself(value: str, operator: str) -> None:
    """The silence link carries matchers made of labels: whatever is in a value, it stays one value."""
    matcher = Matcher("label", operator, value)  # type: ignore[arg-type]
    assert parse_matcher(str(matcher)) == matcher


def test_all_must_hold_and_none_holds_for_everything() -> None:
    """An empty list is the catch-all route."""
    assert all_match(parse_matchers([]), {})
    assert all_match(parse_matchers(['severity="critical"', 'portfolio="carry"']), LABELS)
    assert not all_match(parse_matchers(['severity="critical"', 'portfolio="desk"']), LABELS)
