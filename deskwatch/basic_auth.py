"""Checks passwords against bcrypt hashes, off the event loop, one at a time, and remembers the answer.

A hash is made to cost tens of milliseconds; a scrape each second must not pay that each time. An unknown user costs as much as
a known one, so that time tells nobody which names exist. Keeps no password, only a keyed digest of what was asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping

import bcrypt

REMEMBERED = 100
"""Answers kept, right and wrong ones apart: guesses cannot push out what Prometheus sends."""
MOST_WAITING = 32
"""Passwords that may wait to be checked; more are refused at once."""
USED_BYTES = 72
"""bcrypt looks at so many bytes of a password."""


class TooManyGuesses(Exception):
    """So many passwords wait to be checked that this one is not."""


class Users:
    """The users of a web configuration file.

    Args:
        hashes: user name to bcrypt hash.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = dict(hashes)
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    def __bool__(self) -> bool:
        return bool(self._hashes)

    async def check(self, user: str, password: str) -> bool:
        """Whether this is the user's password.

        Raises:
            TooManyGuesses: try again in a moment.
        """
        if not self._hashes:
            return False
        asked = f"{len(user)}:{user}:{password}".encode("utf-8", "surrogateescape")
        digest = hmac.digest(self._key, asked, hashlib.sha256)
        known = self._remembered(digest)
        if known is not None:
            return known
        if self._waiting >= MOST_WAITING:
            raise TooManyGuesses
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                known = self._remembered(digest)  # the same scrape may have been waiting twice
                if known is None:
                    known = await asyncio.to_thread(self._matches, user, password)
                    self._remember(digest, right=known)
                return known
        finally:
            self._waiting -= 1

    def _matches(self, user: str, password: str) -> bool:
        """The slow part."""
        used = password.encode("utf-8", "surrogateescape")[:USED_BYTES]
        decoy = next(iter(self._hashes.values()))
        try:
            matches = bcrypt.checkpw(used, self._hashes.get(user, decoy).encode())
        except ValueError:
            return False
        return matches and user in self._hashes

    def _remembered(self, digest: bytes) -> bool | None:
        for answers, right in ((self._right, True), (self._wrong, False)):
            if digest in answers:
                answers.move_to_end(digest)
                return right
        return None

    def _remember(self, digest: bytes, *, right: bool) -> None:
        answers = self._right if right else self._wrong
        answers[digest] = None
        if len(answers) > REMEMBERED:
            answers.popitem(last=False)
