"""Following the latest version: swaps under traffic, repositories that fail, repositories that cannot be observed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from serving_doubles import (
    Answering,
    FullRepository,
    Gate,
    InThread,
    ThreeMethodRepository,
    UnprintableError,
    all_at_once,
    background_ended,
    until,
)

from mlserve import CachePolicy, ErrorKind, InMemoryModelRepository, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import ModelLoadFailedError, RepositoryUnavailableError, VersionNotFoundError
from mlserve.records import HealthState
from mlserve.serving import _names
from mlserve.serving._pool import MOST_THREADS

Build = Callable[..., ModelServer]
PATIENT = CachePolicy(swap_wait_ms=math.inf)
"""The request that finds a new version waits until it is loaded, so that nothing depends on speed."""
HURRIED = CachePolicy(swap_wait_ms=0)
"""No request waits for a new version."""
SECOND = timedelta(seconds=1)


class SlowToTell(ThreeMethodRepository):
    """A repository without a generation that knows aliases, and takes long to say what is active when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: Gate | None = None
        self.stale: Any = None
        self.set_alias = self.inner.set_alias
        self.resolve_alias = self.inner.resolve_alias

    def get_active_versions(self, limit: int | None = None) -> Any:
        gate, stale = self.gate, self.stale
        if gate is not None:
            gate.pass_through()
            return super().get_active_versions(limit) if stale is None else stale
        return super().get_active_versions(limit)


def serving(repository: Any, build: Build, **options: Any) -> ModelServer:
    """A server that has answered with version 1, the answer of which is "old"."""
    repository.register(Answering("old"))
    server = build(repository, **options)
    assert server.predict(0).value == "old"
    return server


# ------------------------------------------------------------------------------------------------------ slow loads


def test_the_old_version_answers_while_the_new_one_loads(build: Build) -> None:
    """A load that takes longer than swap_wait_ms does not keep a request: the old version answers it."""
    repository = FullRepository()
    server = serving(repository, build, cache=HURRIED)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    answers = [server.predict(0).value for _ in range(3)]
    gate.open()
    assert answers == ["old"] * 3


def test_traffic_moves_when_the_load_is_ready_without_a_further_request(build: Build) -> None:
    """A load that outlasted the request that started it swaps the version in by itself."""
    repository = FullRepository()
    server = serving(repository, build, cache=HURRIED)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    server.predict(0)
    before = server.statistics().swaps
    gate.open()
    background_ended()
    assert (before, server.statistics().swaps, server.predict(0).value) == (0, 1, "new")


def test_others_are_answered_while_one_request_waits(build: Build) -> None:
    """Only the request that found the new version waits for it; all others are answered by the old one."""
    repository = FullRepository()
    server = serving(repository, build, cache=PATIENT)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    first = InThread(server.predict, 0)
    gate.wait_until_reached()
    others = all_at_once(8, lambda i: server.predict(i).value)
    gate.open()
    assert (others, first.result().value) == (["old"] * 8, "new")


@pytest.mark.parametrize("refresh_seconds", [0, 1.0])
def test_a_version_is_waited_for_once(refresh_seconds: float, build: Build) -> None:
    """A request that finds a load under way which was found before does not wait for it again."""
    repository = ThreeMethodRepository()
    policy = CachePolicy(swap_wait_ms=math.inf, refresh_seconds=refresh_seconds)
    server = serving(repository, build, cache=policy, clock=ManualClock())
    gate = repository.gate("2")
    repository.register(Answering("new"))
    refreshing = InThread(server.refresh)
    gate.wait_until_reached()
    answer = InThread(server.predict, 0).result().value
    gate.open()
    assert (answer, refreshing.result().id) == ("old", "2")


def test_a_version_rolled_back_while_it_loads_is_not_swapped_in(build: Build) -> None:
    """When a new version is rolled back before its load ends, it never serves."""
    repository = FullRepository()
    server = serving(repository, build, cache=HURRIED)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    server.predict(0)
    repository.rollback()
    server.predict(0)
    gate.open()
    background_ended()
    assert [server.predict(0).value for _ in range(3)] == ["old"] * 3


def test_a_version_overtaken_while_it_loads_is_not_swapped_in(build: Build) -> None:
    """When a still newer version is loaded first, the late one does not take its place."""
    repository = FullRepository()
    server = serving(repository, build, cache=HURRIED)
    gate = repository.gate("2")
    repository.register(Answering("late"))
    server.predict(0)
    repository.register(Answering("newest"))
    server.refresh()
    gate.open()
    background_ended()
    assert server.predict(0).value == "newest"


