"""Writes every dashboard as the JSON file Grafana provisions: `python -m dashboards.generate`, from the repository's root."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from dashboards import desk_overview
from dashboards.panels import Json

FOLDER = Path(__file__).resolve().parent
DASHBOARDS: Mapping[str, Callable[[], Json]] = {desk_overview.UID: desk_overview.build}
"""Every dashboard by its uid, which is its file name and its address in Grafana."""


def render(uid: str) -> str:
    """The text of `<uid>.json`."""
    return json.dumps(DASHBOARDS[uid](), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all files."""
    for uid in DASHBOARDS:
        (FOLDER / f"{uid}.json").write_text(render(uid))


if __name__ == "__main__":
    main()
