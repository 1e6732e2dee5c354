"""The contract suites find what is wrong with a store; and what importing them needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import pytest

import mlserve.testing
from mlserve import InMemoryModelMonitor, InMemoryModelRepository
from mlserve.clocks import ManualClock
from mlserve.errors import VersionNotFoundError
from mlserve.records import Stage
from mlserve.testing import (
    LabelledMonitorContract,
    ModelMonitorContract,
    ModelRepositoryContract,
    WritableModelRepositoryContract,
)

ROOT = Path(__file__).parents[2]

QUICK = hypothesis.settings(
    max_examples=500,
    stateful_step_count=20,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
"""Only searching, until the first counterexample, which need not be small."""

FEW = hypothesis.settings(QUICK, max_examples=50)


# --------------------------------------------------------------------------------------------- repositories with faults


class Repository:
    """A repository that passes everything on to one that is right. Its subclasses each get one thing wrong."""

    def __init__(self, clock: ManualClock) -> None:
        self._right = InMemoryModelRepository(clock=clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._right, name)


class OldestFirst(Repository):
    def get_active_versions(self, limit=None):
        return self._right.get_active_versions()[::-1][:limit]


class IgnoresTheLimit(Repository):
    def get_active_versions(self, limit=None):
        self._right.get_active_versions(limit)
        return self._right.get_active_versions()


class NegativeLimitsAreSlices(Repository):
    def get_active_versions(self, limit=None):
        return self._right.get_active_versions()[:limit]


class LatestIsTheHighestNumber(Repository):
    def get_latest_version(self):
        self._right.get_latest_version()
        return max(self._right.get_active_versions(), key=lambda version: int(version.id))


class SortsIdsAsText(Repository):
    def get_active_versions(self, limit=None):
        listed = sorted(self._right.get_active_versions(), key=lambda version: version.id, reverse=True)
        return listed[:limit] if limit is None or limit >= 0 else self._right.get_active_versions(limit)


class AnswersNoneWhenEmpty(Repository):
    def get_latest_version(self):
        try:
            return self._right.get_latest_version()
        except VersionNotFoundError:
            return None


class LoadsTheLatestAlways(Repository):
    def load_model(self, version):
        self._right.load_model(version)
        return self._right.load_model(self._right.get_latest_version())


class ActivatesCandidates(Repository):
    def register(self, model, *, activate=True, **options):
        return self._right.register(model, **options)


class RollbackKeepsWhatItLeaves(Repository):
    def rollback(self):
        left = self._right.get_latest_version()
        serving = self._right.rollback()
        self._right.activate(left.id)
        return self._right.activate(serving.id)


class RetiresInSilence(Repository):
    def retire(self, version_id):
        try:
            return self._right.retire(version_id)
        except VersionNotFoundError:
            return self._right.get_version(version_id)


class IgnoresWhatWasExpected(Repository):
    def set_alias(self, alias, version_id, *, expected=None):
        self._right.set_alias(alias, version_id)


class ForgetsTheHistoryOfAliases(Repository):
    def history(self):
        return tuple(entry for entry in self._right.history() if entry.action != "alias")


class ReactivatingKeepsThePlace(Repository):
    def activate(self, version_id):
        version = self._right.get_version(version_id)
        return version if version in self._right.get_active_versions() else self._right.activate(version_id)


class GenerationStandsStill(Repository):
    generation = 0


class _RepositoryContract(WritableModelRepositoryContract):
    state_machine_settings = QUICK

    def __init__(self, faulty: type[Repository]) -> None:
        self._faulty = faulty

    def new_repository(self, clock):
        return self._faulty(clock)


def run(test: Callable[[], None]) -> None:
    """Run a test of a contract; pytest's own failures count as failed assertions."""
    try:
        test()
    except (pytest.fail.Exception, AssertionError):
        raise
    except Exception as error:
        raise AssertionError("the store raised what it must not") from error


@pytest.mark.parametrize(
    "faulty",
    [
        OldestFirst,
        IgnoresTheLimit,
        LatestIsTheHighestNumber,
        AnswersNoneWhenEmpty,
        LoadsTheLatestAlways,
        ActivatesCandidates,
        RollbackKeepsWhatItLeaves,
        RetiresInSilence,
        IgnoresWhatWasExpected,
        ForgetsTheHistoryOfAliases,
        ReactivatingKeepsThePlace,
        GenerationStandsStill,
    ],
)
def test_the_state_machine_finds_a_faulty_repository(faulty):
    """The state machine fails for a repository with one thing wrong."""
    contract = _RepositoryContract(faulty)
    with pytest.raises(AssertionError):
        run(lambda: contract.test_it_behaves_like_dicts_and_lists(ManualClock()))


