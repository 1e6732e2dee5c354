"""What was predicted, how fast, on what, and whether it was right."""

import typing

from mlserve import _importing
from mlserve._buckets import Resolution
from mlserve.monitors._memory import InMemoryModelMonitor

if typing.TYPE_CHECKING:
    from mlserve.monitors._fanout import FanoutMonitor, FanoutStatistics, SinkStatistics
    from mlserve.monitors._sampled import SampledMonitor, SampledStatistics
    from mlserve.monitors._sinks import MonitorSink

__all__ = [
    "FanoutMonitor",
    "FanoutStatistics",
    "InMemoryModelMonitor",
    "MonitorSink",
    "Resolution",
    "SampledMonitor",
    "SampledStatistics",
    "SinkStatistics",
]

# A service with one monitor does not pay for the wrappers.
_WRAPPERS = {
    "mlserve.monitors._fanout": ("FanoutMonitor", "FanoutStatistics", "SinkStatistics"),
    "mlserve.monitors._sampled": ("SampledMonitor", "SampledStatistics"),
    "mlserve.monitors._sinks": ("MonitorSink",),
}

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__, {name: module for module, names in _WRAPPERS.items() for name in names}
    )
