"""The web configuration file: the Prometheus exporters' format, every fault by its key path, no secret in a message."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives import serialization

from deskwatch.config import Settings, validate
from deskwatch.errors import ConfigError
from deskwatch.files import changed, stamp
from deskwatch.tls import names_of
from deskwatch.web_config import WebConfig, duration_seconds, read_web_file

HASH = bcrypt.hashpw(b"s3cr3t", bcrypt.gensalt(4)).decode()
AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a certificate, its key, another key, and the authority of clients."""
    (tmp_path / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in CERTIFICATE.cert_chain_pems))
    (tmp_path / "tls.key").write_bytes(CERTIFICATE.private_key_pem.bytes())
    (tmp_path / "other.key").write_bytes(AUTHORITY.issue_cert("other").private_key_pem.bytes())
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.cert_pem.bytes())
    (tmp_path / "junk").write_text("not a certificate")
    return tmp_path


def write(folder: Path, content: Any) -> Path:
    """The file."""
    path = folder / "web.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


TLS = {"cert_file": "tls.crt", "key_file": "tls.key"}


def faults_of(folder: Path, content: Any) -> list[str]:
    """Every fault as text."""
    with pytest.raises(ConfigError) as caught:
        read_web_file(write(folder, content))
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"cert_file": "no.crt", "key_file": "tls.key"}, "cert_file: cannot read no.crt: No such file or directory"),
        ({"cert_file": "tls.crt"}, "key: is required (or key_file)"),
        ({"min_version": "TLS13", "key_file": "tls.key"}, "cert: is required (or cert_file)"),
        (TLS | {"cert": "x"}, "cert_file: give either cert or cert_file, not both"),
        (TLS | {"key_file": "other.key"}, "key: does not belong to the certificate"),
        (TLS | {"cert_file": "junk"}, "cert: the certificate or its key is not usable PEM: no certificate found"),
        (TLS | {"min_version": "TLS10"}, "min_version: must be TLS12 or TLS13: nothing older is served, was 'TLS10'"),
        (TLS | {"max_version": "TLS9"}, "max_version: must be 'TLS12' or 'TLS13', was 'TLS9'"),
        (TLS | {"min_version": "TLS13", "max_version": "TLS12"}, "max_version: must be >= min_version (TLS13), was TLS12"),
        (
            TLS | {"client_auth_type": "RequireAnyClientCert"},
            "client_auth_type: takes certificates nobody verified, which Python cannot: use RequireAndVerifyClientCert, "
            "was 'RequireAnyClientCert'",
        ),
        (
            TLS | {"client_auth_type": "RequireAndVerifyClientCert"},
            "client_ca: is required (or client_ca_file) with RequireAndVerifyClientCert",
        ),
        (
            TLS | {"client_ca_file": "ca.crt"},
            "client_auth_type: must be RequireAndVerifyClientCert where a client_ca is given",
        ),
        (
            TLS | {"client_ca_file": "junk", "client_auth_type": "RequireAndVerifyClientCert"},
            "client_ca: is not usable PEM: no certificate found",
        ),
        (
            TLS | {"client_ca_file": "ca.crt", "client_auth_type": "VerifyClientCertIfGiven", "client_allowed_sans": ["a"]},
            "client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert",
        ),
        (TLS | {"cipher_suites": ["TLS_AES_128_GCM_SHA256"], "max_version": "TLS12"}, "cipher_suites: names no suite of TLS12"),
        (TLS | {"curve_preferences": ["X25519", "CurveP256"]}, "curve_preferences: must be one curve or none"),
        (TLS | {"curve_preferences": ["P-256"]}, "curve_preferences: unknown: P-256; known are CurveP256"),
        (TLS | {"cipher_suites": ["RC4"]}, "cipher_suites: unknown: RC4; known are TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
        (TLS | {"client_ca_fil": "ca.crt"}, "client_ca_fil: unknown key, did you mean client_ca_file?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tls_is_named(folder: Path, tls: dict[str, Any], expected: str) -> None:
    """By its key path; what Python cannot do is refused, not left out."""
    (fault,) = faults_of(folder, {"tls_server_config": tls})
    assert fault.startswith(f"tls_server_config.{expected}")


def test_an_encrypted_key_is_refused_and_asks_nobody(folder: Path) -> None:
    """OpenSSL would ask for its passphrase on the terminal and wait."""
    key = serialization.load_pem_private_key(CERTIFICATE.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"s3cr3t")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (folder / "locked.key").write_bytes(pem)
    (fault,) = faults_of(folder, {"tls_server_config": TLS | {"key_file": "locked.key"}})
    assert fault == "tls_server_config.key: is encrypted: give one without a passphrase, readable by this process only"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"basic_auth_users": {"ann": "s3cr3t"}}, "basic_auth_users.ann: must be the password's bcrypt hash"),
        ({"basic_auth_users": {"ann": 12345}}, "basic_auth_users.ann: must be the password's bcrypt hash"),
        ({"basic_auth_users": {"ann": HASH, "bob": HASH[:-1]}}, "basic_auth_users.bob: must be the password's bcrypt hash"),
        ({"basic_auth_users": ["ann"]}, "basic_auth_users: must be a mapping of user name to bcrypt hash"),
        ({"http_server_config": {"headers": {"Server": "x"}}}, "http_server_config.headers.Server: cannot be set here"),
        (
            {"http_server_config": {"headers": {"X-Frame-Options": "maybe"}}},
            "http_server_config.headers.X-Frame-Options: must be deny or sameorigin, was 'maybe'",
        ),
        (
            {"http_server_config": {"headers": {"X-XSS-Protection": "1\nSet-Cookie: a=b"}}},
            "http_server_config.headers.X-XSS-Protection: must be one line",
        ),
        ({"rate_limit": {"interval": "1s"}}, "rate_limit.burst: must be >= 1 where an interval is set"),
        ({"rate_limit": {"interval": "1 s", "burst": 1}}, "rate_limit.interval: must be a duration such as 1s or 100ms"),
        ({"users": {}}, "users: unknown key"),
        ("- a list", "{file}: must be a mapping with the keys basic_auth_users, http_server_config, rate_limit"),
        ("basic_auth_users: {a: [", "{file}:1:24: is not valid YAML"),
    ],
)  # fmt: skip
def test_other_faults_are_named(folder: Path, content: Any, expected: str) -> None:
    """A password someone forgot to hash is not printed."""
    (fault,) = faults_of(folder, content)
    assert fault.startswith(expected.format(file=folder / "web.yml"))
    assert "s3cr3t" not in fault
    assert "12345" not in fault


