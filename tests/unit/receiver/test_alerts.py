"""Notifications as they come: Alertmanager's, Grafana's, and what nobody should send."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.alerts import (
    MAX_ALERTS,
    NoAlertGroup,
    NotJson,
    examine,
    identity,
    notification_key,
    parse,
)
from tests.unit.receiver.bodies import NEVER, firing, group, resolved

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)

# A request Alertmanager 0.25.0 sent, shortened to one alert (recorded from the Debian package).
ALERTMANAGER = rb"""{"receiver":"dotted\\.name","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"A",
"instance":"x:9100","note":"\u0026\u003c\u003e"},"annotations":{"summary":"s"},"startsAt":"2026-11-20T09:13:21.123456789Z","endsAt":
"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"3f1cb2f9d2b2a6d0"}],"groupLabels":{"alertname":"A"},"commonLabels":
{"alertname":"A"},"commonAnnotations":{},"externalURL":"http://host:9093","version":"4","groupKey":"{}:{alertname=\"A\"}",
"truncatedAlerts":0}"""

# Grafana's webhook notifier, body as documented (grafana.com/docs, webhook notifier), shortened to one alert.
GRAFANA = b"""{"receiver":"My Super Webhook","status":"firing","orgId":1,"alerts":[{"status":"firing","labels":{"alertname":
"High memory usage","team":"blue","zone":"us-1"},"annotations":{"summary":"The system has high memory usage"},"startsAt":
"2021-10-12T09:51:03.157076+02:00","endsAt":"0001-01-01T00:00:00Z","generatorURL":"https://play.grafana.org/alerting/1/edit",
"fingerprint":"c6eadffa33fcdf37","silenceURL":"https://play.grafana.org/alerting/silence/new","dashboardURL":"","panelURL":"",
"values":{"B":44.23943737541908,"C":null}}],"groupLabels":{},"commonLabels":{"team":"blue"},"commonAnnotations":{},"externalURL":
"https://play.grafana.org/","version":"1","groupKey":"{}:{}","truncatedAlerts":0,"title":"[FIRING:1]","state":"alerting",
"message":"**Firing**"}"""


def test_alertmanagers_request_is_read_whole() -> None:
    """Nanoseconds are rounded to microseconds, the year 1 is no end, JSON's escapes are undone."""
    notification = parse(ALERTMANAGER, NOW)
    (alert,) = notification.alerts
    assert alert.labels["note"] == "&<>"
    assert alert.ends_at is None
    assert alert.starts_at == datetime(2026, 11, 20, 9, 13, 21, 123457, tzinfo=UTC)
    assert (notification.group_key, notification.truncated, notification.faults) == ('{}:{alertname="A"}', 0, ())
    assert notification.external_url == "http://host:9093"


def test_grafanas_request_is_read_whole() -> None:
    """Its extra keys are ignored, its local times are turned to UTC."""
    notification = parse(GRAFANA, NOW)
    (alert,) = notification.alerts
    assert alert.name == "High memory usage"
    assert alert.starts_at == datetime(2021, 10, 12, 7, 51, 3, 157076, tzinfo=UTC)
    assert notification.status == "firing"


def test_grafanas_test_button_is_recognised() -> None:
    """By name and instance."""
    (alert,) = parse(group(firing("TestAlert", instance="Grafana")), NOW).alerts
    assert alert.is_test


def test_only_alerts_are_needed() -> None:
    """A custom payload may have dropped everything else."""
    notification = parse(b'{"alerts":[{"labels":{"alertname":"A"}}]}', NOW)
    (alert,) = notification.alerts
    assert (alert.status, alert.starts_at, alert.ends_at) == ("firing", NOW, None)


