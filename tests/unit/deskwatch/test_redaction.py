"""Secrets of a configuration in other people's words."""

from __future__ import annotations

from pydantic import Field

from deskwatch.config import Secret, Settings
from deskwatch.redaction import Redaction


class Inner(Settings):
    """Nested."""

    key: Secret | None = None


class Outer(Settings):
    """Secrets in every place one can stand in."""

    url: Secret
    name: str = "venue"
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    by_name: dict[str, Secret] = Field(default_factory=dict)


def test_a_secret_is_blotted_out_wherever_it_is_repeated() -> None:
    """Nested, in tuples and mappings of the configuration; inside text, lists, values and names of what is shown."""
    config = Outer.model_validate(
        {"url": "s3cr3t-1", "inner": {"key": "s3cr3t-2"}, "several": [{"key": "s3cr3t-3"}], "by_name": {"a": "s3cr3t-4"}}
    )
    said = {"x": ["key s3cr3t-1 is wrong", {"s3cr3t-2": "s3cr3t-3"}], "y": "s3cr3t-4!", "n": 5, "none": None, "name": "venue"}
    assert Redaction(config)(said) == {
        "x": ["key *** is wrong", {"***": "***"}], "y": "***!", "n": 5, "none": None, "name": "venue",
    }  # fmt: skip


def test_of_a_secret_address_the_password_is_secret_too() -> None:
    """As written, and as a driver writes it."""
    redacted = Redaction(Outer.model_validate({"url": "postgresql://desk:p%40ssw0rd@db.example/desk"}))
    assert redacted("cannot connect to postgresql://desk:p%40ssw0rd@db.example/desk") == "cannot connect to ***"
    assert redacted("password p@ssw0rd or p%40ssw0rd of desk@db.example") == "password *** or *** of desk@db.example"


def test_each_line_of_a_key_is_secret() -> None:
    """A library may show one of them."""
    redacted = Redaction(Outer.model_validate({"url": "-----BEGIN KEY-----\nMIIabc\n-----END KEY-----"}))
    assert redacted("near MIIabc") == "near ***"


def test_what_is_too_short_to_be_a_secret_is_left() -> None:
    """Or nothing could be read any more; and a longer secret goes before one it contains."""
    redacted = Redaction(Outer.model_validate({"url": "abc", "inner": {"key": "long"}, "several": [{"key": "longer"}]}))
    assert redacted("abc longer long") == "abc *** ***"
