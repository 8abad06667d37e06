"""Section `receiver`: what it needs, what it fills in, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deskwatch.config import validate
from receiver.channel import CHANNELS
from receiver.config import ReceiverConfig

CONSOLE = {"type": "console"}


def faults(**section: Any) -> list[str]:
    """Every fault of the section as the operator sees it."""
    found = validate(ReceiverConfig, {"channels": [CONSOLE], **section}, at=("receiver",))
    assert isinstance(found, list), "no fault was found"
    return [str(fault) for fault in found]


def loaded(**section: Any) -> ReceiverConfig:
    """The section, which must have no fault."""
    found = validate(ReceiverConfig, {"channels": [CONSOLE], **section})
    assert isinstance(found, ReceiverConfig), found
    return found


def test_a_console_is_enough() -> None:
    """The rest has defaults: port, fallback, enrichers that need no settings, the shipped runbooks, hooks off."""
    config = loaded()
    assert config.web.listen == "127.0.0.1:9878"
    assert config.fallback == "console"
    assert [each.type for each in config.enrichers] == ["links", "runbook"]
    assert (config.runbooks / "VaRLimitExceeded.md").is_file()
    assert config.hooks == {}
    assert config.identity_ignore == ("detector", "replica", "prometheus", "monitor")


def test_the_port_stays_the_receivers_when_web_is_given() -> None:
    """`web: {token: x}` does not need to repeat it."""
    assert loaded(web={"token": "x"}).web.listen == "127.0.0.1:9878"


def test_every_fault_is_reported_at_once_with_its_path() -> None:
    """Names that do not agree, matchers, unknown types."""
    assert faults(
        channels=[CONSOLE, {"type": "console"}, {"type": "console", "name": "b"}],
        routes=[{"channels": ["nowhere"]}, {"matchers": ['severity="critical"'], "channels": ["b"], "continue": True}],
        fallback_channel="gone",
        hooks={"reduce_position": {"mode": "live"}, "invented": {}},
    ) == [
        "receiver.channels[1].name: must be unique, 'console' stands at channels[0] too",
        "receiver.routes[0].channels[0]: must name a channel (console, console, b), was 'nowhere'",
        "receiver.fallback_channel: must name a channel (console, console, b), was 'gone'",
        "receiver.hooks.reduce_position.mode: must be dry_run: this hook only proposes and declares no can_act=True, "
        "was 'live'",
        "receiver.hooks.invented: no hook has this name; there are: reduce_position",
    ]


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"channels": []}, "receiver.channels: "),
        ({"channels": [{"type": "pigeon"}]}, "must have a type, one of: console, pagerduty, slack, webhook"),
        (
            {"routes": [{"matchers": ["severity"], "channels": ["console"]}]},
            "receiver.routes[0].matchers[0]: must be a matcher",
        ),
        ({"routes": [{"matchers": ['a=~"("'], "channels": ["console"]}]}, "regular expression that cannot be read"),
        ({"routes": [{"channels": []}]}, "receiver.routes[0].channels: "),
        ({"channels": [{"type": "slack", "url": "hooks.slack.com/x"}]}, "receiver.channels[0].url: must be an http"),
        ({"channels": [{"type": "slack"}]}, "receiver.channels[0].url: is required (or url_file)"),
        (
            {"channels": [{"type": "pagerduty", "routing_key": "x", "base_url": "http://events.pagerduty.com"}]},
            "must be https://",
        ),
        ({"channels": [{"type": "webhook", "url": "http://u:p@host/"}]}, "must not carry a user or password"),
        ({"public_url": "receiver"}, "receiver.public_url: must be an http"),
        ({"enrich_budget_seconds": 0}, "receiver.enrich_budget_seconds: must be > 0"),
        (
            {"hooks": {"reduce_position": {"modus": "live"}}},
            "receiver.hooks.reduce_position.modus: unknown key, did you mean mode?",
        ),
        ({"webhook_tokn": "x"}, "receiver.webhook_tokn: unknown key, did you mean webhook_token?"),
    ],
)
def test_a_fault_says_where_and_what(section: dict[str, Any], fault: str) -> None:
    """One line the operator can act on."""
    assert any(fault in line for line in faults(**section)), faults(**section)


def test_secrets_are_read_from_files_and_never_shown(tmp_path: Path) -> None:
    """`url_file`, `routing_key_file`, `webhook_token_file`."""
    for name, text in (("url", "https://hooks.slack.com/services/s3cr3t"), ("key", "R" * 32), ("token", "t0ken")):
        (tmp_path / name).write_text(f"{text}\n")
    section = {
        "webhook_token_file": "token",
        "channels": [{"type": "slack", "url_file": "url"}, {"type": "pagerduty", "routing_key_file": "key"}],
    }
    config = validate(ReceiverConfig, section, folder=tmp_path)
    assert isinstance(config, ReceiverConfig)
    slack: Any = config.channels[0]
    assert slack.url.get_secret_value() == "https://hooks.slack.com/services/s3cr3t"
    for secret in ("s3cr3t", "t0ken", "R" * 32):
        assert secret not in repr(config)


@pytest.mark.parametrize(
    "url", ["hooks.slack.com/s3cr3t", "ftp://hooks.slack.com/s3cr3t", "https://:s3cr3t@", "http://[s3cr3t"]
)
def test_a_secret_address_that_is_wrong_is_not_shown(url: str) -> None:
    """The fault says what must hold, not what was found."""
    for channel in ("slack", "webhook"):
        (fault,) = faults(channels=[{"type": channel, "url": url}])
        assert fault.startswith("receiver.channels[0].url: must")
        assert "s3cr3t" not in fault


def test_names_default_to_the_type_so_metrics_have_a_label() -> None:
    """One channel of each type needs no name."""
    for name in CHANNELS.modules:
        assert CHANNELS.config(name).model_fields["name"].default == name
