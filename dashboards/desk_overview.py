"""Dashboard "Desk overview": value, risk against its limits, where the risk comes from, drift, sources, and what was sent.

Every query drops instance and job, as the rules do: replicas of the exporter draw one line.
"""

from __future__ import annotations

from typing import Any

from dashboards.operation import (
    FIRING,
    deliveries,
    failed_fetches,
    firing_alerts,
    open_episodes,
    sources,
)
from dashboards.panels import (
    Json,
    Panel,
    Query,
    Thresholds,
    bars,
    choice_variable,
    dashboard,
    dashed_red,
    datasource_variable,
    label_variable,
    stat,
    timeseries,
)

UID = "desk_overview"
CHOSEN = 'portfolio=~"$portfolio"'
TAIL = f'{CHOSEN}, method="historical", confidence="$confidence", horizon="1d"'
ANY_IS_RED = Thresholds(((None, "green"), (1, "red")))


def build() -> Json:
    """The dashboard as JSON."""
    return dashboard(
        uid=UID,
        title="Desk overview",
        description="What the desk is worth, what it risks, which limits that touches, and whether the numbers can be trusted.",
        variables=[
            datasource_variable(),
            label_variable("portfolio", "Portfolio", "desk_portfolio_value", "portfolio"),
            choice_variable("confidence", "Confidence", ["0.95", "0.975", "0.99"], "0.975"),
        ],
        rows=[
            [_value(), _profit()],
            _headline(),
            [_shortfall(), _value_at_risk()],
            [_utilization(), _concentration()],
            _origin(),
            [_gross(), _net()],
            _drift(),
            [sources(), failed_fetches()],
            [open_episodes(), deliveries()],
            [firing_alerts()],
        ],
    )


def _per_portfolio(family: str, selector: str = CHOSEN) -> str:
    return f"max by (portfolio) ({family}{{{selector}}})"


def _largest(family: str, selector: str = CHOSEN) -> str:
    per_symbol = f"max by (portfolio, symbol) ({family}{{{selector}}})"
    return f"{per_symbol} and topk(20, abs({per_symbol}))"


def _limit(matcher: str, legend: str = "{{portfolio}} limit") -> Query:
    return Query(f"max by (portfolio, limit) (desk_limit{{{CHOSEN}, limit{matcher}}})", legend)


def _against_limit(measured: str, limit: str, **about: Any) -> Panel:
    return timeseries(
        unit="percentunit",
        queries=[Query(measured, "{{portfolio}}"), _limit(f'="{limit}"')],
        overrides=[dashed_red("/ limit$/")],
        **about,
    )


def _value() -> Panel:
    return stat(
        title="Portfolio value",
        description="Net asset value of each portfolio in its base currency.",
        unit="short",
        queries=[Query(f"max by (portfolio, currency) (desk_portfolio_value{{{CHOSEN}}})", "{{portfolio}} {{currency}}")],
        defaults={"decimals": 2},
        height=5,
    )


def _profit() -> Panel:
    return stat(
        title="P&L of the day",
        description="Profit or loss since the last close over net asset value. Absent while a price is missing.",
        unit="percentunit",
        queries=[Query(_per_portfolio("desk_pnl_daily_ratio"), "{{portfolio}}")],
        thresholds=Thresholds(((None, "red"), (0, "green"))),
        defaults={"decimals": 2},
        height=5,
        runbooks=["RiskLimitViolation"],
    )


def _headline() -> list[Panel]:
    small: dict[str, Any] = {"width": 6, "height": 4}
    breached = f"max by (portfolio, limit) (desk_limit_utilization_ratio{{{CHOSEN}}}) > 1"
    return [
        stat(
            title="Limits breached",
            description="Limits of the chosen portfolios that the latest reading is above.",
            unit="none",
            queries=[Query(f"count({breached}) or vector(0)", "breached")],
            thresholds=ANY_IS_RED,
            runbooks=["RiskLimitViolation"],
            **small,
        ),
        stat(
            title="Alerts firing",
            description="Critical and warning alerts firing in this Prometheus, of every portfolio.",
            unit="none",
            queries=[Query(f"count({FIRING}) or vector(0)", "firing")],
            thresholds=ANY_IS_RED,
            **small,
        ),
        stat(
            title="Oldest market data",
            description="Market time of the source that lags most. For a daily source the last close is right.",
            unit="dateTimeAsIso",
            queries=[Query("1000 * min(desk_data_timestamp_seconds)", "oldest")],
            runbooks=["StaleData"],
            **small,
        ),
        stat(
            title="Deliveries waiting or dead",
            description="Messages the receiver still has to bring to a channel, and those it gave up on and kept for replay.",
            unit="none",
            queries=[
                Query("sum(max by (channel, priority) (deskwatch_delivery_backlog)) or vector(0)", "waiting"),
                Query("sum(max by (channel) (deskwatch_dead_letters)) or vector(0)", "dead"),
            ],
            thresholds=Thresholds(((None, "green"), (1, "yellow"), (100, "red"))),
            **small,
        ),
    ]


