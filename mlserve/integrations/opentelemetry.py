"""OpenTelemetry: metrics of a monitor, a sink that records into histograms of your pipeline, and spans around predict.

Needs the extra ``opentelemetry``, which is the API only: who owns the process brings the SDK and says where data goes.

``instrument_monitor`` reads a monitor when metrics are collected, and costs a request nothing. Its instruments, all
with the attribute ``mlserve.model.name``:

=======================================  ======================  ================  =====================================
instrument                               kind                    unit              further attributes
=======================================  ======================  ================  =====================================
``mlserve.requests``                     counter                 ``{request}``     ``mlserve.model.version``
``mlserve.errors``                       counter                 ``{error}``       version, ``error.type``
``mlserve.predictions``                  counter                 ``{prediction}``  version
``mlserve.prediction.time``              counter                 ``s``             version
``mlserve.outcomes``                     counter                 ``{outcome}``     version, ``mlserve.outcome.result``
``mlserve.window.prediction.duration``   gauge                   ``s``             version, ``mlserve.quantile``
``mlserve.window.accuracy``              gauge                   ``1``             version
``mlserve.window.label_coverage``        gauge                   ``1``             version
``mlserve.window.confidence``            gauge                   ``1``             version
``mlserve.window.mean_absolute_error``   gauge                                     version
``mlserve.window.r2``                    gauge                   ``1``             version
``mlserve.outcomes.pending``             up-down counter         ``{prediction}``
``mlserve.drift.events``                 counter                 ``{event}``
``mlserve.monitor.discarded``            counter                 ``{event}``       ``mlserve.discard.reason``
``mlserve.monitor.sink.failures``        counter                 ``{call}``        ``mlserve.sink.name``
``mlserve.monitor.read_errors``          counter                 ``{error}``
=======================================  ======================  ================  =====================================
"""

from __future__ import annotations

from mlserve.errors import MissingExtraError

try:
    from mlserve.integrations._otel_instruments import MonitorInstruments, instrument_monitor
    from mlserve.integrations._otel_sink import OpenTelemetrySink
    from mlserve.integrations._otel_tracing import TracedServer
except ModuleNotFoundError as _error:  # pragma: no cover  # tested in an interpreter of its own
    if (_error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise MissingExtraError("opentelemetry-api", "opentelemetry", "mlserve.integrations.opentelemetry") from _error

__all__ = ["MonitorInstruments", "OpenTelemetrySink", "TracedServer", "instrument_monitor"]
