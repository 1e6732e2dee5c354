"""From an input to an answer."""

from mlserve.serving._dispatch import SingleRow
from mlserve.serving._policy import CachePolicy, HealthPolicy, Limits
from mlserve.serving._server import ModelServer

__all__ = ["CachePolicy", "HealthPolicy", "Limits", "ModelServer", "SingleRow"]
