"""What callers on threads wait on until a batch has answered them, and how they are woken."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, final

AT_ONCE = 4
"""Waiting threads that a batch wakes itself; each wakes another. All at once they would only fight for the interpreter,
which one of them can have at a time."""


class Bell:
    """Lets a thread that waits go on; rung before it waits, it need not.

    *Thread safety*: one thread waits; any other may ring.

    Attributes:
        wait: Waits until it is rung, or for ``timeout`` seconds; tells whether it was rung.
    """

    __slots__ = ("_lock", "wait")

    def __init__(self) -> None:
        lock = self._lock = threading.Lock()
        wait = self.wait = lock.acquire
        wait()

    def ring(self) -> None:
        """Let the thread go on."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was rung already, and the thread will see for what

    def hush(self) -> None:
        """Forget that it was rung."""
        self.wait(False)


@final
class Waiter(Bell):
    """As much of a future as those need who answer a caller on a thread. Rung, it looks whether to go on to what it is
    told, or to run the next batch.

    *Thread safety*: one thread waits; any other may let it go on.

    Args:
        is_patient: Whether it waits for as long as it takes: only then it may run a batch, or has others to wake.

    Attributes:
        is_patient: See above.
        outcome: What the caller is told once it is over; None before.
        follower: Whom the caller lets go on when it does itself.
    """

    __slots__ = ("_is_cancelled", "follower", "is_patient", "outcome")

    def __init__(self, is_patient: bool = True) -> None:
        self.is_patient = is_patient
        self.outcome: Any = None
        self.follower: Waiter | None = None
        self._is_cancelled = False
        # As ``Bell`` does, without a call more: there is one of these for each request of a thread.
        lock = self._lock = threading.Lock()
        wait = self.wait = lock.acquire
        wait()

    def cancel(self) -> None:
        """The caller went away."""
        self._is_cancelled = True

    def cancelled(self) -> bool:
        """Whether the caller went away."""
        return self._is_cancelled

    def pass_on(self) -> None:
        """Let the caller go on who waits for this one."""
        follower, self.follower = self.follower, None
        if follower is not None:
            follower.ring()


def wake(waiters: Sequence[Waiter], outcomes: Iterable[Any]) -> None:
    """Tell callers on threads that it is over: a few at once, who wake the others."""
    # An impatient one may be gone before its turn to wake others comes.
    lined_up = [waiter for waiter in waiters if waiter.is_patient]
    for waiter, follower in zip(lined_up, lined_up[AT_ONCE:], strict=False):
        waiter.follower = follower
    for waiter, outcome in zip(waiters, outcomes, strict=True):
        waiter.outcome = outcome
        if waiter.cancelled():
            waiter.pass_on()
    for waiter in chain(lined_up[:AT_ONCE], (waiter for waiter in waiters if not waiter.is_patient)):
        waiter.ring()
