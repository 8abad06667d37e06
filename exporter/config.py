"""Section `exporter` of the configuration: what is read, which portfolios there are, which limits the desk has set itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from deskwatch.config import AtLeastOne, CrossFault, FilePath, LoadedFile, Secret, Settings
from deskwatch.errors import ConfigError
from deskwatch.http import HttpConfig, HttpUrl
from deskwatch.plugins import OneOf
from deskwatch.web_config import WebConfig
from exporter.source import SOURCES, SourceConfig

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3,5}$")]
KeyPath = Sequence[str | int]

LIMITS = (
    "concentration", "concentration_hhi", "sector", "gross_exposure", "net_exposure", "leverage", "daily_loss",
    "var_0.95", "var_0.975", "var_0.99",
    "expected_shortfall_0.95", "expected_shortfall_0.975", "expected_shortfall_0.99",
)  # fmt: skip
"""What a limit can be set on; what each measures stands in `exporter.limits`."""


class PortfolioConfig(Settings):
    """One portfolio: a set of positions, or a composite of others."""

    name: Name
    """Label `portfolio`; the name the sources' records carry."""
    base_currency: Currency
    """Currency of every money figure of this portfolio."""
    members: tuple[Name, ...] = ()
    """Makes it a composite: the positions of these portfolios, netted by symbol."""
    sources: tuple[Name, ...] = ()
    """Sources that hold its positions; by default every source that provides positions."""


class LimitConfig(Settings):
    """A limit the desk has set itself. `value` is a ratio of net asset value (0.02 is 2 %), leverage and HHI included."""

    portfolio: Name
    limit: str
    value: float = Field(gt=0, allow_inf_nan=False)

    @field_validator("limit")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in LIMITS:
            raise ValueError(f"must be one of {', '.join(LIMITS)}")
        return value


