"""Where the rules, dashboards, runbooks and deployment files lie: in the wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def data_folder(name: str) -> Path:
    """The folder `rules`, `dashboards`, `runbooks` or `deploy`.

    Raises:
        FileNotFoundError: neither the wheel's copy nor a checkout's is there.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the folder {name} of deskwatch is missing: install the wheel again")
