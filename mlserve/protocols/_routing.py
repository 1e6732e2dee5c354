"""Which version a request goes to."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

from mlserve.records import Route


@runtime_checkable
class Router(Protocol):
    """Chooses a version for each request that names none.

    *Thread safety*: called from any thread at once. *Blocking*: called on the request path; no I/O.
    """

    @abstractmethod
    def route(self, key: str | None) -> Route | None:
        """The version and arm for a request.

        Args:
            key: What the caller gave to be assigned by, such as a user's id; None where nothing was given.

        Returns:
            None for the latest version. A router that raises, or names what is no version, is counted and passed over.
        """
        ...

    @abstractmethod
    def routed_versions(self) -> frozenset[str]:
        """Ids of the versions that may be chosen: their models stay in memory."""
        ...
