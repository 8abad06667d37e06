"""What the demo prints fits 100 columns, is plain text in a pipe and coloured on a terminal."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest

from deskwatch.demo.commentary import WIDTH, Commentary, amount, percent
from deskwatch.demo.desk import BOOKS, DESK, FRANC_BREAK
from deskwatch.demo.watch import Figures, Reading

NAMES = [*(book.portfolio for book in BOOKS), DESK]
CALM = Figures(9_991_000.0, 0.0031, 0.0027, {"expected_shortfall_0.975": 0.01}, {"expected_shortfall_0.975": 0.31})
OVER = Figures(8_650_000.0, 0.0298, 0.0044, {"expected_shortfall_0.975": 0.01}, {"expected_shortfall_0.975": 2.98})


class Terminal(io.StringIO):
    """Says it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def told(stream: io.StringIO) -> list[str]:
    """Everything a demo says, once."""
    commentary = Commentary(stream, lambda: 83.4, NAMES)
    commentary.title("deskwatch demo", ["a sentence " * 30])
    commentary.listing([("exporter", "http://127.0.0.1:9877/metrics"), ("carry", "short francs " * 20)])
    commentary.row(FRANC_BREAK, Decimal("1.0280"), Reading(FRANC_BREAK, {"carry": OVER, "momentum": CALM, DESK: CALM}))
    commentary.event("BREACH", "carry is over its limit " * 10, "bad")
    commentary.block(["  FIRING   carry is over", f"    runbook: {'word ' * 60}", ""])
    return stream.getvalue().splitlines()


def test_no_line_is_wider_than_the_page() -> None:
    """A hundred columns, so that it can be read, recorded and quoted."""
    assert max(len(line) for line in told(io.StringIO())) <= WIDTH


def test_an_address_is_never_broken() -> None:
    """A link that does not fit stays whole."""
    stream = io.StringIO()
    address = "http://127.0.0.1:9878/runbooks/" + "A" * 120
    Commentary(stream, lambda: 0.0, NAMES).block([f"    runbook: {address}"])
    assert address in stream.getvalue()


def test_a_pipe_gets_plain_text_and_a_terminal_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape sequence in a file, none where NO_COLOR asks for none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" not in "".join(told(io.StringIO()))
    assert "\x1b[1;31m" in "".join(told(Terminal()))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(told(Terminal()))


def test_a_row_shows_every_portfolio_and_a_missing_number_as_missing() -> None:
    """Elapsed time, day, franc, ES and VaR in percent; what is undefined is a dash, never a zero."""
    row = next(line for line in told(io.StringIO()) if "2015-01-15" in line)
    assert row.split() == ["1:23", "2015-01-15", "1.0280", "2.98", "0.44", "0.31", "0.27", "-", "-", "0.31", "0.27", "9.99"]


def test_the_head_of_the_table_returns_after_a_screen() -> None:
    """Not before every row, and not only once."""
    stream = io.StringIO()
    commentary = Commentary(stream, lambda: 0.0, NAMES)
    for _ in range(60):
        commentary.row(FRANC_BREAK, Decimal(1), Reading(FRANC_BREAK, {}))
    assert 2 <= stream.getvalue().count("market day") <= 4


def test_numbers_are_written_for_people() -> None:
    """Two decimals of a percent, thousands apart, no sign where a verb says it."""
    assert (percent(0.02981), amount(Decimal(-6057000))) == ("2.98 %", "6,057,000")
