"""Whether a changed configuration of a source still means the same data: what was read last then stays good. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, SecretStr

from exporter.source import SourceConfig

MANNER = frozenset(
    {"interval_seconds", "timeout_seconds", "stale_after_seconds", "jitter_ratio", "breaker", "quota_headroom_ratio", "http"}
)
"""Settings that say when and how is asked, not what."""


def same_data(before: SourceConfig, after: SourceConfig) -> bool:
    """Whether both ask the same place for the same records: they differ in credentials and manner only.

    A secret that is an address, as a database's is, counts as a place: all of it but its password.
    """
    return type(before) is type(after) and _place(before) == _place(after)


def _place(config: BaseModel) -> dict[str, Any]:
    return {name: _known(getattr(config, name)) for name in type(config).model_fields if name not in MANNER}


def _known(value: Any) -> Any:
    """The value; of a secret only what is no credential."""
    if isinstance(value, SecretStr):
        return _place_in(value.get_secret_value())
    if isinstance(value, BaseModel):
        return _place(value)
    if isinstance(value, tuple | list):
        return [_known(each) for each in value]
    return value


def _place_in(secret: str) -> Any:
    scheme, separator, rest = secret.partition("://")
    if not separator:
        return None
    credentials, at, place = rest.rpartition("@")
    return scheme, credentials.partition(":")[0], at, place
