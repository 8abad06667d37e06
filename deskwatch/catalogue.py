"""The metric catalogue as text: what `deskwatch metrics` prints and the documentation contains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def as_json(families: Iterable[Mapping[str, Any]]) -> str:
    """A JSON array of objects with `name`, `type`, `labels`, `help`."""
    return json.dumps(list(families), indent=2)


def as_markdown(families: Iterable[Mapping[str, Any]]) -> str:
    """A table, one row per family."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{family['name']}` | {family['type']} | {', '.join(family['labels']) or '-'} | {family['help']} |"
        for family in families
    ]
    return "\n".join(rows)
