"""Traffic to record, and a naive list to compare a monitor with."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import attrs
import numpy as np

from mlserve import InMemoryModelMonitor, PredictionEvent
from mlserve.clocks import ManualClock
from mlserve.monitors import Resolution
from mlserve.records import FailureEvent

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

KINDS = ["InvalidInput", "PredictionException"]

RESOLUTIONS = (
    Resolution(10 * SECOND, 20 * MINUTE),
    Resolution(5 * MINUTE, 3 * HOUR),
    Resolution(HOUR, 48 * HOUR),
)
"""Coarse enough that a test sees the edges of buckets, each width a multiple of the one before."""


def small_monitor(clock: ManualClock, **options) -> InMemoryModelMonitor:
    """Keeps as few requests whole as a monitor may: 1 024, of which 512 are handed on at once."""
    return InMemoryModelMonitor(clock=clock, **{"resolutions": RESOLUTIONS, "recent_requests": 1024, **options})


def predict(monitor, number: int, at: datetime, version_id: str = "1", **values) -> None:
    """Record a prediction: row ``[number]`` in, class 0 out, 1 ms, unless told otherwise."""
    told = {"input": [float(number)], "output": 0, "processing_time_ms": 1.0, **values}
    monitor.record_prediction(
        PredictionEvent(prediction_id=f"p{number}", model_version=version_id, timestamp=at, **told)
    )


@attrs.frozen
class Request:
    """One request of a list; ``actual`` is the true value that was recorded for it, if any."""

    number: int
    at: datetime
    version_id: str
    kind: str | None
    latency_ms: float
    confidence: float | None
    output: int
    actual: int | None


def random_requests(count: int, now: datetime, reach: timedelta, seed: int) -> list[Request]:
    """Requests of two versions at any microsecond of the time before now, out of order, one in five a failure."""
    rng = np.random.default_rng(seed)
    whole = reach // MICROSECOND
    requests = []
    for number, ago in enumerate(rng.integers(0, whole, count).tolist()):
        failed = rng.random() < 0.2
        requests.append(
            Request(
                number=number,
                at=now - ago * MICROSECOND,
                version_id=str(rng.integers(1, 3)),
                kind=str(rng.choice(KINDS)) if failed else None,
                latency_ms=float(rng.lognormal(1.0, 1.5)),
                confidence=float(rng.random()) if rng.random() < 0.5 else None,
                output=int(rng.integers(0, 2)),
                actual=int(rng.integers(0, 2)) if not failed and rng.random() < 0.6 else None,
            )
        )
    return requests


def record(monitor: InMemoryModelMonitor, requests: list[Request]) -> None:
    """Tell a monitor all of it, the true values last."""
    for request in requests:
        if request.kind is not None:
            monitor.record_failure(
                FailureEvent(f"p{request.number}", request.version_id, [0.0], request.kind, 1.0, request.at)
            )
        else:
            predict(
                monitor,
                request.number,
                request.at,
                request.version_id,
                output=request.output,
                processing_time_ms=request.latency_ms,
                confidence=request.confidence,
            )
    for request in requests:
        if request.actual is not None:
            monitor.record_outcome(f"p{request.number}", request.actual)


def expected_metrics(requests: list[Request], version_id: str | None, start: datetime, now: datetime) -> dict:
    """What a window (start, now] of the list says, by the definitions of the record."""
    inside = [r for r in requests if start < r.at <= now and version_id in (None, r.version_id)]
    answered = [r for r in inside if r.kind is None]
    labelled = [r for r in answered if r.actual is not None]
    confidences = [r.confidence for r in answered if r.confidence is not None]
    errors = Counter(r.kind for r in inside if r.kind is not None)
    return {
        "request_count": len(inside),
        **{kind: errors[kind] for kind in KINDS},
        "average_latency_ms": float(np.mean([r.latency_ms for r in answered])) if answered else None,
        "average_confidence": float(np.mean(confidences)) if confidences else None,
        "labelled_count": len(labelled),
        "accuracy": float(np.mean([r.output == r.actual for r in labelled])) if labelled else None,
    }


def measured_metrics(monitor: InMemoryModelMonitor, version_id: str | None, window: timedelta) -> dict:
    """The same of a monitor."""
    metrics = (
        monitor.get_recent_metrics(window) if version_id is None else monitor.get_model_metrics(version_id, window)
    )
    return {
        "request_count": metrics.request_count,
        **{kind: metrics.errors_by_kind.get(kind, 0) for kind in KINDS},
        "average_latency_ms": metrics.average_latency_ms,
        "average_confidence": metrics.average_confidence,
        "labelled_count": metrics.labelled_count,
        "accuracy": metrics.accuracy,
    }
