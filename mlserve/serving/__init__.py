"""From an input to an answer."""

from mlserve.serving._breaker import BreakerState
from mlserve.serving._dispatch import SingleRow
from mlserve.serving._fallbacks import CallableFallback, PreviousVersion, StaticAnswer
from mlserve.serving._policy import Batching, Breaker, CachePolicy, HealthPolicy, Limits
from mlserve.serving._server import ModelServer

__all__ = [
    "Batching",
    "Breaker",
    "BreakerState",
    "CachePolicy",
    "CallableFallback",
    "HealthPolicy",
    "Limits",
    "ModelServer",
    "PreviousVersion",
    "SingleRow",
    "StaticAnswer",
]
