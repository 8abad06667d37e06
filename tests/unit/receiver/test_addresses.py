"""Only http(s) addresses become links."""

from __future__ import annotations

import pytest

from receiver.addresses import web_address


@pytest.mark.parametrize(
    "address",
    [
        "http://prometheus:9090/graph?g0.expr=up%7Bjob%3D%22a%22%7D&g0.tab=1",
        "https://grafana.example/d/desk_overview?var-portfolio=carry#panel",
        "HTTPS://[::1]:9090/",
        "http://localhost/ü",
    ],
)
def test_web_addresses_stay(address: str) -> None:
    """As they are."""
    assert web_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "javascript:alert(1)",
        "data:text/html,<script>",
        "file:///etc/passwd",
        "ftp://host/",
        "//host/path",
        "/path",
        "http://",
        "http:///path",
        "http://user:password@host/",
        "http://host/<!channel>",
        "http://host/|Click here",
        'http://host/"onclick=',
        "http://host/a b",
        "http://host/\nSet-Cookie: x",
        "http://host/\x1b[31m",
        "http://host/\u202etxt.exe",
        "http://[::1/",
        "http://host/" + "x" * 3000,
    ],
)
def test_anything_else_is_dropped(address: str) -> None:
    """Other schemes, markup, control characters, a user that makes a host look like another."""
    assert web_address(address) == ""
