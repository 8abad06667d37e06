"""Builders of Grafana dashboard JSON (schema version 42): plain data in, plain dictionaries out.

Knows Grafana's field names and nothing of the desk; `dashboards/<uid>.py` says what is shown. A panel without title, unit,
description, thresholds or legend cannot be built, and a panel that leaves the grid of 24 columns is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

COLUMNS = 24
SCHEMA_VERSION = 42
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
RUNBOOKS = "http://127.0.0.1:9878/runbooks"
"""The receiver's pages; deploy/README.md says how a desk changes the address."""


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression. `legend` may name labels of the result as `{{label}}`; `instant` asks for the latest only."""

    expr: str
    legend: str
    instant: bool = False
    table: bool = False

    def json(self, ref_id: str) -> Json:
        """The target as Grafana stores it."""
        return {
            "refId": ref_id,
            "datasource": DATASOURCE,
            "expr": self.expr,
            "legendFormat": self.legend,
            "instant": self.instant,
            "range": not self.instant,
            "format": "table" if self.table else "time_series",
            "editorMode": "code",
        }


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Colour from a value on. The first step has no value: it is the colour below all others."""

    steps: tuple[tuple[float | None, str], ...] = ((None, "green"),)

    def json(self) -> Json:
        """Absolute thresholds."""
        return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in self.steps]}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: what it shows, how, and which alerts belong to it. `options` and `custom` are those of the panel type."""

    kind: str
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    thresholds: Thresholds = field(default_factory=Thresholds)
    width: int = 12
    height: int = 9
    runbooks: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()

    def json(self, panel_id: int, x: int, y: int) -> Json:
        """The panel at a place of the grid."""
        return {
            "id": panel_id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "links": [runbook_link(alert) for alert in self.runbooks],
            "targets": [query.json(chr(ord("A") + index)) for index, query in enumerate(self.queries)],
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": self.thresholds.json(),
                    "color": {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"},
                    "custom": dict(self.custom),
                    **self.defaults,
                },
                "overrides": list(self.overrides),
            },
            "options": dict(self.options),
            "transformations": list(self.transformations),
        }


def runbook_link(alert: str) -> Json:
    """A link in the corner of a panel to the runbook of an alert."""
    return {
        "title": f"Runbook {alert}",
        "url": f"{RUNBOOKS}/{alert}",
        "type": "link",
        "icon": "doc",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "targetBlank": True,
        "includeVars": False,
        "keepTime": False,
    }


def timeseries(**about: Any) -> Panel:
    """Lines over time, legend as a table below; thresholds drawn as lines where there is more than one step."""
    steps = about.get("thresholds", Thresholds()).steps
    return Panel(
        kind="timeseries",
        custom={
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 0,
            "showPoints": "never",
            "spanNulls": False,
            "thresholdsStyle": {"mode": "line" if len(steps) > 1 else "off"},
        },
        options={
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **about,
    )


def stat(**about: Any) -> Panel:
    """The latest value of each series, large."""
    return Panel(
        kind="stat",
        options={
            "reduceOptions": _LATEST,
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "value_and_name",
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        },
        **about,
    )


def bars(**about: Any) -> Panel:
    """The latest value of each series as a horizontal bar."""
    return Panel(
        kind="bargauge",
        options={
            "reduceOptions": _LATEST,
            "displayMode": "basic",
            "orientation": "horizontal",
            "valueMode": "color",
            "namePlacement": "left",
            "sizing": "auto",
            "showUnfilled": True,
            "minVizHeight": 14,
            "minVizWidth": 8,
            "maxVizHeight": 40,
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        },
        **about,
    )


def table(**about: Any) -> Panel:
    """One row per label set."""
    return Panel(
        kind="table",
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
        options={"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "countRows": False}},
        **about,
    )


_LATEST: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def dashed_red(pattern: str) -> Json:
    """Override: series whose name matches are limits, drawn as a red dashed line."""
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
        ],
    }


def column(name: str, *properties: tuple[str, Any]) -> Json:
    """Override: properties of one column of a table."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }


def place(rows: Iterable[Sequence[Panel]]) -> list[Json]:
    """Rows of panels, left to right, top to bottom.

    Raises:
        ValueError: the panels of a row differ in height or are wider than the grid together.
    """
    placed: list[Json] = []
    y = 0
    for row in rows:
        if len({panel.height for panel in row}) != 1 or sum(panel.width for panel in row) != COLUMNS:
            raise ValueError(f"the row of {row[0].title!r} must be {COLUMNS} columns wide and of one height")
        x = 0
        for panel in row:
            placed.append(panel.json(len(placed) + 1, x, y))
            x += panel.width
        y += row[0].height
    return placed


def dashboard(uid: str, title: str, description: str, variables: Sequence[Json], rows: Iterable[Sequence[Panel]]) -> Json:
    """A dashboard as the file Grafana provisions."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["deskwatch"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [],
        "panels": place(rows),
    }


def datasource_variable() -> Json:
    """The Prometheus to ask, so that no data source is hard-wired."""
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "refresh": 1}


def label_variable(name: str, label: str, metric: str, of: str) -> Json:
    """All values of a label of a metric, several at once, all by default."""
    query = f"label_values({metric}, {of})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def choice_variable(name: str, label: str, values: Sequence[str], default: str) -> Json:
    """One of a fixed list."""
    return {
        "name": name,
        "label": label,
        "type": "custom",
        "query": ",".join(values),
        "options": [{"text": value, "value": value, "selected": value == default} for value in values],
        "current": {"selected": True, "text": default, "value": default},
        "multi": False,
        "includeAll": False,
        "hide": 0,
    }
