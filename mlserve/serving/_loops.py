"""Where coroutines and threads meet. asyncio is imported when a coroutine comes: it doubles the time of an import."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import asyncio


async def to_thread(function: Callable[..., Any], *args: Any) -> Any:
    """``asyncio.to_thread``."""
    import asyncio

    return await asyncio.to_thread(function, *args)


@final
class OwnLoop:
    """A loop on a daemon thread, started when first needed.

    *Thread safety*: yes. It is not the loop of any caller, so a caller who blocks its own cannot block this one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for an awaitable and return what it gives."""
        import asyncio

        async def whole() -> tuple[Any, BaseException | None]:
            try:
                return await awaitable, None
            except (KeyboardInterrupt, SystemExit) as error:  # these would end the loop, and answer nobody
                return None, error

        with self._lock:  # so that no awaitable reaches a loop that has ended
            future = asyncio.run_coroutine_threadsafe(whole(), self._running())
        value, error = future.result()
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let the loop end, if there is one, as soon as nobody waits for it any more; does not wait for that."""
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        import asyncio

        if self._loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(loop,), name="mlserve-loop", daemon=True).start()
            self._loop = loop
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    loop.run_forever()
    while unfinished := asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.wait(unfinished))
    loop.close()
