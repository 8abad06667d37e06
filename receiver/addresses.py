"""What may be shown as a link: http and https addresses, nothing else. Alerts bring their own, and they are untrusted."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

MAX_CHARACTERS = 3000
"""Slack's limit for a link, the tightest of the channels."""
_SHAPE = re.compile(r"""https?://[^\s<>"'`|\\]+""", re.IGNORECASE)


@lru_cache(maxsize=1024)
def web_address(text: str) -> str:
    """The text where it is an http(s) address with a host, without a user, blank, quote or control character; else empty."""
    text = text.strip()
    if len(text) > MAX_CHARACTERS or not _SHAPE.fullmatch(text) or not text.isprintable():
        return ""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return ""
    return text if host and not parts.username else ""
