"""Calls made at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 8
"""More than the cores of a small machine, few enough to start at once."""

PATIENCE_SECONDS = 60.0
"""How long a thread is waited for before a test fails; no test is faster or slower for it."""

T = TypeVar("T")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What each of several calls answers when all are made at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def wait_and(call: Callable[[], T]) -> T:
        barrier.wait(PATIENCE_SECONDS)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(wait_and, call) for call in calls]
        return [future.result(PATIENCE_SECONDS) for future in futures]
