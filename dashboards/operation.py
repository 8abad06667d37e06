"""Panels about the watching itself: sources, alerts, deliveries. Shared by dashboards; knows nothing of risk."""

from __future__ import annotations

from dashboards.panels import RUNBOOKS, Panel, Query, column, table, timeseries

FIRING = 'ALERTS{alertstate="firing", severity=~"critical|warning"}'


def sources() -> Panel:
    """State, age and patience of every source, one row each."""
    last_success = "max by (source) (desk_source_last_success_timestamp_seconds)"
    queries = [
        "max by (source) (desk_source_up)",
        f"time() - {last_success}",
        "max by (source) (desk_source_stale_after_seconds)",
    ]
    states = {"0": {"text": "down", "color": "red", "index": 0}, "1": {"text": "up", "color": "green", "index": 1}}
    hidden = {"Time": True, "Time 1": True, "Time 2": True, "Time 3": True}
    names = {"Value #A": "last fetch", "Value #B": "age of data", "Value #C": "stale after"}
    return table(
        title="Sources",
        description="Whether each source's last fetch worked, how old its last good data is, and when that counts as stale.",
        unit="s",
        queries=[Query(query, "{{source}}", instant=True, table=True) for query in queries],
        runbooks=["StaleData"],
        transformations=[
            {"id": "joinByField", "options": {"byField": "source", "mode": "outer"}},
            {"id": "organize", "options": {"excludeByName": hidden, "indexByName": {}, "renameByName": names}},
        ],
        overrides=[
            column(
                "last fetch",
                ("unit", "none"),
                ("mappings", [{"type": "value", "options": states}]),
                ("custom.cellOptions", {"type": "color-text"}),
            )
        ],
    )


def _per_minute(counter: str, labels: str) -> str:
    return f"60 * sum by ({labels}) (rate({counter}[$__rate_interval]))"


def failed_fetches() -> Panel:
    """Why sources fail."""
    return timeseries(
        title="Failed fetches",
        description="Fetches per minute that failed, by source and reason.",
        unit="cpm",
        queries=[Query(_per_minute("desk_source_fetch_failures_total", "source, reason"), "{{source}} {{reason}}")],
        defaults={"min": 0},
        runbooks=["StaleData"],
    )


def open_episodes() -> Panel:
    """What the receiver considers unresolved."""
    return timeseries(
        title="Open episodes",
        description="Alerts the receiver holds open: fired and not resolved yet.",
        unit="none",
        queries=[Query("max by (severity) (deskwatch_episodes_open)", "{{severity}}")],
        defaults={"min": 0, "decimals": 0},
    )


def deliveries() -> Panel:
    """What the receiver brought to people and systems."""
    return timeseries(
        title="Deliveries",
        description="Messages per minute from the receiver to people and systems, by channel and outcome.",
        unit="cpm",
        queries=[Query(_per_minute("deskwatch_deliveries_total", "channel, outcome"), "{{channel}} {{outcome}}")],
        defaults={"min": 0},
        runbooks=["ComponentDown"],
    )


def firing_alerts() -> Panel:
    """Every alert that fires now, with the way to its runbook."""
    columns = ("alertname", "severity", "priority", "portfolio", "limit", "strategy", "source", "component")
    order = {"excludeByName": {"Time": True, "Value": True}, "indexByName": {name: at for at, name in enumerate(columns)}}
    link = {"title": "Runbook", "url": f"{RUNBOOKS}/${{__value.raw}}", "targetBlank": True}
    return table(
        title="Firing alerts",
        description="Critical and warning alerts that fire now. A click on the name opens the runbook.",
        unit="none",
        queries=[Query(f"max by ({', '.join(columns)}) ({FIRING})", "{{alertname}}", instant=True, table=True)],
        width=24,
        height=8,
        transformations=[{"id": "organize", "options": {**order, "renameByName": {"alertname": "alert"}}}],
        overrides=[column("alert", ("links", [link]))],
    )
