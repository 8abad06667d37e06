"""Who may call what: the Host and Origin checks, client certificates, tokens, users, the rate limit. Serves nothing itself.

| access | without users | with `basic_auth_users` |
|---|---|---|
| `open` | anyone | anyone: health and readiness tell nothing about the desk |
| `read` | anyone, or the read token where one is set | a user, or one of the tokens |
| `change` | the token | the token: a user may read, never change |
| `own` | the handler decides | the handler decides |

Required client certificates come before all of that, for every connection.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import BasicAuth, web

from deskwatch.basic_auth import TooManyGuesses, Users
from deskwatch.config import Secret
from deskwatch.tls import names_of
from deskwatch.web_config import RateLimit, WebConfig, WebFile, is_loopback, split_address

Access = Literal["open", "read", "change", "own"]
"""`open`: anyone who reaches the port. `read`: the read token or a user, where there are any. `change`: always the token.
`own`: the handler authenticates the caller itself."""

ASK_FOR_USER = 'Basic realm="deskwatch", charset="UTF-8"'
ASK_FOR_BEARER = 'Bearer realm="deskwatch"'


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the door now; replaced as a whole.

    Args:
        names: names and addresses this server may be asked by; None for any.
        changing: tokens that may change.
        reading: tokens that may read, those that may change among them.
        guarded: whether reading needs a token or a user.
        file: the web configuration file.
        users: its users.
        limiter: its rate limit.
    """

    names: frozenset[str] | None
    changing: tuple[str, ...]
    reading: tuple[str, ...]
    guarded: bool
    file: WebFile
    users: Users
    limiter: Limiter


class Door:
    """Decides about every request.

    Args:
        config: section `web`.
        token: the token for changes (`change_token`).
    """

    def __init__(self, config: WebConfig, token: str) -> None:
        # The address listened on stays until the next start, whatever a later configuration says.
        self.host, _ = split_address(config.listen)
        self._config = config
        self._token = token
        self.keys = self._cut(config.file, None)

    @property
    def config(self) -> WebConfig:
        """Section `web` as decided by now."""
        return self._config

    def renew(self, config: WebConfig, token: str) -> None:
        """Decide by this configuration from now on."""
        self._config, self._token = config, token
        self.keys = self._cut(config.file, self.keys)

    def renew_file(self, file: WebFile) -> None:
        """Decide by this web configuration file from now on."""
        self.keys = self._cut(file, self.keys)

    def _cut(self, file: WebFile, before: Keys | None) -> Keys:
        config, said = self._config, file.config
        changing = (self._token, *_shown(config.previous_token))
        named = is_loopback(self.host) or config.allowed_hosts
        same = before is not None and before.file.config == said
        return Keys(
            names=frozenset({"localhost", "127.0.0.1", "::1", self.host, *config.allowed_hosts}) if named else None,
            changing=changing,
            reading=(*changing, *_shown(config.read_token)),
            guarded=config.read_token is not None or bool(said.basic_auth_users),
            file=file,
            # What was checked already stays known while no password changed.
            users=before.users
            if before and same
            else Users({u: h.get_secret_value() for u, h in said.basic_auth_users.items()}),
            limiter=before.limiter if before and same else Limiter(said.rate_limit),
        )

    async def admit(self, request: web.Request, access: Access) -> None:
        """Let the request through, or raise what it is answered with."""
        keys = self.keys
        _check_host(request, keys)
        _check_certificate(request, keys)
        if access in ("read", "change") and not keys.limiter.allows():
            raise web.HTTPTooManyRequests(text="more requests than rate_limit allows", headers={"Retry-After": "1"})
        if access == "change" and not bearer_is(request, keys.changing):
            message = "this changes something: send `Authorization: Bearer <token>`"
            raise web.HTTPUnauthorized(text=message, headers={"WWW-Authenticate": ASK_FOR_BEARER})
        if access == "read" and keys.guarded and not (bearer_is(request, keys.reading) or await self.user(request)):
            if keys.users:
                raise web.HTTPUnauthorized(text="send a user and password", headers={"WWW-Authenticate": ASK_FOR_USER})
            message = "send `Authorization: Bearer <read_token>`"
            raise web.HTTPUnauthorized(text=message, headers={"WWW-Authenticate": ASK_FOR_BEARER})

    async def user(self, request: web.Request) -> str | None:
        """The user of the web configuration file who sent the request, with the right password."""
        header = request.headers.get("Authorization", "")
        if not self.keys.users or not header:
            return None
        try:
            given = BasicAuth.decode(header, encoding="utf-8")
        except ValueError:
            return None
        try:
            return given.login if await self.keys.users.check(given.login, given.password) else None
        except TooManyGuesses:
            raise web.HTTPServiceUnavailable(text="too many passwords to check", headers={"Retry-After": "1"}) from None


def _users(hashes: Mapping[str, Secret]) -> Users:
    return Users({user: text.get_secret_value() for user, text in hashes.items()})


def _shown(secret: Secret | None) -> tuple[str, ...]:
    return (secret.get_secret_value(),) if secret else ()


def _check_host(request: web.Request, keys: Keys) -> None:
    asked = _host_name(request.host)
    if keys.names is not None and asked not in keys.names:
        raise web.HTTPForbidden(text=f"host {asked!r} is not served here; add it to web.allowed_hosts")
    origin = request.headers.get("Origin")
    if origin and request.method not in ("GET", "HEAD") and _host_of_origin(origin) != request.host:
        raise web.HTTPForbidden(text="a page of another origin may not change anything here")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _host_of_origin(origin: str) -> str:
    return origin.partition("://")[2]


def _check_certificate(request: web.Request, keys: Keys) -> None:
    allowed = keys.file.config.tls_server_config.client_allowed_sans
    if allowed and not names_of(request.get_extra_info("peercert")).intersection(allowed):
        raise web.HTTPForbidden(text="the client certificate is for none of client_allowed_sans")


def bearer_is(request: web.Request, accepted: Sequence[str]) -> bool:
    """Whether the request carries one of the tokens; every candidate is compared in constant time."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    matches = [hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode()) for token in accepted]
    return scheme.lower() == "bearer" and any(matches)


class Limiter:
    """A token bucket: `burst` requests at once, then one each `interval`."""

    def __init__(self, config: RateLimit) -> None:
        self._interval, self._burst = config.interval, float(config.burst)
        self._left, self._at = self._burst, time.monotonic()

    def allows(self) -> bool:
        """Whether one more request may be answered now; it is counted."""
        if not self._interval:
            return True
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) / self._interval)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
