"""JSON with numbers exact - a fraction is a Decimal as written, never a float - read in pieces, so that others get their turn.

A parser in C keeps the interpreter for the whole text, in a thread too: 15 MB stop the event loop for a second. Taken apart
level by level, and its pieces parsed one by one, the same text stops it for a fifth of that (`tests/bench/bench_wire.py`).
"""

from __future__ import annotations

import gc
from decimal import Decimal
from typing import Any

import msgspec

PIECE_BYTES = 64 * 1024
"""Smaller texts are parsed in one go: well under a millisecond."""
MANY_BYTES = 1024 * 1024
"""While texts from here on are parsed, no garbage is collected: the collector would look through a growing heap, again and
again and with everything standing still, for cycles that JSON does not have."""

_WHOLE = msgspec.json.Decoder(float_hook=Decimal)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class NotJson(ValueError):
    """The text is not JSON, or nothing a venue means: not UTF-8, nested without end, a number out of all bounds."""


def parse(body: bytes | bytearray) -> Any:
    """The value.

    Raises:
        NotJson: it has none.
    """
    collects = len(body) >= MANY_BYTES and gc.isenabled()
    if collects:
        gc.disable()
    try:
        return _parse(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
        raise NotJson(type(error).__name__) from None
    finally:
        if collects:
            gc.enable()


def _parse(text: Any) -> Any:
    view = memoryview(text)
    if len(view) < PIECE_BYTES:
        return _WHOLE.decode(text)
    first = bytes(view[:64]).lstrip()[:1]
    if first == b"[":
        return [_parse(piece) for piece in _LIST.decode(text)]
    if first == b"{":
        return {name: _parse(piece) for name, piece in _OBJECT.decode(text).items()}
    return _WHOLE.decode(text)
