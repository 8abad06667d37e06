"""What `/metrics` answers: Prometheus text 0.0.4 and OpenMetrics 1.0, rendered once per cycle, off the event loop.

A scrape is handed ready bytes; it never computes, and never calls a source. When the cycle stops, the desk's numbers stop
being served: a hung loop must not repeat its last reading for ever.
Sources: prometheus.io/docs/instrumenting/exposition_formats, OpenMetrics 1.0 (prometheus.io/docs/specs/om/open_metrics_spec).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from isal import isal_zlib

from exporter.reading import Family, Sample

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
GZIP_LEVEL = 1
"""ISA-L's level 1 costs a twentieth of zlib's 9 and the body still shrinks to a sixth."""
LONGEST_LABEL = 200
"""Characters of a label value; a longer one is cut, and told from others that begin alike by a checksum."""
CHUNK = 5_000
"""Lines put together at a time: the interpreter lock is held meanwhile, and the event loop waits."""
WANTED_SECONDS = 900.0
"""A form nobody has asked for in so long is made when next asked for, not each cycle."""


class Form(NamedTuple):
    """One way to write the same numbers."""

    openmetrics: bool
    gzip: bool

    @property
    def content_type(self) -> str:
        """The header of that name."""
        return OPENMETRICS if self.openmetrics else TEXT


PLAIN = Form(openmetrics=False, gzip=False)


@dataclass(frozen=True, slots=True)
class _Block:
    """One family's part of the page: its heads in both formats, and its lines."""

    text_head: bytes
    openmetrics_head: bytes
    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """One rendered page; its other forms are made from its blocks."""

    blocks: tuple[_Block, ...]
    series: int
    bodies: dict[Form, bytes] = field(default_factory=dict)

    def body(self, form: Form) -> bytes:
        """The page in one form, made at the first call. Slow for a large page: call it off the event loop."""
        known = self.bodies.get(form)
        if known is None:
            known = self.bodies[form] = self._make(form)
        return known

    def _make(self, form: Form) -> bytes:
        if form.gzip:
            # One member: several joined are valid, but httpx and browsers stop after the first.
            compressor = isal_zlib.compressobj(GZIP_LEVEL, wbits=31)
            return b"".join([*map(compressor.compress, self._parts(form.openmetrics)), compressor.flush()])
        return b"".join(self._parts(form.openmetrics))

    def _parts(self, openmetrics: bool) -> Iterator[bytes]:
        for block in self.blocks:
            yield block.openmetrics_head if openmetrics else block.text_head
            yield from block.lines
        if openmetrics:
            yield b"# EOF\n"


class Renderer:
    """Turns samples into a page and keeps what does not change from cycle to cycle: heads and label blocks."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[Family, bytes, bytes]] = {}
        self._prefixes: dict[str, dict[tuple[str, ...], str]] = {}

    def render(self, samples: Iterable[Sample]) -> Page:
        """Group the samples by family, families sorted by name; of two samples for one series the last counts.

        Args:
            samples: finite values, in any order.
        """
        lines = self._lines(samples)
        for name in self._prefixes.keys() - lines.keys():
            del self._prefixes[name]
        blocks = []
        for name in sorted(lines):
            found = lines[name]
            prefixes = self._prefixes[name]
            if len(prefixes) > len(found):  # label sets no longer used
                self._prefixes[name] = {labels: prefixes[labels] for labels in found}
            _, text_head, openmetrics_head = self._heads[name]
            blocks.append(_Block(text_head, openmetrics_head, tuple(_encoded(list(found.values())))))
        return Page(tuple(blocks), sum(map(len, lines.values())))

    def _lines(self, samples: Iterable[Sample]) -> dict[str, dict[tuple[str, ...], str]]:
        by_family: dict[str, dict[tuple[str, ...], str]] = {}
        last: Family | None = None
        lines: dict[tuple[str, ...], str] = {}
        prefixes: dict[tuple[str, ...], str] = {}
        # float's own: a numpy float's repr is not a number to Prometheus.
        write = float.__repr__
        for family, labels, value in samples:
            if family is not last:
                last = family
                self._know(family)
                lines = by_family.setdefault(family.name, {})
                prefixes = self._prefixes.setdefault(family.name, {})
            prefix = prefixes.get(labels)
            if prefix is None:
                prefix = prefixes[labels] = _prefix(family, labels)
            try:
                lines[labels] = prefix + write(value)
            except TypeError:  # an int
                lines[labels] = prefix + write(float(value))
        return by_family

    def _know(self, family: Family) -> None:
        known = self._heads.get(family.name)
        if known is None or known[0] is not family:
            self._heads[family.name] = (family, _text_head(family), _openmetrics_head(family))


def _encoded(lines: Sequence[str]) -> Iterator[bytes]:
    for start in range(0, len(lines), CHUNK):
        # A lone surrogate in a label must not cost the page.
        yield ("\n".join(lines[start : start + CHUNK]) + "\n").encode("utf-8", "replace")


def _text_head(family: Family) -> bytes:
    said = family.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {family.name} {said}\n# TYPE {family.name} {family.type}\n".encode("utf-8", "replace")


def _openmetrics_head(family: Family) -> bytes:
    """In OpenMetrics a counter's family is named without `_total`, and HELP is escaped like a label value."""
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    return f"# HELP {name} {escape(family.help)}\n# TYPE {name} {family.type}\n".encode("utf-8", "replace")


