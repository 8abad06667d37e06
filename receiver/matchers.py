"""Alertmanager's matcher syntax: `severity="critical"`, `portfolio!=book`, `limit=~"var_.*"`, `"any name"!~"x|y"`.

Parses and matches; knows nothing of routes or hooks. A label that is absent counts as empty, regular expressions are
anchored. Source: prometheus.io/docs/alerting/configuration/#matcher.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

Operator = Literal["=", "!=", "=~", "!~"]

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_MATCHER = re.compile(
    rf"\s*(?P<name>{_QUOTED}|[a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?P<operator>=~|!~|!=|=)\s*(?P<value>{_QUOTED}|[^\"]*?)\s*"
)
_ESCAPED = re.compile(r"\\(.)")
_MEANING = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label."""

    name: str
    operator: Operator
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy it."""
        found = labels.get(self.name, "")
        if self.operator in ("=~", "!~"):
            hit = _compiled(self.value).fullmatch(found) is not None
            return hit if self.operator == "=~" else not hit
        return (found == self.value) == (self.operator == "=")

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.operator}"{escaped}"'


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Go's dot does not match a newline either.
    return re.compile(pattern)


def parse_matcher(text: str) -> Matcher:
    """Read one matcher.

    Raises:
        ValueError: it is not a matcher, or its regular expression cannot be compiled.
    """
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f'must be a matcher such as severity="critical" or limit=~"var_.*", was {text!r}')
    operator = cast("Operator", found["operator"])
    value = _unquoted(found["value"])
    if operator in ("=~", "!~"):
        try:
            _compiled(value)
        except re.error as error:
            raise ValueError(f"{text!r} holds a regular expression that cannot be read: {error}") from error
    return Matcher(_unquoted(found["name"]), operator, value)


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return _ESCAPED.sub(lambda escape: _MEANING.get(escape[1], escape[0]), text[1:-1])


def parse_matchers(texts: Iterable[str]) -> tuple[Matcher, ...]:
    """Read several matchers, all of which must hold.

    Raises:
        ValueError: as `parse_matcher`.
    """
    return tuple(parse_matcher(text) for text in texts)


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher holds; true for none."""
    return all(matcher.matches(labels) for matcher in matchers)
