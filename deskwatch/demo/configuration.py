"""The configuration the demo writes for its exporter and receiver: the shipped defaults, hurried to one second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deskwatch.demo.desk import BASE, BOOKS, DESK, LIMITS, SYMBOLS

CONSOLE = "console"
HOOK = "reduce_position"
STALE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything of one demo lies."""

    folder: Path

    @property
    def config(self) -> Path:
        """Configuration of exporter and receiver."""
        return self.folder / "deskwatch.yml"

    @property
    def database(self) -> Path:
        """The trading database."""
        return self.folder / "trading.db"

    @property
    def date(self) -> Path:
        """The market day the exporter may see."""
        return self.folder / "date"

    @property
    def rules(self) -> Path:
        """Rules of Prometheus and of the exporter's own detector."""
        return self.folder / "demo.rules.yml"


def write(files: Files, addresses: Mapping[str, str], *, direct: bool) -> None:
    """Write `deskwatch.yml`.

    Args:
        files: where.
        addresses: `host:port` by name.
        direct: without Alertmanager: the exporter's own detector posts to the receiver.
    """
    content = {
        "logs": {"format": "json", "level": "info"},
        "exporter": _exporter(files, addresses, direct=direct),
        "receiver": _receiver(addresses),
    }
    files.config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _exporter(files: Files, addresses: Mapping[str, str], *, direct: bool) -> dict[str, Any]:
    timing = {"interval_seconds": 1.0, "timeout_seconds": 10.0, "stale_after_seconds": STALE_SECONDS}
    alertmanagers = [] if direct else [{"base_url": f"http://{addresses['Alertmanager']}", "timeout_seconds": 2.0}]
    return {
        "web": {"listen": addresses["exporter"]},
        "state_folder": "exporter",
        "cycle_seconds": 1.0,
        "sources": [
            {"type": "database", "name": "trades", "url": f"sqlite:///{files.database.name}", **timing},
            {"type": "ecb", "name": "rates", "as_of_file": files.date.name, "currencies": list(SYMBOLS), **timing},
        ],
        "portfolios": [
            *({"name": book.portfolio, "base_currency": BASE} for book in BOOKS),
            {"name": DESK, "base_currency": BASE, "members": [book.portfolio for book in BOOKS]},
        ],
        "limits": [{"portfolio": each.portfolio, "limit": each.limit, "value": each.value} for each in LIMITS],
        "detector": {
            "rules": [files.rules.name],
            "alertmanagers": alertmanagers,
            "receiver": {"base_url": f"http://{addresses['receiver']}", "timeout_seconds": 2.0},
            "repost_seconds": 5.0,
        },
    }


def _receiver(addresses: Mapping[str, str]) -> dict[str, Any]:
    return {
        "web": {"listen": addresses["receiver"]},
        "state_folder": "receiver",
        "channels": [{"type": CONSOLE, "name": CONSOLE}],
        "exporter": {"base_url": f"http://{addresses['exporter']}"},
        # Every breach of the replay gets its proposal: days pass in half a second here.
        "hooks": {HOOK: {"enabled": True, "mode": "dry_run", "cooldown_seconds": 0, "max_runs_per_hour": 1000}},
        "late_firing_hold_seconds": 2.0,
    }
