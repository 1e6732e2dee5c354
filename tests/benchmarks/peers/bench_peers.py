"""mlserve against those peer libraries that are installed, on the same data, in one run.

    python tests/benchmarks/peers/bench_peers.py [--quick] [--json FILE] [--only WORK ...]

Each peer needs an environment of its own; README.md beside this file tells how to make them. Contenders take turns and
the median counts. What is done once for a reference (``prepare``) is timed apart from what is done for each window
(``compare``). The two columns ``times`` tell how many times as long as mlserve it took: to prepare and compare, and to
compare. Where a peer computes what mlserve computes, the largest difference is printed. Nothing is sent to anybody:
usage reports are switched off before a peer is imported.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
import numpy as np
from expected import expected, largest_difference
from measuring import Contender, Evidence, Taken, alternate
from scipy.special import expit
from scipy.stats import rankdata
from tables import Mixed, mixed, numbers

os.environ.update(DO_NOT_TRACK="1", NML_DISABLE_USAGE_LOGGING="1")

TABLE_PEERS = {"alibi-detect": "peer_alibi_detect", "evidently": "peer_evidently", "nannyml": "peer_nannyml"}
PACKAGES = ("numpy", "scipy", "pandas", *TABLE_PEERS, "river")
BUDGET = 10.0
WIDTH = 62

REPORT = (100_000, 10_000, 50)
NUMERIC = ((100_000, 10_000, 50), (10_000, 1_000, 1_000), (1_000_000, 100_000, 1))
QUICK_REPORT = (20_000, 2_000, 10)
QUICK_NUMERIC = ((20_000, 2_000, 10),)

STREAM_REFERENCE, STREAM_ROWS, STREAM_FEATURES, STREAM_FILL = 10_000, 1_000, 50, 100

ESTIMATION_REFERENCE, ESTIMATION_WINDOW, WINDOWS = 50_000, 10_000, 20


def installed() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def table_peers(present: dict[str, str]) -> list[Any]:
    return [importlib.import_module(module) for name, module in TABLE_PEERS.items() if name in present]


def tabulated(title: str, contenders: list[Contender], table: Mixed, rounds: int) -> dict[str, Any]:
    taken, results = alternate(contenders, rounds, BUDGET)
    ours = taken[contenders[0].name]
    heads = "".join(f"{head:>10}" for head in ("prepare", "+ compare", "compare", "times", "times"))
    print(f"\n{title}\n{'':{WIDTH}}{heads}")
    figures: dict[str, Any] = {}
    for one in contenders:
        found = taken[one.name]
        ratios = {"both": found.both / ours.both, "compare": found.compare / ours.compare}
        differences = checked(one, results[one.name], table)
        figures[one.name] = {**attrs.asdict(found), "times_ours": ratios, "differences": differences}
        print(row(one, found, ratios), flush=True)
        for columns, difference in differences.items():
            print(f"{'':4}{columns}: within {difference:.1g} of {one.evidence.value if one.evidence else ''}")
    return figures


def row(one: Contender, found: Taken, ratios: dict[str, float]) -> str:
    name = one.name if one.scale == 1 else f"{one.name} (scaled by {one.scale:g})"
    cells = "".join(f"{value:10.1f}" for value in (found.prepare, found.both, found.compare))
    return f"{name:{WIDTH}}{cells}{ratios['both']:10.2f}{ratios['compare']:10.2f}  {found.rounds} rounds"


def checked(one: Contender, result: Any, table: Mixed) -> dict[str, float]:
    if one.numbers is None or one.evidence is None:
        return {}
    given, wanted = one.numbers(result), expected(one.evidence, table)
    found = {
        "numbers": largest_difference(given, wanted, table.numeric, relative=one.evidence is Evidence.SCIPY_P),
        "texts": largest_difference(given, wanted, table.categorical, relative=True),
    }
    return {columns: difference for columns, difference in found.items() if difference is not None}


def measure_report(present: dict[str, str], quick: bool) -> dict[str, Any] | None:
    peers = table_peers(present)
    if not peers:
        return None
    size = QUICK_REPORT if quick else REPORT
    table = mixed(*size)
    contenders = [one for module in (importlib.import_module("peer_mlserve"), *peers) for one in module.report(table)]
    title = f"whole report, {' x '.join(map(str, size))}, of them {len(table.categorical)} texts, ms"
    return tabulated(title, contenders, table, 3 if quick else 9)


def measure_numeric(present: dict[str, str], quick: bool) -> dict[str, Any] | None:
    peers = table_peers(present)
    if not peers:
        return None
    figures = {}
    for size in QUICK_NUMERIC if quick else NUMERIC:
        reference, current = numbers(*size)
        names = [f"number_{index}" for index in range(size[2])]
        columns = (dict(zip(names, side.T, strict=True)) for side in (reference, current))
        contenders = [
            one
            for module in (importlib.import_module("peer_mlserve"), *peers)
            for one in module.numeric(reference, current, names)
        ]
        title = " x ".join(map(str, size))
        figures[title] = tabulated(f"numbers, {title}, ms", contenders, Mixed(*columns, names, []), 3 if quick else 7)
    return figures


def measure_stream(present: dict[str, str], quick: bool) -> dict[str, Any] | None:
    if "river" not in present:
        return None
    from peer_river import detectors

    from mlserve.drift import DriftStream

    generator = np.random.default_rng(0)
    stream = DriftStream(generator.normal(size=(STREAM_REFERENCE, STREAM_FEATURES)))
    by_row = DriftStream(generator.normal(size=(STREAM_REFERENCE, STREAM_FEATURES)))
    kinds = detectors(quick)
    made = {name: [kind.make(seed) for seed in range(STREAM_FEATURES)] for name, kind in kinds.items()}

    def fed(name: str, rows: list[list[float]]) -> None:
        for values in rows:
            for detector, value in zip(made[name], values, strict=True):
                detector.update(value)

    full = generator.normal(size=(STREAM_FILL, STREAM_FEATURES))
    stream.update(full)
    for name in made:
        fed(name, full.tolist())
    taken: dict[str, list[float]] = {}

    def timed(name: str, values: int, call: Callable[[], object]) -> None:
        begun = time.perf_counter()
        call()
        taken.setdefault(name, []).append((time.perf_counter() - begun) / values * 1e6)

    def one_by_one(rows: np.ndarray[Any, Any]) -> None:
        for values in rows:
            by_row.update(values)

    for _ in range(3 if quick else 15):
        rows = generator.normal(size=(STREAM_ROWS, STREAM_FEATURES))
        few = rows[:STREAM_FILL]
        timed("mlserve DriftStream, 1 000 rows at once", rows.size, partial(stream.update, rows))
        timed("mlserve DriftStream, row by row", few.size, partial(one_by_one, few))
        for name, kind in kinds.items():
            part = rows[: kind.rows].tolist()
            timed(name, kind.rows * STREAM_FEATURES, partial(fed, name, part))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    ours = next(iter(medians.values()))
    print(f"\nstreams, {STREAM_FEATURES} features\n{'':{WIDTH}}{'µs a value':>12}{'times ours':>12}")
    for name, value in medians.items():
        print(f"{name:{WIDTH}}{value:12.3f}{value / ours:12.2f}")
    return {name: {"microseconds_a_value": value, "times_ours": value / ours} for name, value in medians.items()}


def scored(
    generator: np.random.Generator, rows: int, shift: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Scores of an overconfident model, and labels."""
    logits = generator.normal(shift, 1.5, size=rows)
    return expit(1.6 * logits), generator.random(rows) < expit(logits)


