"""Loggers that import ``logging`` when there is something to log: most processes that serve never have."""

from __future__ import annotations

from typing import Any, final


@final
class LazyLogger:
    """The logger of a name, looked up at each use.

    *Thread safety*: as a logger's.

    Args:
        name: Of the module that logs.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import logging

        return getattr(logging.getLogger(self._name), method)
