"""The error tree. A class says what the caller can do; the message says what, where, the value found and the next step.

::

    DeskwatchError
    ├── ConfigError      the operator corrects the configuration; carries every fault found
    ├── Retryable        the same call may succeed later; carries a bounded reason and, where told, the wait
    │   └── Throttled    nothing was asked: our own share of the peer's rate limit is used up for so long
    ├── Permanent        the same call will never succeed; carries a bounded reason
    └── StoreUnavailable nothing was committed, or it is not known whether it was; answer 503 and let the peer retry
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a call outside failed: the only values of a ``reason`` label."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    NETWORK = "network"
    AUTH = "auth"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    REJECTED = "rejected"
    TOO_LARGE = "too_large"
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"
    MISSING_FIELD = "missing_field"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration: its key path, what must hold and what was found."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class DeskwatchError(Exception):
    """Root of every error deskwatch raises on purpose."""


class ConfigError(DeskwatchError):
    """The configuration cannot be used: correct every fault listed, then run `deskwatch check`."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Retryable(DeskwatchError):
    """The call failed and may succeed later.

    Args:
        message: what failed, where, the value found.
        reason: bounded, becomes a metric label.
        retry_after_seconds: the wait the peer asked for, or None where it named none.
    """

    def __init__(self, message: str, *, reason: Reason, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class Throttled(Retryable):
    """Nothing was asked, because our own share of the peer's rate limit is used up: no failure of the peer's.

    Args:
        message: which limit, how much of it is used.
        retry_after_seconds: when the same call fits again; exactly so long is to be waited.
    """

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, reason=Reason.RATE_LIMITED, retry_after_seconds=retry_after_seconds)
        self.wait_seconds = retry_after_seconds


class Permanent(DeskwatchError):
    """The call failed and repeating it unchanged will not help."""

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class StoreUnavailable(DeskwatchError):
    """The store did not confirm the commit: its disk, its file or its writer failed, or the deadline passed."""
