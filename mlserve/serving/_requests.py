"""A request on its way through what a server may put between caller and model."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlserve.errors import DeadlineExceededError
from mlserve.records import ModelVersion, ServingResult
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._validation import checked, translated
from mlserve.serving._waiters import Waiter, wake

if TYPE_CHECKING:
    import asyncio

    from mlserve.serving._gathering import Home


class Request:
    """One request. What most requests do not have is a default of the class, and costs nothing to leave out.

    Attributes:
        input: As it came.
        prediction_id: Its id.
        started: Monotonic seconds.
        version: What the caller named, or None.
        key: What the caller gave to be routed by, or None.
        deadline: Monotonic seconds, or None.
        count: Requests it stands for.
        loaded: The version that answers, once it is known.
        arm: The arm it falls in, or None.
        checked: The input as the model takes it, once it was checked.
        weight: How much of a batch it takes.
        queued_at: Monotonic seconds, once it waits for a batch.
        value: The answer of a batch, as the model gave it.
        error: What went wrong instead.
        is_answered: Whether a batch has answered it, or failed it.
        result: What it came to, where that was made together with others'.
        context: The caller's, in which the model answers this request where it answers it alone; None for nobody's.
        future: What its caller waits on in a queue: is told the result where that is made, else the request.
        loop: Whose future it is; None for a caller that waits on a thread.
        home: Where coroutines run for a caller who awaits many answers.
        is_left: Whether its caller went away, so that nothing is to be begun for it.
        is_unheard: Whether too much waits for the monitor already for it to be told.
    """

    version: ModelVersion | str | None = None
    key: str | None = None
    deadline: float | None = None
    count = 1
    loaded: LoadedVersion | None = None
    arm: str | None = None
    checked: Any = None
    weight = 1
    queued_at = 0.0
    value: Any = None
    error: Exception | None = None
    is_answered = False
    result: ServingResult[Any] | None = None
    context: contextvars.Context | None = None
    future: asyncio.Future[Any] | Waiter | None = None
    loop: asyncio.AbstractEventLoop | None = None
    home: Home | None = None
    is_left = False
    is_unheard = False

    def __init__(self, input: Any, prediction_id: str, started: float) -> None:
        self.input = input
        self.prediction_id = prediction_id
        self.started = started

    def outcome(self) -> Any:
        """The answer of a batch, or its own error raised."""
        if self.error is not None:
            raise self.error
        return self.value

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for it any more."""
        future = self.future
        return future is not None and future.cancelled()

    def check(self) -> None:
        """Check what is asked, for itself."""
        assert self.loaded is not None  # it is found before
        try:
            self.checked = checked(self.loaded.check, self.input)
        except Exception as exception:
            self.error, self.is_answered = translated(exception, self.loaded.id), True


Told = tuple[Sequence[Any], Iterable[Any]]
"""What callers of one kind wait on, futures of one event loop or waiters, and what each is told, once."""


def complete(
    requests: Sequence[Request],
    here: asyncio.AbstractEventLoop | None = None,
    turned: Callable[[], None] | None = None,
) -> None:
    """Let callers go on: those on threads, and coroutines by one call for each event loop.

    Args:
        requests: Whose callers.
        here: The event loop that runs this, or None on a thread.
        turned: See ``tell``.
    """
    of_loops: dict[Any, list[Request]] = {}
    for request in requests:
        of_loops.setdefault(request.loop, []).append(request)
    for loop, asked in of_loops.items():
        tell([told(asked)], loop, here, turned)


def told(requests: Sequence[Request]) -> Told:
    """What the callers of queued requests that are over are told."""
    futures: list[Any] = []
    for request in requests:
        futures.append(request.future)
        request.future = None  # else each would keep the other, and the model, until garbage is collected
    return futures, [request if request.result is None else request.result for request in requests]


def tell(
    all_told: Sequence[Told],
    loop: asyncio.AbstractEventLoop | None,
    here: asyncio.AbstractEventLoop | None,
    turned: Callable[[], None] | None = None,
) -> None:
    """Let callers go on.

    Args:
        all_told: What they are told.
        loop: Their event loop, None for threads; nothing happens if it was closed, and its callers with it.
        here: The event loop that runs this, or None on a thread.
        turned: Called on their loop, where it is another, when its callers have had their turn and what they asked next
            is queued.
    """
    if loop is None:
        for waiters, outcomes in all_told:
            wake(waiters, outcomes)
        return
    if loop is here:
        _hand_out(all_told)
        return
    try:
        loop.call_soon_threadsafe(_hand_out, all_told, loop, turned)
    except RuntimeError:
        return


def _hand_out(
    all_told: Sequence[Told],
    loop: asyncio.AbstractEventLoop | None = None,
    turned: Callable[[], None] | None = None,
) -> None:
    from asyncio import InvalidStateError  # who awaits has imported it

    for futures, outcomes in all_told:
        for future, outcome in zip(futures, outcomes, strict=True):
            try:
                future.set_result(outcome)
            except InvalidStateError:  # its caller was cancelled
                continue
    if turned is not None and loop is not None:
        # The callers go on in the next turn, and what they ask is seen to in the one after it.
        loop.call_soon(loop.call_soon, turned)


def too_late(request: Request) -> DeadlineExceededError:
    """The error of a request that was not answered in time."""
    assert request.deadline is not None
    limit = (request.deadline - request.started) * 1000.0
    by = "" if request.loaded is None else f" by version {request.loaded.id}"
    return DeadlineExceededError(
        f"the request was not answered{by} within {limit:g} ms.",
        hint="A call of the model that is under way goes on and keeps its model.",
        version_id=None if request.loaded is None else request.loaded.id,
    )
