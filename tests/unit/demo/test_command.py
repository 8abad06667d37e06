"""Wrong options are said in one line, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deskwatch.cli import main
from deskwatch.demo import command, rates
from deskwatch.demo.desk import BOOKS, LIMITS, SECTORS, SYMBOLS
from exporter.config import LIMITS as KNOWN_LIMITS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "tomorrow"], "--from': must be a date such as 2014-11-03, was 'tomorrow'"),
        (["--from", "1999-01-04"], "--from: must be 2012-01-02 or later: the strategies need history, was 1999-01-04"),
        (["--to", "2014-01-01"], "--to: must not be before --from (2014-11-03), was 2014-01-01"),
        (["--speed", "0"], "--speed"),
        (["--seconds", "-1"], "--seconds"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(options: list[str], said: str) -> None:
    """Which option, what must hold, what was found."""
    result = CliRunner().invoke(main, ["demo", *options])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_folder_with_something_in_it_is_not_used(tmp_path: Path) -> None:
    """Nothing of the operator's is overwritten."""
    (tmp_path / "precious").write_text("x")
    result = CliRunner().invoke(main, ["demo", "--direct", "--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert f"--folder {tmp_path} is not empty: name a new one" in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_without_the_rates_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is an extra; its absence is no traceback."""
    monkeypatch.setattr(rates, "find_spec", lambda _: None)
    monkeypatch.setattr(command, "require_rates", rates.require_rates)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert "the demo needs the ECB's rates: pip install 'deskwatch[demo]'" in result.output


def test_the_desks_limits_are_ones_the_exporter_knows() -> None:
    """Names as in the configuration; every symbol has its sector."""
    assert {limit.limit for limit in LIMITS} <= set(KNOWN_LIMITS)
    assert {limit.portfolio for limit in LIMITS} == {"desk", *(book.portfolio for book in BOOKS)}
    assert set(SECTORS) == set(SYMBOLS)
