"""JSON read in pieces is the JSON read whole; what is none is refused."""

from __future__ import annotations

import gc
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deskwatch.venues import exact_json
from deskwatch.venues.exact_json import NotJson, parse

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=12,
)
WHOLE = msgspec.json.Decoder(float_hook=Decimal)


@settings(deadline=None, max_examples=50)
@given(VALUES, st.sampled_from([None, 1, 4]))
def test_pieces_make_the_whole(value: Any, indent: int | None) -> None:
    """Whatever it is made of and however it is laid out."""
    body = json.dumps(value, indent=indent).encode()
    whole = WHOLE.decode(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_json, "PIECE_BYTES", 4)
        found = parse(body)
    assert found == whole
    assert repr(found) == repr(whole)
    assert parse(bytearray(body)) == whole


@pytest.mark.parametrize("piece_bytes", [1, 1 << 30])
@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"<html>", b"[1, 2", b'{"a": 1', b"[1] 2", b"NaN", b"[NaN]", b"[Infinity]", b"\xff\xfe[\x00", b'["\xff"]',
     b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"1e9999999999999999999999", b"[1e9999999999999999999999]", b"\x00"],
    ids=lambda body: repr(body[:12]) if isinstance(body, bytes) else None,
)  # fmt: skip
def test_what_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch, body: bytes, piece_bytes: int) -> None:
    """One error for all of it, in one piece or in many."""
    monkeypatch.setattr(exact_json, "PIECE_BYTES", piece_bytes)
    with pytest.raises(NotJson):
        parse(body)


@pytest.mark.parametrize("body", [b"[1]", b"[1", b"[" + b"1," * 1_000_000 + b"1]", b"[" + b"1," * 1_000_000])
def test_the_collector_goes_on_afterwards(body: bytes) -> None:
    """Also after a text that is no JSON; one that was off stays off."""
    with suppress(NotJson):
        parse(body)
    assert gc.isenabled()
    gc.disable()
    try:
        with suppress(NotJson):
            parse(body)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_no_call_of_the_parser_sees_more_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs nothing else does, in no thread: the rest is taken apart without being parsed."""
    seen: list[int] = []

    class Parser:
        def decode(self, text: Any) -> Any:
            seen.append(len(memoryview(text)))
            return WHOLE.decode(text)

    monkeypatch.setattr(exact_json, "_WHOLE", Parser())
    record = {"symbol": "ABCUSDT", "filters": [{"min": "0.001", "max": 1000.5}] * 3}
    markets = {"asof": 1, "symbols": [record] * 20_000, "more": {"deep": [[record] * 2_000] * 3}}
    assert parse(json.dumps(markets).encode()) == json.loads(json.dumps(markets), parse_float=Decimal)
    assert max(seen) < exact_json.PIECE_BYTES
    assert sum(seen) > 2_000_000
