"""The router's choices; what it gets wrong is counted, and the latest version answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, final

from mlserve.errors import ServingError
from mlserve.protocols import Router
from mlserve.records import Route
from mlserve.serving._pace import Pace
from mlserve.serving._requests import Request

_log = logging.getLogger(__name__)


@final
class Routes:
    """Asks a router.

    *Thread safety*: yes.

    Args:
        router: Chooses versions.
        count: Counts what went wrong, by name.
        pace: Of the router.
    """

    def __init__(self, router: Router, count: Callable[[str], None], pace: Pace) -> None:
        self._route = pace.measured(lambda key: router.route(key))
        self._count = count
        self.pace = pace

    def chosen(self, key: str | None) -> Route | None:
        """The router's choice; None for the latest."""
        try:
            route: Any = self._route(key)
        except Exception:
            _log.exception("the router failed; the latest version answers")
            self._count("router_errors")
            return None
        if isinstance(route, Route) and isinstance(route.version_id, str):
            return route
        if route is not None:
            _log.error("the router chose %.200r; expected a Route to the id of a version, or None", route)
            self._count("router_errors")
        return None

    def passed_over(self, request: Request, error: ServingError) -> None:
        """The router chose what cannot be served: the caller did not, and gets the latest version."""
        _log.error("the router chose a version that cannot be served: %s", error.message)
        self._count("router_errors")
        request.arm = None
