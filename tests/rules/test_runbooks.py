"""The runbooks: one per alert, four sections with substance, commands and queries that can be pasted."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.components import REPOSITORY
from tests.rules.catalogue import families, faults
from tests.rules.promql import selectors
from tests.rules.rulebook import ALERTS, RECORDS

RUNBOOKS = sorted((REPOSITORY / "runbooks").glob("*.md"))
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
every_runbook = pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)


def parsed(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


def sections(path: Path) -> dict[str, list[Token]]:
    """Tokens below each second-level heading, in order."""
    tokens = parsed(path)
    starts = [at for at, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    ends = [*starts[1:], len(tokens)]
    return {tokens[start + 1].content: tokens[start + 3 : end] for start, end in zip(starts, ends, strict=True)}


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """The link in an alert leads somewhere, and no runbook outlives its alert."""
    assert {path.stem for path in RUNBOOKS} == set(ALERTS)


@every_runbook
def test_a_runbook_has_its_four_sections_with_substance(path: Path) -> None:
    """Title and sections in order; none is empty or a placeholder."""
    text = path.read_text()
    found = sections(path)
    assert text.startswith(f"# {path.stem}\n")
    assert list(found) == SECTIONS
    for name, tokens in found.items():
        words = sum(len(token.content.split()) for token in tokens if token.type == "inline")
        assert words >= (20 if name == "Impact" else 40), f"{name} has {words} words"
    assert not re.search(r"\b(TODO|TBD|FIXME|lorem)\b", text, re.IGNORECASE)


@every_runbook
def test_mitigation_begins_with_steps_the_receiver_can_send(path: Path) -> None:
    """The receiver puts the first steps into its messages: a numbered list at once, of plain sentences."""
    tokens = sections(path)["Mitigation"]
    assert tokens[0].type == "ordered_list_open"
    items = [
        token
        for token in tokens[: next(i for i, t in enumerate(tokens) if t.type == "ordered_list_close")]
        if token.type == "inline"
    ]
    assert len(items) >= 3
    for item in items[:3]:
        assert {child.type for child in item.children or []} <= {"text"}, f"markup in: {item.content}"
        assert item.content.endswith(".")
        assert len(item.content) <= 200


@every_runbook
def test_diagnosis_can_be_pasted(path: Path) -> None:
    """Diagnosis offers at least two queries or commands."""
    assert sum(token.type == "fence" for token in sections(path)["Diagnosis"]) >= 2


@every_runbook
def test_queries_parse_and_ask_for_series_that_exist(path: Path) -> None:
    """Every promql block is one expression over families of the catalogue or recorded series."""
    known = families()
    for token in parsed(path):
        if token.type == "fence":
            assert token.info in {"promql", "sh"}, f"block without a language at line {token.map}"
        if token.type == "fence" and token.info == "promql":
            found = selectors(token.content)
            assert faults(found, known) == [], token.content
            assert {selector.name for selector in found if ":" in (selector.name or "")} <= RECORDS


@every_runbook
def test_commands_name_the_ports_of_the_product(path: Path) -> None:
    """Local addresses are those of exporter, receiver, Prometheus or Alertmanager."""
    ports = set(re.findall(r"127\.0\.0\.1:(\d+)", path.read_text()))
    assert ports <= {"9877", "9878", "9090", "9093"}


def test_runbooks_do_not_repeat_each_other() -> None:
    """A sentence of prose stands in one runbook; generic text is not help."""
    seen: Counter[str] = Counter()
    for path in RUNBOOKS:
        prose = {
            sentence.strip()
            for token in parsed(path)
            if token.type == "inline"
            for sentence in re.split(r"(?<=[.!?])\s", token.content)
            if len(sentence.split()) >= 12
        }
        seen.update(prose)
    assert [sentence for sentence, count in seen.items() if count > 1 and not sentence.startswith("Replace ")] == []