def test_every_fault_at_once(folder: Path) -> None:
    """One look at the message corrects the file."""
    content = {"tls_server_config": TLS | {"min_version": "1.2"}, "basic_auth_users": {"a": "b"}, "rate_limit": {"burst": -1}}
    assert [fault.partition(":")[0] for fault in faults_of(folder, content)] == [
        "tls_server_config.min_version", "basic_auth_users.a", "rate_limit.burst",
    ]  # fmt: skip


def test_an_empty_file_is_plain_http_for_everybody(folder: Path) -> None:
    """As in the Prometheus exporters: also with empty sections."""
    for content in ("", "tls_server_config:\nbasic_auth_users:\nhttp_server_config: {}\n"):
        file = read_web_file(write(folder, content))
        assert (file.tls, file.config.knows_callers) == (None, False)


def test_the_whole_format_is_understood(folder: Path) -> None:
    """Certificates inline too; what the context allows is what the file says."""
    content = {
        "tls_server_config": {
            "cert": (folder / "tls.crt").read_text(), "key": (folder / "tls.key").read_text(),
            "client_ca": (folder / "ca.crt").read_text(), "client_auth_type": "RequireAndVerifyClientCert",
            "client_allowed_sans": ["prometheus"], "min_version": "TLS12", "max_version": "TLS13",
            "cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"],
            "prefer_server_cipher_suites": False, "curve_preferences": ["CurveP384"],
        },
        "http_server_config": {"http2": False, "headers": {"Strict-Transport-Security": "max-age=60"}},
        "basic_auth_users": {"ann": HASH},
        "rate_limit": {"interval": "1m0.5s", "burst": 3},
    }  # fmt: skip
    file = read_web_file(write(folder, content))
    assert file.tls is not None
    assert file.tls.verify_mode == ssl.CERT_REQUIRED
    assert not file.tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    older = [each["name"] for each in file.tls.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert older == ["ECDHE-RSA-AES128-GCM-SHA256"]
    assert (file.config.rate_limit.interval, file.config.rate_limit.burst) == (60.5, 3)
    assert file.config.knows_callers
    assert HASH not in repr(file)


def test_suites_of_tls_1_3_alone_leave_nothing_older(folder: Path) -> None:
    """As in Go, where such a list leaves TLS 1.2 without a suite."""
    tls = TLS | {"cipher_suites": ["TLS_AES_128_GCM_SHA256"]}
    file = read_web_file(write(folder, {"tls_server_config": tls}))
    assert file.tls is not None
    assert file.tls.minimum_version == ssl.TLSVersion.TLSv1_3


class Process(Settings):
    """A process's section."""

    web: WebConfig


def test_the_faults_of_the_file_are_faults_of_the_configuration(folder: Path) -> None:
    """`deskwatch check` reports them with both paths."""
    write(folder, {"tls_server_config": {"cert_file": "no.crt", "key_file": "tls.key"}, "basic_auth_users": {"a": "b"}})
    found = validate(Process, {"web": {"listen": "127.0.0.1:1", "config_file": "web.yml"}}, folder=folder, at=("exporter",))
    assert isinstance(found, list)
    assert sorted(str(fault).partition(": must")[0] for fault in found) == [
        "exporter.web.config_file: web.yml: basic_auth_users.a",
        "exporter.web.config_file: web.yml: tls_server_config.cert_file: cannot read no.crt: No such file or directory",
    ]
    (gone,) = validate(Process, {"web": {"listen": "127.0.0.1:1", "config_file": "no.yml"}}, folder=folder)  # type: ignore[misc]
    assert str(gone) == f"web.config_file: {folder / 'no.yml'}: cannot read the file: No such file or directory"


@pytest.mark.parametrize(
    ("content", "opens"),
    [
        ({"basic_auth_users": {"ann": HASH}}, True),
        ({"tls_server_config": TLS | {"client_ca_file": "ca.crt", "client_auth_type": "RequireAndVerifyClientCert"}}, True),
        ({"tls_server_config": TLS | {"client_ca_file": "ca.crt", "client_auth_type": "VerifyClientCertIfGiven"}}, False),
        ({"tls_server_config": TLS}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_users_or_required_certificates_allow_a_public_address(folder: Path, content: Any, opens: bool) -> None:
    """Encryption alone says nothing about who reads the book."""
    write(folder, content)
    found = validate(Process, {"web": {"listen": "0.0.0.0:1", "config_file": "web.yml"}}, folder=folder)
    assert isinstance(found, Process) == opens


def test_a_changed_certificate_makes_another_configuration(folder: Path) -> None:
    """What a reload compares; and every file is known that has to be watched."""
    write(folder, {"tls_server_config": TLS, "basic_auth_users": {"ann": HASH}})

    def read() -> WebConfig:
        section = validate(WebConfig, {"listen": "127.0.0.1:1", "config_file": "web.yml"}, folder=folder)
        assert isinstance(section, WebConfig)
        return section

    first = read()
    assert first == read()
    assert set(first.file.files) == {folder / name for name in ("web.yml", "tls.crt", "tls.key")}
    assert not changed(first.file.files)
    (folder / "tls.crt").write_text((folder / "tls.crt").read_text() + (folder / "ca.crt").read_text())
    assert changed(first.file.files)
    assert first != read()


def test_a_file_behind_a_link_that_is_swapped_has_changed(tmp_path: Path) -> None:
    """As Kubernetes replaces mounted secrets: same size, same time, another inode."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("12")
    link = tmp_path / "link"
    link.symlink_to("one")
    before = {link: stamp(link)}
    link.unlink()
    assert changed(before)
    link.symlink_to("two")
    assert changed(before)
    assert stamp(tmp_path / "no") is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("100ms", 0.1), ("1h15m30.5s", 4530.5), ("2us", 2e-6), ("1µs", 1e-6), ("3ns", 3e-9)]
)
def test_a_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    """Source: pkg.go.dev/time#ParseDuration."""
    assert duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1s2", "-1s", "1s 2s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Never a guess."""
    with pytest.raises(ValueError, match="must be a duration"):
        duration_seconds(text)


def test_the_names_of_a_certificate() -> None:
    """DNS, e-mail, URI as they stand; addresses as people write them."""
    names = (("DNS", "a.example"), ("IP Address", "0:0:0:0:0:0:0:1"), ("email", "a@b"), ("URI", "spiffe://x/y"))
    assert names_of({"subjectAltName": names}) == {"a.example", "::1", "a@b", "spiffe://x/y"}
    assert names_of(None) == frozenset()
