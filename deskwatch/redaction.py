"""Blots out what a configuration keeps secret wherever somebody else's words repeat it: a venue's answer, a library's error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

BLOT = "***"
SHORTEST_SECRET = 4
"""A shorter text is no secret worth the name, and blotting it out would make everything unreadable."""


class Redaction:
    """Of one configuration: every secret in it, each line of it, and the password in it where it is an address."""

    def __init__(self, config: BaseModel) -> None:
        found = {text for text in _secrets(config) if len(text) >= SHORTEST_SECRET}
        self._secrets = sorted(found, key=len, reverse=True)

    def __call__(self, value: Any) -> Any:
        """The text, or the mapping or list of texts, without them."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, BLOT)
            return value
        if isinstance(value, dict):
            return {self(name): self(each) for name, each in value.items()}
        return [self(each) for each in value] if isinstance(value, list) else value


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield from _parts(value.get_secret_value())
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _secrets(each)
    elif isinstance(value, tuple | list | frozenset | set):
        for each in value:
            yield from _secrets(each)


def _parts(secret: str) -> Iterator[str]:
    yield secret
    yield from (line for line in secret.splitlines() if line)
    try:
        password = urlsplit(secret).password if "://" in secret else None
    except ValueError:
        password = None
    if password:
        yield from {password, unquote(password)}
