"""Logging: structlog, JSON lines, a correlation id on every line of one request, cycle or delivery; readable on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from deskwatch.config import Settings

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]


_CAPTURE: ContextVar[list[dict[str, Any]] | None] = ContextVar("capture", default=None)
MOST_CAPTURED = 200
"""Lines kept of what is captured; later ones are only logged."""


class LogConfig(Settings):
    """Section `logs`."""

    format: Format = "auto"
    """`auto`: console on a terminal, JSON otherwise."""
    level: Level = "info"


def configure(config: LogConfig, *, component: str) -> None:
    """Route structlog and the standard library's logging to standard error in one format.

    Args:
        config: section `logs`.
        component: the process's name, on every line.
    """
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    renderer: Processor = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _component(component),
        _capture,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=config.level.upper(), force=True)
    for chatty in ("aiohttp.access", "httpx", "httpcore", "aiosqlite", "sqlalchemy", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _component(name: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("component", name)
        return event

    return add


def _capture(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    lines = _CAPTURE.get()
    if lines is not None and len(lines) < MOST_CAPTURED:
        line = {name: value for name, value in event.items() if not name.startswith("_")}
        raised = line.pop("exc_info", None)
        if raised:
            error = raised if isinstance(raised, BaseException) else sys.exc_info()[1]
            line["exception"] = type(error).__name__  # the traceback is in the log
        lines.append(line)
    return event


@contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """Every line logged inside, by this task and those it starts, is logged as ever and also added to this list."""
    lines: list[dict[str, Any]] = []
    token = _CAPTURE.set(lines)
    try:
        yield lines
    finally:
        _CAPTURE.reset(token)


def get_logger() -> FilteringBoundLogger:
    """A logger; bind nothing secret to it."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Every line logged inside, by this task and those it starts, carries `correlation_id`."""
    with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
        yield