@pytest.mark.parametrize(
    "key", ["groupKey", "commonLabels", "groupLabels", "externalURL", "truncatedAlerts", "receiver", "version"]
)
@pytest.mark.parametrize("value", [None, 5, "text", [], {"a": 1}])
def test_an_optional_key_of_the_wrong_type_counts_as_absent(key: str, value: Any) -> None:
    """It must not cost the page."""
    assert len(parse(group(firing(), **{key: value}), NOW).alerts) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{",
        b'{"alerts":[]}trailing',
        b'{"a":1}trailing',
        b'{"alerts":[{"labels":{"a":"b"},"value":NaN}]}',
        b'{"alerts":[],"x":NaN}',
        b"\xef\xbb\xbf{}",
        b'{"alerts":[{"labels":{"a":"\xff"}}]}trailing',
    ],
)
def test_what_is_not_json_is_called_so(body: bytes) -> None:
    """400: sending it again cannot help."""
    for read in (parse, examine):
        with pytest.raises(NotJson, match="is not JSON"):
            read(body, NOW)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"null", "Expected `object`"),
        (b"[]", "Expected `object`"),
        (b'"text"', "Expected `object`"),
        (b"{}", "required field `alerts`"),
        (b'{"alerts":{}}', "Expected `array`"),
        (b'{"alerts":[]}', "holds no alert"),
        (b'{"alerts":[{"labels":{}}]}', "has no labels"),
        (b'{"alerts":[{"labels":{"a":1}}]}', "Expected `str`"),
        (b'{"alerts":[1,null,"x"]}', r"alerts\[0\].*alerts\[2\]"),
        (b'{"alerts":[{"labels":{"a":"b"},"status":"pending"}]}', "pending"),
        (b'{"alerts":[{"labels":{"a":"b"},"startsAt":"yesterday"}]}', "startsAt"),
        (b'{"alerts":[{"labels":{"a":"\xff"}}]}', "utf-8"),
        (b"[" * 100_000 + b"]" * 100_000, "not an alert group"),
        (b'{"alerts":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not an alert group"),
        (b'{"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "not an alert group"),
    ],
)
def test_json_without_a_usable_alert_is_called_so(body: bytes, why: str) -> None:
    """202: it is kept and somebody is told."""
    for read in (parse, examine):
        with pytest.raises(NoAlertGroup, match=rf"(?s){why}"):
            read(body, NOW)


def test_one_malformed_alert_costs_only_itself() -> None:
    """The others count; the fault says which and why."""
    bad: dict[str, Any] = {"labels": {"alertname": 5}}
    for read in (parse, examine):
        read_in = read(group(firing(), bad | {"status": "firing"}, resolved(until=5)), NOW)
        assert len(read_in.alerts) if read is parse else read_in.alerts == 2
        assert read_in.faults == ("alerts[1]: Expected `str`, got `int` - at `$.labels[...]`",)


def test_ten_thousand_labels_are_refused_for_that_alert() -> None:
    """Bounded: neither identity nor store is made to digest them."""
    many = {f"label_{number}": "x" for number in range(10_000)}
    notification = parse(group(firing(**many), firing()), NOW)
    assert len(notification.alerts) == 1
    assert "more than 200 labels" in notification.faults[0]


def test_a_key_given_twice_counts_once() -> None:
    """The last wins, as in Go, so sender and receiver mean the same."""
    (alert,) = parse(b'{"alerts":[{"labels":{"alertname":"A","alertname":"B"}}]}', NOW).alerts
    assert alert.name == "B"


def test_hostile_names_are_names() -> None:
    """`__proto__`, a NUL, a line break: text like any other."""
    labels = {"alertname": "A", "__proto__": "x", "constructor": "y", "nul": "a\0b", "line": "a\nb", "any name at all": "z"}
    (alert,) = parse(json.dumps({"alerts": [{"labels": labels}]}).encode(), NOW).alerts
    assert alert.labels == labels