def test_a_request_that_waited_for_an_overtaken_version_swaps_nothing(build: Build) -> None:
    """The request that waited for the late version is answered by it, and it alone."""
    repository = FullRepository()
    server = serving(repository, build, cache=PATIENT)
    gate = repository.gate("2")
    repository.register(Answering("late"))
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()
    repository.register(Answering("newest"))
    server.refresh()
    gate.open()
    assert (waiting.result().value, server.predict(0).value) == ("late", "newest")


def test_a_late_failure_does_not_bring_the_old_version_back(build: Build) -> None:
    """A load that fails after traffic has moved to a still newer version changes nothing, health included."""
    repository = FullRepository()
    server = serving(repository, build, cache=PATIENT)
    gate = repository.gate("2")
    repository.broken_loads["2"] = OSError("disk")
    repository.register(Answering("broken"))
    waiting = InThread(server.predict, 0)
    gate.wait_until_reached()
    repository.register(Answering("newest"))
    server.refresh()
    gate.open()
    waiting.result()
    assert server.predict(0).value == "newest"
    assert server.check_health().status is HealthState.HEALTHY


def test_a_swap_loses_no_request(build: Build, repository: InMemoryModelRepository) -> None:
    """While versions change under traffic every request succeeds, and each thread sees them in order."""
    repository.register(Answering(1))
    server = build(repository)

    def ask(index: int) -> list[Any]:
        if index == 0:
            for number in range(2, 20):
                repository.register(Answering(number))
                server.predict(0)
            return []
        return [server.predict(0).value for _ in range(300)]

    answers = all_at_once(5, ask)
    assert all(None not in each and each == sorted(each) for each in answers)


# ---------------------------------------------------------------------------------------------------- failing loads


def test_a_new_version_that_fails_to_load_leaves_the_old_one_serving(build: Build) -> None:
    """When the new latest version cannot be loaded, the old one goes on answering."""
    repository = FullRepository()
    server = serving(repository, build, cache=PATIENT)
    repository.broken_loads["2"] = OSError("disk")
    repository.register(Answering("new"))
    assert [server.predict(0).value for _ in range(5)] == ["old"] * 5


def test_health_is_degraded_while_the_new_version_cannot_be_loaded(build: Build) -> None:
    """Health then is DEGRADED, says that version 1 answers, and why."""
    repository = FullRepository()
    server = serving(repository, build, cache=PATIENT)
    repository.broken_loads["2"] = OSError("disk on fire")
    repository.register(Answering("new"))
    server.predict(0)
    health = server.check_health()
    assert (health.status, health.is_healthy, health.current_version) == (HealthState.DEGRADED, True, "1")
    assert "disk on fire" in (health.error or "")


def test_a_new_version_serves_once_it_can_be_loaded(build: Build) -> None:
    """A new version that failed is tried again, and then serves; health is HEALTHY again."""
    repository = FullRepository()
    clock = ManualClock()
    server = serving(repository, build, cache=PATIENT, clock=clock)
    repository.broken_loads["2"] = OSError("disk")
    repository.register(Answering("new"))
    for _ in range(3):
        server.predict(0)
        background_ended()
    del repository.broken_loads["2"]
    clock.advance(timedelta(minutes=1))
    server.predict(0)
    background_ended()
    assert (server.predict(0).value, server.check_health().status) == ("new", HealthState.HEALTHY)


def test_a_failing_version_is_not_tried_for_each_request(build: Build) -> None:
    """While the pause after failures lasts, requests cause no load."""
    repository = FullRepository()
    server = serving(repository, build, cache=PATIENT, clock=ManualClock())
    repository.broken_loads["2"] = OSError("disk")
    repository.register(Answering("new"))
    for _ in range(20):
        server.predict(0)
        background_ended()
    assert repository.loads["2"] == 2


# ------------------------------------------------------------------------------------------ repositories that raise


def break_method(repository: FullRepository, method: str, error: Exception) -> None:
    repository.broken[method] = error


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("get_latest_version", ErrorKind.RepositoryUnavailable),
        ("load_model", ErrorKind.ModelLoadFailed),
        ("describe", ErrorKind.ModelLoadFailed),
    ],
)
@pytest.mark.parametrize("error", [OSError("down"), UnprintableError()], ids=["OSError", "unprintable"])
def test_a_broken_repository_with_nothing_loaded(method: str, kind: ErrorKind, error: Exception, build: Build) -> None:
    """A method that raises, with nothing loaded, gives a failed result of the kind that says what is wrong."""
    repository = FullRepository()
    repository.register(Answering("old"))
    break_method(repository, method, error)
    result = build(repository).predict(0)
    assert (result.error.kind, result.error.exception) == (kind, error)


