"""Section `web` of both processes: where they listen and who may ask what; and the web configuration file it may name.

The file has the format of the Prometheus exporters, so that one file serves a whole host. Where its format allows what this
server cannot do, that is a fault, never silence.
Source: github.com/prometheus/exporter-toolkit, docs/web-configuration.md.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from deskwatch.config import CrossFault, LoadedFile, Secret, Settings, validate
from deskwatch.errors import ConfigError, Fault
from deskwatch.files import Stamp, stamp
from deskwatch.tls import TlsServerConfig, server_context
from deskwatch.yaml_file import read_mapping

HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Headers the file may set on every answer, and the values allowed, where not any."""
_BCRYPT = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class HttpServerConfig(Settings):
    """`http_server_config`."""

    http2: bool = True
    """HTTP/2 where a client wants it. This server speaks HTTP/1.1, which every client of HTTP/2 speaks too; the key is read so
    that a file shared with other exporters can be used, and a file that asks for it is told so in the log."""
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("headers")
    @classmethod
    def _are_allowed(cls, value: dict[str, str]) -> dict[str, str]:
        faults = []
        for name, text in value.items():
            if name not in HEADERS:
                faults.append(((name,), f"cannot be set here; {', '.join(HEADERS)} can"))
            elif HEADERS[name] and text not in ("", *HEADERS[name]):
                faults.append(((name,), f"must be {' or '.join(HEADERS[name])}, was {text[:80]!r}"))
            elif "\n" in text or "\r" in text:
                faults.append(((name,), "must be one line"))
        if faults:
            raise CrossFault(faults)
        return value