def test_long_annotations_are_cut_and_the_alert_counts() -> None:
    """Prose may be cut, a page may not be lost for it."""
    long = firing() | {"annotations": {"description": "x" * 100_000, **{f"a{number}": "" for number in range(500)}}}
    (alert,) = parse(group(long), NOW).alerts
    assert len(alert.annotations) == 100
    assert len(alert.annotations["description"]) == 16 * 1024


def test_more_alerts_than_a_transaction_should_hold_are_named() -> None:
    """The first twenty thousand count."""
    body = b'{"alerts":[' + b",".join([b'{"labels":{"a":"b"}}'] * (MAX_ALERTS + 5)) + b"]}"
    for read in (parse, examine):
        assert f"only the first {MAX_ALERTS} of {MAX_ALERTS + 5}" in read(body, NOW).faults[-1]


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", NEVER, "1969-12-31T23:59:59Z"])
def test_times_at_the_ends_of_the_calendar_are_harmless(moment: str) -> None:
    """Some have no equivalent in UTC; Go's zero time means never."""
    (alert,) = parse(group(resolved(until=1) | {"endsAt": moment}), NOW).alerts
    assert alert.ends_at is not None
    assert alert.ends_at >= NOW


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
alerts = st.fixed_dictionaries(
    {"labels": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3) | json_values},
    optional={key: json_values | st.just("firing") for key in ("status", "annotations", "startsAt", "endsAt", "generatorURL")},
)


@given(st.fixed_dictionaries({"alerts": st.lists(alerts, max_size=4) | json_values}, optional={"groupKey": json_values}))
def test_the_quick_look_and_the_thorough_one_agree(value: Any) -> None:
    """What the webhook acknowledges is what the worker finds."""
    body = json.dumps(value).encode()

    def seen(read: Any) -> Any:
        try:
            result = read(body, NOW)
        except (NoAlertGroup, NotJson) as error:
            return type(error)
        return (len(result.alerts), result.faults) if read is parse else (result.alerts, result.faults)

    assert seen(examine) == seen(parse)


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_no_body_raises_anything_else(body: bytes) -> None:
    """Whatever comes is an alert group, not JSON, or JSON without one."""
    with contextlib.suppress(NoAlertGroup, NotJson):
        examine(body, NOW)


labels = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5)


@given(labels, labels)
def test_identities_are_equal_exactly_where_the_kept_labels_are(one: dict[str, str], other: dict[str, str]) -> None:
    """No two label sets that differ share a page, whatever is in them."""
    ignored = {"replica"}
    kept_one, kept_other = ({k: v for k, v in each.items() if k not in ignored} for each in (one, other))
    assert (identity(one, ignored) == identity(other, ignored)) == (kept_one == kept_other)
    assert identity(one | {"replica": "a"}, ignored) == identity(one | {"replica": "b"}, ignored)


def test_a_notification_key_ignores_order_and_sees_every_change() -> None:
    """A peer lists alerts in another order; a new status, start, end or label is news."""

    def key(*alerts: dict[str, Any], **more: Any) -> str:
        return notification_key(parse(group(*alerts, **more), NOW))

    base = key(firing(a="1"), firing(a="2"))
    assert base == key(firing(a="2"), firing(a="1"))
    assert base == key(firing(a="1") | {"annotations": {}}, firing(a="2"))
    others = [
        key(firing(a="1")),
        key(firing(a="1"), firing(a="2", since=1)),
        key(firing(a="1"), resolved(a="2", until=5)),
        key(firing(a="1"), resolved(a="2", until=6)),
        key(firing(a="1"), firing(a="3")),
        key(firing(a="1"), firing(a="2"), truncatedAlerts=1),
        key(firing(a="1"), firing(a="2"), receiver="other"),
    ]
    assert len({base, *others}) == len(others) + 1


def test_without_an_end_a_resolve_ends_when_it_arrived() -> None:
    """Alertmanager always sends one; a custom payload may not."""
    (alert,) = parse(group(resolved(until=5) | {"endsAt": NEVER}), NOW).alerts
    assert alert.ends_at == NOW
