"""Generates what follows from the code in README.md, and docs/configuration.md; a test holds that both are current.

`python -m tests.docs --write` renews them; without `--write` it prints what would change.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deskwatch.catalogue import as_markdown
from deskwatch.cli import collect_catalogue
from deskwatch.plugins import Room
from exporter.analytic import ANALYTICS
from exporter.source import SOURCES
from receiver.channel import CHANNELS
from receiver.enricher import ENRICHERS
from receiver.hook_room import HOOKS
from tests import configuration

README = Path(__file__).parents[1] / "README.md"


def plug_ins(room: Room[Any]) -> str:
    """A table of a room: name and what its docstring's first sentence says."""
    rows = ["| name | what it does |", "|---|---|"]
    rows += [f"| `{name}` | {_sentence(room, name)} |" for name in room.modules]
    return "\n".join(rows)


def _sentence(room: Room[Any], name: str) -> str:
    text = inspect.cleandoc(room.module(name).__doc__ or "")
    first = re.split(r"(?<=\.)\s", text.replace("\n", " "), maxsplit=1)[0]
    return first.replace("|", "\\|")


PARTS = {
    "sources": lambda: plug_ins(SOURCES),
    "analytics": lambda: plug_ins(ANALYTICS),
    "channels": lambda: plug_ins(CHANNELS),
    "enrichers": lambda: plug_ins(ENRICHERS),
    "hooks": lambda: plug_ins(HOOKS),
    "metrics": lambda: as_markdown(collect_catalogue()),
}


def renewed(text: str) -> str:
    """The text with every `<!-- generated: NAME -->` ... `<!-- end -->` part renewed.

    Raises:
        ValueError: a part is missing from the text.
    """
    for name, make in PARTS.items():
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda match, make=make: f"{match[1]}{make()}\n{match[2]}", text, flags=re.S)
        if count != 1:
            raise ValueError(f"README.md must contain the part {name!r} once, contains it {count} times")
    return text


def main(arguments: Iterable[str]) -> None:
    """Renew README.md and docs/configuration.md."""
    pages = {README: renewed(README.read_text()), configuration.PAGE: configuration.page()}
    for file, new in pages.items():
        if "--write" in arguments:
            file.write_text(new)
        elif not file.exists() or new != file.read_text():
            sys.exit(f"{file.name} is not current: run `make docs`")


if __name__ == "__main__":
    main(sys.argv[1:])
