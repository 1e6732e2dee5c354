"""An event loop of the server's own, for callers without one whose model is a coroutine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any, final


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

        async def whole() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(whole(), self._running()).result()

    def close(self) -> None:
        """Stop the loop, if there is one, and wait for its thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="mlserve-loop", daemon=True)
                self._thread.start()
            return self._loop
