"""What the demo prints: a table of readings and, between its rows, what happens, in lines of at most 100 columns.

Colour only on a terminal that wants it (`NO_COLOR` is honoured). Decides nothing.
"""

from __future__ import annotations

import datetime as dt
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Literal, TextIO

from deskwatch.demo.watch import Figures, Reading

WIDTH = 100
INDENT = 8
CELL = 8
"""Width of one number of the table."""
BAR = "│ "
Tone = Literal["plain", "quiet", "strong", "bad", "good", "notice"]
_CODES: dict[Tone, str] = {"plain": "", "quiet": "2", "strong": "1", "bad": "1;31", "good": "1;32", "notice": "1;33"}
HEADER_EVERY = 24
"""Lines after which the table's head is said again: about one screen."""


class Commentary:
    """Writes to one stream.

    Args:
        stream: where to.
        clock: seconds since the demo began.
        columns: portfolios in the table, in order.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float], columns: Sequence[str]) -> None:
        self._stream = stream
        self._clock = clock
        self._columns = columns
        self._coloured = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._lines_since_header: int | None = None

    def title(self, text: str, more: Iterable[str] = ()) -> None:
        """The head of everything."""
        self._write(self._tinted(text, "strong"))
        for line in more:
            self._write("")
            self.line(line)

    def line(self, text: str) -> None:
        """A sentence of its own."""
        for wrapped in textwrap.wrap(text, WIDTH):
            self._write(wrapped)

    def listing(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and what they stand for."""
        rows = list(rows)
        width = max(len(name) for name, _ in rows)
        self._write("")
        for name, text in rows:
            first, *rest = textwrap.wrap(text, WIDTH - width - 4) or [""]
            self._write(f"  {self._tinted(name.ljust(width), 'strong')}  {first}")
            for line in rest:
                self._write(" " * (width + 4) + line)
        self._write("")

    def event(self, name: str, text: str, tone: Tone = "plain") -> None:
        """Something happened: elapsed time, a word, a sentence."""
        head = f"{self._elapsed()}  {name.ljust(9)}"
        first, *rest = textwrap.wrap(text, WIDTH - len(head) - 1) or [""]
        self._write(f"{self._tinted(self._elapsed(), 'quiet')}  {self._tinted(name.ljust(9), tone)} {first}")
        for line in rest:
            self._write(" " * (len(head) + 1) + line)

    def block(self, lines: Iterable[str], tone: Tone = "quiet") -> None:
        """What somebody else printed, as it is, long lines wrapped."""
        edge = " " * INDENT + self._tinted(BAR, tone)
        for line in lines:
            indent = " " * (len(line) - len(line.lstrip()))
            room = WIDTH - INDENT - len(BAR)
            wrapped = textwrap.wrap(line, room, subsequent_indent=indent + "   ", break_long_words=False) or [""]
            for part in wrapped:
                self._write(edge + part)

    def row(self, day: dt.date, franc: Decimal, reading: Reading) -> None:
        """One line of the table.

        Args:
            day: market day.
            franc: francs for one euro.
            reading: of that day.
        """
        if self._lines_since_header is None or self._lines_since_header >= HEADER_EVERY:
            self._header()
        cells = "".join(self._cell(reading.portfolios.get(name)) for name in self._columns)
        whole = reading.portfolios.get(self._columns[-1])
        value = f"{whole.value / 1e6:>9.2f}" if whole else f"{'-':>9}"
        self._write(f"{self._tinted(self._elapsed(), 'quiet')}  {day}  {franc:>7.4f}{cells}{value}")

    def _header(self) -> None:
        names = "".join(f"{name:>{2 * CELL}}" for name in self._columns)
        kinds = "".join(f"{'ES %':>{CELL}}{'VaR %':>{CELL}}" for _ in self._columns)
        self._write("")
        self._write(self._tinted(f"{'':19}{'EUR':>7}{names}{'NAV':>9}", "quiet"))
        self._write(self._tinted(f"{'':7}{'market day':<12}{'/CHF':>7}{kinds}{'m EUR':>9}", "quiet"))
        self._lines_since_header = 0

    def _cell(self, figures: Figures | None) -> str:
        if figures is None:
            return f"{'-':>{CELL}}" * 2
        over = any(used > 1 for limit, used in figures.used.items() if limit.startswith("expected_shortfall"))
        shortfall = f"{_number(figures.expected_shortfall):>{CELL}}"
        return self._tinted(shortfall, "bad" if over else "plain") + f"{_number(figures.value_at_risk):>{CELL}}"

    def _elapsed(self) -> str:
        seconds = int(self._clock())
        return f"{seconds // 60:>2}:{seconds % 60:02}"

    def _tinted(self, text: str, tone: Tone) -> str:
        code = _CODES[tone]
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and code else text

    def _write(self, line: str) -> None:
        if self._lines_since_header is not None:
            self._lines_since_header += 1
        self._stream.write(line.rstrip() + "\n")
        self._stream.flush()


def _number(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio * 100:.2f}"


def percent(ratio: float) -> str:
    """A ratio for a person: `3.02 %`."""
    return f"{ratio * 100:.2f} %"


def amount(quantity: Decimal | float) -> str:
    """A quantity for a person: `6,120,000`."""
    return f"{abs(quantity):,.0f}"
