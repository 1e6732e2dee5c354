"""The two-sample Kolmogorov-Smirnov test against scipy and against sorting alone, in one run.

    python tests/benchmarks/bench_ks.py [--quick] [--json FILE]

A detection is one call of ``SortedReference.ks_2samp``, statistic and p-values by ``auto``, against a reference that
was sorted before; scipy's is a loop of ``scipy.stats.ks_2samp`` over the features, over 10 of them and scaled where
there are more. Two sorts stand beside it: ``np.sort(window, axis=0)`` of the window as it comes, rows first, and the
sort of its contiguous transpose, which leaves out the copy. Rounds alternate between the contenders, so that each finds
the caches as the others left them; the median round counts.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from scipy import stats

from mlserve.numerics import SortedReference, ks_2samp

SHIFT = 0.02
SCIPY_FEATURES = 10
DIGITS = 2


@attrs.frozen
class Case:
    name: str
    n: int
    m: int
    n_features: int
    kind: str = "float64"
    rounds: int = 15


CASES = (
    Case("100k x 10k x 50", 100_000, 10_000, 50),
    Case("1M x 100k x 1", 1_000_000, 100_000, 1),
    Case("10k x 1k x 1000", 10_000, 1_000, 1000, rounds=7),
    Case("100k x 10k x 1", 100_000, 10_000, 1, rounds=101),
    Case("10k x 1k x 1", 10_000, 1_000, 1, rounds=101),
    Case("100k x 10k x 1, integers", 100_000, 10_000, 1, "integer", rounds=101),
    Case("100k x 10k x 50, integers", 100_000, 10_000, 50, "integer"),
    Case("100k x 10k x 50, rounded floats", 100_000, 10_000, 50, "rounded"),
    Case("100k x 10k x 50, float32 window", 100_000, 10_000, 50, "float32"),
    Case("3k x 1k x 50, N <= 4000", 3_000, 1_000, 50),
    Case("3k x 1k x 50, integers, N <= 4000", 3_000, 1_000, 50, "integer"),
)
QUICK = (
    Case("20k x 2k x 10", 20_000, 2_000, 10, rounds=7),
    Case("100k x 10k x 1", 100_000, 10_000, 1, rounds=21),
    Case("20k x 2k x 10, integers", 20_000, 2_000, 10, "integer", rounds=7),
    Case("900 x 300 x 10, integers, N <= 4000", 900, 300, 10, "integer", rounds=3),
)


def tables(case: Case) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(case.n, case.n_features))
    current = generator.normal(SHIFT, size=(case.m, case.n_features))
    if case.kind == "rounded":
        return np.round(reference, DIGITS), np.round(current, DIGITS)
    if case.kind == "integer":
        return np.rint(reference * 10**DIGITS).astype(np.int64), np.rint(current * 10**DIGITS).astype(np.int64)
    return reference, current.astype(np.float32) if case.kind == "float32" else current


def milliseconds(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each, the rounds of all interleaved; scipy's are fewer, for it is slow."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for number in range(rounds):
        for name, call in contenders.items():
            if name.startswith("scipy") and number >= max(3, rounds // 20):
                continue
            begun = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - begun) * 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure(case: Case) -> dict[str, Any]:
    reference, current = tables(case)
    begun = time.perf_counter()
    sorted_reference = SortedReference(reference)
    sorting = (time.perf_counter() - begun) * 1e3
    transposed = np.ascontiguousarray(current.T)
    columns = [(reference[:, j].copy(), current[:, j].copy()) for j in range(min(case.n_features, SCIPY_FEATURES))]
    taken = milliseconds(
        {
            "ours": lambda: sorted_reference.ks_2samp(current),
            "sort_rows": lambda: np.sort(current, axis=0),
            "sort_transposed": lambda: np.sort(transposed, axis=1),
            "scipy": lambda: [stats.ks_2samp(first, second) for first, second in columns],
        },
        case.rounds,
    )
    taken["scipy"] *= case.n_features / len(columns)
    result = sorted_reference.ks_2samp(current)
    theirs = [stats.ks_2samp(first, second).statistic for first, second in columns]
    return {
        "case": case.name,
        **taken,
        "reference": sorting,
        "times_faster_than_scipy": taken["scipy"] / taken["ours"],
        "times_the_sort": taken["ours"] / taken["sort_rows"],
        "times_the_transposed_sort": taken["ours"] / taken["sort_transposed"],
        "peak_windows": peak_bytes(lambda: sorted_reference.ks_2samp(current)) / current.nbytes,
        "largest_difference_of_statistics": float(np.max(np.abs(result.statistic[: len(theirs)] - theirs))),
        "methods": sorted(set(result.method.tolist())),
    }


def measure_exact(n: int, m: int, shifts: tuple[float, ...]) -> list[dict[str, Any]]:
    """Exact p-values alone, as the difference between the exact and the asymptotic call."""
    rows = []
    for shift in shifts:
        generator = np.random.default_rng(0)
        reference, current = generator.normal(size=n), generator.normal(shift, size=m)
        taken = milliseconds(
            {
                "ours": lambda: ks_2samp(reference, current, method="exact"),  # noqa: B023
                "scipy": lambda: stats.ks_2samp(reference, current, method="exact"),  # noqa: B023
            },
            7,
        )
        ours, theirs = (call(reference, current, method="exact") for call in (ks_2samp, stats.ks_2samp))
        rows.append(
            {
                "case": f"exact, {n} x {m}, D = {ours.statistic:.3f}",
                **taken,
                "times_faster_than_scipy": taken["scipy"] / taken["ours"],
                "pvalue": ours.pvalue,
                "relative_difference_of_pvalues": abs(ours.pvalue / theirs.pvalue - 1.0),
            }
        )
    return rows


def slope(sizes: list[int], cost: Callable[[int], float]) -> float:
    """The exponent of the cost as a power of the size, by least squares on logarithms."""
    points = [(math.log(size), math.log(cost(size))) for size in sizes]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def measure_slopes(scale: int) -> dict[str, float]:
    def cost(n: int, m: int, n_features: int) -> float:
        reference, current = tables(Case("", n, m, n_features))
        sorted_reference = SortedReference(reference)
        return milliseconds({"ours": lambda: sorted_reference.ks_2samp(current)}, 9)["ours"]

    return {
        "features": slope([25, 50, 100, 200], lambda d: cost(2_000 * scale, 500 * scale, d)),
        "window_rows": slope([2_000 * scale * k for k in (1, 2, 4, 8)], lambda m: cost(20_000 * scale, m, 4)),
        "reference_rows": slope([4_000 * scale * k for k in (1, 4, 16, 64)], lambda n: cost(n, 2_000 * scale, 4)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    heads = ("ms", "sort rows", "sort transp.", "scipy", "scipy/ours", "ours/sort", "peak/window")
    print(f"{'':36}" + "".join(f"{head:>13}" for head in heads))
    rows = []
    for case in QUICK if arguments.quick else CASES:
        row = measure(case)
        rows.append(row)
        fields = ("ours", "sort_rows", "sort_transposed", "scipy", "times_faster_than_scipy", "times_the_sort")
        cells = "".join(f"{row[field]:13.3f}" for field in (*fields, "peak_windows"))
        print(f"{row['case']:36}{cells}  {', '.join(row['methods'])}", flush=True)
    exact = measure_exact(1_000, 999, (0.0, 0.25)) if arguments.quick else measure_exact(10_000, 9_999, (0.0, 0.25))
    for row in exact:
        print(
            f"{row['case']:36}{row['ours']:13.3f}{'':26}{row['scipy']:13.3f}{row['times_faster_than_scipy']:13.3f}"
            f"  p = {row['pvalue']:.3g}, relative difference {row['relative_difference_of_pvalues']:.1g}"
        )
    slopes = measure_slopes(1 if arguments.quick else 5)
    print("\ncost grows as a power of: " + ", ".join(f"{name} {value:.2f}" for name, value in slopes.items()))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"cases": rows, "exact": exact, "slopes": slopes}, file, indent=2)


if __name__ == "__main__":
    main()
