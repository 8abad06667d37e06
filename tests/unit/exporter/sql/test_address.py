"""Addresses of databases: drivers, files, TLS in libpq's words."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from exporter.sql.address import Tls, parse_url, split_tls

FOLDER = Path("/etc/desk")


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """A certificate authority."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def tls(text: str, ca_file: Path | None = None) -> Tls:
    """The TLS options of an address."""
    return split_tls(parse_url(text, FOLDER), ca_file)[1]


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("postgresql://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg"),
        ("mysql://u:p@h/d", "mysql+aiomysql"),
        ("mariadb://u:p@h/d", "mariadb+aiomysql"),
        ("sqlite:///d", "sqlite+aiosqlite"),
    ],
)
def test_the_driver_is_added(text: str, driver: str) -> None:
    """The asynchronous one; without it nothing could be read."""
    assert parse_url(text, FOLDER).drivername == driver


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", Tls()),
        ("?sslmode=disable", Tls("disable")),
        ("?ssl=require", Tls("require")),
        ("?sslmode=verify-full&sslrootcert=ca.pem", Tls("verify-full", FOLDER / "ca.pem")),
        ("?sslrootcert=/ca.pem", Tls("verify-full", Path("/ca.pem"))),
        ("?ssl_ca=ca.pem&sslmode=verify-ca", Tls("verify-ca", FOLDER / "ca.pem")),
        ("?sslcert=me.pem&sslkey=me.key", Tls("verify-full", None, FOLDER / "me.pem", FOLDER / "me.key")),
    ],
)
def test_tls_options_are_taken_out_of_the_address(options: str, expected: Tls) -> None:
    """Relative files count from the configuration; the driver never sees the words, which it would not know."""
    url, found = split_tls(parse_url(f"postgresql://u:p@h/d{options}", FOLDER))
    assert found == expected
    assert not url.query
    assert url.render_as_string(hide_password=False) == "postgresql+asyncpg://u:p@h/d"


def test_other_options_stay_the_drivers() -> None:
    """A socket, a character set."""
    url, _ = split_tls(parse_url("mysql://u@/d?unix_socket=/run/s.sock&sslmode=require", FOLDER))
    assert dict(url.query) == {"unix_socket": "/run/s.sock"}


def test_a_named_ca_means_to_check_everything(ca_file: Path) -> None:
    """Certificate and name; without one the system's authorities count."""
    context = tls("postgresql://h/d", ca_file).context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("mode", "verify", "names"),
    [
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_every_mode_checks_what_it_says(mode: str, verify: ssl.VerifyMode, names: bool) -> None:
    """As libpq's documentation has it."""
    context = tls(f"mysql://h/d?sslmode={mode}").context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (verify, names)


@pytest.mark.parametrize("mode", [None, "disable", "prefer"])
def test_no_context_where_nothing_was_asked(mode: str | None) -> None:
    """The driver decides, or does not encrypt."""
    assert Tls(mode).context() is None


@pytest.mark.parametrize(
    ("text", "with_ca", "fault"),
    [
        (
            "postgresql://h/d?sslmode=full",
            False,
            "sslmode in url must be one of disable, prefer, require, verify-ca, verify-full",
        ),
        ("mysql://h/d?sslmode=prefer", False, "the driver aiomysql has no sslmode=prefer"),
        ("postgresql://h/d?sslmode=require", True, "sslmode=require would not ask it"),
        ("postgresql://h/d?sslmode=disable", True, "sslmode=disable would not ask it"),
        ("postgresql://h/d?sslrootcert=other.pem", True, "keep one of the two"),
        ("sqlite:///d", True, "ca_file does not work with the driver aiosqlite"),
    ],
)
def test_what_would_protect_less_than_it_says_is_refused(text: str, with_ca: bool, fault: str, ca_file: Path) -> None:
    """Before anything connects."""
    with pytest.raises(ValueError, match=fault):
        tls(text, ca_file if with_ca else None)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    """Missing, or something else."""
    (tmp_path / "x.pem").write_text("hello")
    for name in ("x.pem", "missing.pem"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            Tls("verify-full", tmp_path / name).context()
        with pytest.raises(ValueError, match=f"the certificate .*{name} cannot be read"):
            Tls("require", None, tmp_path / name).context()


def test_a_certificate_of_our_own_is_shown(tmp_path: Path) -> None:
    """For a server that knows its clients by it."""
    issued = trustme.CA().issue_cert("reader.example")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    assert Tls("require", None, tmp_path / "me.pem", tmp_path / "me.pem").context() is not None
