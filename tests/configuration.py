"""Every key of the configuration file with its type, default and meaning, read off the models that validate it.

Becomes docs/configuration.md by `make docs`; `tests/unit/test_docs.py` holds that it is current.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from deskwatch.config import Secret, Settings, sections
from deskwatch.plugins import OneOf

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """# Configuration

One YAML file for both processes; each reads its own section. `${NAME}` in any value is taken from the environment, `$$` is a
dollar sign. A secret may stand in a file: `<key>_file` instead of `<key>`. Relative paths count from the configuration file.
`deskwatch check FILE` reports every fault at once with its key path; `--connect` also fetches each source once.

This page is generated from the models that validate the file.
"""
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, load in sorted(sections().items()):
        parts += _section(name, load(), 2, inherited=frozenset())
    return "\n".join(parts) + "\n"


def _section(name: str, model: type[Settings], depth: int, inherited: frozenset[str]) -> Iterator[str]:
    """A heading, what the model says of itself, its table, and the sections of what it contains."""
    said = inspect.cleandoc(model.__doc__ or "").replace("\n", " ")
    yield f"{'#' * depth} `{name}`\n\n{said}\n"
    meanings = attribute_docstrings(model)
    own = {key: field for key, field in model.model_fields.items() if key not in inherited and key != "type"}
    if own:
        yield "| key | value | default | meaning |\n|---|---|---|---|"
        yield "\n".join(_row(key, field, meanings.get(key, "")) for key, field in own.items()) + "\n"
    for key, field in own.items():
        yield from _within(f"{name}.{key}", field, depth)


def _within(name: str, field: FieldInfo, depth: int) -> Iterator[str]:
    for part in _parts(_whole(field)):
        room = next((each.room for each in get_args(part)[1:] if isinstance(each, OneOf)), None)
        if room is not None:
            base = get_args(part)[0]
            yield from _section(f"{name}[]", base, depth + 1, frozenset())
            shared = [base, *_shared_bases(base, [room.config(each) for each in room.modules])]
            for more in shared[1:]:
                yield from _section(f"{name}[] ({more.__name__})", more, depth + 1, frozenset(base.model_fields))
            for each in room.modules:
                model = room.config(each)
                known = {key for other in shared if issubclass(model, other) for key in other.model_fields}
                changed = {
                    key for key in known if _row("", model.model_fields[key], "") != _row("", _of(shared, model, key), "")
                }
                yield from _section(f"{name}[] type: {each}", model, depth + 1, frozenset(known - changed))
        elif isinstance(part, type) and issubclass(part, Settings):
            many = get_origin(_bare(field.annotation)) is tuple
            yield from _section(f"{name}{'[]' if many else ''}", part, depth + 1, frozenset())


def _of(shared: list[type[Settings]], model: type[Settings], key: str) -> FieldInfo:
    return next(other.model_fields[key] for other in reversed(shared) if issubclass(model, other) and key in other.model_fields)


def _shared_bases(base: type[Settings], models: list[type[Settings]]) -> list[type[Settings]]:
    """The bases between `base` and several of the plug-ins."""
    between = [each for model in models for each in model.__mro__[1:] if issubclass(each, base) and each is not base]
    return list(dict.fromkeys(each for each in between if between.count(each) > 1))


def _whole(field: FieldInfo) -> Any:
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _parts(annotation: Any) -> Iterator[Any]:
    """The annotation and everything inside it; an annotated plug-in union comes whole."""
    if get_origin(annotation) is Annotated and any(isinstance(each, OneOf) for each in get_args(annotation)):
        yield annotation
        return
    yield annotation
    for inner in get_args(annotation):
        if get_origin(annotation) is not Literal:
            yield from _parts(inner)


def _row(key: str, field: FieldInfo, meaning: str) -> str:
    cells = (f"`{key}`", _type(_whole(field)), _default(field), (meaning or _of_the_section(field)).replace("\n", " "))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _of_the_section(field: FieldInfo) -> str:
    """What a section says of itself, where nothing stands under its key."""
    models = [each for each in _parts(_whole(field)) if isinstance(each, type) and issubclass(each, Settings)]
    return inspect.cleandoc(models[0].__doc__ or "").partition("\n\n")[0] if models else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Path) and value.is_absolute():
        return ""  # where this checkout happens to lie; the meaning says what is meant
    if value is None or isinstance(value, Settings) or value in ((), {}, ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if any(isinstance(each, OneOf) for each in arguments):
            return "a plug-in's settings"
        return " ".join(filter(None, (_type(arguments[0]), _bounds(arguments[1:]))))
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(each) for each in arguments if each is not type(None)))
    if origin in (tuple, list, frozenset):
        return f"list of {_type(arguments[0])}"
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Secret):
        return "secret"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "section"
    return PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _bounds(metadata: tuple[Any, ...]) -> str:
    """`> 0`, `0 to 1`: what annotated-types knows of the value."""
    signs = {annotated_types.Gt: ">", annotated_types.Ge: ">=", annotated_types.Lt: "<", annotated_types.Le: "<="}
    found = []
    for each in metadata:
        if isinstance(each, FieldInfo):
            found.append(_bounds(tuple(each.metadata)))
        for kind, sign in signs.items():
            if isinstance(each, kind):
                found.append(f"{sign} {next(iter(vars(each).values())) if hasattr(each, '__dict__') else _only(each)}")
    return ", ".join(filter(None, found))


def _only(bound: Any) -> Any:
    return next(getattr(bound, name) for name in ("gt", "ge", "lt", "le") if hasattr(bound, name))


def attribute_docstrings(model: type[Settings]) -> dict[str, str]:
    """What stands under each field, the nearest class's first."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, Settings) and each is not Settings:
            found |= _docstrings_of(each)
    return found


def _docstrings_of(model: type[Settings]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[statement.target.id] = inspect.cleandoc(text)
    return found