def _shortfall() -> Panel:
    return _against_limit(
        _per_portfolio("desk_expected_shortfall_ratio", TAIL),
        "expected_shortfall_$confidence",
        title="Expected shortfall against its limit",
        description="Mean loss of the worst days, over net asset value: one day, historical. Red dashed: the limit.",
        runbooks=["ExpectedShortfallExceeded"],
    )


def _value_at_risk() -> Panel:
    return _against_limit(
        _per_portfolio("desk_var_ratio", TAIL),
        "var_$confidence",
        title="Value at risk against its limit",
        description="Loss that only the worst days exceed, over net asset value: one day, historical. Red dashed: the limit.",
        runbooks=["VaRLimitExceeded"],
    )


def _utilization() -> Panel:
    utilization = f"max by (portfolio, limit) (desk_limit_utilization_ratio{{{CHOSEN}}})"
    return bars(
        title="Limit utilization",
        description="Measured value over its limit. Above 100 % the alert of that limit fires.",
        unit="percentunit",
        queries=[Query(f"sort_desc({utilization})", "{{portfolio}} {{limit}}", instant=True)],
        thresholds=Thresholds(((None, "green"), (0.8, "yellow"), (1, "red"))),
        defaults={"min": 0, "max": 1.5},
        runbooks=["RiskLimitViolation"],
    )


def _concentration() -> Panel:
    return timeseries(
        title="Concentration",
        description="Largest position over net asset value, and the Herfindahl-Hirschman index of sizes (1: one position).",
        unit="percentunit",
        queries=[
            Query(_per_portfolio("desk_concentration_max_ratio"), "{{portfolio}} largest"),
            Query(_per_portfolio("desk_concentration_hhi_ratio"), "{{portfolio}} HHI"),
            _limit('=~"concentration|concentration_hhi"', "{{portfolio}} {{limit}} limit"),
        ],
        overrides=[dashed_red("/ limit$/")],
        runbooks=["RiskLimitViolation"],
    )


def _origin() -> list[Panel]:
    return [
        bars(
            title="Position weights",
            description="Value of each position over net asset value; negative is short. The 20 largest by size.",
            unit="percentunit",
            queries=[Query(_largest("desk_position_weight_ratio"), "{{portfolio}} {{symbol}}", instant=True)],
            thresholds=Thresholds(((None, "orange"), (0, "blue"))),
        ),
        bars(
            title="Component VaR",
            description="Each position's part of its portfolio's VaR; the parts sum to it, negative ones reduce it.",
            unit="percentunit",
            queries=[Query(_largest("desk_component_var_ratio", TAIL), "{{portfolio}} {{symbol}}", instant=True)],
            thresholds=Thresholds(((None, "green"), (0, "orange"))),
            runbooks=["VaRLimitExceeded"],
        ),
    ]


def _gross() -> Panel:
    return _against_limit(
        _per_portfolio("desk_exposure_gross_ratio"),
        "gross_exposure",
        title="Gross exposure",
        description="Sum of the sizes of all positions over net asset value.",
        runbooks=["RiskLimitViolation"],
    )


def _net() -> Panel:
    return _against_limit(
        _per_portfolio("desk_exposure_net_ratio"),
        "net_exposure",
        title="Net exposure",
        description="Long minus short over net asset value. A limit on it bounds both directions.",
        runbooks=["RiskLimitViolation"],
    )


def _drift() -> list[Panel]:
    pvalue = 'desk_drift_adjusted_pvalue{series="returns", test="ks"}'
    return [
        timeseries(
            title="Backtest drift, p-values",
            description="Kolmogorov-Smirnov test of live against backtest returns, adjusted for the number of strategies; "
            "below 5 % they differ significantly.",
            unit="percentunit",
            queries=[Query(f"max by (strategy) ({pvalue})", "{{strategy}}")],
            thresholds=Thresholds(((None, "red"), (0.05, "green"))),
            defaults={"min": 0, "max": 1},
            runbooks=["BacktestDriftWarning"],
        ),
        timeseries(
            title="Backtest drift, relative difference",
            description="Distance of live Sharpe ratio, win rate and mean return from the backtest's: above 5 % a warning, "
            "above 10 % critical, where p-value and sample agree.",
            unit="percentunit",
            queries=[Query("max by (strategy, metric) (desk_drift_ratio)", "{{strategy}} {{metric}}")],
            thresholds=Thresholds(((None, "green"), (0.05, "yellow"), (0.1, "red"))),
            runbooks=["BacktestDriftCritical"],
        ),
    ]