def test_the_state_machine_passes_the_right_repository():
    """The state machine passes the repository of which the faulty ones are made."""
    contract = _RepositoryContract(Repository)
    contract.state_machine_settings = FEW
    contract.test_it_behaves_like_dicts_and_lists(ManualClock())


@pytest.mark.parametrize(
    ("faulty", "clause"),
    [
        (OldestFirst, "test_active_versions_come_latest_first"),
        (SortsIdsAsText, "test_the_second_digit_does_not_change_the_order"),
        (NegativeLimitsAreSlices, "test_a_negative_limit_is_refused"),
        (AnswersNoneWhenEmpty, "test_an_empty_repository_has_no_latest_version"),
        (LoadsTheLatestAlways, "test_each_version_loads_its_own_model"),
        (ActivatesCandidates, "test_a_candidate_is_not_served"),
        (RollbackKeepsWhatItLeaves, "test_rollback_retires_the_version_it_leaves"),
        (IgnoresWhatWasExpected, "test_one_of_many_wins_an_alias"),
    ],
)
def test_a_clause_finds_a_faulty_repository(faulty, clause):
    """The test of a clause fails for a repository that breaks it."""
    contract = _RepositoryContract(faulty)
    repository = contract.new_repository(ManualClock())
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(lambda: getattr(contract, clause)(repository))


@pytest.mark.parametrize("stage", list(Stage))
def test_the_clause_of_activation_finds_a_faulty_repository(stage):
    """A repository that takes the highest number for the latest fails the clause about activating."""
    contract = _RepositoryContract(LatestIsTheHighestNumber)
    with pytest.raises(AssertionError):
        contract.test_activating_makes_the_latest(contract.new_repository(ManualClock()), stage)


# ------------------------------------------------------------------------------------------------- monitors with faults


