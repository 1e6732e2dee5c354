"""How mlserve's Prometheus metrics are named."""

from __future__ import annotations

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily


def counter(name: str, what: str, *labels: str) -> CounterMetricFamily:
    """A counter of models."""
    return CounterMetricFamily(f"mlserve_{name}", what, labels=("model", *labels))


def gauge(name: str, what: str, *labels: str, unit: str = "") -> GaugeMetricFamily:
    """A gauge of models."""
    return GaugeMetricFamily(f"mlserve_{name}", what, labels=("model", *labels), unit=unit)
