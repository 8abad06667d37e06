"""The critical desk-limit alerts of Prometheus rule files, read so that the second detector raises exactly the same ones.

Understands one form of expression (`FORMS`) and refuses every other that names the metric: a critical limit alert that the
second detector did not cover would be missed on the day it is needed. Evaluates no PromQL.
Sources: prometheus.io/docs/prometheus/latest/configuration/alerting_rules and template_reference.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deskwatch.data import data_folder
from deskwatch.errors import ConfigError, Fault
from deskwatch.logs import get_logger
from exporter.limits import UTILIZATION

METRIC = UTILIZATION.name
FORMS = f"max by (portfolio, limit) ({METRIC}{{...}}) > 1, alone or followed by `or (... last_over_time(...) > 1 unless ...)`"

_TEXT = r'(?:"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`)'
_MATCHER = rf"\s*[A-Za-z_]\w*\s*(?:=~|!~|!=|=)\s*{_TEXT}\s*"
_SELECTOR = re.compile(rf"\b{METRIC}\s*(?:\{{((?:{_MATCHER}(?:,{_MATCHER})*,?)?)\s*\}})?")
_ONE_MATCHER = re.compile(rf"([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*({_TEXT})")
_COMMENT = re.compile(rf"({_TEXT})|#[^\n]*")
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_GROUP = r"(?:by\((?:portfolio,limit|limit,portfolio),?\)|without\((?:instance,job|job,instance),?\))"


def _aggregated(inner: str) -> str:
    """The aggregation with its grouping before or after."""
    return rf"(?:(?:max|min|avg){_GROUP}\({inner}\)|(?:max|min|avg)\({inner}\){_GROUP})"


_NOW = _aggregated("§")
_HELD = _aggregated(r"(?:last|max)_over_time\(§\[\w+\]\)")
_FORM = re.compile(
    rf"(?:{_NOW}>(?P<now>{_NUMBER})(?:or\(?{_HELD}>(?P<then>{_NUMBER})unless{_NOW}\)?)?|{_HELD}>(?P<held>{_NUMBER}))"
)
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")
_DURATION_SECONDS = (365 * 86400.0, 7 * 86400.0, 86400.0, 3600.0, 60.0, 1.0, 0.001)
# A dash trims the white space on its side: Go's text/template.
_TEMPLATE = re.compile(r"(?:\s*\{\{-(?=\s)|\{\{)\s*(.*?)\s*(?:(?<=\s)-\}\}\s*|\}\})", re.S)
_LABEL = re.compile(r"\$(labels|externalLabels)\.([A-Za-z_]\w*)")
_VALUE = re.compile(r"\$value(?:\s*\|\s*(humanize|humanizePercentage))?")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher; a pattern is anchored at both ends, as in Prometheus."""

    label: str
    negated: bool
    pattern: re.Pattern[str]

    def accepts(self, portfolio: str, limit: str) -> bool:
        """Whether a series with these labels passes."""
        found = self.pattern.fullmatch(portfolio if self.label == "portfolio" else limit) is not None
        return found != self.negated


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One alerting rule about the desk's limits.

    Args:
        alert: label `alertname`.
        threshold: a utilization above it is a breach.
        for_seconds: how long it must last.
        matchers: which limits.
        labels: templates.
        annotations: templates.
    """

    alert: str
    threshold: float
    for_seconds: float
    matchers: tuple[Matcher, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    def covers(self, portfolio: str, limit: str) -> bool:
        """Whether the rule is about this limit."""
        return all(matcher.accepts(portfolio, limit) for matcher in self.matchers)


def read_rules(files: Sequence[Path] = ()) -> tuple[LimitRule, ...]:
    """The critical desk-limit alerts of these files, or of those shipped with deskwatch.

    Raises:
        ConfigError: a file cannot be read, or a critical alert names the metric in a form that is not understood.
    """
    faults: list[Fault] = []
    found: list[LimitRule] = []
    for file in files or sorted(data_folder("rules").glob("*.rules.yml")):
        try:
            for where, rule in _alerts(file):
                try:
                    found.append(_rule(rule))
                except ValueError as error:
                    faults.append(Fault(where, str(error)))
        except (OSError, UnicodeError, yaml.YAMLError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            faults.append(Fault(str(file), f"cannot read the rules: {why}"))
    if faults:
        raise ConfigError(faults)
    return tuple(found)


def _alerts(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The file's critical alerts that name the metric, with where each stands; a group's labels are its rules' too."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    groups = content.get("groups") if isinstance(content, dict) else None
    if not isinstance(groups, list):
        raise ValueError("must hold `groups`, as a Prometheus rule file does")  # noqa: TRY004 - shown as the file's fault
    for group in groups:
        for rule in group.get("rules") or ():
            labels = {**(group.get("labels") or {}), **(rule.get("labels") or {})}
            if "alert" in rule and labels.get("severity") == "critical" and METRIC in str(rule.get("expr", "")):
                yield f"{file}: {rule['alert']}", {**rule, "labels": labels}


def _rule(rule: Mapping[str, Any]) -> LimitRule:
    matchers, threshold = _understand(str(rule["expr"]))
    labels = {str(name): str(text) for name, text in rule["labels"].items()}
    for name, text in labels.items():
        if unknown := _unknown_templates(text):
            raise ValueError(f"labels.{name}: the template {unknown[0]} is not understood; use {{{{ $labels.NAME }}}}")
    return LimitRule(
        alert=str(rule["alert"]),
        threshold=threshold,
        for_seconds=duration_seconds(str(rule.get("for", "0s"))),
        matchers=matchers,
        labels=labels,
        annotations=_annotations(str(rule["alert"]), rule.get("annotations") or {}),
    )


def _annotations(alert: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Those that can be rendered. One that cannot is left out: prose must not keep the exporter from starting."""
    kept = {}
    for name, text in given.items():
        if unknown := _unknown_templates(str(text)):
            message = "the second detector leaves out an annotation whose template it does not understand"
            get_logger().warning(message, alert=alert, annotation=str(name), template=unknown[0])
        else:
            kept[str(name)] = str(text)
    return kept