@pytest.mark.parametrize("method", ["get_active_versions", "stage", "resolve_alias", "get_version"])
def test_methods_the_latest_does_not_need_may_be_broken(method: str, build: Build) -> None:
    """Requests for the latest version do not need the methods by which versions are named."""
    repository = FullRepository()
    repository.register(Answering("old"))
    break_method(repository, method, OSError("down"))
    assert build(repository).predict(0).value == "old"


@pytest.mark.parametrize(("method", "name"), [("get_active_versions", "1"), ("stage", "9"), ("resolve_alias", "x")])
@pytest.mark.parametrize("error", [OSError("down"), UnprintableError()], ids=["OSError", "unprintable"])
def test_naming_a_version_in_a_broken_repository(method: str, name: str, error: Exception, build: Build) -> None:
    """A method needed to find a named version that raises gives RepositoryUnavailable, and is counted."""
    repository = FullRepository()
    repository.register(Answering("old"))
    break_method(repository, method, error)
    server = build(repository)
    result = server.predict(0, name)
    assert (result.error.kind, server.statistics().repository_errors) == (ErrorKind.RepositoryUnavailable, 1)


@pytest.mark.parametrize("method", ["get_latest_version", "load_model", "describe", "generation"])
@pytest.mark.parametrize("error", [OSError("down"), UnprintableError()], ids=["OSError", "unprintable"])
def test_a_repository_that_breaks_leaves_the_loaded_version_serving(
    method: str, error: Exception, build: Build
) -> None:
    """Whatever method begins to raise, the version that serves goes on serving."""
    repository = FullRepository()
    server = serving(repository, build)
    break_method(repository, method, error)
    if method != "generation":
        repository.register(Answering("new"))
    assert [server.predict(0).value for _ in range(3)] == ["old"] * 3


@pytest.mark.parametrize("method", ["get_latest_version", "load_model", "describe"])
def test_health_is_degraded_while_the_repository_is_broken(method: str, build: Build) -> None:
    """With an old version serving, a repository that raises makes health DEGRADED, not UNHEALTHY."""
    repository = FullRepository()
    server = serving(repository, build)
    break_method(repository, method, OSError("down"))
    repository.register(Answering("new"))
    assert server.check_health().status is HealthState.DEGRADED


@pytest.mark.parametrize("method", ["get_latest_version", "load_model", "describe"])
def test_a_repository_that_recovers_is_followed_again(method: str, build: Build) -> None:
    """Once the method works again, the new version serves."""
    repository, clock = FullRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    break_method(repository, method, OSError("down"))
    repository.register(Answering("new"))
    server.predict(0)
    background_ended()
    del repository.broken[method]
    clock.advance(timedelta(minutes=1))
    server.predict(0)
    background_ended()
    assert (server.predict(0).value, server.check_health().status) == ("new", HealthState.HEALTHY)


def test_a_repository_that_is_down_is_not_asked_for_each_request(build: Build) -> None:
    """While the repository cannot be asked, requests ask it once a refresh interval at most."""
    repository, clock = FullRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.broken["get_latest_version"] = OSError("down")
    repository.register(Answering("new"))
    asked = repository.calls["get_latest_version"]
    for _ in range(20):
        server.predict(0)
        background_ended()
    assert repository.calls["get_latest_version"] == asked + 1


def test_a_server_can_be_built_on_a_repository_that_is_down(build: Build) -> None:
    """Building a server calls nothing, so a repository whose generation raises is no obstacle."""
    repository = FullRepository()
    repository.register(Answering("old"))
    repository.broken["generation"] = OSError("down")
    server = build(repository)
    assert server.predict(0).value == "old"


def test_new_versions_are_followed_while_the_generation_cannot_be_read(build: Build) -> None:
    """A generation that cannot be read means that the repository is asked, not that it is believed unchanged."""
    repository = FullRepository()
    repository.register(Answering("old"))
    repository.broken["generation"] = OSError("down")
    server = build(repository, cache=PATIENT)
    before = server.predict(0).value
    repository.register(Answering("new"))
    assert (before, server.predict(0).value, server.predict(0, "1").value) == ("old", "new", "old")


