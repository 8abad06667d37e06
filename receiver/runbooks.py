"""Runbooks: `<AlertName>.md` in one folder, read, rendered, and their first steps taken from the parsed document.

An alert's name is untrusted text: it is only ever compared with the names of the files that are there, never made into a path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

STEPS_HEADING = "Mitigation"
STEPS_SHOWN = 3
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True, slots=True)
class Runbook:
    """One runbook: its alert's name, its text as HTML (raw HTML in it shows as text), and its first steps as plain text."""

    name: str
    html: str
    steps: tuple[str, ...]


class Runbooks:
    """The runbooks of a folder. A file changed on disk is read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, tuple[int, Runbook]] = {}
        self._listed: tuple[int, dict[str, Path]] = (-1, {})

    def names(self) -> list[str]:
        """Alerts that have a runbook, sorted."""
        return sorted(self._files())

    def get(self, name: str) -> Runbook | None:
        """The runbook of an alert, None where there is none or it cannot be read."""
        path = self._files().get(name)
        if path is None:
            return None
        try:
            changed = path.stat().st_mtime_ns
            known = self._read.get(name)
            if known is None or known[0] != changed:
                known = (changed, parse(name, path.read_text(encoding="utf-8")))
                self._read[name] = known
        except (OSError, UnicodeError):
            return None
        return known[1]

    def _files(self) -> dict[str, Path]:
        try:
            changed = self._folder.stat().st_mtime_ns
            if changed != self._listed[0]:
                self._listed = (changed, {path.stem: path for path in self._folder.glob("*.md")})
        except OSError:
            return {}
        return self._listed[1]


def parse(name: str, text: str) -> Runbook:
    """Render a runbook and find its first steps: the first ordered list under the heading Mitigation."""
    tokens = _PARSER.parse(text)
    html = _PARSER.renderer.render(tokens, _PARSER.options, {})
    steps = [step for step, _ in zip(_steps(tokens), range(STEPS_SHOWN), strict=False)]
    return Runbook(name, html, tuple(steps))


def _steps(tokens: list[Token]) -> Iterator[str]:
    for first in _list_items(tokens):
        inline = next((token for token in tokens[first:] if token.type == "inline"), None)
        if inline is not None:
            yield " ".join(_plain(inline).split())


def _list_items(tokens: list[Token]) -> Iterator[int]:
    """Indices of the items of the first ordered list under the heading."""
    under_heading = False
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            under_heading = _plain(tokens[index + 1]).strip().lower() == STEPS_HEADING.lower()
        elif under_heading and token.type == "ordered_list_open":
            for at in range(index + 1, len(tokens)):
                inside = tokens[at]
                if inside.type == "ordered_list_close" and inside.level == token.level:
                    return
                if inside.type == "list_item_open" and inside.level == token.level + 1:
                    yield at
            return


def _plain(inline: Token) -> str:
    """The text of an inline token without its markup; a line break is a blank."""
    children = inline.children or []
    return "".join(" " if child.type in ("softbreak", "hardbreak") else child.content for child in children)
