"""Reads one YAML file that must hold a mapping; refuses a key given twice. Validates nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from deskwatch.errors import ConfigError, Fault


def read_mapping(path: Path, keys: Iterable[str], *, may_be_empty: bool = False) -> dict[str, Any]:
    """Parse the file.

    Args:
        path: the file.
        keys: what may stand at its top, for the message where something else does.
        may_be_empty: an empty file is an empty mapping.

    Raises:
        ConfigError: file missing, unreadable, not YAML (with line and column) or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Fault(str(path), f"cannot read the file: {error.strerror}")]) from error
    except UnicodeError as error:
        raise ConfigError([Fault(str(path), "is not UTF-8 text")]) from error
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError([Fault(where, f"is not valid YAML: {error.problem}")]) from error
    except yaml.YAMLError as error:
        raise ConfigError([Fault(str(path), f"is not valid YAML: {error}")]) from error
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        raise ConfigError([Fault(str(path), f"must be a mapping with the keys {', '.join(sorted(keys))}")])
    return content


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the second would silently win."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, dict | list):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands here twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
