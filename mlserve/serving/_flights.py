"""Loads under way, and loads that failed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

from mlserve._rendering import described
from mlserve.errors import ModelLoadFailedError, ServingError
from mlserve.records import ModelVersion
from mlserve.serving._loaded import LoadedVersion


class Flight:
    """One load of one version, shared by whoever waits for it.

    Attributes:
        done: Set when it has ended.
        loaded: The version, where it could be loaded.
        error: Why not, where it could not.
    """

    def __init__(self) -> None:
        self.done = threading.Event()
        self.loaded: LoadedVersion | None = None
        self.error: ServingError | None = None

    def fly(self, load: Callable[[], LoadedVersion], version: ModelVersion) -> None:
        """Load a version. Never raises; those who wait are told by ``done``, which is not set yet."""
        try:
            self.loaded = load()
        except ServingError as error:
            error.version_id = version.id
            self.error = error
        except BaseException as exception:  # also SystemExit from a model's code: the callers must not wait for ever
            self.error = ModelLoadFailedError(
                f"version {version.id} could not be loaded: {described(exception)}.",
                hint="The exception is kept as error.exception and logged in full.",
                exception=exception,
                version_id=version.id,
            )


@attrs.frozen(eq=False, repr=False)
class Failure:
    """A load that failed.

    Attributes:
        version: What could not be loaded.
        error: Why.
        attempts: How often it was tried.
        retry_at: When it may be tried again, monotonic seconds.
    """

    version: ModelVersion
    error: ServingError
    attempts: int
    retry_at: float