def _repeated(key: str, names: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield [key, index, "name"], f"must be unique, {name!r} stands at {key}[{names.index(name)}] too"


class StressConfig(Settings):
    """A scenario the book is put through: returns made up, or those of a day in history."""

    name: Name
    """Label `scenario`."""
    shocks: dict[str, Annotated[float, Field(ge=-1.0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Simple return of a symbol, of every symbol of a sector (`sector:NAME`), or of the rest (`*`); -0.1 is a fall of 10 %.
    The most particular counts; what nothing names does not move."""
    day: date | None = None
    """A day of the price history, e.g. 2015-01-15: every symbol moves as it did that day."""

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> Self:
        if bool(self.shocks) == (self.day is not None):
            raise CrossFault([(["shocks"], "give either shocks or day")])
        return self


class RiskConfig(Settings):
    """Statistics of VaR and expected shortfall."""

    window_days: int = Field(default=250, ge=2, le=10_000)
    """Scenarios: the last so many joint daily returns."""
    minimum_days: int = Field(default=100, ge=2)
    """Fewer joint returns than this and VaR is undefined."""
    ewma_decay: float = Field(default=0.94, gt=0, lt=1)
    """Weight of yesterday's variance in today's, methods `ewma` and `filtered_historical`: 0.94 for daily data, RiskMetrics."""
    backtest_days: int = Field(default=250, ge=2, le=10_000)
    """Days on which the VaR forecast of the days before is held against the loss of the book as it is now."""
    minimum_sample: int = Field(default=30, ge=8)
    """Live returns a strategy needs before its drift is tested."""

    correlation_assets: int = Field(default=10, ge=2, le=50)
    """The largest positions whose correlations are exported: n of them are n(n-1)/2 series."""
    recent_days: int = Field(default=60, ge=20)
    """Days at the end of the window whose correlations are held against those before."""
    benchmarks: tuple[str, ...] = ()
    """Symbols with a price history that beta is measured against."""
    stress: tuple[StressConfig, ...] = ()
    """Scenarios whose loss is exported."""

    @model_validator(mode="after")
    def _minimum_fits(self) -> Self:
        faults: list[tuple[KeyPath, str]] = [*_repeated("stress", [each.name for each in self.stress])]
        if self.minimum_days > self.window_days:
            faults.append((["minimum_days"], f"must be <= window_days ({self.window_days}), was {self.minimum_days}"))
        if faults:
            raise CrossFault(faults)
        return self


class CardinalityConfig(Settings):
    """How many series one family may have on the page."""

    series_per_family: int = Field(default=5_000, ge=1)
    """Beyond it the largest values stay and the others are dropped and counted."""
    families: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Families with a bound of their own, by name."""


class ReloadConfig(Settings):
    """When the configuration is read again without being asked (SIGHUP and `POST /-/reload` ask)."""

    watch: bool = False
    """Read it again when the file, or one a secret, a certificate or a rule stands in, has changed."""
    watch_seconds: float = Field(default=5.0, gt=0)
    """Time between two looks at the files."""


class AlertmanagerConfig(HttpConfig):
    """The Alertmanager the second detector posts to."""

    base_url: HttpUrl
    """Address up to, without, `/api/v2`."""
    authorization: Secret | None = None
    """Bearer token, where Alertmanager is behind one."""


class ReceiverAddress(HttpConfig):
    """The receiver the second detector falls back to when Alertmanager cannot be reached."""

    base_url: HttpUrl
    token: Secret | None = None
    """The receiver's `webhook_token`."""


class DetectorConfig(Settings):
    """The second detector: checks the critical desk limits each cycle, without Prometheus."""

    rules: tuple[LoadedFile, ...] = ()
    """Rule files whose critical desk-limit alerts it repeats; by default those shipped with deskwatch."""
    external_labels: dict[str, str] = Field(default_factory=dict)
    """Prometheus's `global.external_labels`, so that both detectors raise the same alert."""
    alertmanagers: tuple[AlertmanagerConfig, ...] = ()
    receiver: ReceiverAddress | None = None
    repost_seconds: float = Field(default=15.0, gt=0)
    """A standing breach is posted again after this long; Alertmanager forgets it after four times that."""
    hold_seconds: float = Field(default=3600.0, ge=0)
    """A breach whose number went missing stays a breach for this long: lost data is not recovery."""

    @field_validator("rules")
    @classmethod
    def _are_understood(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if value:
            from exporter.detection.rulefile import read_rules  # needs the limits' metrics, and those need this module

            try:
                read_rules(value)
            except ConfigError as error:
                raise ValueError("; ".join(str(fault) for fault in error.faults)) from error
        return value


class ExporterConfig(Settings):
    """Section `exporter`."""

    web: WebConfig = WebConfig(listen="127.0.0.1:9877")
    state_folder: FilePath = Field(default=Path("state/exporter"))
    """Where the spool and the token lie."""
    cycle_seconds: float = Field(default=5.0, ge=0.05, le=30)
    """Time from one reading to the next; StaleData takes an exporter without a cycle for a minute as hung."""
    sources: Annotated[tuple[Annotated[SourceConfig, OneOf(SOURCES)], ...], AtLeastOne]
    portfolios: Annotated[tuple[PortfolioConfig, ...], AtLeastOne]
    limits: tuple[LimitConfig, ...] = ()
    sectors: dict[str, str] = Field(default_factory=dict)
    """Symbol to sector; wins over what a source says."""
    pegs: dict[Currency, Currency] = Field(default_factory=dict)
    """Currencies taken to be worth one unit of another, e.g. `USDT: USD`. Nothing is pegged unless it stands here."""
    cardinality: CardinalityConfig = CardinalityConfig()
    reload: ReloadConfig = ReloadConfig()
    risk: RiskConfig = RiskConfig()
    detector: DetectorConfig = DetectorConfig()

    @field_validator("web", mode="before")
    @classmethod
    def _default_port(cls, value: Any) -> Any:
        return {"listen": "127.0.0.1:9877", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        faults = [
            *_repeated("sources", [source.name for source in self.sources]),
            *_repeated("portfolios", [portfolio.name for portfolio in self.portfolios]),
            *self._unknown_members(),
            *self._unknown_sources(),
            *self._limit_faults(),
        ]
        if faults:
            raise CrossFault(faults)
        return self

    def _unknown_members(self) -> Iterator[tuple[KeyPath, str]]:
        simple = {portfolio.name for portfolio in self.portfolios if not portfolio.members}
        for index, portfolio in enumerate(self.portfolios):
            for at, member in enumerate(portfolio.members):
                if member not in simple:
                    yield ["portfolios", index, "members", at], f"must name a portfolio without members, was {member!r}"

    def _unknown_sources(self) -> Iterator[tuple[KeyPath, str]]:
        names = {source.name for source in self.sources}
        for index, portfolio in enumerate(self.portfolios):
            for at, source in enumerate(portfolio.sources):
                if source not in names:
                    known = ", ".join(sorted(names))
                    yield ["portfolios", index, "sources", at], f"must name a source ({known}), was {source!r}"

    def _limit_faults(self) -> Iterator[tuple[KeyPath, str]]:
        names = {portfolio.name for portfolio in self.portfolios}
        seen: set[tuple[str, str]] = set()
        for index, limit in enumerate(self.limits):
            if limit.portfolio not in names:
                known = ", ".join(sorted(names))
                yield ["limits", index, "portfolio"], f"must name a portfolio ({known}), was {limit.portfolio!r}"
            if (limit.portfolio, limit.limit) in seen:
                yield ["limits", index], f"the limit {limit.limit} of {limit.portfolio} stands here twice"
            seen.add((limit.portfolio, limit.limit))
