"""Every IBKR contract has one name, whatever else is held, and is what IBKR says it is or `unknown`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from exporter.cells import Unreadable
from exporter.normal.ibkr_contracts import Contract, Contracts, conid, contract, names
from exporter.records import Fields
from exporter.snapshot import InstrumentTerms
from tests.stand_ins.ibkr_bodies import (
    AAPL,
    AAPL_IN_MEXICO,
    BITCOIN,
    BOND,
    CALL,
    ES,
    ES_MARCH,
    EUR_USD,
    USD_SGD,
    VODAFONE,
    Listed,
)

NOW = datetime(2026, 3, 4, 15, tzinfo=UTC)


def read(listed: Listed, **changes: Any) -> Contract:
    """The contract from its row."""
    return contract(Fields(listed.definition() | changes))


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        (AAPL, "AAPL"),
        (VODAFONE, "VOD"),
        (ES, "ES-20261218"),
        (ES_MARCH, "ES-20270319"),
        (CALL, "AAPL-20260116-C-195"),
        (EUR_USD, "EUR.USD"),
        (USD_SGD, "USD.SGD"),
        (BITCOIN, "BTC"),
        (BOND, "T 4 1/8"),
    ],
)
def test_a_name_says_what_the_contract_is(listed: Listed, name: str) -> None:
    """Tickers for what has only one, the last day for what expires."""
    assert names([read(listed)]) == {listed.conid: name}


@pytest.mark.parametrize(
    ("listed", "changes", "terms"),
    [
        (AAPL, {}, InstrumentTerms("X", "USD", "Technology", "share", Decimal(1))),
        (AAPL, {"multiplier": None, "sector": None}, InstrumentTerms("X", "USD", None, "share", Decimal(1))),
        (ES, {}, InstrumentTerms("X", "USD", None, "future", Decimal(50))),
        (ES, {"multiplier": "0.1"}, InstrumentTerms("X", "USD", None, "future", Decimal("0.1"))),
        (ES, {"multiplier": 0.0}, InstrumentTerms("X", "USD", None, "unknown", Decimal(1))),
        (ES, {"multiplier": None}, InstrumentTerms("X", "USD", None, "unknown", Decimal(1))),
        (CALL, {}, InstrumentTerms("X", "USD", None, "option", Decimal(100))),
        (CALL, {"assetClass": "FOP"}, InstrumentTerms("X", "USD", None, "option", Decimal(100))),
        (CALL, {"multiplier": 0.0}, InstrumentTerms("X", "USD", None, "unknown", Decimal(1))),
        (EUR_USD, {}, InstrumentTerms("X", "USD", None, "spot", Decimal(1))),
        (BITCOIN, {}, InstrumentTerms("X", "USD", None, "spot", Decimal(1))),
        (BOND, {}, InstrumentTerms("X", "USD", None, "unknown", Decimal(1))),
        (AAPL, {"assetClass": "CFD"}, InstrumentTerms("X", "USD", "Technology", "unknown", Decimal(1))),
    ],
)
def test_terms_are_told_or_unknown(listed: Listed, changes: Any, terms: InstrumentTerms) -> None:
    """A share without a multiplier has 1; a derivative without one has no value anybody could compute."""
    assert read(listed, **changes).terms("X") == terms


@pytest.mark.parametrize("lacking", ["conid", "ticker", "currency"])
def test_a_row_that_lacks_what_a_contract_is_is_none(lacking: str) -> None:
    """It is looked up, or what is about it is rejected."""
    with pytest.raises(Unreadable):
        read(AAPL, **{lacking: None})


@pytest.mark.parametrize("value", [0, -1, 1.5, "x", None, True])
def test_a_contract_id_is_a_whole_number(value: Any) -> None:
    """As number or as text."""
    with pytest.raises(Unreadable):
        conid(value)
    assert (conid("265598"), conid(265598)) == (265598, 265598)


def test_of_two_with_one_ticker_the_one_in_the_united_states_keeps_it() -> None:
    """In whatever order they are met."""
    london = read(AAPL_IN_MEXICO, conid=1, currency="GBP")
    expected = {AAPL.conid: "AAPL", AAPL_IN_MEXICO.conid: "AAPL.MXN", 1: "AAPL.GBP"}
    for order in permutations([read(AAPL), read(AAPL_IN_MEXICO), london]):
        assert names(order) == expected


def test_without_one_in_the_united_states_the_lowest_id_keeps_it() -> None:
    """And where even the currency is the same the id tells them apart."""
    sanofi, santander, third = (read(VODAFONE, conid=number, ticker="SAN", currency="EUR") for number in (7, 5, 6))
    for order in permutations([sanofi, santander, third]):
        assert names(order) == {5: "SAN", 6: "SAN.EUR", 7: "SAN.EUR.7"}


def test_a_name_made_for_one_contract_is_not_taken_from_another() -> None:
    """A share whose ticker looks like what a collision would make."""
    one, other, odd = read(AAPL), read(AAPL_IN_MEXICO), read(AAPL, conid=9, ticker="AAPL.MXN")
    assert names([one, other, odd]) == {AAPL.conid: "AAPL", 9: "AAPL.MXN", AAPL_IN_MEXICO.conid: "AAPL.MXN.38708077"}


def test_what_one_answer_leaves_out_stays_as_another_told_it() -> None:
    """A page of positions may tell a future's multiplier as null, and the next one not."""
    known = Contracts()
    known.learn([read(ES)])
    known.learn([read(ES, multiplier=None, expiry=None, lastTradingDay=None)])
    assert known.get(ES.conid) == read(ES)
    assert known.name(ES.conid) == "ES-20261218"


def test_what_is_not_wholly_known_is_looked_up_once_a_day() -> None:
    """A share whose listing is not told, a future without multiplier, a contract nobody has heard of."""
    known = Contracts()
    known.learn([read(AAPL), read(VODAFONE, isUS=None), read(ES, multiplier=0.0), read(EUR_USD)])
    ids = [AAPL.conid, VODAFONE.conid, ES.conid, EUR_USD.conid, 4711, 4711]
    assert known.lacking(ids, NOW) == [VODAFONE.conid, ES.conid, 4711]
    known.looked_up([VODAFONE.conid, ES.conid, 4711], NOW)
    assert known.lacking(ids, NOW + timedelta(hours=8)) == []
    assert known.lacking(ids, NOW + timedelta(hours=9)) == [VODAFONE.conid, ES.conid, 4711]


def test_only_shares_outside_the_united_states_may_be_quoted_in_another_unit() -> None:
    """Of those it must be known."""
    known = Contracts()
    assert known.magnifier(read(AAPL)) == 1
    assert known.magnifier(read(ES)) == 1
    assert known.magnifier(read(VODAFONE)) is None
    known.magnifiers[VODAFONE.conid] = Decimal(100)
    assert known.magnifier(read(VODAFONE)) == 100
