"""How questions and answers go through a pipe: a number that pairs them, and a msgpack body. Pure but for the pipe."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, BinaryIO

import msgspec

SETUP = LOG = 0
"""The number of what answers no question."""
_HEAD = struct.Struct("<II")
_ENCODER = msgspec.msgpack.Encoder()


def packed(number: int, content: Any) -> bytes:
    """One frame."""
    body = _ENCODER.encode(content)
    return _HEAD.pack(number, len(body)) + body


def read(pipe: BinaryIO) -> tuple[int, bytes] | None:
    """The next frame's number and body, None where the pipe has ended. Blocks."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    number, length = _HEAD.unpack(head)
    return number, pipe.read(length)


async def receive(pipe: asyncio.StreamReader) -> tuple[int, bytes]:
    """As `read`.

    Raises:
        asyncio.IncompleteReadError: the pipe has ended.
    """
    number, length = _HEAD.unpack(await pipe.readexactly(_HEAD.size))
    return number, await pipe.readexactly(length)