def _prefix(family: Family, labels: tuple[str, ...]) -> str:
    if not labels:
        return f"{family.name} "
    pairs = ",".join(f'{name}="{escape(_bounded(value))}"' for name, value in zip(family.labels, labels, strict=True))
    return f"{family.name}{{{pairs}}} "


def _bounded(value: str) -> str:
    if len(value) <= LONGEST_LABEL:
        return value
    checksum = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{value[: LONGEST_LABEL - 15]}...{checksum}"


def escape(value: str) -> str:
    """A label value between quotes: backslash, quote and line feed escaped, nothing else."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def choose(accept: str, accept_encoding: str) -> Form:
    """The form the client likes best: by quality, then by the order it names them. Text where it accepts neither."""
    best, chosen = 0.0, False
    for media, parameters in _ranked(accept):
        quality = _quality(parameters)
        if quality > best and (openmetrics := _is_openmetrics(media, parameters)) is not None:
            best, chosen = quality, openmetrics
    gzip = any(coding in ("gzip", "x-gzip") and _quality(parameters) > 0.0 for coding, parameters in _ranked(accept_encoding))
    return Form(chosen, gzip)


def _ranked(header: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for entry in header.split(","):
        value, *parameters = (part.strip() for part in entry.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield value.lower(), {name.strip().lower(): given.strip().strip('"') for name, _, given in pairs}


def _quality(parameters: Mapping[str, str]) -> float:
    try:
        return min(1.0, max(0.0, float(parameters.get("q", "1"))))
    except ValueError:
        return 0.0


def _is_openmetrics(media: str, parameters: Mapping[str, str]) -> bool | None:
    """Whether a media range means OpenMetrics (True) or text (False); None where it is a form we do not write."""
    if media == "application/openmetrics-text":
        return True if parameters.get("version", "1.0.0") == "1.0.0" else None
    if media in ("text/plain", "text/*", "*/*"):
        return False
    return None


class Exposition:
    """What is served now. `publish` swaps in the page of a cycle; `current` is asked by each scrape.

    Args:
        health: samples about the process itself, served alone while there is no current reading.
        monotonic: seconds that never go back.
        stale_seconds: age of the last page at which it is served no longer.
    """

    def __init__(self, health: Callable[[], Iterable[Sample]], monotonic: Callable[[], float], stale_seconds: float) -> None:
        self._health = health
        self._monotonic = monotonic
        self.stale_seconds = stale_seconds
        self._renderer = Renderer()
        self._page: Page | None = None
        self._published = 0.0
        self._wanted: dict[Form, float] = {}

    def render(self, samples: Iterable[Sample]) -> Page:
        """A page of these samples in every form lately asked for. Call it off the event loop, one at a time."""
        page = self._renderer.render(samples)
        since = self._monotonic() - WANTED_SECONDS
        for form in [form for form, asked in self._wanted.copy().items() if asked >= since]:
            page.body(form)
        return page

    def publish(self, page: Page) -> None:
        """Serve this page from now on."""
        self._page, self._published = page, self._monotonic()

    @property
    def series(self) -> int:
        """Series on the page served."""
        return self._page.series if self._page else 0

    def current(self, form: Form) -> Page:
        """The page to answer with: the last one, or one about the process alone when that is too old or missing."""
        now = self._monotonic()
        self._wanted[form] = now
        if self._page is None or now - self._published > self.stale_seconds:
            return Renderer().render(self._health())
        return self._page
