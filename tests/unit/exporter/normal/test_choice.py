"""Which names are wanted: names are names, everything else is a regular expression for whole names."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from exporter.normal.choice import Chosen, Wanted, choose

TOPICS = ("risk.metrics.v1", "riskxmetricsxv1", "__consumer_offsets", "orders", "orders-dead")


@pytest.mark.parametrize(
    ("wanted", "names", "missing"),
    [
        (["orders"], ("orders",), ()),
        (["risk.metrics.v1"], ("risk.metrics.v1",), ()),
        (["orders.*"], ("orders", "orders-dead"), ()),
        (["(orders|fills)"], ("orders",), ()),
        (["[^_].*"], ("orders", "orders-dead", "risk.metrics.v1", "riskxmetricsxv1"), ()),
        (["fills", "orders", "sig.+"], ("orders",), ("fills",)),
        ([], (), ()),
    ],
)
def test_names_and_expressions(wanted: list[str], names: tuple[str, ...], missing: tuple[str, ...]) -> None:
    """A dot in a name is a dot; a name that is not there is told, an expression without a match is not."""
    assert choose(TOPICS, wanted) == Chosen(names, missing)


def test_an_expression_that_is_none_is_refused() -> None:
    """When the configuration is read."""
    with pytest.raises(ValidationError, match="must be a name or a regular expression: unterminated"):
        TypeAdapter(Wanted).validate_python("orders[")
