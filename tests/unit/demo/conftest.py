"""The rates every test of the demo desk is about, read once."""

from __future__ import annotations

import datetime as dt

import pytest

from deskwatch.demo.desk import SYMBOLS
from deskwatch.demo.rates import Rates, read_rates


@pytest.fixture(scope="session")
def rates() -> Rates:
    """Reference rates from 2010 to the end of 2015: enough for signals, backtest and replay. History does not change."""
    read = read_rates(SYMBOLS, dt.date(2010, 6, 1))
    end = read.index(dt.date(2016, 1, 1))
    return Rates(read.days[:end], read.symbols, read.per_euro[:end], read.closes[:end])
