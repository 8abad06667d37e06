"""Which of many names are wanted: a list of names and regular expressions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field

_SPECIAL = re.compile(r"[\\^$*+?{}\[\]|()]")


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a name or a regular expression: {error}") from None
    return value


Wanted = Annotated[str, Field(min_length=1, max_length=250), AfterValidator(_compiles)]
"""A name, or a regular expression for whole names. What has none of `\\ ^ $ * + ? { } [ ] | ( )` in it is a name."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The names that are wanted, sorted, and the names asked for that are not there."""

    names: tuple[str, ...]
    missing: tuple[str, ...]


def choose(names: Iterable[str], wanted: Sequence[str]) -> Chosen:
    """Those of the names that an entry of `wanted` names or matches."""
    there = set(names)
    plain = {each for each in wanted if not _SPECIAL.search(each)}
    patterns = [_compiled(each) for each in wanted if each not in plain]
    found = (there & plain) | {name for name in there - plain if any(pattern.fullmatch(name) for pattern in patterns)}
    return Chosen(tuple(sorted(found)), tuple(sorted(plain - there)))


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
