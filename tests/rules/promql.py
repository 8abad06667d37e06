"""What tests need to know about an expression: the series it asks for and the labels its result can have."""

from __future__ import annotations

import re
from collections.abc import Iterator

import promql_parser as promql

VARIABLES = {
    "$portfolio": "carry",
    "$confidence": "0.975",
    "$__rate_interval": "1m",
}
"""Grafana's variables in dashboards, with a value Prometheus accepts."""


def substituted(text: str) -> str:
    """The expression as Grafana would send it; an unknown variable is left and will not parse or match."""
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def selectors(text: str) -> list[promql.VectorSelector]:
    """Every selector in the expression.

    Raises:
        ValueError: it does not parse, with the parser's reason.
    """
    return list(_selectors(promql.parse(text)))


def _selectors(node: object) -> Iterator[promql.VectorSelector]:
    match node:
        case promql.VectorSelector():
            yield node
        case promql.MatrixSelector():
            yield node.vector_selector
        case promql.BinaryExpr():
            yield from _selectors(node.lhs)
            yield from _selectors(node.rhs)
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _selectors(node.expr)
        case promql.Call():
            for argument in node.args:
                yield from _selectors(argument)


def output_labels(text: str) -> frozenset[str] | None:
    """Labels the result can have; None where that depends on the data (no aggregation says it)."""
    return _labels(promql.parse(text))


def _labels(node: object) -> frozenset[str] | None:
    match node:
        case promql.AggregateExpr():
            if str(node.op) in {"topk", "bottomk"}:
                return _labels(node.expr)
            return frozenset(node.modifier.labels) if node.modifier else frozenset()
        case promql.BinaryExpr():
            return _labels(node.rhs) if _is_scalar(node.lhs) else _labels(node.lhs)
        case promql.ParenExpr() | promql.UnaryExpr():
            return _labels(node.expr)
        case promql.Call():
            if not node.args or _is_scalar(node.args[0]):
                return frozenset()
            inner = _labels(node.args[0])
            if node.func.name == "label_replace" and inner is not None:
                return inner | {node.args[1].val}
            return inner
        case promql.NumberLiteral():
            return frozenset()
    return None


def _is_scalar(node: object) -> bool:
    return isinstance(node, promql.NumberLiteral) or (isinstance(node, promql.Call) and node.func.name == "time")


def template_labels(text: str) -> set[str]:
    """Labels named in a legend such as `{{portfolio}} {{limit}}`."""
    return set(re.findall(r"{{\s*(\w+)\s*}}", text))
