"""Documentation that follows from code is generated; documentation that is written is checked against the code."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from deskwatch.cli import collect_catalogue, main
from tests import configuration
from tests.docs import README, renewed

TOP = Path(__file__).parents[2]


def test_generated_parts_of_the_readme_are_current() -> None:
    """`make docs` renews them."""
    assert renewed(README.read_text()) == README.read_text()


def test_the_page_of_the_configuration_is_current() -> None:
    """Every key with its type, default and meaning."""
    assert configuration.page() == configuration.PAGE.read_text()


def test_every_family_has_a_name_a_type_and_a_meaning() -> None:
    """The catalogue is what rules, dashboards, runbooks and the README are checked against."""
    families = collect_catalogue()
    names = [family["name"] for family in families]
    assert len(names) == len(set(names)), "a family is declared twice"
    for family in families:
        assert re.fullmatch(r"(desk|deskwatch|process|python)_[a-z0-9_]+", family["name"])
        assert family["help"]
        assert (family["type"] == "counter") == family["name"].endswith("_total")


def test_every_link_into_the_repository_leads_somewhere() -> None:
    """A dead link in the README is a broken promise."""
    for page in ("README.md", "CONTRIBUTING.md", "deploy/README.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (TOP / page).read_text()):
            assert ((TOP / page).parent / target).exists(), f"{page} links to {target}"


def test_every_command_in_the_readme_exists() -> None:
    """What the README tells to type can be typed."""
    known = set(main.list_commands(None))  # type: ignore[arg-type]
    used = set(re.findall(r"deskwatch (exporter|receiver|demo|check|metrics|[a-z-]+) (?=--|[a-z./]+\.yml)", README.read_text()))
    assert used <= known


def test_metrics_prints_the_catalogue_as_json_too() -> None:
    """For scripts."""
    result = CliRunner().invoke(main, ["metrics", "--format", "json"])
    assert result.exit_code == 0
    assert '"desk_var_ratio"' in result.stdout


def test_make_demo_and_make_test_are_in_the_readme() -> None:
    """The two commands."""
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text
