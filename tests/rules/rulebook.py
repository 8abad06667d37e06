"""The rules as data, for every test that holds something else against them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.components import REPOSITORY

RULES = REPOSITORY / "rules"
RULE_FILES = sorted(RULES.glob("*.rules.yml"))


def rules_of(path: Path) -> Iterator[dict[str, Any]]:
    """Every rule of a file, alerts and recordings."""
    for group in yaml.safe_load(path.read_text())["groups"]:
        yield from group["rules"]


RULE_LIST = [rule for path in RULE_FILES for rule in rules_of(path)]
ALERTS = {rule["alert"]: rule for rule in RULE_LIST if "alert" in rule}
RECORDS = {rule["record"] for rule in RULE_LIST if "record" in rule}
