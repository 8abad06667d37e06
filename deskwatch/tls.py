"""The server's side of TLS, from `tls_server_config` of a web configuration file. Reads no file and opens no socket.

Refuses what Python's `ssl` cannot do rather than leave it out: an operator who asks for a protection must get it.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from deskwatch.config import CrossFault, Secret, Settings
from deskwatch.errors import ConfigError, Fault

Version = Literal["TLS12", "TLS13"]
ClientAuth = Literal["", "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
VERSIONS: Mapping[str, ssl.TLSVersion] = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CIPHER_SUITES: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""Suites of TLS 1.2: Go's name, which the file uses, to OpenSSL's. Source: pkg.go.dev/crypto/tls#CipherSuites."""
TLS13_SUITES = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""May be named and change nothing, as in Go: which of them is used, the two ends agree on themselves."""
CURVES: Mapping[str, str] = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}


class TlsServerConfig(Settings):
    """`tls_server_config`. `cert`, `key` and `client_ca` are PEM text; with `_file` at the end, the file it stands in."""

    # A certificate is no secret; this type is what lets it stand in a file of its own.
    cert: Secret | None = None
    key: Secret | None = None
    client_ca: Secret | None = None
    client_auth_type: ClientAuth = ""
    client_allowed_sans: tuple[str, ...] = ()
    """A client's certificate must be for one of these names (DNS, IP, e-mail or URI); none: for any."""
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    @field_validator("min_version", "max_version", mode="before")
    @classmethod
    def _is_served(cls, value: Any) -> Any:
        if value in ("TLS10", "TLS11"):
            raise ValueError("must be TLS12 or TLS13: nothing older is served")
        return value

    @field_validator("client_auth_type", mode="before")
    @classmethod
    def _is_verified(cls, value: Any) -> Any:
        if value in ("RequestClientCert", "RequireClientCert", "RequireAnyClientCert"):
            raise ValueError("takes certificates nobody verified, which Python cannot: use RequireAndVerifyClientCert")
        return value

    @field_validator("cipher_suites")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in CIPHER_SUITES and name not in TLS13_SUITES]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; known are {', '.join(CIPHER_SUITES)}")
        return value

    @field_validator("curve_preferences")
    @classmethod
    def _is_one_curve(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in CURVES]:
            raise ValueError(f"unknown: {', '.join(unknown)}; known are {', '.join(CURVES)}")
        if len(value) > 1:
            raise ValueError("must be one curve or none: Python can offer one or all of them")
        return value

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        faults = [((key,), message) for key, message in self._disagreements()]
        if faults:
            raise CrossFault(faults)
        return self

    @property
    def enabled(self) -> bool:
        """Whether TLS is served."""
        return self.cert is not None

    @property
    def clients_are_known(self) -> bool:
        """Whether nobody gets in without a certificate of the client authority."""
        return self.client_auth_type == "RequireAndVerifyClientCert"

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self == TlsServerConfig.model_construct():
            return
        if self.cert is None:
            yield "cert", "is required (or cert_file)"
        if self.key is None:
            yield "key", "is required (or key_file)"
        verifies = self.client_auth_type not in ("", "NoClientCert")
        if self.client_ca is not None and not verifies:
            yield "client_auth_type", "must be RequireAndVerifyClientCert where a client_ca is given"
        if verifies and self.client_ca is None:
            yield "client_ca", f"is required (or client_ca_file) with {self.client_auth_type}"
        if self.client_allowed_sans and not self.clients_are_known:
            yield "client_allowed_sans", "needs client_auth_type RequireAndVerifyClientCert"
        if VERSIONS[self.min_version] > VERSIONS[self.max_version]:
            yield "max_version", f"must be >= min_version ({self.min_version}), was {self.max_version}"
        if self._only_tls13_suites and self.max_version == "TLS12":
            yield "cipher_suites", "names no suite of TLS12"

    @property
    def _only_tls13_suites(self) -> bool:
        return bool(self.cipher_suites) and not set(self.cipher_suites) & CIPHER_SUITES.keys()


def server_context(config: TlsServerConfig) -> ssl.SSLContext | None:
    """What the server's connections are made with; None where TLS is off.

    Raises:
        ConfigError: a certificate, key or curve is not usable; the faults' paths are keys of `tls_server_config`.
    """
    if config.cert is None or config.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = VERSIONS[config.min_version], VERSIONS[config.max_version]
    faults = [*_take_certificate(context, config.cert, config.key), *_take_clients(context, config)]
    if config.cipher_suites:
        names = [CIPHER_SUITES[name] for name in config.cipher_suites if name in CIPHER_SUITES]
        if names:
            context.set_ciphers(":".join(names))
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
    if not config.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for curve in config.curve_preferences:
        try:
            context.set_ecdh_curve(CURVES[curve])
        except (ssl.SSLError, ValueError):
            faults.append(Fault("curve_preferences", f"this Python cannot offer {curve} alone: name another or none"))
    if faults:
        raise ConfigError(faults)
    return context


def _take_certificate(context: ssl.SSLContext, certificate: Secret, key: Secret) -> Iterator[Fault]:
    """Load both. Python loads certificates from files only; what is in memory is lent one that never reaches a disk."""
    with _lent(certificate.get_secret_value()) as certificate_file, _lent(key.get_secret_value()) as key_file:
        try:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
        except _Encrypted:
            yield Fault("key", "is encrypted: give one without a passphrase, readable by this process only")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                yield Fault("key", "does not belong to the certificate")
            else:
                yield Fault("cert", f"the certificate or its key is not usable PEM: {error.reason or 'no certificate found'}")


class _Encrypted(Exception):
    """The key asks for a passphrase."""


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, and wait.
    raise _Encrypted


def _take_clients(context: ssl.SSLContext, config: TlsServerConfig) -> Iterator[Fault]:
    if config.client_ca is None:
        return
    context.verify_mode = ssl.CERT_REQUIRED if config.clients_are_known else ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(cadata=config.client_ca.get_secret_value())
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or "no certificate found"
        yield Fault("client_ca", f"is not usable PEM: {why}")


@contextmanager
def _lent(text: str) -> Iterator[str]:
    """The name of a file in memory with this content, for as long as the context lasts."""
    number = os.memfd_create("deskwatch-tls", os.MFD_CLOEXEC)
    try:
        os.write(number, text.encode())
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The names a verified certificate (`ssl.SSLSocket.getpeercert`) is for: DNS, IP, e-mail, URI."""
    found = (certificate or {}).get("subjectAltName", ())
    return frozenset(_address(name) if kind == "IP Address" else name for kind, name in found)


def _address(text: str) -> str:
    """An IP address as people write it; OpenSSL writes those of version 6 out in full."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text