def _understand(expression: str) -> tuple[tuple[Matcher, ...], float]:
    """The selector and the threshold.

    Raises:
        ValueError: it is of another form.
    """
    bare = _COMMENT.sub(lambda match: match[1] or "", expression)
    selectors = [match[1] or "" for match in _SELECTOR.finditer(bare)]
    form = _FORM.fullmatch(re.sub(r"\s+", "", _SELECTOR.sub("§", bare)))
    if not selectors or form is None:
        raise ValueError(
            f"the second detector does not understand the expression; it must be {FORMS}. Found: {' '.join(bare.split())}"
        )
    matchers = [tuple(sorted(_ONE_MATCHER.findall(selector))) for selector in selectors]
    if len(set(matchers)) > 1:
        raise ValueError("the selectors of the expression differ; the second detector needs one and the same")
    thresholds = {float(number) for number in form.groupdict().values() if number}
    if len(thresholds) > 1:
        raise ValueError("the two thresholds of the expression differ")
    return tuple(_matcher(*parts) for parts in matchers[0]), thresholds.pop()


def _matcher(label: str, operator: str, quoted: str) -> Matcher:
    if label not in UTILIZATION.labels:
        raise ValueError(f"the selector asks for the label {label}; {METRIC} has {' and '.join(UTILIZATION.labels)}")
    value = _unquoted(quoted)
    try:
        pattern = re.compile(value if operator.endswith("~") else re.escape(value), re.S)
    except re.error as error:
        raise ValueError(f"the pattern {quoted} is not understood: {error}") from error
    return Matcher(label, operator.startswith("!"), pattern)


def _unquoted(quoted: str) -> str:
    """A PromQL string: Go's escapes inside quotes, none inside back ticks."""
    if quoted.startswith("`"):
        return quoted[1:-1]
    try:
        return str(ast.literal_eval(quoted.replace("\n", r"\n")))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the text {quoted} is not understood") from error


def duration_seconds(text: str) -> float:
    """A Prometheus duration such as `1m`, `1h30m` or `0`, in seconds.

    Raises:
        ValueError: it is none.
    """
    if text.strip() == "0":
        return 0.0
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None:
        raise ValueError(f"for: must be a duration such as 1m or 1h30m, was {text!r}")
    return sum(int(count) * unit for count, unit in zip(match.groups(), _DURATION_SECONDS, strict=True) if count)


def _unknown_templates(text: str) -> list[str]:
    inside = _TEMPLATE.findall(text)
    bad = [f"{{{{ {each} }}}}" for each in inside if not (_LABEL.fullmatch(each) or _VALUE.fullmatch(each))]
    return bad or (["{{"] if "{{" in _TEMPLATE.sub("", text) else [])


def render(template: str, labels: Mapping[str, str], value: float, external: Mapping[str, str]) -> str:
    """A label or annotation as Prometheus would render it. A label that is not there is empty."""

    def fill(match: re.Match[str]) -> str:
        label = _LABEL.fullmatch(match[1])
        if label:
            return (labels if label[1] == "labels" else external).get(label[2], "")
        number = _VALUE.fullmatch(match[1])
        return _NUMBERS[(number[1] if number else None) or ""](value)

    return _TEMPLATE.sub(fill, template)


def humanize(value: float) -> str:
    """Four significant digits and a metric prefix. Source: prometheus/prometheus template/template.go."""
    if value == 0.0 or not math.isfinite(value):
        return _four_digits(value)
    if abs(value) >= 1.0:
        prefix = ""
        for larger in "kMGTPEZY":
            if abs(value) < 1000.0:
                break
            prefix, value = larger, value / 1000.0
        return f"{_four_digits(value)}{prefix}"
    prefix = ""
    for smaller in "munpfazy":
        if abs(value) >= 1.0:
            break
        prefix, value = smaller, value * 1000.0
    return f"{_four_digits(value)}{prefix}"


def humanize_percentage(value: float) -> str:
    """A ratio as a percentage of four significant digits. Source: prometheus/prometheus template/template.go."""
    return f"{_four_digits(value * 100.0)}%"


def _four_digits(value: float) -> str:
    """Go's `%.4g`."""
    if math.isnan(value):
        return "NaN"
    return ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else f"{value:.4g}"


def _plain(value: float) -> str:
    """Go's `%v` of a float: the shortest decimal that gives the value back, with an exponent below 1e-4 and from 1e21."""
    if not math.isfinite(value) or value == 0.0:
        return _four_digits(value)
    digits = repr(value)
    if "e" in digits and 1e-4 <= abs(value) < 1e21:
        return f"{value:.0f}"
    return digits.removesuffix(".0")


_NUMBERS: Mapping[str, Callable[[float], str]] = {"": _plain, "humanize": humanize, "humanizePercentage": humanize_percentage}
