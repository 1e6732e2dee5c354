"""From an input to an answer."""

import typing

from mlserve import _importing
from mlserve.serving._dispatch import SingleRow
from mlserve.serving._policy import CachePolicy, HealthPolicy, Limits
from mlserve.serving._server import ModelServer

if typing.TYPE_CHECKING:
    from mlserve.serving._breaker import BreakerState
    from mlserve.serving._fallbacks import CallableFallback, PreviousVersion, StaticAnswer
    from mlserve.serving._options import Batching, Breaker

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

# A service pays for what it asks for.
_ORIGINS = {
    "Batching": "_options",
    "Breaker": "_options",
    "BreakerState": "_breaker",
    "CallableFallback": "_fallbacks",
    "PreviousVersion": "_fallbacks",
    "StaticAnswer": "_fallbacks",
}

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__, {name: f"{__name__}.{module}" for name, module in _ORIGINS.items()}
    )