class Nonsense(ThreeMethodRepository):
    """A repository that answers with what is no version."""

    def get_latest_version(self) -> Any:
        return None

    def get_active_versions(self, limit: int | None = None) -> Any:
        return [None]


@pytest.mark.parametrize("version", [None, "1"])
def test_a_repository_that_answers_nonsense_is_unavailable(version: str | None, build: Build) -> None:
    """An answer that is no version is blamed on the repository, not on the model."""
    assert build(Nonsense()).predict(0, version).error.kind is ErrorKind.RepositoryUnavailable


@pytest.mark.parametrize(
    "method", ["get_latest_version", "get_active_versions", "load_model", "describe", "generation"]
)
def test_health_never_raises_whatever_the_repository_does(method: str, build: Build) -> None:
    """``check_health`` answers with a status for each method that raises, with nothing loaded."""
    repository = FullRepository()
    repository.register(Answering("old"))
    break_method(repository, method, UnprintableError())
    expected = {"get_active_versions": HealthState.HEALTHY, "generation": HealthState.HEALTHY}
    assert build(repository).check_health().status is expected.get(method, HealthState.UNHEALTHY)


def test_the_error_of_a_broken_repository_reaches_the_log_in_full(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """The log shows the traceback of what the repository raised."""
    repository = FullRepository()
    repository.broken["get_latest_version"] = OSError("down")
    build(repository).predict(0)
    assert "in get_latest_version" in caplog.text


# ------------------------------------------------------------------------------------- followed by time, and asked


def test_a_repository_without_generation_is_asked_once_an_interval(build: Build) -> None:
    """Within refresh_seconds a three-method repository is not asked, and the version known before answers."""
    repository = ThreeMethodRepository()
    server = serving(repository, build, clock=ManualClock())
    repository.register(Answering("new"))
    answers = [server.predict(0).value for _ in range(5)]
    assert (answers, repository.calls["get_latest_version"]) == (["old"] * 5, 1)


def test_the_refresh_is_off_the_request_path(build: Build) -> None:
    """The first request after refresh_seconds is answered by the old version; the new one is loaded meanwhile."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    clock.advance(SECOND)
    first = server.predict(0).value
    background_ended()
    assert (first, server.predict(0).value) == ("old", "new")


def test_one_refresh_an_interval_however_many_requests(build: Build) -> None:
    """When the interval has passed, a hundred requests cause one question."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    clock.advance(SECOND)
    all_at_once(10, lambda i: [server.predict(0) for _ in range(10)])
    background_ended()
    assert repository.calls["get_latest_version"] == 2


def test_refresh_seconds_is_the_interval(build: Build) -> None:
    """With refresh_seconds=60 nothing is asked for 59 seconds."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock, cache=CachePolicy(refresh_seconds=60))
    clock.advance(59 * SECOND)
    server.predict(0)
    background_ended()
    before = repository.calls["get_latest_version"]
    clock.advance(SECOND)
    server.predict(0)
    background_ended()
    assert (before, repository.calls["get_latest_version"]) == (1, 2)


def test_with_refresh_seconds_of_zero_each_request_asks(build: Build) -> None:
    """refresh_seconds=0 asks inline: a three-method repository is then followed as an observable one is."""
    repository = ThreeMethodRepository()
    server = serving(
        repository, build, clock=ManualClock(), cache=CachePolicy(refresh_seconds=0, swap_wait_ms=math.inf)
    )
    repository.register(Answering("new"))
    answers = [server.predict(0).value]
    repository.rollback()
    answers.append(server.predict(0).value)
    assert (answers, repository.calls["get_latest_version"]) == (["new", "old"], 3)


def test_a_name_is_looked_up_again_after_the_interval(build: Build) -> None:
    """In a repository followed by time a retired version is refused once refresh_seconds have passed."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    server.predict(0, "1")
    repository.retire("1")
    clock.advance(SECOND)
    server.predict(0, "1")
    background_ended()
    assert server.predict(0, "1").error.kind is ErrorKind.VersionNotFound


def test_refresh_has_names_looked_up_again(build: Build) -> None:
    """After ``refresh`` a version called by its name is what the repository says now."""
    repository = ThreeMethodRepository()
    server = serving(repository, build, clock=ManualClock())
    repository.register(Answering("new"))
    server.predict(0, "1")
    repository.retire("1")
    server.refresh()
    assert server.predict(0, "1").error.kind is ErrorKind.VersionNotFound


def test_names_are_looked_up_again_off_the_request_path(build: Build) -> None:
    """While a repository followed by time is asked again, once, names go on meaning what they did: also an alias."""
    repository, clock = SlowToTell(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    repository.set_alias("champion", "1")
    names = ["1", "champion"]
    assert [server.predict(0, name).value for name in names] == ["old", "old"]
    repository.set_alias("champion", "2")
    repository.gate = gate = Gate()
    clock.advance(SECOND)
    asked = repository.calls["get_active_versions"]
    assert [server.predict(0, name).value for name in names * 3] == ["old"] * 6
    gate.open()
    background_ended()
    assert repository.calls["get_active_versions"] == asked + 1
    assert [server.predict(0, name).value for name in names] == ["old", "new"]


@pytest.mark.parametrize("refresh_seconds", [0.0, 0.5, 2.0])
def test_a_repository_that_is_down_is_left_alone_for_a_while(refresh_seconds: float, build: Build) -> None:
    """Versions that are loaded and called by name answer though the repository is down, which is asked now and then;
    what it has never told of is not found.
    """
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock, cache=CachePolicy(refresh_seconds=refresh_seconds))
    server.predict(0, "1")
    repository.broken["get_active_versions"] = OSError("down")
    asked = repository.calls["get_active_versions"]
    for _ in range(3):
        clock.advance(timedelta(seconds=refresh_seconds or 1.0))
        assert [server.predict(0, "1").value for _ in range(10)] == ["old"] * 10
        background_ended()
    assert repository.calls["get_active_versions"] == asked + 3
    assert server.predict(0, "2").error.kind is ErrorKind.RepositoryUnavailable
    assert server.statistics().repository_errors == 4


def test_a_late_answer_does_not_undo_a_refresh(build: Build) -> None:
    """What was asked before ``refresh`` and is answered after it changes nothing."""
    repository, clock = SlowToTell(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    server.predict(0, "1")
    clock.advance(SECOND)
    repository.stale = repository.inner.get_active_versions()
    repository.gate = gate = Gate()
    server.predict(0, "1")
    gate.wait_until_reached()
    repository.gate = None
    repository.retire("1")
    server.refresh()
    assert server.predict(0, "1").error.kind is ErrorKind.VersionNotFound
    gate.open()
    background_ended()
    assert server.predict(0, "1").error.kind is ErrorKind.VersionNotFound


def test_one_name_that_cannot_be_looked_up_keeps_none_of_the_others(build: Build) -> None:
    """Where an alias cannot be looked up it goes on meaning what it did; the other names are what they are now."""
    repository, clock = SlowToTell(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    repository.set_alias("champion", "2")
    assert [server.predict(0, name).success for name in ("1", "champion")] == [True, True]
    repository.resolve_alias = refused
    repository.retire("1")
    clock.advance(SECOND)
    server.predict(0, "1")
    background_ended()
    assert server.predict(0, "1").error.kind is ErrorKind.VersionNotFound
    assert server.predict(0, "champion").value == "new"
    repository.register(Answering("newest"))
    repository.retire("2")
    clock.advance(SECOND)
    server.predict(0, "champion")
    background_ended()
    assert server.predict(0, "champion").error.kind is ErrorKind.RepositoryUnavailable


def refused(alias: str) -> Any:
    raise KeyError(alias)


def test_a_repository_that_does_not_answer_is_asked_by_another_thread_at_last(build: Build) -> None:
    """A call of the repository that is never answered does not keep names what they were for ever."""
    repository, clock = SlowToTell(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    server.predict(0, "1")
    repository.gate = gate = Gate()
    clock.advance(SECOND)
    server.predict(0, "1")
    gate.wait_until_reached()
    repository.gate = None
    repository.retire("1")
    clock.advance(timedelta(seconds=_names.PATIENCE_SECONDS))
    server.predict(0, "1")
    until(lambda: not server.predict(0, "1").success)
    gate.open()
    background_ended()
    assert server.predict(0, "1").error.kind is ErrorKind.VersionNotFound


def test_a_lookup_that_has_no_thread_is_put_off(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started a name goes on meaning what it did, and nobody asks in place of one."""

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    server.predict(0, "1")
    clock.advance(SECOND)
    asked = repository.calls["get_active_versions"]
    with monkeypatch.context() as without:
        without.setattr("threading.Thread.start", refuse)
        assert [server.predict(0, "1").value for _ in range(2)] == ["old", "old"]
    assert repository.calls["get_active_versions"] == asked
    clock.advance(SECOND)
    server.predict(0, "1")
    background_ended()
    assert repository.calls["get_active_versions"] == asked + 1


def test_names_that_nobody_used_lately_outlast_an_outage_too(build: Build) -> None:
    """A version that was called by its name once, and may be served still, is found while the repository is down."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    assert [server.predict(0, name).value for name in ("1", "2")] == ["old", "new"]
    server.refresh()
    server.predict(0, "1")
    clock.advance(SECOND)
    server.predict(0, "1")
    background_ended()
    repository.broken["get_active_versions"] = OSError("down")
    assert server.predict(0, "2").value == "new"


def test_each_request_asks_where_it_is_to_also_after_an_outage(build: Build) -> None:
    """With refresh_seconds=0 what was asked in vain is left alone for a while, and nothing else is."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock, cache=CachePolicy(refresh_seconds=0))
    repository.register(Answering("new"))
    server.predict(0, "1")
    repository.broken["get_active_versions"] = OSError("down")
    assert server.predict(0, "1").value == "old"
    del repository.broken["get_active_versions"]
    assert server.predict(0, "2").value == "new"
    repository.retire("2")
    assert server.predict(0, "2").error.kind is ErrorKind.VersionNotFound


def test_a_repository_whose_generation_cannot_be_read_is_left_alone(build: Build) -> None:
    """An observable repository that is down altogether is asked now and then, not by each request."""
    repository, clock = FullRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    server.predict(0, "1")
    repository.broken.update(generation=OSError("down"), get_active_versions=OSError("down"))
    asked = repository.calls["get_active_versions"]
    for _ in range(2):
        assert [server.predict(0, "1").value for _ in range(5)] == ["old"] * 5
        clock.advance(SECOND)
    assert repository.calls["get_active_versions"] == asked + 2


def test_a_version_is_called_what_it_was_while_an_observable_repository_is_down(build: Build) -> None:
    """A change that cannot be looked at changes nothing, and is seen as soon as it can be."""
    repository, clock = FullRepository(), ManualClock()
    server = serving(repository, build, clock=clock, cache=PATIENT)
    repository.register(Answering("new"))
    assert [server.predict(0, name).value for name in ("1", "2")] == ["old", "new"]
    repository.broken["get_active_versions"] = OSError("down")
    repository.retire("1")
    assert server.predict(0, "1").value == "old"
    del repository.broken["get_active_versions"]
    clock.advance(SECOND)
    assert server.predict(0, "1").value == "old"
    background_ended()
    assert server.predict(0, "1").error.kind is ErrorKind.VersionNotFound


def test_a_background_refresh_that_fails_leaves_the_version_serving(build: Build) -> None:
    """A three-method repository that goes down is asked again each interval, and the old version answers."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.broken["get_latest_version"] = OSError("down")
    answers = []
    for _ in range(3):
        clock.advance(SECOND)
        answers.append(server.predict(0).value)
        background_ended()
    assert (answers, server.statistics().repository_errors) == (["old"] * 3, 3)


def test_a_version_retired_behind_the_back_is_noticed_after_the_interval(build: Build) -> None:
    """With nothing active left, a server that follows by time answers VersionNotFound after the refresh."""
    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.retire("1")
    clock.advance(SECOND)
    server.predict(0)
    background_ended()
    assert server.predict(0).error.kind is ErrorKind.VersionNotFound


def test_a_refresh_without_threads_is_made_by_the_caller(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no thread can be started, the request asks the repository itself and is answered."""

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    repository, clock = ThreeMethodRepository(), ManualClock()
    server = serving(repository, build, clock=clock)
    repository.register(Answering("new"))
    clock.advance(SECOND)
    monkeypatch.setattr("threading.Thread.start", refuse)
    assert [server.predict(0).success, server.predict(0).value] == [True, "new"]


# ---------------------------------------------------------------------------------------------------------- refresh


def test_refresh_waits_for_the_latest_version(build: Build) -> None:
    """``refresh`` returns the latest version once it is loaded, however long that takes."""
    repository = ThreeMethodRepository()
    server = serving(repository, build, clock=ManualClock(), cache=HURRIED)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    refreshing = InThread(server.refresh)
    gate.wait_until_reached()
    assert refreshing.is_running
    gate.open()
    assert (refreshing.result().id, server.predict(0).value) == ("2", "new")


def test_refresh_returns_the_version_before_when_the_latest_cannot_be_loaded(build: Build) -> None:
    """With an old version serving, ``refresh`` answers with that one when the new one fails."""
    repository = FullRepository()
    server = serving(repository, build)
    repository.broken_loads["2"] = OSError("disk")
    repository.register(Answering("new"))
    assert server.refresh().id == "1"


@pytest.mark.parametrize(
    ("method", "expected"),
    [("get_latest_version", RepositoryUnavailableError), ("load_model", ModelLoadFailedError)],
)
def test_refresh_raises_when_nothing_can_answer(method: str, expected: type[Exception], build: Build) -> None:
    """With nothing loaded, ``refresh`` raises what is wrong."""
    repository = FullRepository()
    repository.register(Answering("old"))
    break_method(repository, method, OSError("down"))
    with pytest.raises(expected):
        build(repository).refresh()


def test_refresh_of_an_empty_repository_raises(build: Build, repository: InMemoryModelRepository) -> None:
    """With nothing registered, ``refresh`` raises VersionNotFoundError."""
    with pytest.raises(VersionNotFoundError):
        build(repository).refresh()


def test_refresh_warms_a_server_up(build: Build) -> None:
    """After ``refresh`` the first request finds its model loaded."""
    repository = FullRepository()
    repository.register(Answering("yes"))
    server = build(repository)
    server.refresh()
    loads = repository.loads["1"]
    assert (loads, server.predict(0).value, repository.loads["1"]) == (1, "yes", 1)


def test_a_flight_outlives_the_caller_that_started_it(build: Build) -> None:
    """A load whose first caller was answered by the old version is joined by a request that names the version."""
    repository = FullRepository()
    server = serving(repository, build, cache=HURRIED)
    gate = repository.gate("2")
    repository.register(Answering("new"))
    server.predict(0)
    gate.wait_until_reached()
    named = InThread(server.predict, 0, "2")
    until(lambda: server.statistics().in_flight == 1)
    gate.open()
    assert (named.result().value, repository.loads["2"]) == ("new", 1)


# ------------------------------------------------------------------------------------------------ close encounters


class Interrupted(FullRepository):
    """Does something else, once, in the middle of a call: what another thread could do at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.before_answering: Callable[[], Any] | None = None
        self.at_generation: list[Callable[[], Any]] = []

    @property
    def generation(self) -> int:
        if self.at_generation:
            self.at_generation.pop(0)()
        return super().generation

    def get_latest_version(self) -> Any:
        latest = super().get_latest_version()
        interrupt, self.before_answering = self.before_answering, None
        if interrupt is not None:
            interrupt()
        return latest


def test_an_answer_that_was_overtaken_changes_nothing(build: Build) -> None:
    """When the repository's answer arrives after a newer one has been served, the newer version goes on serving."""
    repository = Interrupted()
    server = serving(repository, build, cache=PATIENT)

    def meanwhile() -> None:
        repository.register(Answering("newest"))
        server.refresh()

    repository.register(Answering("new"))
    repository.before_answering = meanwhile
    server.predict(0)
    assert [server.predict(0).value for _ in range(3)] == ["newest"] * 3


def test_a_first_answer_that_was_overtaken_leaves_the_newer_version(build: Build) -> None:
    """The same before anything has been served: the next request is answered by the newest version."""
    repository = Interrupted()
    repository.register(Answering("old"))
    server = build(repository, cache=PATIENT)
    gate = repository.gate("2")
    waiting = []

    def meanwhile() -> None:
        repository.register(Answering("newest"))
        waiting.append(InThread(server.refresh))
        gate.wait_until_reached()

    repository.before_answering = meanwhile
    first = server.predict(0).value
    gate.open()
    waiting[0].result()
    assert (first, server.predict(0).value) == ("old", "newest")


class InterruptedByTime(ThreeMethodRepository):
    """The same without a generation."""

    before_answering: Callable[[], Any] | None = None

    def get_latest_version(self) -> Any:
        latest = super().get_latest_version()
        interrupt, self.before_answering = self.before_answering, None
        if interrupt is not None:
            interrupt()
        return latest


def test_an_overtaken_answer_is_put_right_by_the_next_question(build: Build) -> None:
    """Without a generation two answers cannot be ordered: the next question settles which version is the latest."""
    repository = InterruptedByTime()
    policy = CachePolicy(swap_wait_ms=math.inf, refresh_seconds=0)
    server = serving(repository, build, cache=policy, clock=ManualClock())

    def meanwhile() -> None:
        repository.register(Answering("newest"))
        server.refresh()

    repository.register(Answering("new"))
    repository.before_answering = meanwhile
    server.predict(0)
    assert server.predict(0).value == "newest"


def test_a_version_that_landed_meanwhile_is_not_loaded_again(build: Build) -> None:
    """A request that looks for its version just before another has loaded it uses that load."""
    repository = Interrupted()
    server = serving(repository, build, cache=PATIENT)
    repository.register(Answering("new"))
    repository.before_answering = lambda: server.predict(0, "2")
    assert (server.predict(0).value, repository.loads["2"]) == ("new", 1)


def test_a_retry_that_another_request_began_is_not_begun_again(build: Build) -> None:
    """A request that finds the pause over just when another has tried again goes on with the old version."""
    repository = Interrupted()
    server = serving(repository, build, cache=PATIENT, clock=ManualClock())
    repository.broken_loads["2"] = OSError("disk")
    repository.register(Answering("new"))
    server.predict(0)
    background_ended()
    # The first reading is the short way's, the second is made after the current version was looked at.
    repository.at_generation = [lambda: None, server.refresh]
    assert (server.predict(0).value, repository.loads["2"]) == ("old", 2)


def test_a_slow_repository_holds_up_one_request(build: Build) -> None:
    """While one request asks a repository that is slow to answer, the others are answered by the old version."""
    repository, gate = Interrupted(), Gate()
    server = serving(repository, build, cache=PATIENT)
    repository.register(Answering("new"))
    repository.before_answering = gate.pass_through
    first = InThread(server.predict, 0)
    gate.wait_until_reached()
    others = [server.predict(0).value for _ in range(3)]
    gate.open()
    assert (others, first.result().value) == (["old"] * 3, "new")


def test_an_error_with_a_kind_that_the_repository_raises_keeps_it(build: Build) -> None:
    """A repository that raises a ServingError while a name is looked up has said what is wrong itself."""
    repository = FullRepository()
    repository.register(Answering("old"))
    repository.broken["get_active_versions"] = RepositoryUnavailableError("asleep until Monday.")
    error = build(repository).predict(0, "1").error
    assert (error.kind, error.message) == (ErrorKind.RepositoryUnavailable, "asleep until Monday.")


def test_a_repository_that_hangs_is_asked_once(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to answer, no further thread asks it for its latest version; then it is asked again."""
    clock, gate = ManualClock(), Gate()
    repository = ThreeMethodRepository()
    server = serving(repository, build, clock=clock)
    asked = repository.get_latest_version
    monkeypatch.setattr(repository, "get_latest_version", lambda: (gate.pass_through(), asked())[1])
    before = repository.calls["get_latest_version"]
    for _ in range(5):
        clock.advance(2 * SECOND)
        assert server.predict(0).value == "old"
    gate.wait_until_reached()
    gate.open()
    background_ended()
    assert repository.calls["get_latest_version"] == before + 1
    clock.advance(2 * SECOND)
    server.predict(0)
    background_ended()
    assert repository.calls["get_latest_version"] == before + 2


def test_who_waits_for_a_load_keeps_no_other_waiting(build: Build) -> None:
    """While more callers than there are threads wait for a version that loads, those of loaded ones are answered, by
    name, in time and awaiting, and the latest version is followed.
    """
    repository = FullRepository()
    server = serving(repository, build, cache=PATIENT)
    gate = repository.gate("2")
    repository.register(Answering("slow"), activate=False)
    repository.activate("2")
    repository.activate("1")
    assert server.predict(0, "1").value == "old"

    async def ask() -> list[Any]:
        waiting = [asyncio.ensure_future(server.apredict(0, "2")) for _ in range(MOST_THREADS + 2)]
        await asyncio.to_thread(gate.wait_until_reached)
        found = [await server.apredict(0, "1"), await server.apredict(0), await server.apredict(0, timeout_ms=1e9)]
        repository.register(Answering("new"))
        found.append(await server.apredict(0))
        gate.open()
        return [result.value for result in [*found, *await asyncio.gather(*waiting)]]

    assert asyncio.run(ask()) == ["old", "old", "old", "new", *["slow"] * (MOST_THREADS + 2)]


def test_requests_are_hits_or_misses(build: Build) -> None:
    """A request that waits for its model to be loaded is a miss, any other that is taken in a hit."""
    repository = FullRepository()
    server = serving(repository, build)
    server.predict(0)
    repository.register(Answering("new"))
    server.predict(0, "2")
    server.predict(0, "2")
    counters = server.statistics()
    assert (counters.accepted, counters.hits, counters.misses) == (4, 2, 2)
