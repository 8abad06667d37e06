"""What if: the numbers of the desk after trades that were not done, and the trades that bring a portfolio inside a limit.

Both answers come from the same cycle as the gauges, run on a state that never happened, so they cannot disagree with them.
Trades are done at the mark and funded in the base currency: costs, slippage and a venue's lot sizes are the trader's to add.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from deskwatch.errors import Permanent, Reason, Retryable
from exporter.analytic import Analytic
from exporter.book import Book, Trade
from exporter.config import LimitConfig, PortfolioConfig
from exporter.desk import DeskState
from exporter.limits import LIMIT, MEASURES, UTILIZATION
from exporter.pipeline import run_cycle
from exporter.reading import Gap, Reading
from exporter.reduction import RULES, merged, reducing_trades

TAIL = ("historical", "1d")
"""Method and horizon of the tail risk shown; those the limits are set on."""
TIGHTER = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""By how much the limit is tightened each time rounding, or days that count again without a closed position, miss it."""
_ANSWERED = {measure.family for measure in MEASURES.values()} | {"desk_portfolio_value"}
"""Families an answer is read from; every figure beside the net asset value is one a limit can be set on."""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit and how much of it is used; `utilization` is None while the measured value is undefined."""

    limit: float
    utilization: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """One portfolio in one state. Ratios of net asset value; losses positive; None or left out where undefined.

    Args:
        net_asset_value: base currency.
        value_at_risk: historical, one day, by confidence.
        expected_shortfall: likewise.
        weights: signed, by symbol.
        sector_weights: signed, by sector.
        limits: by name.
        undefined: reason by analytic.
    """

    net_asset_value: float | None
    value_at_risk: Mapping[str, float]
    expected_shortfall: Mapping[str, float]
    weights: Mapping[str, float]
    sector_weights: Mapping[str, float]
    gross_exposure: float | None
    net_exposure: float | None
    leverage: float | None
    concentration: float | None
    concentration_hhi: float | None
    limits: Mapping[str, LimitUse]
    undefined: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One portfolio before and after."""

    portfolio: str
    currency: str
    before: Figures
    after: Figures


@dataclass(frozen=True, slots=True)
class Answer:
    """What the trades would change: `portfolios` holds those traded in and the composites they belong to."""

    at: datetime
    trades: tuple[Trade, ...]
    portfolios: tuple[Change, ...]


def what_if(state: DeskState, trades: Sequence[Trade], analytics: Sequence[Analytic], about: Collection[str] = ()) -> Answer:
    """The numbers before and after trades.

    Args:
        state: the desk as it is.
        trades: signed quantities; none is a question about the desk as it is.
        analytics: those of the cycle.
        about: portfolios to show besides those the trades touch.

    Raises:
        Permanent: a trade that cannot be meant: unknown portfolio or symbol, a composite, a quantity of zero.
        Retryable: a portfolio traded in has no value now.
    """
    for index, trade in enumerate(trades):
        _check(state, trade, f"trades[{index}]")
    answering = _answering(analytics)
    before = run_cycle(state, answering)
    after = run_cycle(state.with_trades(trades), answering) if trades else before
    touched = {trade.portfolio for trade in trades} | set(about)
    shown = [each for each in state.config.portfolios if touched & {each.name, *each.members}]
    return Answer(
        state.at,
        tuple(trades),
        tuple(Change(each.name, each.base_currency, _figures(before, each.name), _figures(after, each.name)) for each in shown),
    )


def trades_within(
    state: DeskState, portfolio: str, limit: str, analytics: Sequence[Analytic], headroom: float = 0.0
) -> tuple[Trade, ...]:
    """Trades that bring a portfolio inside one of its limits; none where it is inside already.

    Positions are cut by the rule of the limit (`exporter.reduction`), quantities rounded up to a whole step; where that or the
    days that count again without a closed position miss the limit, it is tightened and the rule applied again. In a composite
    the members that hold the position trade, the largest holder first.

    Args:
        state: the desk as it is.
        portfolio: its name.
        limit: name of a limit configured for it.
        analytics: those of the cycle; the last of its runs has confirmed the result.
        headroom: share of the limit to leave unused, 0 to less than 1.

    Raises:
        Permanent: no such portfolio or limit, or no trade can restore it.
        Retryable: the number the limit is set on is undefined now.
    """
    config, asked = _portfolio(state, portfolio, "portfolio"), _limit(state, portfolio, limit)
    if not 0.0 <= headroom < 1.0:
        raise Permanent(f"headroom: must be at least 0 and less than 1, was {headroom!r}", reason=Reason.REJECTED)
    if limit not in RULES:
        raise Permanent(
            f"{portfolio}: no trade restores the limit {limit}: it measures what has happened already; "
            "ask for the trades of a limit on positions instead",
            reason=Reason.REJECTED,
        )
    trades: tuple[Trade, ...] = ()
    for tighter in TIGHTER:
        after = state.with_trades(trades)
        book = after.books[portfolio]
        if isinstance(book, Gap):
            raise Retryable(_no_value(portfolio, book), reason=Reason.SERVER_ERROR)
        if _utilization(run_cycle(after, _answering(analytics)), asked) <= 1.0 - headroom:
            return trades
        kept = RULES[limit](book, asked.value * (1.0 - headroom) * (1.0 - tighter))
        trades = merged((*trades, *reducing_trades(after, config, book, kept)))
    raise Permanent(
        f"{portfolio}: whole steps are too coarse to bring {limit} inside {asked.value:g}: each overshoots to the other side; "
        "reduce by hand or set a wider limit",
        reason=Reason.REJECTED,
    )


