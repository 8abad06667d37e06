"""What follows from one configuration, built whole before anything changes. Starts nothing and opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deskwatch.clock import Clock
from deskwatch.errors import ConfigError, DeskwatchError, Fault
from deskwatch.logs import LogConfig
from deskwatch.reload import differing
from deskwatch.web import change_token
from exporter.config import ExporterConfig
from exporter.detection.rulefile import LimitRule, read_rules
from exporter.source import SOURCES, Source, SourceConfig

WANTED: Mapping[str, type[BaseModel]] = {"logs": LogConfig, "exporter": ExporterConfig}
"""The sections the exporter reads."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One configuration and what was built from it.

    Args:
        logs: section `logs`.
        config: section `exporter`.
        rules: what the second detector repeats.
        token: the token for changes.
        sources: in the order of the configuration, nothing opened.
    """

    logs: LogConfig
    config: ExporterConfig
    rules: tuple[LimitRule, ...]
    token: str
    sources: tuple[Source[Any], ...]

    @property
    def stale_page_seconds(self) -> float:
        """Age at which the last page is served no longer: three missed cycles and half a minute of patience."""
        return 3 * self.config.cycle_seconds + 30.0

    @property
    def watch_seconds(self) -> float | None:
        """Time between two looks at the configuration's files; None where nobody asked for it."""
        return self.config.reload.watch_seconds if self.config.reload.watch else None

    def changed_since(self, before: Runtime) -> tuple[str, ...]:
        """Key paths of what is configured differently than before."""
        found = [*differing("logs", before.logs, self.logs), *differing("exporter", before.config, self.config)]
        if self.rules != before.rules and "exporter.detector" not in found:
            found.append("exporter.detector")
        return tuple(found)

    def waits_for_a_start(self, started: ExporterConfig) -> tuple[str, ...]:
        """Key paths of what is configured differently than what the process was started with and cannot change under it."""
        listens, keeps = self.config.web.listen != started.web.listen, self.config.state_folder != started.state_folder
        return (("exporter.web.listen",) if listens else ()) + (("exporter.state_folder",) if keeps else ())


def build(sections: Mapping[str, Any], clock: Clock, state_folder: Path) -> Runtime:
    """Build everything of one configuration.

    Args:
        sections: of `WANTED`.
        clock: for the sources.
        state_folder: of the running process; the one configured may be another.

    Raises:
        ConfigError: a rule is not understood, the token cannot be kept, or a source cannot be made.
    """
    config: ExporterConfig = sections["exporter"]
    return Runtime(
        logs=sections["logs"],
        config=config,
        rules=read_rules(config.detector.rules),
        token=change_token(config.web, state_folder),
        sources=make_sources(config, clock),
    )


def make_sources(config: ExporterConfig, clock: Clock) -> tuple[Source[Any], ...]:
    """The sources, in the order of the configuration. Opens nothing.

    Raises:
        ConfigError: one cannot be made.
    """
    return tuple(_source(each, index, clock) for index, each in enumerate(config.sources))


def _source(config: SourceConfig, index: int, clock: Clock) -> Source[Any]:
    try:
        return SOURCES.plugin(config.type)(config, clock)
    except DeskwatchError:
        raise
    except Exception as error:
        # A plug-in of somebody else's: its own words may hold a secret.
        raise ConfigError([Fault(f"exporter.sources[{index}]", f"cannot be made: {type(error).__name__}")]) from error
