"""A forked child goes on with the parent's server: other ids, its own threads, none of the parent's requests."""

from __future__ import annotations

import os
import pickle
import select
import signal
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from serving_doubles import PATIENCE, Answering, FullRepository, Gate, InThread

from mlserve import CachePolicy, InMemoryModelRepository, ModelServer
from mlserve.records import HealthState

Build = Callable[..., ModelServer]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 and newer warn of a fork while other threads run, which is what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def report(write_end: int, call: Callable[[], Any]) -> None:
    """In the child: send what the call gives, or what it raises, and end without any clean-up of the parent's."""
    signal.alarm(int(PATIENCE))  # a child that hangs must not outlive the test
    try:
        answer = (True, call())
    except BaseException as error:
        answer = (False, repr(error))
    try:
        os.write(write_end, pickle.dumps(answer))
    finally:
        os._exit(0)


def collect(read_end: int, child: int) -> Any:
    """In the parent: what the child sent."""
    ready, _, _ = select.select([read_end], [], [], 2 * PATIENCE)
    received = os.read(read_end, 65536) if ready else b""
    os.close(read_end)
    os.waitpid(child, 0)
    assert received, "the child hung or died"
    succeeded, value = pickle.loads(received)
    assert succeeded, value
    return value


def in_child(call: Callable[[], Any]) -> Any:
    """What the call gives in a forked child; at most 64 KiB when pickled."""
    read_end, write_end = os.pipe()
    child = fork()
    if child == 0:
        report(write_end, call)
    os.close(write_end)
    return collect(read_end, child)


def test_a_child_gives_other_ids(repository: InMemoryModelRepository, build: Build) -> None:
    """Parent and child, which count on from the same number, never give one id twice."""
    repository.register(Answering(1))
    server = build(repository)

    def ask() -> list[str]:
        return [server.predict(0).prediction_id for _ in range(20)]

    ids = [ask(), in_child(ask), in_child(ask), ask()]
    assert len({id for some in ids for id in some}) == 80


def test_a_child_can_load_versions(repository: InMemoryModelRepository, build: Build) -> None:
    """A child serves what the parent had loaded, loads what it had not, and follows its own repository."""
    for number in (1, 2):
        repository.register(Answering(number))
    server = build(repository)
    server.predict(0)

    def ask() -> list[Any]:
        answers = [server.predict(0).unwrap(), server.predict(0, "1").unwrap()]
        repository.register(Answering(3))
        return [*answers, server.predict(0).unwrap()]

    assert (in_child(ask), server.predict(0).value) == ([2, 1, 3], 2)


def test_a_child_does_not_wait_for_a_load_of_the_parent(build: Build) -> None:
    """A load under way in another thread at the fork does not exist in the child, which loads for itself."""
    repository = FullRepository()
    repository.register(Answering("loaded"))
    gate, server = repository.gate("1"), build(repository)
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()

    def ask() -> Any:
        repository.gates.clear()
        return server.predict(0).unwrap()

    answer = in_child(ask)
    gate.open()
    assert (answer, waiting.result().value) == ("loaded", "loaded")


def test_a_child_can_follow_while_a_thread_of_the_parent_waits_for_a_swap(build: Build) -> None:
    """A request of the parent that waits for a new version does not keep the child from following it."""
    repository = FullRepository()
    repository.register(Answering("old"))
    server = build(repository, cache=CachePolicy(swap_wait_ms=PATIENCE * 1000))
    server.predict(0)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()

    def ask() -> Any:
        repository.gates.clear()
        repository.register(Answering("newest"))
        return server.predict(0).unwrap()

    answer = in_child(ask)
    gate.open()
    waiting.result()
    assert answer == "newest"


def test_requests_of_the_parent_are_not_in_flight_in_the_child(
    repository: InMemoryModelRepository, build: Build
) -> None:
    """A request in another thread at the fork holds no lease in the child: nothing waits for it there."""
    gate = Gate()
    repository.register(lambda x: gate.pass_through())
    server = build(repository)
    request = InThread(server.predict, 0)
    gate.wait_until_reached()

    def ask() -> list[int]:
        found = server.statistics()
        server.close(timeout=10**6)
        return [found.in_flight, sum(found.leases.values())]

    answer = in_child(ask)
    in_parent = server.statistics().in_flight
    gate.open()
    request.result()
    assert (answer, in_parent) == ([0, 0], 1)


def test_a_child_counts_from_zero(repository: InMemoryModelRepository, build: Build) -> None:
    """The counters of the child begin anew and balance."""

    def model(input: int) -> int:
        if input == 13:
            raise KeyboardInterrupt
        return 10 // input

    repository.register(model)
    server = build(repository)
    for input in (1, 0, 0):
        server.predict(input)
    with pytest.raises(KeyboardInterrupt):
        server.predict(13)

    def ask() -> list[int]:
        server.predict(5)
        server.predict(0)
        found = server.statistics()
        return [found.accepted, found.answered, found.failed, found.cancelled, found.in_flight]

    assert in_child(ask) == [2, 2, 1, 0, 0]


def test_a_model_may_fork(repository: InMemoryModelRepository, build: Build) -> None:
    """A model that forks while it answers returns to its caller in the child as in the parent."""
    repository.register(lambda x: fork())
    server = build(repository)
    read_end, write_end = os.pipe()
    result = server.predict(0)
    if result.value == 0:
        report(write_end, lambda: (result.success, server.statistics().in_flight))
    os.close(write_end)
    assert (collect(read_end, result.value), server.statistics().in_flight) == ((True, 0), 0)


def test_a_repository_may_fork(build: Build) -> None:
    """So may a repository while it is asked for the latest version."""

    class Forking(FullRepository):
        child = -1

        def get_latest_version(self) -> Any:
            self.child = fork()
            return super().get_latest_version()

    repository = Forking()
    repository.register(Answering(1))
    server = build(repository)
    read_end, write_end = os.pipe()
    try:
        result = server.predict(0)
    except BaseException as error:
        raised = repr(error)
        if repository.child == 0:
            report(write_end, lambda: raised)
        raise
    if repository.child == 0:
        report(write_end, lambda: (result.success, server.statistics().in_flight))
    os.close(write_end)
    assert (collect(read_end, repository.child), result.value) == ((True, 0), 1)


def test_a_child_has_a_loop_of_its_own(repository: InMemoryModelRepository, build: Build) -> None:
    """Coroutine models answer in the child, though the thread of the parent's loop did not come along."""

    async def model(input: int) -> int:
        return input + 1

    repository.register(model)
    server = build(repository)
    assert (server.predict(1).unwrap(), in_child(lambda: server.predict(2).unwrap())) == (2, 3)


def test_a_closed_server_is_closed_in_the_child(repository: InMemoryModelRepository, build: Build) -> None:
    """A fork does not open what was closed."""
    repository.register(Answering(1))
    server = build(repository)
    server.close()
    assert in_child(lambda: server.predict(0).error.kind.value) == "ServerClosed"


def test_health_can_be_checked_in_the_child(repository: InMemoryModelRepository, build: Build) -> None:
    """Repository, model and monitor can all be asked after a fork."""
    repository.register(Answering(1), example=0)
    server = build(repository)
    server.predict(0)
    assert in_child(lambda: server.check_health().status.value) == HealthState.HEALTHY.value