def realised(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> dict[str, float]:
    predicted = scores > 0.5
    positives = int(labels.sum())
    wins = rankdata(scores)[labels].sum() - positives * (positives + 1) / 2
    return {
        "accuracy": float((predicted == labels).mean()),
        "f1": float(2 * (predicted & labels).sum() / (predicted.sum() + positives)),
        "roc_auc": float(wins / (positives * (labels.size - positives))),
    }


def measure_estimation(present: dict[str, str], quick: bool) -> dict[str, Any] | None:
    if "nannyml" not in present:
        return None
    import peer_mlserve
    import peer_nannyml

    generator = np.random.default_rng(0)
    n, m = (5_000, 1_000) if quick else (ESTIMATION_REFERENCE, ESTIMATION_WINDOW)
    scores, labels = scored(generator, n, 0.0)
    windows = [scored(generator, m, 0.5) for _ in range(5 if quick else WINDOWS)]
    makers: dict[str, Callable[[], Any]] = {
        "mlserve PerformanceEstimator": lambda: peer_mlserve.Estimator(scores, labels),
        "NannyML CBPE": lambda: peer_nannyml.Estimator(scores, labels, m),
    }
    contenders = [
        Contender(name, make, lambda estimator: estimator.estimate(windows[0][0])) for name, make in makers.items()
    ]
    figures = tabulated(
        f"performance without labels, {n} labelled rows, window of {m}, ms",
        contenders,
        Mixed({}, {}, [], []),
        3 if quick else 9,
    )
    for name, make in makers.items():
        estimator = make()
        missed = [
            {metric: estimator.estimate(moved)[metric] - value for metric, value in realised(moved, truth).items()}
            for moved, truth in windows
        ]
        far = {metric: float(np.sqrt(np.mean([one[metric] ** 2 for one in missed]))) for metric in missed[0]}
        figures[name]["root_mean_square_error"] = far
        cells = ", ".join(f"{metric} {value:.4f}" for metric, value in far.items())
        print(f"{name:{WIDTH}}root mean square distance to realised, {len(windows)} windows: {cells}")
    return figures


WORKS = {
    "report": measure_report,
    "numeric": measure_numeric,
    "stream": measure_stream,
    "estimation": measure_estimation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small tables, few rounds: a look, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), help="some of the work")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers'
    figures: dict[str, Any] = {"versions": installed()}
    print(", ".join(f"{name} {number}" for name, number in figures["versions"].items()))
    for name in arguments.only:
        figures[name] = WORKS[name](figures["versions"], arguments.quick)
        if figures[name] is None:
            print(f"\n{name}: no peer for it is installed")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
