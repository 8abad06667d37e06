"""The body of an answer, unpacked, within a bound: one that unpacks to gigabytes costs no more memory than the bound.

Refuses what was not asked for: any packing but gzip.
"""

from __future__ import annotations

import asyncio
import zlib

import httpx

from deskwatch.errors import Reason, Retryable

ACCEPTED = {"Accept-Encoding": "gzip"}
"""The header that asks for what is understood here."""
PIECE_BYTES = 256 * 1024
"""Unpacked at once; then others get their turn."""
_GZIP = 16 + zlib.MAX_WBITS


async def read_body(response: httpx.Response, what: str, most_bytes: int) -> bytearray:
    """The whole body.

    Raises:
        Retryable: it is larger than `most_bytes` (`too_large`), or is not what its headers say (`bad_response`).
        httpx.HTTPError: the connection ended before it did.
    """
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "", "gzip", "x-gzip"):
        raise Retryable(f"{what} answered in an encoding that was not asked for", reason=Reason.BAD_RESPONSE)
    body = bytearray()
    unpacking = _Unpacking(what) if packing.endswith("gzip") else None
    async for part in response.aiter_raw():
        if unpacking is None:
            _add(body, part, what, most_bytes)
            continue
        rest: bytes = part
        while rest:
            piece, rest = unpacking.step(rest)
            _add(body, piece, what, most_bytes)
            if rest:
                await asyncio.sleep(0)
    if unpacking is not None:
        unpacking.end()
    return body


def _add(body: bytearray, part: bytes, what: str, most_bytes: int) -> None:
    body += part
    if len(body) > most_bytes:
        raise Retryable(f"{what}: the answer is over {most_bytes} bytes", reason=Reason.TOO_LARGE)


class _Unpacking:
    """gzip, also of several members one after the other."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._stream = zlib.decompressobj(_GZIP)

    def step(self, packed: bytes) -> tuple[bytes, bytes]:
        """At most `PIECE_BYTES` of it, and what of the packed bytes is still to be done."""
        if self._stream.eof:
            self._stream = zlib.decompressobj(_GZIP)
        try:
            piece = self._stream.decompress(packed, PIECE_BYTES)
        except zlib.error:
            raise Retryable(f"{self._what} answered with damaged gzip", reason=Reason.BAD_RESPONSE) from None
        return piece, self._stream.unconsumed_tail or self._stream.unused_data

    def end(self) -> None:
        """Nothing follows."""
        if not self._stream.eof:
            raise Retryable(f"{self._what} answered with gzip that is cut off", reason=Reason.BAD_RESPONSE)
