"""The demo desk: its books, what runs them, its limits, and the dates of its story. Data; nothing is computed here.

`carry` is the trade that broke on 2015-01-15: short the franc, which the Swiss National Bank held at 1.20 to the euro, long the
higher-yielding currencies of central Europe. Its weights and limits are calibrated on the ECB's own series, none is invented
to fit: at 75 % short, expected shortfall at 0.975 is 0.31 % of net asset value the day before and 3.0 % on the day
(`tests/unit/demo/test_calibration.py`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from deskwatch.demo.strategies import Carry, Reversion, Strategy, Trend

BASE = "EUR"
DESK = "desk"
"""The composite of all books."""
CAPITAL = Decimal(10_000_000)
"""What each book starts with, euro."""
FRANC_BREAK = dt.date(2015, 1, 15)
"""The SNB gives up the floor: EUR/CHF 1.2010 the day before, 1.0280 on this day in the ECB's series."""
FIRST_DAY = dt.date(2014, 11, 3)
LAST_DAY = dt.date(2015, 12, 31)
EARLIEST_DAY = dt.date(2012, 1, 2)
"""First day the replay may start at: rates of all currencies begin in July 2005, backtest and track record come before it."""
TRACK_RECORD_DAYS = 40
"""Market days the desk has been live when the replay begins."""
BACKTEST_DAYS = 660
"""Market days of backtest before those."""
MAJORS = ("USD", "GBP", "JPY", "AUD", "CAD", "NOK", "SEK", "NZD")
SECTORS = {
    "CHF": "haven", "JPY": "haven", "USD": "haven",
    "CZK": "central_europe", "RON": "central_europe", "PLN": "central_europe",
    "GBP": "europe", "SEK": "europe",
    "AUD": "commodity", "CAD": "commodity", "NOK": "commodity", "NZD": "commodity",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BookPlan:
    """A portfolio and the strategy that runs it, which goes by the same name; `about` is for a person."""

    portfolio: str
    strategy: Strategy
    about: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the desk: name as in `exporter.limits`, value as ratio of net asset value."""

    portfolio: str
    limit: str
    value: float


BOOKS = (
    BookPlan(
        "carry",
        Carry({"CHF": -0.75, "CZK": 0.25, "RON": 0.15, "PLN": 0.05}, volatility_ratio=0.0015),
        "short francs, long koruna, leu and zloty",
    ),
    BookPlan("momentum", Trend(MAJORS, risk_ratio=0.0005), "60-day trends of eight majors against the euro"),
    BookPlan(
        "reversion",
        Reversion(MAJORS, volatility_ratio=0.0012, gross_ratio=1.0),
        "leans against 10-day moves among them",
    ),
)
LIMITS = (
    Limit("carry", "expected_shortfall_0.975", 0.01),
    Limit("carry", "var_0.99", 0.01),
    Limit("carry", "concentration", 0.90),
    Limit("carry", "gross_exposure", 2.0),
    Limit("momentum", "expected_shortfall_0.975", 0.015),
    Limit("momentum", "gross_exposure", 1.5),
    Limit("reversion", "expected_shortfall_0.975", 0.01),
    Limit("reversion", "gross_exposure", 1.2),
    Limit(DESK, "expected_shortfall_0.975", 0.015),
    Limit(DESK, "var_0.99", 0.01),
    Limit(DESK, "net_exposure", 0.6),
)
SYMBOLS = tuple(dict.fromkeys(symbol for book in BOOKS for symbol in book.strategy.universe))