class Monitor:
    """A monitor that passes everything on to one that is right. Its subclasses each get one thing wrong."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._right = InMemoryModelMonitor(clock=clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._right, name)

    # The protocols are told by the class, so these cannot be passed on by __getattr__.
    def record_outcome(self, prediction_id, actual):
        self._right.record_outcome(prediction_id, actual)

    def record_prediction(self, event):
        self._right.record_prediction(event)


class CountsWhenItCame(Monitor):
    def record_prediction(self, event):
        self._right.record_prediction(attrs.evolve(event, timestamp=self._clock.now()))


class WindowsAreClosedOnTheLeft(Monitor):
    def get_model_metrics(self, version_id, window):
        wider = window + timedelta(microseconds=1) if window > timedelta(0) else window
        return attrs.evolve(self._right.get_model_metrics(version_id, wider), window=window)


class RoundsWindowsToMinutes(Monitor):
    def get_recent_metrics(self, window):
        wider = -(-window // timedelta(minutes=1)) * timedelta(minutes=1)
        return attrs.evolve(self._right.get_recent_metrics(wider), window=window)


class FailuresAreNoRequests(Monitor):
    def get_model_metrics(self, version_id, window):
        metrics = self._right.get_model_metrics(version_id, window)
        return attrs.evolve(metrics, request_count=metrics.request_count - metrics.error_count)


class LatencyIsTheMedian(Monitor):
    def get_model_metrics(self, version_id, window):
        metrics = self._right.get_model_metrics(version_id, window)
        return attrs.evolve(metrics, average_latency_ms=metrics.p50_latency_ms)


class PercentilesAreOffByTwoPercent(Monitor):
    def get_model_metrics(self, version_id, window):
        metrics = self._right.get_model_metrics(version_id, window)
        p95 = metrics.p95_latency_ms
        return attrs.evolve(metrics, p95_latency_ms=None if p95 is None else 1.03 * p95)


class TheLastOutcomeStays(Monitor):
    def __init__(self, clock):
        super().__init__(clock)
        self._events: dict[str, Any] = {}
        self._labelled: dict[str, int] = {}

    def record_prediction(self, event):
        self._events[event.prediction_id] = event
        self._right.record_prediction(event)

    def record_outcome(self, prediction_id, actual):
        again = self._labelled.get(prediction_id, 0)
        self._labelled[prediction_id] = again + 1
        if again:
            event = attrs.evolve(self._events[prediction_id], prediction_id=f"{prediction_id}/{again}")
            self._right.record_prediction(event)
            self._right.record_outcome(event.prediction_id, actual)
        else:
            self._right.record_outcome(prediction_id, actual)


class AllVersionsAreOne(Monitor):
    def get_model_metrics(self, version_id, window):
        return attrs.evolve(self._right.get_recent_metrics(window), model_version=version_id)


class CallersAreFaults(Monitor):
    def get_model_metrics(self, version_id, window):
        metrics = self._right.get_model_metrics(version_id, window)
        return attrs.evolve(metrics, fault_rate=metrics.error_rate)


class DrawsTwice(Monitor):
    def get_recent_input_distribution(self, version_id, window):
        sample = self._right.get_recent_input_distribution(version_id, window)
        return attrs.evolve(sample, rows=sample.rows.repeat(2, axis=0), count=2 * sample.count)


class _MonitorContract(ModelMonitorContract, LabelledMonitorContract):
    state_machine_settings = QUICK

    def __init__(self, faulty: type[Monitor]) -> None:
        self._faulty = faulty

    def new_monitor(self, clock):
        return self._faulty(clock)

    def kept_drift_events(self, monitor):
        return monitor.drift_events()


@pytest.mark.parametrize(
    "faulty",
    [
        CountsWhenItCame,
        WindowsAreClosedOnTheLeft,
        RoundsWindowsToMinutes,
        FailuresAreNoRequests,
        LatencyIsTheMedian,
        PercentilesAreOffByTwoPercent,
        TheLastOutcomeStays,
        AllVersionsAreOne,
        CallersAreFaults,
        DrawsTwice,
    ],
)
def test_the_state_machine_finds_a_faulty_monitor(faulty):
    """The state machine fails for a monitor with one thing wrong."""
    contract = _MonitorContract(faulty)
    with pytest.raises(AssertionError):
        run(contract.test_it_behaves_like_a_list_of_events)


def test_the_state_machine_passes_the_right_monitor():
    """The state machine passes the monitor of which the faulty ones are made."""
    contract = _MonitorContract(Monitor)
    contract.state_machine_settings = FEW
    contract.test_it_behaves_like_a_list_of_events()


class KeepsTheCallersArray(Monitor):
    def __init__(self, clock):
        super().__init__(clock)
        self._events: list[Any] = []

    def record_prediction(self, event):
        self._events.append(event)

    def get_recent_input_distribution(self, version_id, window):
        for event in self._events:
            self._right.record_prediction(event)
        return self._right.get_recent_input_distribution(version_id, window)


class LosesBetweenThreads(Monitor):
    def __init__(self, clock):
        super().__init__(clock)
        self._calls = 0

    def record_prediction(self, event):
        self._calls += 1
        if self._calls % 1000:
            self._right.record_prediction(event)


class AllowsEmptyWindows(Monitor):
    def get_recent_metrics(self, window):
        return self._right.get_recent_metrics(max(window, timedelta(microseconds=1)))


@pytest.mark.parametrize(
    ("faulty", "clause", "arguments"),
    [
        (LosesBetweenThreads, "test_nothing_is_lost_between_threads", ()),
        (CountsWhenItCame, "test_late_events_count_at_their_own_time", ("monitor",)),
        (TheLastOutcomeStays, "test_the_first_outcome_stays", ("monitor",)),
        (WindowsAreClosedOnTheLeft, "test_a_window_begins_after_its_far_edge", ("monitor", "1")),
        (KeepsTheCallersArray, "test_inputs_are_copied", ("monitor", [1.0, 2.0], list.clear)),
    ],
)
def test_a_clause_finds_a_faulty_monitor(faulty, clause, arguments):
    """The test of a clause fails for a monitor that breaks it."""
    clock, contract = ManualClock(), _MonitorContract(faulty)
    given = [contract.new_monitor(clock) if argument == "monitor" else argument for argument in arguments]
    given.insert(1 if given else 0, clock)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(lambda: getattr(contract, clause)(*given))


def test_the_clause_of_positive_windows_finds_a_faulty_monitor():
    """A monitor that answers for an empty window fails the clause that refuses one."""
    contract = _MonitorContract(AllowsEmptyWindows)
    monitor = contract.new_monitor(ManualClock())
    with pytest.raises(pytest.fail.Exception):
        contract.test_a_window_must_be_positive(monitor, "get_recent_metrics", timedelta(0))


# --------------------------------------------------------------------------------------------------- using the suites


def test_a_contract_without_its_factory_cannot_be_run():
    """A subclass that forgets an abstract method fails when it is made, not with a silent pass."""

    class Forgetful(ModelRepositoryContract):
        def new_repository(self, clock):
            return InMemoryModelRepository()

    with pytest.raises(TypeError, match="publish"):
        Forgetful()


@pytest.mark.parametrize("name", [name for name in mlserve.testing.__all__ if name.endswith("Contract")])
def test_every_clause_says_what_it_checks(name):
    """Each test of a contract has a docstring that states its clause."""
    contract = getattr(mlserve.testing, name)
    tests = [getattr(contract, attribute) for attribute in dir(contract) if attribute.startswith("test_")]
    assert tests
    assert [test.__name__ for test in tests if not (test.__doc__ or "").strip()] == []


def test_no_clause_hides_another():
    """A class that subclasses several contracts runs the clauses of all: no two clauses share a name."""
    contracts = [getattr(mlserve.testing, name) for name in mlserve.testing.__all__ if name.endswith("Contract")]
    clauses = {
        (attribute, getattr(contract, attribute))
        for contract in contracts
        for attribute in dir(contract)
        if attribute.startswith("test_")
    }
    names = [name for name, _ in clauses]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", mlserve.testing.__all__)
def test_pytest_collects_nothing_by_importing(name):
    """No class of the suites is collected by a test module that merely imports it."""
    assert not name.startswith("Test")


def test_the_manual_clock_is_exported():
    """``mlserve.testing.ManualClock`` is the clock of ``mlserve.clocks``."""
    assert mlserve.testing.ManualClock is ManualClock


def in_a_fresh_interpreter(code: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{code}", str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


@pytest.mark.parametrize("package", ["pytest", "hypothesis"])
def test_a_missing_package_names_its_extra(package):
    """``import mlserve.testing`` without pytest or hypothesis says which extra to install."""
    code = f"""
