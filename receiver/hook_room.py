"""The room of hooks: how a hook is found by name and what it declares. Used by the configuration, the guard and the hook's
own process; runs nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from deskwatch.errors import ConfigError, Fault
from deskwatch.hook import HookSpec, Run
from deskwatch.plugins import Room

HookFunction = Callable[[Run], Awaitable[str]]

HOOKS: Room[Any] = Room("receiver.hooks", "deskwatch.hooks", object)


def hook_function(name: str) -> HookFunction:
    """The one function in the hook's module that `@hook` declares.

    Raises:
        ConfigError: no such hook, or its module does not declare exactly one.
    """
    module = HOOKS.module(name)
    found: list[HookFunction] = [
        item
        for item in vars(module).values()
        if hasattr(item, "__hook_spec__") and getattr(item, "__module__", "") == module.__name__
    ]
    if len(found) != 1:
        raise ConfigError([Fault(module.__name__, f"must declare exactly one hook with @hook, declares {len(found)}")])
    return found[0]


def hook_spec(name: str) -> HookSpec:
    """What the hook declares about itself.

    Raises:
        ConfigError: as `hook_function`.
    """
    spec: HookSpec = hook_function(name).__hook_spec__  # type: ignore[attr-defined]  # set by @hook
    return spec
