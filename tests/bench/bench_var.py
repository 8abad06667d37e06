"""What VaR, expected shortfall and component VaR cost beside the matrix-vector product no method can do without, KS beside
scipy, and what-if on a desk: `python -m tests.bench.bench_var`.

Medians and their ratio to R @ w, measured in turn in the same run; BLAS on one thread, as `make` runs everything.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

from exporter.analytics import drift
from exporter.analytics.tail_risk import CONFIDENCES
from exporter.book import Trade
from exporter.market import Floats
from exporter.risk.historical import (
    component_expected_shortfall,
    component_var,
    expected_shortfall,
    historical_var,
    losses_of,
    tail,
    worst_first,
)
from exporter.whatif import trades_within, what_if
from tests.unit.exporter.desks import account, all_analytics, feed, history, make_config, make_state, position, read

SCENARIOS = 1_000
TARGET_POSITIONS, TARGET_RATIO = 10_000, 1.5


def medians(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turn so that a slow moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def one_level(weights: Floats, returns: Floats, level: str) -> None:
    """VaR, expected shortfall and component VaR."""
    losses = losses_of(weights, returns)
    historical_var(losses, float(level))
    expected_shortfall(losses, float(level))
    component_var(weights, returns, tail(worst_first(losses), float(level)))


def every_level(weights: Floats, returns: Floats) -> None:
    """What one cycle computes for one book."""
    losses = losses_of(weights, returns)
    order = worst_first(losses)
    for level in CONFIDENCES:
        historical_var(losses, float(level))
        expected_shortfall(losses, float(level))
        worst = tail(order, float(level))
        component_var(weights, returns, worst)
        component_expected_shortfall(weights, returns, worst)


def tail_risk(rounds: int) -> None:
    """The table of VaR."""
    for positions in (100, 1_000, TARGET_POSITIONS):
        rng = np.random.default_rng(20240607)
        returns, weights = rng.normal(0, 0.01, (SCENARIOS, positions)), rng.normal(0, 1 / positions, positions)
        found = medians(
            {
                "R @ w": lambda: returns @ weights,  # noqa: B023 - called within the round
                "VaR, ES, component VaR at 0.99": lambda: one_level(weights, returns, "0.99"),  # noqa: B023
                "the same and component ES at three levels": lambda: every_level(weights, returns),  # noqa: B023
            },
            rounds,
        )
        for name, seconds in found.items():
            print_row(f"{name}, {positions} x {SCENARIOS}", seconds, seconds / found["R @ w"])
        if positions == TARGET_POSITIONS:
            ratio = found["VaR, ES, component VaR at 0.99"] / found["R @ w"]
            print(f"  target at {positions} positions: at most {TARGET_RATIO} x R @ w; measured {ratio:.2f}")


def kolmogorov_smirnov(rounds: int) -> None:
    """One strategy against scipy."""
    from scipy import stats

    for live, backtest in ((250, 2_500), (10_000, 100_000)):
        rng = np.random.default_rng(1)
        one, other = rng.normal(0.02, 1, live), rng.normal(0, 1, backtest)

        def first(one: Floats = one, other: Floats = other) -> object:
            drift.ks_pvalue.cache_clear()
            return drift.two_sample_ks(one, other)

        found = medians(
            {
                "sorting the live returns": lambda one=one: np.sort(one),
                "KS, returns that changed": first,
                "KS, returns of the cycle before": lambda one=one, other=other: drift.two_sample_ks(one, other),
                "scipy.stats.ks_2samp": lambda one=one, other=other: stats.ks_2samp(one, other),
            },
            rounds,
        )
        for name, seconds in found.items():
            print_row(f"{name}, {live} against {backtest}", seconds, seconds / found["sorting the live returns"])


def questions(rounds: int) -> None:
    """A desk of three portfolios and their composite, twelve symbols each, 250 days."""
    rng = np.random.default_rng(3)
    symbols, names = [f"S{index}" for index in range(12)], ("one", "two", "three")
    config = make_config(
        dict.fromkeys(names, "EUR"),
        {"desk": names},
        {("desk", "expected_shortfall_0.975"): 0.01, ("one", "concentration"): 0.1},
    )
    state = make_state(
        config,
        feed(
            positions=[position(symbol, round(rng.normal(0, 300_000)), name) for name in names for symbol in symbols],
            accounts=[account(2_000_000, portfolio=name) for name in names],
            histories=[history(symbol, np.cumprod(1 + rng.normal(0, 0.01, 251))) for symbol in symbols],
            fills=(),
        ),
    )
    found = medians(
        {
            "cycle": lambda: read(state),
            "what-if, one trade": lambda: what_if(state, [Trade("one", "S0", 1e5)], all_analytics()),
            "trades within expected shortfall": lambda: trades_within(
                state, "desk", "expected_shortfall_0.975", all_analytics()
            ),
            "trades within concentration": lambda: trades_within(state, "one", "concentration", all_analytics()),
        },
        rounds,
    )
    for name, seconds in found.items():
        print_row(name, seconds, seconds / found["cycle"])


def print_row(name: str, seconds: float, ratio: float) -> None:
    """One line of a table."""
    print(f"  {name:<64} {seconds * 1e3:>10.3f} ms {ratio:>8.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    rounds = parser.parse_args().rounds
    print(f"{os.cpu_count()} cores, BLAS on one thread, medians of {rounds - 1} rounds; right: ratio to each group's first row")
    tail_risk(rounds)
    kolmogorov_smirnov(rounds)
    questions(rounds)


if __name__ == "__main__":
    main()
