"""Fleets of monitors, one monitor that saw the traffic of all, and how the two are compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import numpy as np
import pytest
from traffic import HOUR, MINUTE, SECOND, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.records import ClassMetrics, FailureEvent, ModelMetrics, MonitorSnapshot, QualityMetrics

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""On the edge of a bucket of every resolution of ``small_monitor``."""

WINDOWS = (10 * SECOND, MINUTE, 20 * MINUTE, 25 * MINUTE, 3 * HOUR, 4 * HOUR, 48 * HOUR)
"""Each begins on the edge of a bucket of its resolution at noon."""

BASELINE = np.random.default_rng(0).normal(size=(400, 3))

LABELS: dict[str, Sequence[Any]] = {"1": ("a", "b", "1"), "2": (0, 1, 2)}
"""Answers by version; those of any other are numbers with a fraction."""


def assert_same(found: ModelMetrics, expected: ModelMetrics) -> None:
    """Whatever is counted is equal, sums and what is made of them but for rounding."""
    _assert_same(found, expected, "")


def _assert_same(found: Any, expected: Any, name: str) -> None:
    if isinstance(expected, (ModelMetrics, QualityMetrics, ClassMetrics)) and type(found) is type(expected):
        for field in attrs.fields(type(expected)):
            _assert_same(getattr(found, field.name), getattr(expected, field.name), f"{name}.{field.name}")
    elif isinstance(expected, tuple):
        assert len(found) == len(expected), name
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            _assert_same(one, other, f"{name}[{place}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), name
    else:
        assert found == expected, name


def metrics_of(monitor: InMemoryModelMonitor, version_id: str | None, window: timedelta) -> ModelMetrics:
    if version_id is None:
        return monitor.get_recent_metrics(window)
    return monitor.get_model_metrics(version_id, window)


def assert_agree(found: InMemoryModelMonitor, expected: InMemoryModelMonitor, windows: Any = WINDOWS) -> None:
    """Two monitors say the same of every version, of all together, and of all time."""
    for window in windows:
        for version_id in (None, "1", "2", "3", "never seen"):
            assert_same(metrics_of(found, version_id, window), metrics_of(expected, version_id, window))
    totals = [{one.model_version: one for one in each.cumulative_metrics()} for each in (found, expected)]
    assert totals[0].keys() == totals[1].keys()
    for version_id, total in totals[1].items():
        assert_same(totals[0][version_id], total)


@attrs.frozen
class Happening:
    """A request, or with ``actual`` the outcome of an earlier one."""

    at: datetime
    number: int
    version_id: str | None = None
    kind: str | None = None
    latency_ms: float = 1.0
    confidence: float | None = None
    row: Any = None
    output: Any = None
    actual: Any = None

    def tell(self, monitor: InMemoryModelMonitor) -> None:
        if self.actual is not None:
            monitor.record_outcome(f"p{self.number}", self.actual)
        elif self.kind is not None:
            monitor.record_failure(FailureEvent(f"f{self.number}", self.version_id, None, self.kind, 1.0, self.at))
        else:
            predict(
                monitor,
                self.number,
                self.at,
                str(self.version_id),
                input=self.row,
                output=self.output,
                processing_time_ms=self.latency_ms,
                confidence=self.confidence,
            )


def happenings(count: int, reach: timedelta, seed: int, shift: float = 0.0) -> list[Happening]:
    """Requests of three versions and their outcomes in the time before noon, in order of time."""
    rng = np.random.default_rng(seed)
    seconds = reach.total_seconds()
    found = []
    for number in range(count):
        age = float(rng.random()) * seconds
        at = NOON - timedelta(seconds=age)
        version_id = str(rng.choice(["1", "2", "3"]))
        if rng.random() < 0.15:
            nobody = rng.random() < 0.3
            kind = str(rng.choice(["InvalidInput", "PredictionException", "OurOwn"]))
            found.append(Happening(at, number, None if nobody else version_id, kind))
            continue
        labels = LABELS.get(version_id)
        output, actual = (
            (float(rng.normal()), float(rng.normal()))
            if labels is None
            else (labels[int(rng.integers(3))], labels[int(rng.integers(3))])
        )
        found.append(
            Happening(
                at,
                number,
                version_id,
                latency_ms=float(rng.lognormal(1.0, 1.5)),
                confidence=float(rng.random()) if rng.random() < 0.5 else None,
                row=rng.normal(size=3) + [0.0, shift, 0.0],
                output=output,
            )
        )
        if rng.random() < 0.5:
            later = at + timedelta(seconds=float(rng.random()) * age)
            found.append(Happening(later, number, version_id, actual=actual))
    return sorted(found, key=lambda one: (one.at, one.actual is not None))


@attrs.define
class Fleet:
    """Replicas, one monitor that sees what all of them see, and one that merges their snapshots."""

    clock: ManualClock
    replicas: list[InMemoryModelMonitor]
    everything: InMemoryModelMonitor
    hub: InMemoryModelMonitor
    sequences: dict[int, int] = attrs.field(factory=dict)
    places: dict[int, int] = attrs.field(factory=dict)
    bytes_sent: int = 0

    @classmethod
    def of(cls, count: int, reach: timedelta, **options: Any) -> Fleet:
        clock = ManualClock(NOON - reach)
        options = {"sample_size": 50, "label_maturity": HOUR, **options}
        monitors = [small_monitor(clock, **options) for _ in range(count + 2)]
        for monitor in monitors:
            for version_id in ("1", "2", "3"):
                monitor.set_baseline(version_id, inputs=BASELINE)
        return cls(clock, monitors[2:], monitors[0], monitors[1])

    def serve(self, listed: list[Happening], seed: int) -> None:
        """Each request goes to one replica, its outcome to the same, and both to the one that sees everything."""
        rng = np.random.default_rng(seed)
        for one in listed:
            self.clock.advance_to(one.at)
            replica = self.places.setdefault(one.number, int(rng.integers(len(self.replicas))))
            one.tell(self.replicas[replica])
            one.tell(self.everything)

    def send(self, number: int, *, whole: bool = False) -> None:
        """One replica sends what changed since it last did, or all."""
        snapshot = self.replicas[number].snapshot(0 if whole else self.sequences.get(number, 0))
        data = snapshot.to_bytes()
        self.bytes_sent += len(data)
        self.sequences[number] = snapshot.sequence
        self.hub.merge(MonitorSnapshot.from_bytes(data))
