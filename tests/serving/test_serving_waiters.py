"""Threads that wait for a batch wake each other: none is forgotten, whoever goes away meanwhile."""

from __future__ import annotations

from mlserve.serving._waiters import AT_ONCE, Waiter, wake


def may_go_on(waiter: Waiter) -> bool:
    return bool(waiter.wait(timeout=0.0))


def test_a_few_are_woken_and_wake_the_others() -> None:
    """A batch wakes a few itself, and each of those one more, until all have been."""
    waiters = [Waiter() for _ in range(3 * AT_ONCE)]
    wake(waiters, range(len(waiters)))
    woken = [sum(map(may_go_on, waiters))]
    for first in (0, AT_ONCE):
        for waiter in waiters[first : first + AT_ONCE]:
            waiter.pass_on()
        woken.append(sum(map(may_go_on, waiters)))
    assert woken == [AT_ONCE, AT_ONCE, AT_ONCE]


def test_each_is_told_its_own() -> None:
    """Whoever is woken first, everybody is told what is meant for it."""
    waiters = [Waiter(is_patient=number % 3 > 0) for number in range(2 * AT_ONCE)]
    wake(waiters, range(len(waiters)))
    assert [waiter.outcome for waiter in waiters] == list(range(2 * AT_ONCE))


def test_who_is_gone_wakes_whoever_waits_for_it() -> None:
    """Behind a caller that went away, the next is woken at once."""
    waiters = [Waiter() for _ in range(2 * AT_ONCE)]
    waiters[0].cancel()
    wake(waiters, waiters)
    assert [may_go_on(waiter) for waiter in waiters] == [True] * (AT_ONCE + 1) + [False] * (AT_ONCE - 1)


def test_who_has_a_deadline_waits_for_nobody() -> None:
    """One that is impatient is woken by the batch itself, and nobody waits for it."""
    waiters = [Waiter(is_patient=number % 2 == 0) for number in range(3 * AT_ONCE)]
    wake(waiters, waiters)
    assert all(may_go_on(waiter) and waiter.follower is None for waiter in waiters[1::2])


def test_who_was_woken_may_be_woken_again() -> None:
    """One that was let go on to run a batch, and was answered by another meanwhile, goes on once."""
    waiter = Waiter()
    waiter.ring()
    wake([waiter], ["answer"])
    assert (may_go_on(waiter), waiter.outcome, may_go_on(waiter)) == (True, "answer", False)