def answer_as_dict(answer: Answer) -> dict[str, Any]:
    """The answer as JSON-ready data: `at` in ISO 8601, `trades`, `portfolios` with `before` and `after`; null is undefined."""
    return {**asdict(answer), "at": answer.at.isoformat()}


def _check(state: DeskState, trade: Trade, where: str) -> None:
    config = _portfolio(state, trade.portfolio, f"{where}.portfolio")
    if config.members:
        members = ", ".join(config.members)
        raise Permanent(
            f"{where}.portfolio: {config.name} is a composite and holds nothing itself; name one of its members: {members}",
            reason=Reason.REJECTED,
        )
    if not math.isfinite(trade.quantity) or trade.quantity == 0.0:
        raise Permanent(
            f"{where}.quantity: must be a finite number other than 0, was {trade.quantity!r}", reason=Reason.REJECTED
        )
    if trade.symbol == config.base_currency:
        raise Permanent(
            f"{where}.symbol: {trade.symbol} is the base currency of {config.name}, in which every trade is funded; "
            "name what is bought or sold for it",
            reason=Reason.REJECTED,
        )
    market, book = state.market, state.books[config.name]
    if isinstance(market, Gap) or isinstance(book, Gap):
        raise Retryable(_no_value(config.name, book), reason=Reason.SERVER_ERROR)
    if market.unit_value(trade.symbol, config.base_currency) is None:
        held = ", ".join(book.symbols) or "nothing"
        raise Permanent(
            f"{where}.symbol: no source prices {trade.symbol!r} in {config.base_currency}; {config.name} holds: {held}",
            reason=Reason.NOT_FOUND,
        )


def _portfolio(state: DeskState, name: str, where: str) -> PortfolioConfig:
    for portfolio in state.config.portfolios:
        if portfolio.name == name:
            return portfolio
    known = ", ".join(portfolio.name for portfolio in state.config.portfolios)
    raise Permanent(f"{where}: no portfolio is called {name!r}; there are: {known}", reason=Reason.NOT_FOUND)


def _limit(state: DeskState, portfolio: str, name: str) -> LimitConfig:
    limits = [limit for limit in state.config.limits if limit.portfolio == portfolio]
    for limit in limits:
        if limit.limit == name:
            return limit
    known = ", ".join(limit.limit for limit in limits) or "none"
    raise Permanent(f"limit: {portfolio} has no limit {name!r}; it has: {known}", reason=Reason.NOT_FOUND)


def _no_value(portfolio: str, gap: Gap | Book) -> str:
    why = gap.value if isinstance(gap, Gap) else Gap.INPUT_MISSING.value
    return f"{portfolio} cannot be valued now ({why}): ask again when its sources have delivered"


def _utilization(reading: Reading, limit: LimitConfig) -> float:
    used = reading.value(UTILIZATION, limit.portfolio, limit.limit)
    if used is None:
        why = ", ".join(sorted({gap.reason.value for gap in reading.undefined if gap.subject == limit.portfolio}))
        raise Retryable(
            f"{limit.portfolio}: what the limit {limit.limit} is set on is undefined now ({why or 'no reason given'}): "
            "ask again when its inputs are there",
            reason=Reason.SERVER_ERROR,
        )
    return used


def _answering(analytics: Sequence[Analytic]) -> list[Analytic]:
    """Those an answer is made of: figures and limits. The others look back at what no trade changes."""
    return [analytic for analytic in analytics if _ANSWERED & {family.name for family in analytic.metrics}]


def _figures(reading: Reading, portfolio: str) -> Figures:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for sample in reading.samples:
        if sample.family.labels[:1] == ("portfolio",) and sample.labels[0] == portfolio:
            found.setdefault(sample.family.name, {})[sample.labels[1:]] = sample.value

    def single(family: str) -> float | None:
        return next(iter(found.get(family, {}).values()), None)

    def by_label(family: str) -> dict[str, float]:
        return {labels[0]: value for labels, value in found.get(family, {}).items()}

    def by_confidence(family: str) -> dict[str, float]:
        wanted = found.get(family, {}).items()
        return {confidence: value for (method, confidence, horizon), value in wanted if (method, horizon) == TAIL}

    used = found.get(UTILIZATION.name, {})
    return Figures(
        net_asset_value=single("desk_portfolio_value"),
        value_at_risk=by_confidence("desk_var_ratio"),
        expected_shortfall=by_confidence("desk_expected_shortfall_ratio"),
        weights=by_label("desk_position_weight_ratio"),
        sector_weights=by_label("desk_sector_weight_ratio"),
        gross_exposure=single("desk_exposure_gross_ratio"),
        net_exposure=single("desk_exposure_net_ratio"),
        leverage=single("desk_leverage_ratio"),
        concentration=single("desk_concentration_max_ratio"),
        concentration_hhi=single("desk_concentration_hhi_ratio"),
        limits={name[0]: LimitUse(value, used.get(name)) for name, value in found.get(LIMIT.name, {}).items()},
        undefined={gap.analytic: gap.reason.value for gap in reading.undefined if gap.subject == portfolio},
    )
