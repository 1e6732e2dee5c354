"""What watching costs, and how soon it sees a change.

    python tests/benchmarks/bench_streams.py [--quick] [--json FILE]

Cost: a stream takes chunks of 1 000 rows of 50 normal features, in which nothing changes, and single rows of the same;
the median call counts. Where river is installed, its KSWIN (one detector a feature, defaults, windows filled) takes
values of the same data in the same run, in turn with the stream, and the ratio per value is printed.

Delay: rows from a change to the alarm, at alpha 0.01 with 1 500 reference rows, for a shift of one of four features,
at once and after 1 500 calm rows; median and 90 % quantile over seeds, and how many alarms came before the change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mlserve.drift._streams import DriftStream

FEATURES = 50
ROWS = 1000
REFERENCE = 10_000

DELAY_REFERENCE = 1500
DELAY_FEATURES = 4
CALM = 1500
LONGEST = 5000
SHIFTS = (0.3, 0.5, 1.0)


def median_seconds(calls: list[Callable[[], object]]) -> float:
    taken = []
    for call in calls:
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def costs(quick: bool) -> dict[str, float]:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(REFERENCE, FEATURES))
    begun = time.perf_counter()
    stream = DriftStream(reference)
    built = time.perf_counter() - begun
    chunks = [rng.normal(size=(ROWS, FEATURES)) for _ in range(5 if quick else 30)]
    stream.update(chunks[0])
    chunk = median_seconds([lambda rows=rows: stream.update(rows) for rows in chunks])  # type: ignore[misc]
    row = median_seconds([lambda row=row: stream.update(row) for row in chunks[0]])  # type: ignore[misc]
    return {
        "build_ms": built * 1e3,
        "chunk_ms": chunk * 1e3,
        "chunk_ms_a_feature": chunk * 1e3 / FEATURES,
        "million_values_a_second": ROWS * FEATURES / chunk / 1e6,
        "single_row_us": row * 1e6,
    }


def against_kswin(quick: bool) -> dict[str, float] | None:
    try:
        from river.drift import KSWIN
    except ImportError:
        return None
    rng = np.random.default_rng(1)
    stream = DriftStream(rng.normal(size=(REFERENCE, FEATURES)))
    detectors = [KSWIN(seed=feature) for feature in range(FEATURES)]
    for row in rng.normal(size=(100, FEATURES)).tolist():  # fills their windows
        for detector, value in zip(detectors, row, strict=True):
            detector.update(value)
    ours, theirs, few = [], [], 10 if quick else 40
    for _ in range(3 if quick else 7):
        rows = rng.normal(size=(ROWS, FEATURES))
        ours.append(median_seconds([lambda rows=rows: stream.update(rows)]) / rows.size)  # type: ignore[misc]
        begun = time.perf_counter()
        for row in rows[:few].tolist():
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)
        theirs.append((time.perf_counter() - begun) / (few * FEATURES))
    mine, kswin = statistics.median(ours), statistics.median(theirs)
    return {"us_a_value": mine * 1e6, "kswin_us_a_value": kswin * 1e6, "ratio": kswin / mine}


def delay(shift: float, calm: int, seed: int) -> int | None:
    """Rows from the change to the alarm; None where the alarm came before it."""
    rng = np.random.default_rng(seed)
    stream = DriftStream(rng.normal(size=(DELAY_REFERENCE, DELAY_FEATURES)), seed=seed)
    if calm and stream.update(rng.normal(size=(calm, DELAY_FEATURES))).alarm_count:
        return None
    rows = rng.normal(size=(LONGEST, DELAY_FEATURES))
    rows[:, 0] += shift
    for first in range(0, LONGEST, 250):
        raised_at = stream.update(rows[first : first + 250]).raised_at
        if raised_at is not None:
            return raised_at - calm + 1
    return LONGEST


def delays(quick: bool) -> list[dict[str, float]]:
    runs = 15 if quick else 101
    found = []
    for shift in SHIFTS:
        for calm in (0, CALM):
            seen = [delay(shift, calm, seed) for seed in range(runs)]
            rows = [item for item in seen if item is not None]
            found.append(
                {
                    "shift": shift,
                    "calm_rows": calm,
                    "median": float(np.median(rows)),
                    "q90": float(np.quantile(rows, 0.9)),
                    "early_alarms": len(seen) - len(rows),
                    "runs": runs,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()

    figures: dict[str, Any] = {"cost": costs(arguments.quick), "kswin": against_kswin(arguments.quick)}
    cost = figures["cost"]
    print("{0} rows × {1} features: {chunk_ms:.1f} ms a chunk, {chunk_ms_a_feature:.3f} ms a feature, "
          "{million_values_a_second:.2f} million values/s".format(ROWS, FEATURES, **cost))  # fmt: skip
    print("one row × {0} features: {single_row_us:.0f} µs; building from {1} rows: {build_ms:.0f} ms"
          .format(FEATURES, REFERENCE, **cost))  # fmt: skip
    if figures["kswin"] is None:
        print("river is not installed: no ratio to KSWIN")
    else:
        print(
            "per value: {us_a_value:.3f} µs, river KSWIN {kswin_us_a_value:.1f} µs: {ratio:.0f} ×".format(
                **figures["kswin"]
            )
        )
    figures["delays"] = delays(arguments.quick)
    print(f"rows to an alarm, one of {DELAY_FEATURES} features shifted, alpha 0.01, {DELAY_REFERENCE} reference rows:")
    for line in figures["delays"]:
        print("  {shift} σ after {calm_rows:4d} calm rows: median {median:.0f}, q90 {q90:.0f} "
              "({early_alarms} of {runs} alarmed before)".format(**line))  # fmt: skip
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
