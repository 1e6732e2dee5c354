"""A year of flights: serve a model, watch it drift.

    python examples/flights.py [--months N] [--every N]

A classifier of late arrivals is trained on the flights of January and February 2013 and registered. The flights from
March to December then go through ``server.predict`` one by one, in the order in which they left, on a clock that
follows them; whether a flight was late becomes known only when it has landed, and never for a cancelled one. At the
end of each month the drift detector compares the month with January and February. It also estimates from the model's
confidences alone how often the model was right, as could be done before any flight had landed; beside it stands what
the landings say.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import sklearn
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier
from tqdm import tqdm

from mlserve import (
    ArraySchema,
    DriftDetectionResult,
    DriftDetector,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelMetrics,
    ModelServer,
)
from mlserve.monitors import Resolution
from mlserve.records import Baseline, InputSample, PerformanceEstimate, PredictionSample

DATA = Path(__file__).parent / "data" / "flights_2013.npz"
OUTPUT = Path(__file__).parent / "output"

FEATURES = (
    "weekday",
    "scheduled_hour",
    "origin",
    "carrier",
    "destination",
    "distance_miles",
    "temperature_f",
    "humidity_percent",
    "wind_speed_mph",
    "precipitation_inch",
    "pressure_millibar",
    "visibility_miles",
)
LATE_MINUTES = 15
NEVER_KNOWN = -32768
NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)
FIRST_MONTH = 3

# How long a flight takes if it is on time: a cruise speed, and half an hour for taxi, climb and descent.
MILES_PER_MINUTE = 7.5
GROUND_MINUTES = 30


class FlightClock:
    """A clock for a replay: the time of day is the flights', durations are real."""

    monotonic = staticmethod(time.perf_counter)

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance_to(self, moment: datetime) -> None:
        self._now = max(self._now, moment)


class Flights:
    """The year, as arrays in order of scheduled departure."""

    def __init__(self) -> None:
        with np.load(DATA) as data:
            self.X = np.column_stack([data[name].astype(np.float64) for name in FEATURES])
            self.month = data["month"].astype(int)
            self.departure_minute = data["scheduled_departure_minute"].astype(int)
            delay = data["arrival_delay_minutes"].astype(int)
            duration = data["distance_miles"] / MILES_PER_MINUTE + GROUND_MINUTES
        self.has_landed = delay != NEVER_KNOWN
        self.is_late = (delay > LATE_MINUTES).astype(int)
        self.arrival_minute = self.departure_minute + duration + delay


def train(flights: Flights) -> tuple[DecisionTreeClassifier, Baseline]:
    """The model, and what to compare it with: its inputs, and its answers for flights it had not seen."""
    rows = (flights.month < FIRST_MONTH) & flights.has_landed
    X, y = flights.X[rows], flights.is_late[rows]
    model = DecisionTreeClassifier(max_depth=8, min_samples_leaf=100, random_state=0)
    probabilities = cross_val_predict(
        model, X, y, cv=StratifiedKFold(5, shuffle=True, random_state=0), method="predict_proba"
    )
    answers, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    metrics = ModelMetrics(
        accuracy=float((answers == y).mean()), average_confidence=float(confidences.mean()), error_rate=0.0
    )
    baseline = Baseline(
        metrics=metrics,
        inputs=InputSample(rows=X, feature_names=FEATURES),
        predictions=PredictionSample(answers, confidences=confidences, labels=y),
    )
    return model.fit(X, y), baseline


