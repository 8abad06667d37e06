"""Metrics about the exporter's own process, served whether or not there is a reading. Knows nothing of the desk."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from deskwatch import __version__
from exporter.reading import Family, Sample

BUILD_INFO = Family("deskwatch_build_info", "Always 1; the version is a label", ("version",))
CONFIG_LOADED = Family(
    "deskwatch_config_last_reload_successful",
    "Whether the configuration, the web configuration file included, was last read without a fault, 0 or 1",
)
CONFIG_LOADED_AT = Family(
    "deskwatch_config_last_reload_success_timestamp_seconds",
    "When the configuration was last read without a fault, Unix time",
)
CYCLE_FAILURES = Family(
    "deskwatch_cycle_failures_total", "Cycles that ended without a reading; the log has the reason", type="counter"
)
_PROCESS = (
    Family("process_cpu_seconds_total", "Total user and system CPU time spent in seconds", type="counter"),
    Family("process_max_fds", "Maximum number of open file descriptors"),
    Family("process_open_fds", "Number of open file descriptors"),
    Family("process_resident_memory_bytes", "Resident memory size in bytes"),
    Family("process_start_time_seconds", "Start time of the process since unix epoch in seconds"),
    Family("process_virtual_memory_bytes", "Virtual memory size in bytes"),
    Family("python_info", "Python platform information", ("implementation", "major", "minor", "patchlevel", "version")),
)
METRICS = (BUILD_INFO, CONFIG_LOADED, CONFIG_LOADED_AT, CYCLE_FAILURES, *_PROCESS)


class Health:
    """The process as prometheus-client sees it, and what went wrong in it.

    Args:
        configuration: whether the configuration was last read without a fault, and when it last was, Unix time; by default
            it is read once, now.
    """

    def __init__(self, configuration: Callable[[], tuple[bool, float]] | None = None) -> None:
        started = time.time()
        self.cycle_failures = 0
        self._configuration = configuration or (lambda: (True, started))
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._known = {family.name: family for family in _PROCESS}

    def samples(self) -> list[Sample]:
        """The families `METRICS` as of now."""
        successful, succeeded_at = self._configuration()
        found = [
            BUILD_INFO.sample(__version__, value=1.0),
            CONFIG_LOADED.sample(value=float(successful)),
            CONFIG_LOADED_AT.sample(value=succeeded_at),
            CYCLE_FAILURES.sample(value=float(self.cycle_failures)),
        ]
        for metric in self._registry.collect():
            for sample in metric.samples:
                family = self._known.get(sample.name)
                if family is not None:
                    found.append(family.sample(*(sample.labels[name] for name in family.labels), value=sample.value))
        return found
