"""Loads under way, and loads that failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from mlserve._rendering import described
from mlserve.errors import ModelLoadFailedError, ServingError
from mlserve.records import ModelVersion
from mlserve.serving._loaded import LoadedVersion

if TYPE_CHECKING:
    import asyncio


class Flight:
    """One load of one version, shared by whoever waits for it, on threads of their own or awaiting.

    *Thread safety*: yes.

    Attributes:
        done: Set when it has ended.
        loaded: The version, where it could be loaded.
        error: Why not, where it could not.
    """

    def __init__(self) -> None:
        self.done = threading.Event()
        self.loaded: LoadedVersion | None = None
        self.error: ServingError | None = None
        self._lock = threading.Lock()
        self._awaiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

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

    def land(self) -> None:
        """Tell those who wait that it has ended."""
        with self._lock:
            self.done.set()
            awaiting, self._awaiting = self._awaiting, {}
        for landed, loop in awaiting.items():
            try:
                loop.call_soon_threadsafe(_tell, landed)
            except RuntimeError:  # it was closed, and its callers with it
                continue

    async def awaited(self, timeout: float | None) -> bool:
        """Wait for its end for so many seconds at most, no thread doing so; tells whether it has ended."""
        import asyncio

        loop = asyncio.get_running_loop()
        landed = loop.create_future()
        with self._lock:
            if self.done.is_set():
                return True
            self._awaiting[landed] = loop
        try:
            await asyncio.wait([landed], timeout=timeout)
        finally:
            with self._lock:
                self._awaiting.pop(landed, None)
        return self.done.is_set()

    def outcome(self) -> LoadedVersion:
        """The version, once it has ended.

        Raises:
            ServingError: It could not be loaded.
        """
        if self.error is not None:
            raise self.error.copy()
        assert self.loaded is not None
        return self.loaded


def landed(found: LoadedVersion | Flight) -> LoadedVersion:
    """A version, once it is loaded, however long that takes.

    Raises:
        ServingError: It could not be loaded.
    """
    if isinstance(found, LoadedVersion):
        return found
    found.done.wait()
    return found.outcome()


def _tell(landed: asyncio.Future[None]) -> None:
    if not landed.done():  # pragma: no branch  # its caller may have gone away at that very moment
        landed.set_result(None)


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
