"""Finds the real components that tests start: Prometheus, promtool, Alertmanager, amtool, PostgreSQL, MariaDB, MLflow."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
ALSO_CALLED = {"prometheus-alertmanager": ("alertmanager",), "alertmanager": ("prometheus-alertmanager",)}
"""Debian's name and the upstream archive's."""


def find(name: str) -> Path:
    """The program, from `$DESKWATCH_STACK`, the checkout's `.stack`, PATH, or where Debian puts servers, in that order.

    Skips the test where it is missing, and fails it under `DESKWATCH_REQUIRE_STACK=1`.
    """
    for candidate in (name, *ALSO_CALLED.get(name, ())):
        for folder in _folders():
            if os.access(folder / candidate, os.X_OK):
                return folder / candidate
        if on_path := shutil.which(candidate):
            return Path(on_path)
        for folder in _of_servers():
            if os.access(folder / candidate, os.X_OK):
                return folder / candidate
    message = f"{name} is missing: run `make stack`, or name its folder in DESKWATCH_STACK"
    if os.environ.get("DESKWATCH_REQUIRE_STACK") == "1":
        pytest.fail(message)
    pytest.skip(message)


def _folders() -> list[Path]:
    stack = os.environ.get("DESKWATCH_STACK")
    roots = [*([Path(stack)] if stack else []), REPOSITORY / ".stack"]
    below = [root / part / "bin" for root in roots for part in ("usr", "databases", "mlflow")]
    return [*([Path(stack)] if stack else []), *below]


def _of_servers() -> list[Path]:
    """Debian keeps servers of databases off the PATH; the newest PostgreSQL first."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return [*versions, Path("/usr/sbin")]
