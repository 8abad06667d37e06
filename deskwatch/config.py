"""Configuration: one YAML file, `${NAME}` from the environment, `<field>_file` for secrets, every fault reported at once.

Reads and validates; decides nothing. What a section contains is declared where it is used (`exporter.config`,
`receiver.config`, the plug-ins' own `Config`).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from deskwatch.errors import ConfigError, Fault
from deskwatch.files import Stamp, stamp
from deskwatch.yaml_file import read_mapping

SECTION_GROUP = "deskwatch.sections"
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_UNION_TAG = "type:"


class Secret(SecretStr):
    """A value never printed. For a field `token: Secret` the file may say `token:` or `token_file:`, not both."""


class _Unreadable:
    """Stands for a secret that could not be read, so that its field reports the fault and the others still do."""

    def __init__(self, key: str, message: str) -> None:
        self.key, self.message = key, message


class Settings(BaseModel):
    """Base of every part of the configuration: frozen, unknown keys refused, secrets readable from files."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, str_strip_whitespace=True)

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        found = dict(data)
        context = info.context or {}
        secrets = {name for name, field in cls.model_fields.items() if _is_secret(field.annotation)}
        for name in secrets:
            _take_secret_file(found, name, context)
        if "secret_keys" in context:
            context["secret_keys"].update(secrets)
            known = [*cls.model_fields, *(f"{name}_file" for name in secrets)]
            context["known_keys"].update({key: known for key in found if key not in known})
        return found

    @field_validator("*", mode="before")
    @classmethod
    def _report_unreadable(cls, value: Any) -> Any:
        if isinstance(value, _Unreadable):
            raise PydanticCustomError("secret_file", "{message}", {"key": value.key, "message": value.message})
        return value


def _is_secret(annotation: Any) -> bool:
    return annotation is Secret or any(_is_secret(part) for part in get_args(annotation))


def _take_secret_file(found: dict[Any, Any], name: str, context: Mapping[str, Any]) -> None:
    key = f"{name}_file"
    if key not in found:
        return
    file = found.pop(key)
    if name in found:
        found[name] = _Unreadable(key, f"give either {name} or {key}, not both")
        return
    path = context.get("folder", Path()) / str(file)
    _note(path, context)
    try:
        content = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        found[name] = _Unreadable(key, f"cannot read {file}: {why}")
        return
    found[name] = content or _Unreadable(key, f"{file} is empty")


def _note(path: Path, context: Mapping[str, Any]) -> None:
    """Remember which files the configuration was read from, and what they were then."""
    if "files" in context:
        context["files"].setdefault(path, stamp(path))


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path.expanduser()


FilePath = Annotated[Path, AfterValidator(_beside_the_file)]
"""A path; a relative one counts from the folder of the configuration file."""


def _noted(path: Path, info: ValidationInfo) -> Path:
    _note(path, info.context or {})
    return path


LoadedFile = Annotated[FilePath, AfterValidator(_noted)]
"""A `FilePath` whose content is part of the configuration, as a certificate's is: where files are watched, this one is too."""


