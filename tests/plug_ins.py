"""Plug-ins of a test's own for a real process: a package that is installed by being on PYTHONPATH and names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def installed(folder: Path, group: str, modules: Mapping[str, str]) -> Path:
    """A folder for PYTHONPATH.

    Args:
        folder: where it is made.
        group: of the entry points, e.g. `deskwatch.sources`.
        modules: plug-in name to module.
    """
    described = folder / "installed" / "made_for_a_test-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: made-for-a-test\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}\n" for name, module in modules.items())
    (described / "entry_points.txt").write_text(f"[{group}]\n{points}")
    return described.parent
