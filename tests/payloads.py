"""Bodies of real venues that nobody of this project wrote: test input found beside the repository, none of it in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deskwatch.venues.exact_json import parse

FOLDER = Path(os.environ.get("DESKWATCH_PAYLOADS") or Path(__file__).parents[2] / "shared" / "payloads")


def payload(path: str) -> Any:
    """One file as a venue's client would hand it on, numbers exact. Skips the test, saying so, where the bodies are absent."""
    file = FOLDER / path
    if not file.is_file():
        pytest.skip(f"{file} is not there: the recorded bodies are beside the repository, or where DESKWATCH_PAYLOADS says")
    return parse(file.read_bytes())