def months(flights: Flights, last: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each month to replay, with the rows of its flights."""
    for month in range(FIRST_MONTH, last + 1):
        yield month, np.flatnonzero(flights.month == month)


def replay(flights: Flights, server: ModelServer, clock: FlightClock, rows: np.ndarray, bar: tqdm) -> None:
    """Predict each flight when it is scheduled to leave; tell what became of it when it lands."""
    in_the_air: list[tuple[float, str, int]] = []
    for row in rows.tolist():
        now = flights.departure_minute[row]
        while in_the_air and in_the_air[0][0] <= now:
            _, prediction_id, was_late = heapq.heappop(in_the_air)
            server.record_outcome(prediction_id, was_late)
        clock.advance_to(NEW_YEAR + timedelta(minutes=int(now)))
        result = server.predict(flights.X[row])
        if result.success and flights.has_landed[row]:
            landing = (flights.arrival_minute[row], result.prediction_id, int(flights.is_late[row]))
            heapq.heappush(in_the_air, landing)
        bar.update()
    for _, prediction_id, was_late in in_the_air:
        server.record_outcome(prediction_id, was_late)


def is_outside_band(drift: DriftDetectionResult) -> bool:
    """Whether what was realised is further from its estimate than the band of the estimate allows for."""
    performance = drift.analysis.performance_drift
    if not isinstance(performance.estimate, PerformanceEstimate) or performance.realised_accuracy is None:
        return False
    low, high = performance.estimate.accuracy_band
    return not low <= performance.realised_accuracy <= high


def table_row(month: int, metrics: ModelMetrics, drift: DriftDetectionResult) -> str:
    """One line of the table."""
    drifted = drift.analysis.data_drift.drifted_features
    marks = {"up": "↑", "down": "↓", "missing": "∅"}
    named = ", ".join(f"{feature.name} {marks[feature.direction]}{feature.effect_size:.2f}" for feature in drifted[:2])
    more = f" +{len(drifted) - 2}" if len(drifted) > 2 else ""
    estimate = drift.analysis.performance_drift.estimate
    estimated = "-"
    if isinstance(estimate, PerformanceEstimate):
        low, high = estimate.accuracy_band
        estimated = f"{estimate.accuracy:.3f} ±{(high - low) / 2:.3f}"
    realised = "-" if metrics.accuracy is None else f"{metrics.accuracy:.3f}{' !'[is_outside_band(drift)]}"
    return (
        f"{datetime(2013, month, 1):%b}  {metrics.request_count:>11,}  {metrics.error_rate or 0:>6.2%}  "
        f"{metrics.p95_latency_ms or 0:>7.3f}  {estimated:>13}  {realised:>9}  {metrics.label_coverage or 0:>6.1%}  "
        f"{named + more:<49}  {drift.primary_type + ' ' + drift.severity:<16}  {drift.recommended_action}"
    )


HEADER = (
    f"{'2013':<5}{'predictions':>11}  {'errors':>6}  {'p95, ms':>7}  {'est. accuracy':>13}  {'realised':>9}  "
    f"{'labels':>6}  {'drifted features, largest D first':<49}  {'verdict':<16}  recommended action"
)


def draw(worst: tuple[float, int, str], before: np.ndarray, flights: Flights, path: Path) -> None:
    """The distribution of the feature that moved furthest, before and after."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    distance, month, name = worst
    column = FEATURES.index(name)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.ecdf(_measured(before[:, column]), label="January and February", linewidth=2)
    axes.ecdf(_measured(flights.X[flights.month == month, column]), label=f"{datetime(2013, month, 1):%B}", linewidth=2)
    axes.set_xlabel(name.replace("_", " "))
    axes.set_ylabel("share of flights at or below")
    axes.set_title(f"What moved furthest: {name}, D = {distance:.2f}")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)


def _measured(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def run(last_month: int = 12, every: int = 1, path: Path = OUTPUT / "flights_drift.png") -> list[DriftDetectionResult]:
    """The whole example.

    Args:
        last_month: The last month to replay, 3 to 12.
        every: Replay only each so-manieth flight.
        path: Where the picture goes.

    Returns:
        What the detector found, month by month.
    """
    flights = Flights()
    print("Training on the flights of January and February …")
    model, baseline = train(flights)
    X_train = baseline.inputs.rows

    clock = FlightClock(NEW_YEAR + timedelta(days=59))
    repository = InMemoryModelRepository(clock=clock)
    # A month of 31 days is longer than the monitor remembers by default.
    remember = (Resolution(timedelta(minutes=1), timedelta(days=1)), Resolution(timedelta(hours=1), timedelta(days=32)))
    monitor = InMemoryModelMonitor(clock=clock, resolutions=remember)
    server = ModelServer(repository, monitor, name="late-arrivals", clock=clock)
    detector = DriftDetector(monitor, clock=clock)

    schema = ArraySchema.infer(X_train, names=FEATURES)
    version = repository.register(model, example=X_train[0], schema=schema, baseline=baseline)
    accuracy = baseline.metrics.accuracy
    print(f"Version {version} is registered; it is right for {accuracy:.1%} of flights it has not seen.\n")

    found: list[DriftDetectionResult] = []
    worst = (0.0, FIRST_MONTH, FEATURES[0])
    replayed = [(month, rows[::every]) for month, rows in months(flights, last_month)]
    print(HEADER)
    total = sum(len(rows) for _, rows in replayed)
    with tqdm(total=total, unit=" flights", leave=False, disable=not sys.stderr.isatty(), mininterval=0.5) as bar:
        for month, rows in replayed:
            replay(flights, server, clock, rows, bar)
            end_of_month = NEW_YEAR.replace(month=month % 12 + 1, year=NEW_YEAR.year + month // 12)
            clock.advance_to(end_of_month)
            window = end_of_month - NEW_YEAR.replace(month=month)
            drift = detector.detect_drift(version, window)
            found.append(drift)
            tqdm.write(table_row(month, server.get_model_metrics(window=window), drift), file=sys.stdout)
            for feature in drift.analysis.data_drift.drifted_features[:1]:
                worst = max(worst, (feature.effect_size or 0.0, month, feature.name))

    outside = sum(map(is_outside_band, found))
    print(
        f"\n! In {outside} of {len(found)} months the accuracy lies outside the band of its estimate, which takes a "
        "confidence to mean what it meant in winter,\n  and flights to be late independently of each other. "
        "See docs/howto/performance_without_labels.md."
    )
    draw(worst, X_train, flights, path)
    health = server.check_health()
    print(f"\nThe server is {health.status}; the picture is {path.name} in {path.parent.name}/.")
    server.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--months", type=int, default=12, help="the last month to replay, 3 to 12")
    parser.add_argument("--every", type=int, default=1, help="replay only each so-manieth flight")
    options = parser.parse_args()
    # A row has been validated before it reaches the model: scikit-learn need not look for infinities again.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        run(options.months, options.every)


if __name__ == "__main__":
    main()
