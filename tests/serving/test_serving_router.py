"""Routers: a version for each request that names none; a router that is wrong costs nobody an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from serving_doubles import Answering, ChoosingRouter, FullRepository, Tallied

from mlserve import Batching, CachePolicy, ErrorKind, InMemoryModelMonitor
from mlserve.records import Route

Host = Callable[..., Tallied]

both = pytest.mark.parametrize("is_async", [False, True], ids=["waiting", "awaiting"])


def ask(server: Tallied, is_async: bool, *args: Any, **kwargs: Any) -> Any:
    return asyncio.run(server.apredict(*args, **kwargs)) if is_async else server.predict(*args, **kwargs)


@pytest.fixture
def repository() -> FullRepository:
    """Three versions, which answer "1", "2" and "3"."""
    repository = FullRepository()
    for name in ("1", "2", "3"):
        repository.register(Answering(name))
    return repository


@pytest.mark.parametrize("batching", [None, Batching()])
@both
def test_a_router_chooses_the_version(is_async: bool, batching: Any, repository: FullRepository, tallied: Host) -> None:
    """The version that the router names answers, and result and event tell the arm and the key."""
    monitor = InMemoryModelMonitor()
    router = ChoosingRouter(lambda key: Route("1", "canary") if key == "Ann" else Route("2", "control"))
    server = tallied(repository, monitor, router=router, batching=batching)
    results = [ask(server, is_async, 0, key=key) for key in ("Ann", "Ben")]
    assert [(result.value, result.arm) for result in results] == [("1", "canary"), ("2", "control")]
    assert [(event.model_version, event.arm, event.key) for event in monitor.events().events] == [
        ("1", "canary", "Ann"),
        ("2", "control", "Ben"),
    ]


@both
def test_a_router_may_leave_the_choice(is_async: bool, repository: FullRepository, tallied: Host) -> None:
    """None is the latest version, in no arm; that is no error."""
    server = tallied(repository, router=ChoosingRouter(None))
    result = ask(server, is_async, 0)
    assert (result.value, result.arm, server.statistics().router_errors) == ("3", None, 0)


@both
def test_who_names_a_version_is_not_routed(is_async: bool, repository: FullRepository, tallied: Host) -> None:
    """A version that the caller names is served, and the router is not asked."""
    router = ChoosingRouter(Route("1", "canary"))
    server = tallied(repository, router=router)
    result = ask(server, is_async, 0, "2")
    assert (result.value, result.arm, router.keys) == ("2", None, [])


@pytest.mark.parametrize(
    "choice",
    [
        ValueError("no"),
        StopIteration(),
        "1",
        7,
        ("1", "a"),
        Route("99", "a"),
        Route("", "a"),
        Route(None, "a"),  # type: ignore[arg-type]  # nonsense is the point
        Route([1], "a"),  # type: ignore[arg-type]  # as above
    ],
)
@both
def test_a_router_that_is_wrong_is_passed_over(
    choice: Any, is_async: bool, repository: FullRepository, tallied: Host
) -> None:
    """A router that raises, answers nonsense or names what is no version is counted; the latest answers, in no arm."""
    server = tallied(repository, router=ChoosingRouter(choice))
    result = ask(server, is_async, 0)
    assert (result.value, result.arm, server.statistics().router_errors) == ("3", None, 1)


@both
def test_a_route_that_does_not_load_fails(is_async: bool, repository: FullRepository, tallied: Host) -> None:
    """A version that exists but cannot be loaded is no mistake of the router: its arm has failed, and shows it."""
    repository.broken_loads["1"] = OSError("no")
    server = tallied(repository, router=ChoosingRouter(Route("1", "canary")))
    result = ask(server, is_async, 0)
    assert (result.error.kind, result.arm, result.version.id) == (ErrorKind.ModelLoadFailed, "canary", "1")
    assert server.statistics().router_errors == 0


def test_a_retired_version_is_not_served_by_a_route(repository: FullRepository, tallied: Host) -> None:
    """A router that has not heard of a rollback is passed over."""
    repository.retire("1")
    server = tallied(repository, router=ChoosingRouter(Route("1", "canary")))
    assert (server.predict(0).value, server.statistics().router_errors) == ("3", 1)


def test_many_inputs_take_one_route(repository: FullRepository, tallied: Host) -> None:
    """All inputs of ``predict_many`` go to one version, in one arm."""
    router = ChoosingRouter(Route("1", "canary"))
    results = tallied(repository, router=router).predict_many([1, 2, 3], key="Ann")
    assert [(result.value, result.arm) for result in results] == [("1", "canary")] * 3
    assert router.keys == ["Ann"]


def test_what_may_be_chosen_stays_loaded(repository: FullRepository, tallied: Host) -> None:
    """Versions that the router may choose survive the sweep that drops others."""
    server = tallied(
        repository, router=ChoosingRouter(None, frozenset({"1"})), cache=CachePolicy(max_loaded=2, keep_active=1)
    )
    for name in ("1", "2", "3"):
        server.predict(0, name)
    assert server.statistics().loaded_models == ("1", "3")


@pytest.mark.parametrize("pinned", [ValueError("no"), None, 3])
def test_a_router_that_cannot_tell_what_it_may_choose(pinned: Any, repository: FullRepository, tallied: Host) -> None:
    """It is counted as the router's error, and the sweep goes on without it."""
    server = tallied(repository, router=ChoosingRouter(None, pinned), cache=CachePolicy(max_loaded=2, keep_active=1))
    for name in ("1", "2", "3"):
        server.predict(0, name)
    found = server.statistics()
    assert (found.loaded_models, found.router_errors, found.repository_errors) == (("3",), 1, 0)


def test_its_errors_are_counted_together(repository: FullRepository, tallied: Host) -> None:
    """What the router gets wrong as it chooses and as it is swept adds up to one number."""
    router = ChoosingRouter(ValueError("no"), ValueError("no"))
    server = tallied(repository, router=router, cache=CachePolicy(max_loaded=1, keep_active=1))
    server.predict(0, "1")
    server.predict(0)
    assert server.statistics().router_errors == 2
