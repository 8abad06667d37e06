"""How a Kafka cluster is reached - addresses, TLS, SASL - and the same in librdkafka's words.

Opens nothing. Refuses half a login, half a certificate, and settings that would carry a secret in the open, load a library or
run a program.
Source: github.com/confluentinc/librdkafka CONFIGURATION.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from deskwatch.config import AtLeastOne, CrossFault, LoadedFile, Secret, Settings

Setting = bool | int | float | str
"""A value of a librdkafka property."""
CLIENT_ID = "deskwatch"

_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):(?P<port>[0-9]{1,5})")
_TUNABLE = re.compile(
    r"(socket|reconnect|retry|connections|topic\.metadata|metadata(?!\.broker)|api\.version|broker\.(address|version))\.[a-z.]+"
    r"|client\.(rack|dns\.lookup)|receive\.message\.max\.bytes|message\.max\.bytes"
    r"|ssl\.(endpoint\.identification\.algorithm|cipher\.suites|curves\.list|sigalgs\.list|crl\.location)"
)
"""Properties an operator may set besides: none of them holds a secret, loads a library or starts a program."""


def _listed(value: Any) -> Any:
    """Kafka's own form, `one:9092,two:9092`, as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Security(Settings):
    """TLS and SASL. Left out: a plain connection without a login."""

    tls: bool = False
    """Whether the connection is encrypted and the cluster's certificate and host name are checked."""
    ca_file: LoadedFile | None = None
    """PEM file of the authority that signed the cluster's certificates; the system's by default."""
    certificate_file: LoadedFile | None = None
    """PEM file of our own certificate, where the cluster asks for one."""
    key_file: LoadedFile | None = None
    """PEM file of its key."""
    key_password: Secret | None = None
    """Password of the key."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """How username and password are shown to the cluster (SASL)."""
    username: Secret | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        faults: list[tuple[list[str | int], str]] = []
        if not self.tls:
            given = [name for name in ("ca_file", "certificate_file", "key_file", "key_password") if getattr(self, name)]
            faults += [([name], "is for an encrypted connection: set tls: true") for name in given]
        if (self.certificate_file is None) != (self.key_file is None):
            missing = "key_file" if self.key_file is None else "certificate_file"
            faults.append(([missing], "certificate_file and key_file come together"))
        login = {name: getattr(self, name) is not None for name in ("mechanism", "username", "password")}
        if any(login.values()):
            faults += [([name], "a login is mechanism, username and password") for name, given in login.items() if not given]
        if faults:
            raise CrossFault(faults)
        return self

    def properties(self) -> dict[str, Setting]:
        """The librdkafka properties. They hold secrets: for the client only, never for a message."""
        protocol = ("SASL_" if self.mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        found: dict[str, Setting | None] = {
            "security.protocol": protocol,
            "ssl.ca.location": str(self.ca_file) if self.ca_file else None,
            "ssl.certificate.location": str(self.certificate_file) if self.certificate_file else None,
            "ssl.key.location": str(self.key_file) if self.key_file else None,
            "ssl.key.password": self.key_password.get_secret_value() if self.key_password else None,
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username.get_secret_value() if self.username else None,
            "sasl.password": self.password.get_secret_value() if self.password else None,
        }
        return {name: value for name, value in found.items() if value is not None}


class KafkaConfig(Settings):
    """A cluster."""

    bootstrap_servers: Annotated[tuple[str, ...], BeforeValidator(_listed), AtLeastOne]
    """`host:port` of some brokers, as a list or with commas between them; they name the others."""
    security: Security = Security()
    client: dict[str, Setting] = Field(default_factory=dict)
    """Further librdkafka properties of the connection, such as `socket.keepalive.enable: true`."""

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            found = _ADDRESS.fullmatch(address)
            if found is None or not 0 < int(found["port"]) < 65536:
                raise ValueError("must be host:port, without a scheme and without a login")
        return value

    @field_validator("client")
    @classmethod
    def _are_harmless(cls, value: dict[str, Setting]) -> dict[str, Setting]:
        refused = sorted(name for name in value if not _TUNABLE.fullmatch(name))
        if refused:
            names = ", ".join(refused)
            raise ValueError(f"{names}: not a property of the connection that may stand here; logins go under security")
        if value:
            from deskwatch.events.kafka import complaint  # only who uses it pays for loading the library

            if said := complaint(value):
                raise ValueError(said)
        return value

    def properties(self) -> Mapping[str, Setting]:
        """The librdkafka properties. They hold secrets: for the client only, never for a message."""
        ours: dict[str, Setting] = {
            "client.id": CLIENT_ID,
            "log.connection.close": False,
            "enable.metrics.push": False,
            # The library's own bound, ten seconds, is most of an interval in which a broker that is back is not asked.
            "reconnect.backoff.max.ms": 1000,
        }
        return ours | self.client | {"bootstrap.servers": ",".join(self.bootstrap_servers)} | self.security.properties()
