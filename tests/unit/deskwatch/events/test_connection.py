"""How a cluster is reached: what librdkafka is told, and what is refused before it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deskwatch.config import validate
from deskwatch.events.connection import KafkaConfig


def config(**settings: Any) -> KafkaConfig:
    """A configuration without faults."""
    found = validate(KafkaConfig, {"bootstrap_servers": ["one:9092"], **settings}, folder=Path("/desk"))
    assert isinstance(found, KafkaConfig), found
    return found


def faults(**settings: Any) -> list[str]:
    """What is wrong with a configuration."""
    found = validate(KafkaConfig, {"bootstrap_servers": ["one:9092"], **settings})
    assert isinstance(found, list), found
    return [str(each) for each in found]


@pytest.mark.parametrize("given", ["one:9092, [::1]:9093", ["one:9092", "[::1]:9093"]], ids=["text", "list"])
def test_addresses_come_as_kafka_writes_them_or_as_a_list(given: Any) -> None:
    """`bootstrap.servers` can be copied as it stands."""
    assert config(bootstrap_servers=given).properties()["bootstrap.servers"] == "one:9092,[::1]:9093"


@pytest.mark.parametrize("given", ["one", "SSL://one:9092", "kim:pw@one:9092", "one:0", "one:70000", "one:", ":9092"])
def test_what_is_no_address_is_refused(given: str) -> None:
    """Schemes and logins have fields of their own."""
    assert faults(bootstrap_servers=[given]) == [
        "bootstrap_servers: must be host:port, without a scheme and without a login, was a list"
    ]


def test_at_least_one_address_is_needed() -> None:
    """An empty text is none."""
    assert "must hold at least one" in faults(bootstrap_servers="")[0]


def test_without_security_the_connection_is_plain() -> None:
    """And the broker's wish to be sent our own statistics is not granted: we only read."""
    properties = config().properties()
    assert properties["security.protocol"] == "PLAINTEXT"
    assert properties["enable.metrics.push"] is False
    assert not [name for name in properties if name.startswith(("sasl.", "ssl."))]


def test_tls_and_login_become_librdkafkas_properties(tmp_path: Path) -> None:
    """File names count from the configuration's folder."""
    secured = config(
        security={
            "tls": True,
            "ca_file": "ca.pem",
            "certificate_file": "our.pem",
            "key_file": "our.key",
            "key_password": "kp",
            "mechanism": "SCRAM-SHA-512",
            "username": "reader",
            "password": "pw",
        }
    ).properties()
    assert {name: value for name, value in secured.items() if name.startswith(("sasl.", "ssl.", "security"))} == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/desk/ca.pem",
        "ssl.certificate.location": "/desk/our.pem",
        "ssl.key.location": "/desk/our.key",
        "ssl.key.password": "kp",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "reader",
        "sasl.password": "pw",
    }


@pytest.mark.parametrize(
    ("security", "protocol"),
    [
        ({"tls": True}, "SSL"),
        ({"mechanism": "PLAIN", "username": "u", "password": "p"}, "SASL_PLAINTEXT"),
    ],
)
def test_tls_and_login_go_without_each_other(security: dict[str, Any], protocol: str) -> None:
    """Four ways to connect."""
    assert config(security=security).properties()["security.protocol"] == protocol


def test_passwords_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    """Neither by the configuration nor by a fault in it."""
    (tmp_path / "pw").write_text("hunter2\n")
    content = {"bootstrap_servers": "one:9092", "security": {"mechanism": "PLAIN", "username": "u", "password_file": "pw"}}
    found = validate(KafkaConfig, content, folder=tmp_path)
    assert isinstance(found, KafkaConfig)
    assert found.properties()["sasl.password"] == "hunter2"
    assert "hunter2" not in repr(found)
    assert "hunter2" not in " ".join(faults(security={"password": "hunter2"}))


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({"ca_file": "x"}, ["security.ca_file: is for an encrypted connection: set tls: true"]),
        ({"tls": True, "key_file": "x"}, ["security.certificate_file: certificate_file and key_file come together"]),
        ({"tls": True, "certificate_file": "x"}, ["security.key_file: certificate_file and key_file come together"]),
        (
            {"mechanism": "PLAIN"},
            [
                "security.username: a login is mechanism, username and password",
                "security.password: a login is mechanism, username and password",
            ],
        ),
        (
            {"username": "u", "password": "p"},
            ["security.mechanism: a login is mechanism, username and password"],
        ),
    ],
)
def test_half_of_a_login_or_certificate_is_refused(security: dict[str, Any], expected: list[str]) -> None:
    """Every missing part is named."""
    assert faults(security=security) == expected


def test_further_properties_are_passed_on() -> None:
    """Those that tune the connection; what we set ourselves can be tuned too."""
    tuned: dict[str, Any] = {"metadata.max.age.ms": 60_000, "client.rack": "b", "broker.address.family": "v4"}
    tuned |= {
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 5000,
        "ssl.endpoint.identification.algorithm": "none",
    }
    assert config(client=tuned).properties().items() >= tuned.items()


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password",
        "ssl.key.pem",
        "ssl.key.password",
        "sasl.oauthbearer.client.secret",
        "sasl.kerberos.kinit.cmd",
        "plugin.library.paths",
        "ssl.engine.location",
        "bootstrap.servers",
        "metadata.broker.list",
        "security.protocol",
        "test.mock.num.brokers",
        "enable.metrics.push",
        "debug",
    ],
)
def test_no_property_may_carry_a_secret_load_a_library_or_run_a_program(name: str) -> None:
    """Nor say what has a field of its own."""
    assert faults(client={name: "hunter2"}) == [
        f"client: {name}: not a property of the connection that may stand here; logins go under security, was a mapping"
    ]


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ({"socket.nonsense": 1}, 'No such configuration property: "socket.nonsense"'),
        ({"socket.timeout.ms": "soon"}, 'Invalid value for configuration property "socket.timeout.ms"'),
    ],
)
def test_librdkafka_itself_is_asked_about_the_rest(client: dict[str, Any], said: str) -> None:
    """A typing error is found by `deskwatch check`, not by the first fetch."""
    assert said.lower() in faults(client=client)[0].lower()
