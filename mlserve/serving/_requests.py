"""A request on its way through what a server may put between caller and model."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlserve.errors import DeadlineExceededError
from mlserve.records import ModelVersion, ServingResult
from mlserve.serving._loaded import LoadedVersion

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
        is_abandoned: Whether its caller went away.
        result: What it came to, where that was made together with others'.
        context: The caller's, in which the model answers this request where it answers it alone.
        done: Released when a caller that waits on a thread may go on.
        future: Done when a caller that awaits may go on.
        thread: Where that future's event loop runs.
        home: Where coroutines run for a caller who awaits many answers.
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
    is_abandoned = False
    result: ServingResult[Any] | None = None
    context: contextvars.Context | None = None
    done: threading.Lock | None = None
    future: asyncio.Future[None] | None = None
    thread = 0
    home: Home | None = None

    def __init__(self, input: Any, prediction_id: str, started: float) -> None:
        self.input = input
        self.prediction_id = prediction_id
        self.started = started

    def outcome(self) -> Any:
        """The answer of a batch, or its own error raised."""
        if self.error is not None:
            raise self.error
        return self.value

    def tell(self) -> None:
        """Let the caller go on."""
        future, done = self.future, self.done
        if future is None:
            assert done is not None  # it waits in one of two ways
            done.release()
        elif not future.done():  # its caller may have been cancelled
            try:
                future.set_result(None)
            except RuntimeError:
                return  # its loop was closed on this very thread, and its caller with it


def complete(requests: Sequence[Request]) -> None:
    """Let callers go on: threads at once, coroutines by one call for each event loop."""
    elsewhere: dict[Any, list[Request]] = {}
    here = threading.get_ident()
    for request in requests:
        future = request.future
        if future is None or request.thread == here:
            request.tell()
        else:
            elsewhere.setdefault(future.get_loop(), []).append(request)
    for loop, awaited in elsewhere.items():
        try:
            loop.call_soon_threadsafe(_tell_all, awaited)
        except RuntimeError:
            continue  # the loop was closed, and its callers with it


def _tell_all(requests: Sequence[Request]) -> None:
    for request in requests:
        request.tell()


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
