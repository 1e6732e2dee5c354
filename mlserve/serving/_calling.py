"""Calling a loaded model: here, on a worker thread, or on an event loop."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any, final

from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._loops import OwnLoop
from mlserve.serving._validation import checked


@final
class Caller:
    """Calls models as their adapters say.

    *Thread safety*: yes.

    Args:
        monotonic: Tells seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.loop = OwnLoop()

    def renew(self) -> None:  # pragma: no cover  # runs in the forked child, where nothing measures
        """A loop of its own for a forked child."""
        self.loop = OwnLoop()

    def call(self, loaded: LoadedVersion, input: Any) -> Any:
        """Check an input and answer it, on this thread."""
        return self.call_checked(loaded, checked(loaded.check, input))

    def call_checked(self, loaded: LoadedVersion, checked: Any) -> Any:
        """Answer an input that was checked, on this thread."""
        value = loaded.call(checked)
        return self.loop.run(value) if loaded.is_async or type(value) is CoroutineType else value

    async def acall(self, loaded: LoadedVersion, checked: Any) -> Any:
        """Answer an input that was checked, on the caller's event loop: for models whose calls are short."""
        value = self.timed(loaded, lambda: loaded.call(checked))
        return await value if type(value) is CoroutineType else value

    def timed(self, loaded: LoadedVersion, call: Callable[[], Any]) -> Any:
        """Make a call and learn how long this version takes."""
        begun = self._monotonic()
        try:
            value = call()
        except StopIteration as error:  # a future cannot carry it: the caller would wait for ever
            raise RuntimeError("the model raised StopIteration") from error
        loaded.learn((self._monotonic() - begun) * 1000.0)
        return value
