"""Where a database is and how it is reached: the driver, the file, and TLS in libpq's words. Opens nothing.

Refuses what cannot work or would protect less than it says, before anything connects.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

ASYNC_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql", "mariadb": "aiomysql"}
"""Driver taken where the address names none."""
TLS_DRIVERS = frozenset({"asyncpg", "aiomysql"})
"""Drivers that are given a TLS context; another driver reads its own options from the address."""
_MODE_KEYS, _CA_KEYS = ("sslmode", "ssl"), ("sslrootcert", "ssl_ca")
_CERTIFICATE_KEYS, _KEY_KEYS = ("sslcert", "ssl_cert"), ("sslkey", "ssl_key")
_FILE_KEYS = (*_CA_KEYS, *_CERTIFICATE_KEYS, *_KEY_KEYS)
MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""Words of `sslmode`. Source: PostgreSQL documentation, libpq, "SSL Mode Descriptions"."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS as asked for. `mode` None leaves it to the driver: asyncpg encrypts where the server can, aiomysql does not."""

    mode: str | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        """What the driver is given, None where it is not to encrypt or may choose.

        Raises:
            ValueError: a file cannot be used.
        """
        if self.mode in (None, "disable", "prefer"):
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"the CA file {self.ca_file} cannot be read as PEM: {_said(error)}") from None
        context.check_hostname = self.mode == "verify-full"
        if self.mode == "require":
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"the certificate {self.certificate_file} cannot be read: {_said(error)}") from None
        return context


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__)


def parse_url(text: str, folder: Path) -> URL:
    """A database address with an asynchronous driver that is installed; relative files count from `folder`.

    Raises:
        ValueError: what is wrong with it, without the address, which may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("must be a database address such as sqlite:///trading.db or postgresql://user@host/database") from None
    backend = url.get_backend_name()
    if "+" not in url.drivername and backend in ASYNC_DRIVERS:
        url = url.set(drivername=f"{backend}+{ASYNC_DRIVERS[backend]}")
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError:
        raise ValueError(f"no database dialect is called {url.drivername!r}") from None
    except ImportError as error:
        package = error.name or url.get_driver_name()
        raise ValueError(f"the driver {package} is not installed: pip install {package}") from None
    if not dialect.is_async:
        raise ValueError(f"the driver {url.get_driver_name()} is not asynchronous; e.g. postgresql+asyncpg, sqlite+aiosqlite")
    if backend == "sqlite":
        return _at_file(url, folder)
    beside = {key: str(folder / Path(_one(url, key)).expanduser()) for key in _FILE_KEYS if key in url.query}
    return url.update_query_dict(beside)


def _at_file(url: URL, folder: Path) -> URL:
    if not url.database or url.database == ":memory:" or url.query:
        raise ValueError("must name a file and nothing more, e.g. sqlite:///trading.db (four slashes for an absolute path)")
    return url.set(database=str(folder / Path(url.database).expanduser()))


def split_tls(url: URL, ca_file: Path | None = None) -> tuple[URL, Tls]:
    """The address without its TLS options, and those, for a driver that is given a context.

    Args:
        url: from `parse_url`.
        ca_file: the authority that signed the server's certificate, where it is configured beside the address.

    Raises:
        ValueError: the options contradict each other or the driver cannot do what they say.
    """
    if url.get_driver_name() not in TLS_DRIVERS:
        if ca_file is not None:
            raise ValueError(f"ca_file does not work with the driver {url.get_driver_name()}: use its own option in url")
        return url, Tls()
    given = {key: _one(url, key) for key in (*_MODE_KEYS, *_FILE_KEYS) if key in url.query}
    mode, named_ca = _first(given, _MODE_KEYS), _first(given, _CA_KEYS)
    if named_ca is not None and ca_file is not None:
        raise ValueError("ca_file and an option of url name a CA: keep one of the two")
    authority = ca_file or (Path(named_ca) if named_ca else None)
    certificate, key = _first(given, _CERTIFICATE_KEYS), _first(given, _KEY_KEYS)
    mode = mode or ("verify-full" if authority or certificate else None)
    _check_mode(mode, authority, url.get_driver_name())
    tls = Tls(mode, authority, Path(certificate) if certificate else None, Path(key) if key else None)
    return url.difference_update_query(given), tls


def _check_mode(mode: str | None, authority: Path | None, driver: str) -> None:
    if mode is None:
        return
    if mode not in MODES:
        raise ValueError(f"sslmode in url must be one of {', '.join(MODES)}, was {mode!r}")
    if mode == "prefer" and driver != "asyncpg":
        raise ValueError(f"the driver {driver} has no sslmode=prefer: say require, verify-full or disable")
    if authority is not None and not mode.startswith("verify"):
        raise ValueError(f"a CA is named, and sslmode={mode} would not ask it: say verify-full, or name no CA")


def _one(url: URL, key: str) -> str:
    value = url.query[key]
    return value if isinstance(value, str) else value[-1]


def _first(given: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    return next((given[key] for key in keys if key in given), None)