def _is_filled(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("must hold at least one")
    return value


AtLeastOne = AfterValidator(_is_filled)
"""Annotation of a tuple that must not be empty. pydantic's own `min_length` complains of every tuple with a faulty item too."""


class CrossFault(PydanticCustomError):
    """Faults that concern several fields: raised by a model's `after` validator, reported with their own key paths."""

    def __new__(cls, faults: Sequence[tuple[Sequence[str | int], str]]) -> CrossFault:
        """Each fault is (key path below the model, message)."""
        return super().__new__(cls, "faults", "several fields disagree", {"faults": list(faults)})

    def __init__(self, faults: Sequence[tuple[Sequence[str | int], str]]) -> None: ...


ModelT = TypeVar("ModelT", bound=BaseModel)


def sections() -> dict[str, Callable[[], type[BaseModel]]]:
    """Names of the top-level sections and how to load the model of each (`logs` plus what the packages declare)."""
    from deskwatch.logs import LogConfig

    known: dict[str, Callable[[], type[BaseModel]]] = {"logs": lambda: LogConfig}
    for point in entry_points(group=SECTION_GROUP):
        known[point.name] = point.load
    return known


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration as read.

    Args:
        sections: section name to validated, frozen model.
        files: every file it was read from, those of secrets and certificates included, and what each was just before.
    """

    sections: Mapping[str, Any]
    files: Mapping[Path, Stamp]


def load(path: Path, wanted: Mapping[str, type[BaseModel]], environment: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """The sections of `load_all`."""
    return load_all(path, wanted, environment).sections


def load_all(path: Path, wanted: Mapping[str, type[BaseModel]], environment: Mapping[str, str] | None = None) -> Loaded:
    """Read the file and validate the wanted sections.

    Args:
        path: the YAML file.
        wanted: section name to model. A section absent from the file is validated as empty.
        environment: where `${NAME}` is looked up; the process's own by default.

    Raises:
        ConfigError: with every fault found, each with its key path.
    """
    files = {path: stamp(path)}
    source = read(path)
    known = {*sections(), *wanted}
    faults = [Fault(str(key), _unknown(str(key), sorted(known))) for key in source if key not in known]
    expansion = _Expansion(os.environ if environment is None else environment)
    loaded = {}
    for name, model in wanted.items():
        content = expansion.expand(source.get(name, {}), (name,))
        content = content if content is not None else {}
        result = validate(model, content, folder=path.parent, at=(name,), hidden=expansion.values, files=files)
        if isinstance(result, BaseModel):
            loaded[name] = result
        else:
            faults += result
    faults += expansion.faults
    if faults:
        raise ConfigError(faults)
    return Loaded(loaded, files)


def read(path: Path) -> dict[str, Any]:
    """Parse the YAML file; a mapping at the top, no key twice.

    Raises:
        ConfigError: file missing, unreadable, not YAML (with line and column) or not a mapping.
    """
    return read_mapping(path, sections())


def validate(
    model: type[ModelT],
    content: Any,
    *,
    folder: Path = Path(),
    at: Sequence[str | int] = (),
    hidden: frozenset[str] | set[str] = frozenset(),
    files: dict[Path, Stamp] | None = None,
) -> ModelT | list[Fault]:
    """Validate one section; the model, or every fault in it.

    Args:
        model: the section's model.
        content: parsed YAML.
        folder: relative file names count from here.
        at: key path of the section, prefixed to each fault.
        hidden: texts that came from the environment and are not shown in messages.
        files: is told every file that was read, and what it was just before.
    """
    noted: dict[Path, Stamp] = {} if files is None else files
    context: dict[str, Any] = {"folder": folder, "secret_keys": set(), "known_keys": {}, "files": noted}
    try:
        return TypeAdapter(model).validate_python(content, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return [fault for detail in details for fault in _faults_of(detail, at, context, hidden)]


def _faults_of(detail: ErrorDetails, at: Sequence[str | int], context: Mapping[str, Any], hidden: Any) -> Iterator[Fault]:
    location = [*at, *(part for part in detail["loc"] if not str(part).startswith(_UNION_TAG))]
    extra = detail.get("ctx", {})
    if detail["type"] == "faults":
        yield from (Fault(render_path([*location, *path]), message) for path, message in extra["faults"])
        return
    if detail["type"] == "secret_file":
        yield Fault(render_path([*location[:-1], extra["key"]]), extra["message"])
        return
    yield Fault(render_path(location), _message(detail, str(location[-1]) if location else "", context, hidden))


def _message(detail: ErrorDetails, key: str, context: Mapping[str, Any], hidden: Any) -> str:
    if detail["type"] == "missing":
        return f"is required{_or_file(key, context)}"
    if detail["type"] == "extra_forbidden":
        return _unknown(key, context["known_keys"].get(key, []))
    message = detail["msg"]
    for long, short in (
        ("Input should be ", "must be "),
        ("Value error, ", ""),
        ("greater than or equal to", ">="),
        ("less than or equal to", "<="),
        ("greater than", ">"),
        ("less than", "<"),
    ):
        message = message.replace(long, short)
    message = message[:1].lower() + message[1:]
    shown = _shown(detail["input"])
    if shown is None or key in context["secret_keys"] or any(text and text in shown for text in hidden):
        return message
    return f"{message}, was {shown}"


def _or_file(key: str, context: Mapping[str, Any]) -> str:
    return f" (or {key}_file)" if key in context["secret_keys"] else ""


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else None


def _unknown(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"unknown key, did you mean {near[0]}?"
    return f"unknown key, known are {', '.join(sorted(known))}" if known else "unknown key"


def render_path(location: Sequence[str | int]) -> str:
    """`("sources", 2, "timeout_seconds")` as `sources[2].timeout_seconds`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Expansion:
    """Replaces `${NAME}` in every string; `$$` is a literal dollar. Collects what is not set."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.values: set[str] = set()
        self.faults: list[Fault] = []

    def expand(self, value: Any, at: tuple[str | int, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self.expand(item, (*at, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [self.expand(item, (*at, index)) for index, item in enumerate(value)]
        return _VARIABLE.sub(lambda match: self._value(match, at), value) if isinstance(value, str) else value

    def _value(self, match: re.Match[str], at: tuple[str | int, ...]) -> str:
        name = match[1]
        if name is None:
            return "$"
        if name not in self._environment:
            self.faults.append(Fault(render_path(at), f"the environment variable {name} is not set"))
            return match[0]
        self.values.add(self._environment[name])
        return self._environment[name]
