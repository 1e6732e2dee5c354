"""What was predicted, how fast, on what, and whether it was right."""

from mlserve._buckets import Resolution
from mlserve.monitors._memory import InMemoryModelMonitor

__all__ = ["InMemoryModelMonitor", "Resolution"]
