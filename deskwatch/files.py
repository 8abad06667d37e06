"""Files that are looked at again: whether one is another than when it was read. Reads no content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[int, int, int] | None
"""When a file was last written (ns), its size and its inode; None where there is none. A link counts as what it leads to, so
that swapping the link, as Kubernetes does with mounted secrets, is seen."""


def stamp(path: Path) -> Stamp:
    """What the file is now. Take it before the file is read: a change in between is then seen the next time."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def changed(files: Mapping[Path, Stamp]) -> bool:
    """Whether one of the files is another than it was."""
    return any(stamp(path) != before for path, before in files.items())
