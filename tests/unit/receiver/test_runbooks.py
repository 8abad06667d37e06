"""Runbooks: rendered, their first steps found, and never a path made of an alert's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from deskwatch.data import data_folder
from receiver.runbooks import Runbooks, parse

TEXT = """# StaleData

## Meaning

1. Not this list.

## Mitigation

Do this **now**:

1. Look at `/debug/source?name=x`
   and read *why*.

   More about it.

2. Restart it:
   1. inner one
   2. inner two
3. See [the page](http://x/y) & wait.
4. A fourth.

Then:

1. another list
"""


def test_the_first_three_items_of_the_first_list_under_mitigation_are_the_steps() -> None:
    """As plain text on one line, nested lists and later lists left out."""
    assert parse("StaleData", TEXT).steps == (
        "Look at /debug/source?name=x and read why.",
        "Restart it:",
        "See the page & wait.",
    )


@pytest.mark.parametrize(
    "text", ["", "# A\n\n1. no heading\n", "## Mitigation\n\n- a bullet\n", "## Mitigation\n\ntext\n\n## After\n\n1. later\n"]
)
def test_without_such_a_list_there_are_no_steps(text: str) -> None:
    """Better none than the wrong ones."""
    assert parse("A", text).steps == ()


def test_raw_html_is_shown_as_text_and_scripts_are_no_links() -> None:
    """A runbook may come from anywhere in the desk."""
    html = parse("A", "<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![y](data:text/html,z)\n").html
    assert "<script>" not in html
    assert 'href="javascript' not in html
    assert 'src="data:text' not in html


@pytest.mark.parametrize(
    "name", ["../secret", "..%2fsecret", "/etc/passwd", "StaleData.md", "", ".", "a/../StaleData", "StaleData\0", "staledata"]
)
def test_a_name_is_looked_up_and_never_made_a_path(tmp_path: Path, name: str) -> None:
    """There is a file just outside the folder; it cannot be reached."""
    (tmp_path / "secret.md").write_text("# secret")
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "StaleData.md").write_text(TEXT)
    assert Runbooks(folder).get(name) is None
    assert Runbooks(folder).names() == ["StaleData"]


def test_a_changed_or_new_file_is_read_again(tmp_path: Path) -> None:
    """Whoever corrects a runbook in an incident sees it at once."""
    runbooks = Runbooks(tmp_path)
    assert runbooks.get("A") is None
    (tmp_path / "A.md").write_text("old")
    first = runbooks.get("A")
    assert first is not None
    assert runbooks.get("A") is first
    (tmp_path / "A.md").write_text("newer")
    again = runbooks.get("A")
    assert again is not None
    assert "newer" in again.html


def test_a_file_that_cannot_be_read_is_no_runbook(tmp_path: Path) -> None:
    """Not UTF-8, or the folder is gone: the message goes without steps."""
    (tmp_path / "A.md").write_bytes(b"\xff\xfe")
    assert Runbooks(tmp_path).get("A") is None
    assert Runbooks(tmp_path / "gone").names() == []


@pytest.mark.parametrize("name", sorted(file.stem for file in data_folder("runbooks").glob("*.md")))
def test_every_shipped_runbook_has_its_first_steps(name: str) -> None:
    """What is shipped can be said inline."""
    runbook = Runbooks(data_folder("runbooks")).get(name)
    assert runbook is not None
    assert 1 <= len(runbook.steps) <= 3
