"""A whole report of ``compare_inputs`` against a loop over the columns with scipy, in one run.

    python tests/benchmarks/bench_compare.py [--quick] [--json FILE]

Four in five columns are numbers, the others texts, 2 % of both missing. The report gets them as a mapping from names to
columns and, where pandas is installed, as a frame. The loop is what one writes by hand: ``scipy.stats.ks_2samp`` of the
values that are not missing, ``scipy.stats.chi2_contingency`` of counts by ``collections.Counter``; it gives a statistic
and a p-value a column and nothing else. ``prepared`` is a comparison with an ``InputReference``, which is fitted once,
``fit``, and must give the same report. Rounds alternate; the median counts. Before, the statistics of the report are
compared with scipy's for the same question (in the report a missing value is a value of its own, above all others).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from peers.tables import Mixed, mixed
from scipy import stats

from mlserve.drift import InputReference, compare_inputs

TABLE = (100_000, 10_000, 50)
QUICK_TABLE = (20_000, 2_000, 10)
LARGEST_DIFFERENCE = 1e-9


def scipy_loop(table: Mixed) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in table.numeric:
        first, second = table.reference[name], table.current[name]
        found[name] = stats.ks_2samp(first[~np.isnan(first)], second[~np.isnan(second)])
    for name in table.categorical:
        first, second = (Counter(side[name].tolist()) for side in (table.reference, table.current))
        known = [value for value in first | second if value is not None]
        found[name] = stats.chi2_contingency([[side[value] for value in known] for side in (first, second)])
    return found


def difference(table: Mixed) -> float:
    """The largest of the report's statistics from scipy's where a missing value counts: relative for chi-square."""
    largest = 0.0
    for feature in compare_inputs(table.reference, table.current).features:
        first, second = table.reference[feature.name], table.current[feature.name]
        if feature.name in table.numeric:
            above = [np.where(np.isnan(side), np.inf, side) for side in (first, second)]
            largest = max(largest, abs(feature.statistic - stats.ks_2samp(*above).statistic))
        else:
            counts = [Counter(side.tolist()) for side in (first, second)]
            expected = stats.chi2_contingency([[side[value] for value in counts[0] | counts[1]] for side in counts])
            largest = max(largest, abs(feature.statistic / expected.statistic - 1.0))
    return largest


def milliseconds(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
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


def frames(table: Mixed) -> tuple[Any, Any] | None:
    try:
        import pandas
    except ImportError:
        return None
    return pandas.DataFrame(table.reference), pandas.DataFrame(table.current)


def measure(n: int, m: int, n_features: int, rounds: int) -> dict[str, Any]:
    table = mixed(n, m, n_features)
    found = difference(table)
    if found > LARGEST_DIFFERENCE:
        raise SystemExit(f"statistics differ from scipy's by {found:.3g}")
    calls: dict[str, Callable[[], object]] = {}

    def add(name: str, reference: Any, current: Any) -> None:
        prepared = InputReference.fit(reference)
        if compare_inputs(prepared, current) != compare_inputs(reference, current):
            raise SystemExit(f"{name}: a prepared reference gives another report")
        calls[name] = lambda: compare_inputs(reference, current)
        calls[f"{name}, fit"] = lambda: InputReference.fit(reference)
        calls[f"{name}, prepared"] = lambda: compare_inputs(prepared, current)

    add("mapping", table.reference, table.current)
    calls["scipy"] = lambda: scipy_loop(table)
    as_frames = frames(table)
    if as_frames is not None:
        add("frame", *as_frames)
    taken = milliseconds(calls, rounds)
    peak, prepared_peak = peak_bytes(calls["mapping"]), peak_bytes(calls["mapping, prepared"])
    # Of an array of texts, only the references to them are counted.
    reference, window = (sum(column.nbytes for column in side.values()) for side in (table.reference, table.current))
    return {
        "table": f"{n} x {m} x {n_features}",
        "milliseconds": taken,
        "times_faster_than_scipy": {
            name: taken["scipy"] / taken[name] for name in taken if name != "scipy" and not name.endswith("fit")
        },
        "largest_difference_of_statistics": found,
        "peak_windows": peak / window,
        "peak_references": peak / reference,
        "prepared_peak_windows": prepared_peak / window,
    }


def slope(sizes: list[int], cost: Callable[[int], float]) -> float:
    """The exponent of the cost as a power of the size, by least squares on logarithms."""
    points = [(math.log(size), math.log(cost(size))) for size in sizes]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def slopes(scale: int) -> dict[str, float]:
    def cost(n: int, m: int, n_features: int) -> float:
        table = mixed(n, m, n_features)
        return milliseconds({"ours": lambda: compare_inputs(table.reference, table.current)}, 7)["ours"]

    return {
        "features": slope([10, 20, 40, 80], lambda d: cost(4_000 * scale, 1_000 * scale, d)),
        "window_rows": slope([1_000 * scale * k for k in (1, 2, 4, 8)], lambda m: cost(4_000 * scale, m, 10)),
        "reference_rows": slope([4_000 * scale * k for k in (1, 4, 16, 64)], lambda n: cost(n, 1_000 * scale, 10)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small table, few rounds")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    figures = measure(*(QUICK_TABLE if arguments.quick else TABLE), rounds=5 if arguments.quick else 11)
    print(f"{figures['table']}, statistics within {figures['largest_difference_of_statistics']:.1g} of scipy's")
    for name, taken in figures["milliseconds"].items():
        ratio = figures["times_faster_than_scipy"].get(name)
        print(f"  {name:20}{taken:10.1f} ms" + ("" if ratio is None else f"{ratio:8.1f} times faster than scipy"))
    print(
        "  peak memory {peak_windows:.2f} windows, {peak_references:.2f} references; "
        "prepared {prepared_peak_windows:.2f} windows".format(**figures)
    )
    figures["slopes"] = slopes(1 if arguments.quick else 3)
    print("cost grows as a power of: " + ", ".join(f"{name} {value:.2f}" for name, value in figures["slopes"].items()))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