class RateLimit(Settings):
    """`rate_limit`: requests allowed, as a token bucket; health, readiness and the webhook are not counted."""

    interval: float = 0.0
    """Seconds between two requests, written as in Go: `100ms`, `1s`; 0 is no limit."""
    burst: int = Field(default=0, ge=0)

    @field_validator("interval", mode="before")
    @classmethod
    def _as_seconds(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip() != "0":
            return duration_seconds(value.strip())
        if value in (0, "0"):
            return 0.0
        raise ValueError("must be a duration such as 1s or 100ms")

    @model_validator(mode="after")
    def _lets_something_through(self) -> Self:
        if self.interval and not self.burst:
            raise CrossFault([(["burst"], "must be >= 1 where an interval is set, or nothing is ever answered")])
        return self


class WebFileConfig(Settings):
    """The web configuration file."""

    tls_server_config: TlsServerConfig = TlsServerConfig()
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: dict[str, Secret] = Field(default_factory=dict)
    """User name to bcrypt hash of the password."""
    rate_limit: RateLimit = RateLimit()

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        return {key: part for key, part in data.items() if part is not None} if isinstance(data, Mapping) else data

    @field_validator("basic_auth_users", mode="before")
    @classmethod
    def _are_hashes(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("must be a mapping of user name to bcrypt hash")  # noqa: TRY004 - becomes a fault
        # Not left to pydantic: it would show the value found, and that may be a password someone forgot to hash.
        wrong = [str(user) for user, text in value.items() if not (isinstance(text, str) and _BCRYPT.fullmatch(text))]
        if wrong:
            hint = 'must be the password\'s bcrypt hash, e.g. from `htpasswd -nBC 10 ""`'
            raise CrossFault([((user,), hint) for user in wrong])
        return {str(user): text for user, text in value.items()}

    @property
    def knows_callers(self) -> bool:
        """Whether nobody reads anything without a password or a certificate."""
        return bool(self.basic_auth_users) or self.tls_server_config.clients_are_known


@dataclass(frozen=True, slots=True)
class WebFile:
    """A web configuration file as read; without one, its defaults.

    Args:
        config: what it says, contents of certificates included.
        tls: what connections are made with; None is plain HTTP.
        files: itself and the files it names, and what each was just before it was read.
    """

    config: WebFileConfig = field(default_factory=WebFileConfig)
    tls: ssl.SSLContext | None = field(default=None, compare=False)
    files: Mapping[Path, Stamp] = field(default_factory=dict, compare=False)


def read_web_file(path: Path) -> WebFile:
    """Read the file and what it names. Relative paths count from its folder.

    Raises:
        ConfigError: every fault found, with its key path in the file.
    """
    files = {path: stamp(path)}
    content = read_mapping(path, WebFileConfig.model_fields, may_be_empty=True)
    config = validate(WebFileConfig, content, folder=path.parent, files=files)
    if not isinstance(config, WebFileConfig):
        raise ConfigError(config)
    try:
        tls = server_context(config.tls_server_config)
    except ConfigError as error:
        raise ConfigError([Fault(f"tls_server_config.{fault.path}", fault.message) for fault in error.faults]) from error
    return WebFile(config, tls, files)


class WebConfig(Settings):
    """Where a process listens and who may ask what."""

    listen: str
    """`host:port`; port 0 takes a free one."""
    config_file: LoadedFile | None = None
    """TLS, client certificates and users, in the format of the Prometheus exporters' `--web.config.file`. Looked at every few
    seconds: a changed file or certificate needs no restart."""
    insecure: bool = False
    """Allow a non-loopback address although nobody has to say who they are: `/metrics` and the pages show the book."""
    read_token: Secret | None = None
    """Bearer token for reading (`authorization` in Prometheus's scrape configuration)."""
    token: Secret | None = None
    """Bearer token for every change; when absent one is made in `<state_folder>/token`, mode 0600."""
    previous_token: Secret | None = None
    """Still accepted while callers move to a new `token`."""
    allowed_hosts: tuple[str, ...] = ()
    """Names this server is reached by, beside its address and localhost (defence against DNS rebinding)."""
    _file: WebFile = PrivateAttr(default_factory=WebFile)

    @field_validator("listen")
    @classmethod
    def _is_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _read_config_file(self) -> Self:
        if self.config_file is None:
            return self
        try:
            self._file = read_web_file(self.config_file)
        except ConfigError as error:
            raise CrossFault([(["config_file"], _within(self.config_file, fault)) for fault in error.faults]) from error
        return self

    @model_validator(mode="after")
    def _refuse_open_book(self) -> Self:
        if self.opens_the_book(self._file, split_address(self.listen)[0]):
            message = (
                f"{self.listen} is reachable from other machines and shows the book: set read_token, or insecure: true, "
                "or basic_auth_users or required client certificates in config_file"
            )
            raise CrossFault([(["listen"], message)])
        return self

    @property
    def file(self) -> WebFile:
        """The web configuration file as read when this section was."""
        return self._file

    def opens_the_book(self, file: WebFile, host: str) -> bool:
        """Whether, with this web configuration file and listening there, others could read without saying who they are."""
        guarded = self.read_token or self.insecure or file.config.knows_callers
        return not guarded and not is_loopback(host)


def _within(path: Path, fault: Fault) -> str:
    return str(fault) if fault.path.startswith(str(path)) else f"{path.name}: {fault}"


def split_address(listen: str) -> tuple[str, int]:
    """`127.0.0.1:9877` or `[::1]:9877` as host and port; ValueError where it is neither."""
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port, e.g. 127.0.0.1:9877")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def duration_seconds(text: str) -> float:
    """A duration as Go writes it, `1m30s` or `100ms`, in seconds.

    Raises:
        ValueError: it is none.
    """
    parts = list(_parts(text))
    if not parts or "".join(parts) != text:
        raise ValueError("must be a duration such as 1s or 100ms")
    return sum(float(part.rstrip("nuµmsh")) * _UNIT_SECONDS[part.lstrip("0123456789.")] for part in parts)


def _parts(text: str) -> Iterator[str]:
    return (match[0] for match in _DURATION.finditer(text))
