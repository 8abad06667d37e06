"""Hooks for tests, found as those of another package are: by entry point.

`install(folder)` writes a package with one module for each hook into the folder; with the folder on `sys.path` (or PYTHONPATH)
they are in the room.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from receiver.hook_room import HOOKS

_HEAD = '''"""A hook for tests."""
import asyncio, os, sys, subprocess, time
from deskwatch import Run, hook
from deskwatch.errors import Permanent, Reason

@hook(
    matchers=['severity="critical"'], timeout="{timeout}", cooldown="0s", max_runs_per_hour=10000, approval="none", can_act=True
)
async def sample(run: Run) -> str:
    """A hook for tests."""
'''

BODIES = {
    "says": ("10s", "return f\"{run.mode} {run.labels['alertname']} {run.idempotency_key} {run.fencing_token}\""),
    "refuses": ("10s", 'raise Permanent("the broker is closed", reason=Reason.REJECTED)'),
    "breaks": ("10s", 'raise ValueError("unexpected")'),
    "prints": (
        "10s",
        'print("{\\"succeeded\\": true}"); print("x" * 10_000_000); sys.stderr.write("y" * 10_000_000); return "quiet"',
    ),
    "exits": ("10s", "os._exit(3)"),
    "sleeps": ("1s", "time.sleep(600); return ''"),
    "spawns": ("1s", "subprocess.Popen(['sleep', '600']); await asyncio.sleep(600); return ''"),
    "leaves": ("10s", "subprocess.Popen(['sleep', '600']); return 'left one behind'"),
    "shows": ("10s", "return str(sorted(os.environ)) + os.getcwd()"),
    "notes": (
        "10s",
        "open(run.labels['file'], 'a').write(f'{run.idempotency_key}\\n'); await asyncio.sleep(0.05); return 'noted'",
    ),
}


def install(folder: Path) -> Path:
    """Write the package; the folder to put on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    information = folder / "sample_hooks-1.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: sample-hooks\nVersion: 1\n")
    points = "".join(f"{name} = sample_hook_{name}\n" for name in BODIES)
    (information / "entry_points.txt").write_text(f"[deskwatch.hooks]\n{points}")
    for name, (timeout, body) in BODIES.items():
        (folder / f"sample_hook_{name}.py").write_text(_HEAD.replace("{timeout}", timeout) + f"    {body}\n")
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """The package on the path of this process."""
    sys.path.insert(0, str(install(folder)))
    HOOKS.__dict__.pop("modules", None)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        HOOKS.__dict__.pop("modules", None)
        for name in BODIES:
            sys.modules.pop(f"sample_hook_{name}", None)
