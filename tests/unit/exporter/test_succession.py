"""Whether a changed configuration still means the same data."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from deskwatch.config import Secret, Settings
from exporter.source import VenueConfig
from exporter.succession import same_data


class Login(Settings):
    """Nested."""

    user: str = "reader"
    password: Secret = Secret("one")


class Config(VenueConfig):
    """A venue's."""

    type: Literal["made_up"] = "made_up"
    name: str = "venue"
    base_url: str = "https://venue"
    key: Secret | None = None
    logins: tuple[Login, ...] = (Login(),)
    url: Secret = Secret("mysql://reader:one@db:3306/trading?ssl=true")


class Other(Config):
    """Another plug-in's."""


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"key": "k"},
        {"interval_seconds": 1},
        {"stale_after_seconds": 600},
        {"jitter_ratio": 0.5},
        {"quota_headroom_ratio": 0.9},
        {"http": {"timeout_seconds": 1}},
        {"logins": [{"password": "two"}]},
        {"url": "mysql://reader:two@db:3306/trading?ssl=true"},
        {"url": "mysql://reader:p@ss@db:3306/trading?ssl=true"},
    ],
    ids=str,
)
def test_credentials_and_manner_are_not_data(change: dict[str, Any]) -> None:
    """What was read stays good."""
    before, after = Config(key=Secret("j")), Config.model_validate({"key": "j"} | change)
    assert same_data(before, after)
    assert same_data(after, before)


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "https://paper.venue"},
        {"portfolio": "other"},
        {"symbols": ["AAPL"]},
        {"read": ["positions"]},
        {"rename": {"A": "B"}},
        {"history_days": 10},
        {"logins": [{"user": "other"}]},
        {"logins": []},
        {"url": "mysql://other:one@db:3306/trading?ssl=true"},
        {"url": "mysql://reader:one@db:3307/trading?ssl=true"},
        {"url": "mysql://reader:one@db:3306/paper?ssl=true"},
        {"url": "postgresql://reader:one@db:3306/trading?ssl=true"},
    ],
    ids=str,
)
def test_another_place_or_other_records_are(change: dict[str, Any]) -> None:
    """What was read is no longer what is asked for."""
    before, after = Config(key=Secret("j")), Config.model_validate({"key": "j"} | change)
    assert not same_data(before, after)
    assert not same_data(after, before)


def test_another_plug_in_is_another_place() -> None:
    """Even if its settings look the same."""
    assert not same_data(Config(), Other())
