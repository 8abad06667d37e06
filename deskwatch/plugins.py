"""Plug-in discovery: a room is a package, a plug-in is one module in it (or one named by an entry point of another package).

A plug-in's name is its module's name. The module holds a docstring, a pydantic `Config` whose `type` is that name, and one
subclass of the room's contract. Nothing is imported until it is asked for; no plug-in's name stands here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from deskwatch.config import Settings
from deskwatch.errors import ConfigError, Fault

ContractT = TypeVar("ContractT")


@dataclass(frozen=True)
class Room(Generic[ContractT]):
    """One kind of plug-in.

    Args:
        package: the package whose modules are the built-in plug-ins, e.g. `exporter.sources`.
        group: entry-point group under which other packages name a plug-in module, e.g. `deskwatch.sources`.
        contract: the class every plug-in subclasses.
    """

    package: str
    group: str
    contract: type[ContractT]

    @cached_property
    def modules(self) -> dict[str, str]:
        """Plug-in name to importable module path, sorted by name; a built-in wins over an entry point of its name."""
        found = {point.name: point.value for point in entry_points(group=self.group)}
        package = import_module(self.package)
        found |= {info.name: f"{self.package}.{info.name}" for info in pkgutil.iter_modules(package.__path__)}
        return dict(sorted(found.items()))

    def module(self, name: str) -> ModuleType:
        """Import one plug-in.

        Raises:
            ConfigError: no such plug-in.
        """
        if name not in self.modules:
            known = ", ".join(self.modules)
            raise ConfigError([Fault("type", f"no {self.group} plug-in is called {name!r}; there are: {known}")])
        return import_module(self.modules[name])

    def config(self, name: str) -> type[Settings]:
        """The plug-in's configuration model."""
        return cast("type[Settings]", self.module(name).Config)

    def plugin(self, name: str) -> type[ContractT]:
        """The one subclass of the contract the module defines."""
        module = self.module(name)
        classes = [item for item in vars(module).values() if self._is_plugin(item, module)]
        if len(classes) != 1:
            raise ConfigError(
                [Fault(module.__name__, f"must define exactly one {self.contract.__name__}, defines {len(classes)}")]
            )
        return cast("type[ContractT]", classes[0])

    def _is_plugin(self, item: Any, module: ModuleType) -> bool:
        return isinstance(item, type) and issubclass(item, self.contract) and item.__module__ == module.__name__


@dataclass(frozen=True)
class OneOf:
    """Annotation of a configuration field: `Annotated[SourceConfig, OneOf(room)]` is the union of the room's `Config`s.

    The key `type` chooses; an unknown type is reported with the known ones.
    """

    room: Room[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The tagged union over the plug-ins' models."""
        choices = {name: handler.generate_schema(self.room.config(name)) for name in self._names()}
        return core_schema.tagged_union_schema(
            {f"type:{name}": schema for name, schema in choices.items()},
            discriminator=_tag,
            custom_error_type="unknown_type",
            custom_error_message="must have a type, one of: " + ", ".join(choices),
        )

    def _names(self) -> Iterator[str]:
        yield from self.room.modules


def _tag(value: Any) -> str | None:
    chosen = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"type:{chosen}" if isinstance(chosen, str) else None
