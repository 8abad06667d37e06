"""The dashboards: generated, current, and every panel can be understood and queried."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dashboards.generate import DASHBOARDS, render
from dashboards.panels import COLUMNS, RUNBOOKS, SCHEMA_VERSION, Query, place, stat
from tests.components import REPOSITORY
from tests.rules.catalogue import families, faults
from tests.rules.promql import VARIABLES, output_labels, selectors, substituted, template_labels
from tests.rules.rulebook import ALERTS

FOLDER = REPOSITORY / "dashboards"
every_dashboard = pytest.mark.parametrize("uid", sorted(DASHBOARDS))


def load(uid: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{uid}.json").read_text())
    return content


PANELS = [
    pytest.param(panel, id=f"{uid}-{panel['title']}") for uid in sorted(DASHBOARDS) for panel in DASHBOARDS[uid]()["panels"]
]
every_panel = pytest.mark.parametrize("panel", PANELS)


@every_dashboard
def test_a_committed_dashboard_is_current(uid: str) -> None:
    """`python -m dashboards.generate` was run after the last change."""
    assert (FOLDER / f"{uid}.json").read_text() == render(uid)


def test_there_is_no_dashboard_without_a_generator() -> None:
    """Nobody edits JSON by hand."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(DASHBOARDS)


@every_dashboard
def test_a_dashboard_is_addressable_and_portable(uid: str) -> None:
    """Its uid is its file name, it asks the data source the viewer chooses, and the schema is the one it was built for."""
    content = load(uid)
    assert content["uid"] == uid
    assert content["schemaVersion"] == SCHEMA_VERSION
    variables = {variable["name"]: variable for variable in content["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {"${datasource}"} == set(re.findall(r'"uid": "([^"]*)"', json.dumps(content))) - {uid}
    used = set(re.findall(r"\$(?!__|{)(\w+)", json.dumps([panel["targets"] for panel in content["panels"]])))
    assert used <= set(variables)


@every_dashboard
def test_panels_fill_the_grid_without_overlap(uid: str) -> None:
    """Ids are unique, nothing lies outside 24 columns, and no cell belongs to two panels."""
    panels = load(uid)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        cells |= own


@every_panel
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    """Title, unit, a description that says more than the title, thresholds that start at the bottom and rise."""
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"].split()) >= 6
    assert panel["description"].endswith(".")
    first, *rest = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
    assert first is None
    assert rest == sorted(rest)


@every_panel
def test_a_panel_links_to_runbooks_that_exist(panel: dict[str, Any]) -> None:
    """From a panel it is one click to what to do."""
    for link in panel["links"]:
        assert link["url"].startswith(f"{RUNBOOKS}/")
        assert link["url"].removeprefix(f"{RUNBOOKS}/") in ALERTS


@every_panel
def test_queries_parse_and_ask_for_series_that_exist(panel: dict[str, Any]) -> None:
    """After substitution of the variables each query is PromQL over families of the catalogue."""
    known = families()
    for target in panel["targets"]:
        query = substituted(target["expr"])
        assert "$" not in query, f"unknown variable in {query}"
        found = selectors(query)
        assert found
        assert faults(found, known) == []


@every_panel
def test_legends_name_labels_the_result_has(panel: dict[str, Any]) -> None:
    """A legend with a label that was aggregated away shows an empty name."""
    for target in panel["targets"]:
        labels = output_labels(substituted(target["expr"]))
        assert labels is not None, f"aggregate away what is not shown: {target['expr']}"
        assert template_labels(target["legendFormat"]) <= labels
        assert not labels & {"instance", "job"}, "replicas must draw one line"


def test_every_substituted_variable_is_used() -> None:
    """The list of variables in the tests does not outlive the dashboards."""
    text = "".join(render(uid) for uid in DASHBOARDS)
    assert [name for name in VARIABLES if name not in text] == []


def test_a_row_that_leaves_the_grid_is_refused() -> None:
    """A panel too wide, or a gap, is found when the dashboard is built."""
    narrow = stat(title="a", description="b", unit="none", queries=[Query("up", "")], width=7)
    with pytest.raises(ValueError, match="24 columns wide"):
        place([[narrow, narrow]])
