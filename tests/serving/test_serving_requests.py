"""Threads that wait for a batch wake each other: none is forgotten, whoever goes away meanwhile."""

from __future__ import annotations

import threading

from mlserve.serving._requests import AT_ONCE, Request, complete


def waiting(count: int) -> list[Request]:
    requests = [Request(number, str(number), 0.0) for number in range(count)]
    for request in requests:
        request.done = threading.Lock()
        request.done.acquire()
    return requests


def may_go_on(request: Request) -> bool:
    assert request.done is not None
    return not request.done.locked()


def test_a_few_are_woken_and_wake_the_others() -> None:
    """A batch wakes a few itself, and each of those one more, until all have been."""
    requests = waiting(3 * AT_ONCE)
    complete(requests)
    woken = [sum(map(may_go_on, requests))]
    for first in (0, AT_ONCE):
        for request in requests[first : first + AT_ONCE]:
            request.pass_on()
        woken.append(sum(map(may_go_on, requests)))
    assert woken == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]


def test_who_is_gone_wakes_whoever_waits_for_it() -> None:
    """Behind a request that nobody waits for any more, the next is woken at once."""
    requests = waiting(2 * AT_ONCE)
    requests[0].is_abandoned = True
    complete(requests)
    assert [may_go_on(request) for request in requests] == [True] * (AT_ONCE + 1) + [False] * (AT_ONCE - 1)


def test_who_has_a_deadline_waits_for_nobody() -> None:
    """A request with a deadline is woken by the batch itself, and nobody waits for it."""
    requests = waiting(3 * AT_ONCE)
    for request in requests[1::2]:
        request.deadline = 1.0
    complete(requests)
    assert all(may_go_on(request) and request.follower is None for request in requests[1::2])


def test_who_was_woken_may_be_woken_again() -> None:
    """One that was let go on to run a batch, and was answered by another meanwhile, goes on once."""
    (request,) = waiting(1)
    request.let_go_on()
    complete([request])
    assert (may_go_on(request), request.is_over) == (True, True)
