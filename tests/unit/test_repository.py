"""The house rules a machine can hold: one-way imports, plug-ins complete, locks without hosts, no module with two jobs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.analytic import ANALYTICS
from exporter.source import SOURCES
from receiver.channel import CHANNELS
from receiver.enricher import ENRICHERS

TOP = Path(__file__).parents[2]
FORBIDDEN = {"deskwatch": {"exporter", "receiver"}, "exporter": {"receiver"}, "receiver": {"exporter"}}
ROOMS = [SOURCES, ANALYTICS, CHANNELS, ENRICHERS]
PLUGINS = [(room, name) for room in ROOMS for name in room.modules]
LONGEST_MODULE = 350
LONGEST_FUNCTION = 50


def modules(package: str) -> Iterator[Path]:
    """Every Python file of a package."""
    yield from sorted((TOP / package).rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Top-level packages a file imports, also inside functions."""
    tree = ast.parse(file.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package: str) -> None:
    """What both processes share knows neither; neither knows the other."""
    wrong = {str(file.relative_to(TOP)): imported(file) & FORBIDDEN[package] for file in modules(package)}
    assert {file: names for file, names in wrong.items() if names} == {}


def test_only_the_poller_fetches_and_only_deliver_sends() -> None:
    """One caller each, so that deadline, retry and ledger cannot be forgotten."""
    for package, call, only in (("exporter", ".fetch(", "poller.py"), ("receiver", ".send(", "deliver.py")):
        callers = {file.name for file in modules(package) if call in file.read_text() and "channels" not in file.parts}
        assert callers == {only}


@pytest.mark.parametrize(("room", "name"), PLUGINS, ids=[f"{room.package}.{name}" for room, name in PLUGINS])
def test_a_plug_in_has_its_docstring_test_and_row_in_the_docs(room: object, name: str) -> None:
    """One file and one test; the README lists it."""
    package = room.package  # type: ignore[attr-defined]
    module = room.module(name)  # type: ignore[attr-defined]
    assert (module.__doc__ or "").strip()
    folder = TOP / "tests" / "unit" / Path(*package.split("."))
    assert list(folder.glob(f"test_{name}.py")), f"{folder.relative_to(TOP)}/test_{name}.py is missing"
    assert f"| `{name}` |" in (TOP / "README.md").read_text()


@pytest.mark.parametrize("room", [SOURCES, CHANNELS, ENRICHERS], ids=lambda room: room.package)
def test_a_plug_ins_type_is_its_modules_name(room: object) -> None:
    """`type:` in the configuration and the file have one name."""
    for name in room.modules:  # type: ignore[attr-defined]
        config = room.config(name)  # type: ignore[attr-defined]
        assert config.model_fields["type"].annotation.__args__ == (name,)
        assert room.plugin(name)  # type: ignore[attr-defined]


def test_shared_code_names_no_plug_in() -> None:
    """A plug-in's name in shared code is a special case waiting to grow."""
    rooms = {room.package.rpartition(".")[2] for room in (SOURCES, CHANNELS, ENRICHERS)} | {"hooks"}
    names = {name for room in (SOURCES, CHANNELS, ENRICHERS) for name in room.modules}
    rooms |= {"demo", "venues", "events"}
    shared = [file for package in FORBIDDEN for file in modules(package) if not rooms & set(file.parts)]
    found = {}
    for file in shared:
        tree = ast.parse(file.read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        if hits := texts & names - KINDS:
            found[str(file.relative_to(TOP))] = hits
    assert found == {}


KINDS = {"database", "console", "webhook", "links", "runbook", "prometheus", "kafka", "email"}
"""Words that are also something else: a source's `kind`, a log format, a path, a label of Prometheus's."""


@pytest.mark.parametrize("lock", ["run", "dev", "mlflow"])
def test_a_lock_has_a_hash_for_everything_and_names_no_host(lock: str) -> None:
    """It installs from whichever index the machine uses, and nothing unexpected."""
    text = (TOP / "requirements" / f"{lock}.lock").read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"\n(?=[a-z])", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries)


def test_no_module_and_no_function_outgrows_one_job() -> None:
    """Past these lengths, look for a second job."""
    long: list[str] = []
    for package in FORBIDDEN:
        for file in modules(package):
            text = file.read_text()
            if text.count("\n") > LONGEST_MODULE:
                long.append(f"{file.relative_to(TOP)}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                    length = node.end_lineno - (node.body[0].end_lineno or 0 if ast.get_docstring(node) else node.lineno)
                    if length > LONGEST_FUNCTION:
                        long.append(f"{file.relative_to(TOP)}:{node.lineno} {node.name}: {length} lines")
    assert long == []
