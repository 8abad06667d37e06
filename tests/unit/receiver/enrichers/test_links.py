"""Dashboard, expression and silence links."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from receiver.alerts import parse
from receiver.enrichers.links import Config, Links
from receiver.matchers import parse_matcher
from tests.unit.receiver.bodies import firing, group
from tests.unit.receiver.enrichers.surroundings import surroundings


async def links(folder: Path, alert: dict[str, Any], **more: Any) -> dict[str, str]:
    """Title to address."""
    notification = parse(group(alert, **more), datetime.now(UTC))
    found = await Links(Config(), surroundings(folder)).enrich(notification.alerts[0], notification)
    return {link.title: link.url for link in found.links}


async def test_each_address_the_alert_brings_is_a_link(tmp_path: Path) -> None:
    """In the order one looks."""
    alert = firing(portfolio="carry") | {"annotations": {"dashboard_url": "http://grafana/d/desk"}}
    found = await links(tmp_path, alert)
    assert list(found) == ["Dashboard", "Expression", "Silence"]
    assert found["Dashboard"] == "http://grafana/d/desk"
    assert found["Expression"] == "http://prometheus:9090/graph?g0.expr=up"


@pytest.mark.parametrize("value", ["carry", 'a"b', "x,y", "{}", "a&b#c", "ü\n\\"])
async def test_the_silence_form_is_filled_with_exactly_the_alerts_labels(tmp_path: Path, value: str) -> None:
    """Whatever is in them: one matcher for each label, and none more."""
    found = await links(tmp_path, firing(portfolio=value))
    base, _, query = found["Silence"].partition("?filter=")
    assert base == "http://alertmanager:9093/#/silences/new"
    inside = unquote(query).removeprefix("{").removesuffix("}")
    labels = {"alertname": "VaRLimitExceeded", "portfolio": value, "severity": "critical"}
    read = [parse_matcher(text) for text in split(inside)]
    assert {each.name: each.value for each in read} == labels


def split(text: str) -> list[str]:
    """At the commas outside quotes."""
    parts, quoted, escaped = [""], False, False
    for character in text:
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        if character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts


async def test_what_is_no_web_address_is_left_out(tmp_path: Path) -> None:
    """The direct path has no generator and no Alertmanager."""
    alert = firing() | {"annotations": {"dashboard_url": "javascript:x"}, "generatorURL": ""}
    assert await links(tmp_path, alert, externalURL="") == {}


async def test_a_silence_form_too_long_for_a_link_is_left_out(tmp_path: Path) -> None:
    """No channel would take it."""
    found = await links(tmp_path, firing(long="x" * 5000))
    assert "Silence" not in found
