"""Value: net asset value of every portfolio, value and weight of every position. Values positions as `exporter.book` did;
a book that holds nothing has a net asset value and no positions."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.analytic import Result, per_book
from exporter.book import Book
from exporter.desk import DeskState
from exporter.reading import Family

PORTFOLIO_VALUE = Family("desk_portfolio_value", "Net asset value in base currency", ("portfolio", "currency"))
POSITION_VALUE = Family(
    "desk_position_value",
    "Signed exposure of the position, quantity x price x multiplier x exchange rate, in base currency; negative is short",
    ("portfolio", "symbol", "currency"),
)
POSITION_WEIGHT = Family(
    "desk_position_weight_ratio",
    "Signed exposure of the position over net asset value; negative is short",
    ("portfolio", "symbol"),
)
METRICS = (PORTFOLIO_VALUE, POSITION_VALUE, POSITION_WEIGHT)
NAME = "value"


def compute(state: DeskState) -> Iterator[Result]:
    """Net asset value, position values and weights of every portfolio that can be valued."""
    return per_book(state, NAME, _of)


def _of(book: Book) -> Iterator[Result]:
    yield PORTFOLIO_VALUE.sample(book.portfolio, book.currency, value=book.nav)
    for symbol, value, weight in zip(book.symbols, book.values.tolist(), book.weights.tolist(), strict=True):
        yield POSITION_VALUE.sample(book.portfolio, symbol, book.currency, value=value)
        yield POSITION_WEIGHT.sample(book.portfolio, symbol, value=weight)
