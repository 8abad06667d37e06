"""The product's own metric families, to hold every name in rules, dashboards and runbooks against."""

from __future__ import annotations

import re

import promql_parser as promql

OWN = re.compile(r"(desk|deskwatch)_")
SCRAPED = frozenset({"instance", "job"})


def families() -> dict[str, frozenset[str]]:
    """Family name to its labels, of exporter and receiver."""
    from exporter.pipeline import catalogue as exporter_families
    from receiver.metrics import catalogue as receiver_families

    return {family["name"]: frozenset(family["labels"]) for family in (*exporter_families(), *receiver_families())}


def faults(selectors: list[promql.VectorSelector], known: dict[str, frozenset[str]]) -> list[str]:
    """Selectors of our families that name no family of the catalogue, or a label the family does not have."""
    found = []
    for selector in selectors:
        name = selector.name or ""
        if not OWN.match(name):
            continue
        family = name if name in known else re.sub(r"_(bucket|sum|count)$", "", name)
        if family not in known:
            found.append(f"{name} is in no catalogue")
            continue
        labels = {matcher.name for matcher in selector.matchers.matchers}
        if unknown := labels - known[family] - SCRAPED - ({"le"} if name.endswith("_bucket") else set()):
            found.append(f"{name} has no label {', '.join(sorted(unknown))}")
    return found
