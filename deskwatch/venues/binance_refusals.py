"""What Binance's refusals mean: status, error code and wait, as an error with a bounded reason.

Sources: github.com/binance/binance-spot-api-docs, rest-api.md ("HTTP return codes", "IP limits") and errors.md;
developers.binance.com, USDS-margined futures, "Error code".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deskwatch.errors import Permanent, Reason, Retryable
from deskwatch.http import retry_after

LIMITED_SECONDS = 60.0
"""Wait after a refusal for too many requests that names none: by then another minute is counted."""
SHORTEST_BAN_SECONDS = 120.0
"""Wait after a ban (418) that names no end: bans last 2 minutes to 3 days."""
SHOWN = 160
"""Characters shown of what the venue says."""

_TOO_MANY = frozenset({-1003, -1015})
_CLOCK = -1021
_UNKNOWN_SYMBOL = frozenset({-1121, -1122})
_BUSY = frozenset({-1000, -1001, -1004, -1006, -1007, -1008, -1016})
_AUTH = {
    -1002: "check the key's permissions",
    -1022: "check api_secret: it does not belong to api_key",
    -2008: "check api_key",
    -2014: "check api_key: it is not of the venue's form",
    -2015: "check api_key, the addresses it is restricted to, and that it may read this market",
}
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")


class ClockApart(Retryable):
    """The venue takes the request's time for too old or too new."""


class UnknownSymbol(Permanent):
    """The venue knows no such symbol, or none of that name any more."""


def meaning(what: str, status: int, headers: Mapping[str, str], parsed: Any, now_ms: int) -> Retryable | Permanent | None:
    """The error an answer stands for; None where it is no refusal of the venue's own kind.

    Args:
        what: the API, for messages.
        status: of HTTP.
        headers: of the answer.
        parsed: its JSON body, None where it was none.
        now_ms: the venue's time, for a ban that names its end.
    """
    body: Mapping[str, Any] = parsed if isinstance(parsed, Mapping) else {}
    code, said = body.get("code"), str(body.get("msg", ""))[:SHOWN]
    refused = isinstance(code, int) and code < 0
    if not refused and 200 <= status < 300:
        return None
    wait = retry_after(headers)
    if status == 418:
        until = _BANNED_UNTIL.search(said)
        left = max(0.0, (int(until[1]) - now_ms) / 1000) if until else SHORTEST_BAN_SECONDS
        return _limited(f"{what}: this address is banned for too many requests: {said}", wait, left)
    if status == 429 or code in _TOO_MANY:
        return _limited(f"{what}: too many requests: {said}", wait, LIMITED_SECONDS)
    if status == 403 and not refused:
        return _limited(f"{what}: its firewall (WAF) refuses this address: ask less often", wait, LIMITED_SECONDS)
    if status == 451:
        return Permanent(f"{what} is not offered where this machine is: {said}", reason=Reason.REJECTED)
    return _of_code(what, int(code or 0), said, wait) if refused else None


def _of_code(what: str, code: int, said: str, wait: float | None) -> Retryable | Permanent | None:
    told = f"{what}: {said or 'refused'} ({code})"
    if code == _CLOCK:
        return ClockApart(told, reason=Reason.REJECTED)
    if code in _UNKNOWN_SYMBOL:
        return UnknownSymbol(told, reason=Reason.REJECTED)
    if code in _AUTH:
        return Permanent(f"{told}: {_AUTH[code]}", reason=Reason.AUTH)
    if code in _BUSY:
        return Retryable(told, reason=Reason.SERVER_ERROR, retry_after_seconds=wait)
    return None


def _limited(message: str, wait: float | None, otherwise: float) -> Retryable:
    return Retryable(message, reason=Reason.RATE_LIMITED, retry_after_seconds=otherwise if wait is None else wait)
