"""Distances and tests of counts against scipy's, feature by feature, in one run; and what an estimate costs.

    python tests/benchmarks/bench_distances.py [--quick] [--json FILE]

Both sides get the same arrays and must give the same answers, which is checked first. Rounds alternate between the
contenders; the median round counts. Compare ratios, not milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from scipy.spatial import distance

from mlserve.drift._error_estimation import DirectErrorEstimator
from mlserve.drift._estimation import PerformanceEstimator
from mlserve.numerics._count_tests import chi_square_test, g_test
from mlserve.numerics._distances import jensen_shannon_distance
from mlserve.numerics._wasserstein import wasserstein_1

Work = dict[str, Callable[[], Any]]


def of_counts(features: int, bins: int) -> tuple[str, list[tuple[str, Work]]]:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(bins, 5.0), size=features)
    a, b = rng.multinomial(100_000, shares), rng.multinomial(10_000, shares)

    def contingency(name: str) -> Callable[[], Any]:
        return lambda: [
            stats.chi2_contingency(np.stack(pair), correction=False, lambda_=name).pvalue
            for pair in zip(a, b, strict=True)
        ]

    jensen_shannon = lambda: [distance.jensenshannon(*pair) for pair in zip(a, b, strict=True)]  # noqa: E731
    return f"{features} features in {bins} bins", [
        ("Jensen-Shannon", {"mlserve": lambda: jensen_shannon_distance(a, b), "scipy": jensen_shannon}),
        (
            "chi-square",
            {"mlserve": lambda: chi_square_test(a, b, method="asymptotic").pvalue, "scipy": contingency("pearson")},
        ),
        (
            "G",
            {"mlserve": lambda: g_test(a, b, method="asymptotic").pvalue, "scipy": contingency("log-likelihood")},
        ),
    ]


def of_samples(n: int, m: int, features: int) -> tuple[str, list[tuple[str, Work]]]:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(n, features)), rng.normal(0.1, size=(m, features))
    each = lambda: [stats.wasserstein_distance(*pair) for pair in zip(a.T, b.T, strict=True)]  # noqa: E731
    return f"{n} x {m} x {features}", [("Wasserstein-1", {"mlserve": lambda: wasserstein_1(a, b), "scipy": each})]


def milliseconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


def compare(work: Work, rounds: int) -> dict[str, float]:
    np.testing.assert_allclose(work["mlserve"](), work["scipy"](), rtol=1e-6)
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            taken[name].append(milliseconds(call))
    return {name: statistics.median(each) for name, each in taken.items()}


def estimation(n: int, m: int, rounds: int) -> dict[str, float]:
    rng = np.random.default_rng(2)
    scores, window = rng.uniform(size=n), rng.uniform(size=m)
    labels = rng.uniform(size=n) < scores
    inputs, errors, moved = rng.normal(size=(n, 20)), rng.normal(size=n), rng.normal(size=(m, 20))
    estimator, regressor = (
        PerformanceEstimator.fit(scores, scores > 0.5, labels),
        DirectErrorEstimator.fit(inputs, errors),
    )
    work = {
        f"PerformanceEstimator.fit, {n} rows": lambda: PerformanceEstimator.fit(scores, scores > 0.5, labels),
        f"PerformanceEstimator.estimate, {m} rows": lambda: estimator.estimate(window, window > 0.5),
        f"DirectErrorEstimator.fit, {n} rows x 20": lambda: DirectErrorEstimator.fit(inputs, errors),
        f"DirectErrorEstimator.estimate, {m} rows x 20": lambda: regressor.estimate(moved),
    }
    return {name: statistics.median(milliseconds(call) for _ in range(rounds)) for name, call in work.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller tables, fewer rounds")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    rounds = 3 if options.quick else 7
    tables = [of_counts(50, 10), of_counts(1_000, 20), of_samples(10_000, 1_000, 50)]
    if not options.quick:
        tables += [of_samples(100_000, 10_000, 50), of_samples(1_000_000, 100_000, 1)]
    figures: dict[str, dict[str, float]] = {}
    print(f"{'':50}{'mlserve ms':>12}{'scipy ms':>12}{'ratio':>8}")
    for title, works in tables:
        for name, work in works:
            found = figures[f"{name}, {title}"] = compare(work, rounds)
            ratio = found["scipy"] / found["mlserve"]
            print(f"{f'{name}, {title}':50}{found['mlserve']:12.2f}{found['scipy']:12.2f}{ratio:8.1f}")
    for name, value in estimation(10_000 if options.quick else 100_000, 10_000, rounds).items():
        figures[name] = {"mlserve": value}
        print(f"{name:50}{value:12.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
