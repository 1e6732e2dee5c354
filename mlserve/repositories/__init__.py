"""Where versions live."""

from mlserve.repositories._memory import InMemoryModelRepository

__all__ = ["InMemoryModelRepository"]