sys.modules[{package!r}] = None
try:
    import mlserve.testing
except ImportError as error:
    print(type(error).__name__, error.package, error.extra)
"""
    assert in_a_fresh_interpreter(code) == f"MissingExtraError {package} test"


def test_another_import_error_is_not_hidden():
    """An import error that has nothing to do with the extra shows as it is."""
    code = """
sys.modules["mlserve.clocks"] = None
try:
    import mlserve.testing
except ModuleNotFoundError as error:
    print(type(error).__name__, error.name)
"""
    assert in_a_fresh_interpreter(code) == "ModuleNotFoundError mlserve.clocks"


def test_mlserve_does_not_import_the_suites():
    """``import mlserve`` imports neither ``mlserve.testing`` nor pytest nor hypothesis."""
    code = "import mlserve; print(sorted({'mlserve.testing', 'pytest', 'hypothesis'} & set(sys.modules)))"
    assert in_a_fresh_interpreter(code) == "[]"


def test_the_asserts_of_a_contract_say_what_they_compared(pytester_report):
    """A failing clause shows the values it compared, as an assert in a test file does."""
    assert "['1', '2'] == ['2', '1']" in pytester_report


@pytest.fixture
def pytester_report(tmp_path) -> str:
    """What pytest prints about a repository that lists the oldest first."""
    (tmp_path / "test_faulty.py").write_text(
        """
from mlserve import InMemoryModelRepository
from mlserve.testing import WritableModelRepositoryContract

class TestFaulty(WritableModelRepositoryContract):
    def new_repository(self, clock):
        return InMemoryModelRepository(clock=clock)

    def active_ids(self, repository):
        return super().active_ids(repository)[::-1]
""",
        encoding="utf-8",
    )
    arguments = ["-q", "-p", "no:cacheprovider", "-k", "a_registered_version_is_the_latest", "test_faulty.py"]
    code = f"""
import os
os.chdir({str(tmp_path)!r})
import pytest
pytest.main({arguments!r})
"""
    return in_a_fresh_interpreter(code)
