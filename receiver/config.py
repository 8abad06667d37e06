"""Section `receiver` of the configuration: where notifications come in, who is told of what, which hooks may run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from deskwatch.config import AtLeastOne, CrossFault, FilePath, Secret, Settings
from deskwatch.data import data_folder
from deskwatch.errors import ConfigError
from deskwatch.hook import ExporterAccess, Mode
from deskwatch.http import HttpConfig, HttpUrl
from deskwatch.plugins import OneOf
from deskwatch.web_config import WebConfig
from receiver.channel import CHANNELS, ChannelConfig
from receiver.enricher import ENRICHERS, EnricherConfig
from receiver.hook_room import HOOKS, hook_spec
from receiver.matchers import parse_matcher

DEFAULT_LISTEN = "127.0.0.1:9878"
KeyPath = Sequence[str | int]


def _is_matcher(text: str) -> str:
    parse_matcher(text)
    return text


MatcherText = Annotated[str, AfterValidator(_is_matcher)]
"""A matcher in Alertmanager's syntax."""


class RouteConfig(Settings):
    """One row of the routing table. The first that matches wins; `continue` looks further."""

    matchers: tuple[MatcherText, ...] = ()
    """All must hold; none matches every alert."""
    channels: Annotated[tuple[str, ...], AtLeastOne]
    """Names of channels."""
    then_continue: bool = Field(default=False, alias="continue")


class HookConfig(Settings):
    """One hook the desk uses; a hook that is not listed does not run."""

    enabled: bool = True
    mode: Mode = "dry_run"
    """`dry_run`: it says what it would do. `live`: it may act."""
    cooldown_seconds: float | None = Field(default=None, ge=0)
    """Least time between two runs for one alert identity; by default what the hook declares."""
    max_runs_per_hour: int | None = Field(default=None, ge=1)
    """Over all identities; by default what the hook declares."""


class ExporterAddress(HttpConfig):
    """The exporter that hooks ask."""

    base_url: HttpUrl
    read_token: Secret | None = None
    """The exporter's `web.read_token`, where it has one."""

    def access(self) -> ExporterAccess:
        """What a run is handed: the only secrets of the configuration a hook gets, because it asks with them."""
        return ExporterAccess(
            base_url=self.base_url,
            read_token=self.read_token.get_secret_value() if self.read_token else "",
            ca_file=str(self.ca_file) if self.ca_file else None,
            proxy=self.proxy,
            proxy_user=self.proxy_user,
            proxy_password=self.proxy_password.get_secret_value() if self.proxy_password else "",
            timeout_seconds=self.timeout_seconds,
        )


def _shipped_runbooks() -> Path:
    return data_folder("runbooks")


class ReceiverConfig(Settings):
    """Section `receiver`."""

    web: WebConfig = WebConfig(listen=DEFAULT_LISTEN)
    state_folder: FilePath = Field(default=Path("state/receiver"))
    """Where the store and the token lie."""
    webhook_token: Secret | None = None
    """What Alertmanager must send, as a bearer token or as the password of basic authentication; none means anyone may."""
    channels: Annotated[tuple[Annotated[ChannelConfig, OneOf(CHANNELS)], ...], AtLeastOne]
    routes: tuple[RouteConfig, ...] = ()
    """Without routes every alert goes to every channel."""
    fallback_channel: str = ""
    """Takes what no route does, and what the receiver has to say about itself; the first channel by default."""
    enrichers: tuple[Annotated[EnricherConfig, OneOf(ENRICHERS)], ...] = Field(default_factory=lambda: _default_enrichers())
    """By default every built-in one that needs no settings."""
    enrich_budget_seconds: float = Field(default=2.0, gt=0, le=30)
    """The enrichment of a notification ends after this long; what is not known by then is left out."""
    runbooks: FilePath = Field(default_factory=_shipped_runbooks)
    """Folder of `<AlertName>.md`; those shipped with deskwatch by default."""
    public_url: HttpUrl | None = None
    """Where people reach this receiver, for links; its own address by default."""
    exporter: ExporterAddress | None = None
    hooks: dict[str, HookConfig] = Field(default_factory=dict)
    identity_ignore: tuple[str, ...] = ("detector", "replica", "prometheus", "monitor")
    """Labels that do not tell two alerts apart."""
    duplicate_window_seconds: float = Field(default=60.0, ge=0)
    """The same notification within this time is a retry or a peer's copy and says nothing; later it is a repeat."""
    late_firing_hold_seconds: float = Field(default=330.0, ge=0)
    """How long a firing that looks like a copy from before the resolve is held: just over Alertmanager's group_interval."""
    ack_deadline_seconds: float = Field(default=5.0, gt=0, le=60)
    """A notification not on disk after this long is answered 503, so that Alertmanager sends it again."""

    @field_validator("web", mode="before")
    @classmethod
    def _default_port(cls, value: Any) -> Any:
        return {"listen": DEFAULT_LISTEN, **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        faults = [*self._channel_faults(), *self._hook_faults()]
        if faults:
            raise CrossFault(faults)
        return self

    @property
    def fallback(self) -> str:
        """Name of the fallback channel."""
        return self.fallback_channel or self.channels[0].name

    def _channel_faults(self) -> Iterator[tuple[KeyPath, str]]:
        names = [channel.name for channel in self.channels]
        known = ", ".join(names)
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ["channels", index, "name"], f"must be unique, {name!r} stands at channels[{names.index(name)}] too"
        for index, route in enumerate(self.routes):
            for at, name in enumerate(route.channels):
                if name not in names:
                    yield ["routes", index, "channels", at], f"must name a channel ({known}), was {name!r}"
        if self.fallback not in names:
            yield ["fallback_channel"], f"must name a channel ({known}), was {self.fallback!r}"

    def _hook_faults(self) -> Iterator[tuple[KeyPath, str]]:
        for name, hook in self.hooks.items():
            if name not in HOOKS.modules:
                yield ["hooks", name], f"no hook has this name; there are: {', '.join(HOOKS.modules)}"
                continue
            try:
                spec = hook_spec(name)
                for matcher in spec.matchers:
                    parse_matcher(matcher)
            except (ConfigError, ValueError, ImportError) as error:
                yield ["hooks", name], f"cannot be used: {error}"
                continue
            if hook.mode == "live" and not spec.can_act:
                yield (
                    ["hooks", name, "mode"],
                    "must be dry_run: this hook only proposes and declares no can_act=True, was 'live'",
                )


def _default_enrichers() -> tuple[EnricherConfig, ...]:
    chosen = []
    for name, module in ENRICHERS.modules.items():
        if module.startswith(f"{ENRICHERS.package}."):
            try:
                chosen.append(ENRICHERS.config(name).model_validate({"type": name}))
            except ValidationError:
                continue  # it needs settings, so it is used only where it is configured
    return tuple(chosen)  # type: ignore[arg-type]  # Room.config knows the models as Settings
