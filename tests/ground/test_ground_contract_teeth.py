"""The contract suites find what is wrong with a store; and what importing them needs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import numpy as np
import pytest

import mlserve.testing
from mlserve import InMemoryModelMonitor, InMemoryModelRepository
from mlserve.clocks import ManualClock
from mlserve.errors import VersionNotFoundError
from mlserve.records import PredictionSample, Stage
from mlserve.testing import (
    BlockMonitorContract,
    CumulativeMonitorContract,
    LabelledMonitorContract,
    MergeableMonitorContract,
    ModelMonitorContract,
    ModelRepositoryContract,
    PredictionMonitorContract,
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


class ErrorsAreNotSquared(Monitor):
    def get_model_metrics(self, version_id, window):
        metrics = self._right.get_model_metrics(version_id, window)
        return attrs.evolve(metrics, root_mean_squared_error=metrics.mean_absolute_error)


class PrecisionIsRecall(Monitor):
    def get_recent_metrics(self, window):
        metrics = self._right.get_recent_metrics(window)
        return attrs.evolve(metrics, classes=[attrs.evolve(one, precision=one.recall) for one in metrics.classes])


class ClassesInOrderOfTheirNames(Monitor):
    def get_model_metrics(self, version_id, window):
        metrics = self._right.get_model_metrics(version_id, window)
        return attrs.evolve(metrics, classes=tuple(sorted(metrics.classes, key=lambda one: one.label)))


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
        ErrorsAreNotSquared,
        PrecisionIsRecall,
        ClassesInOrderOfTheirNames,
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


# ----------------------------------------------------------------------------------------------- monitors of answers


class AnswersAreSorted(Monitor):
    def get_recent_predictions(self, version_id, window):
        sample = self._right.get_recent_predictions(version_id, window)
        return attrs.evolve(sample, outputs=np.sort(sample.outputs)[::-1])


class AnswersAreDrawnTwice(Monitor):
    def get_recent_predictions(self, version_id, window):
        outputs = self._right.get_recent_predictions(version_id, window).outputs
        return PredictionSample(outputs.repeat(2), count=len(outputs))


class AnswersOfAllTimes(Monitor):
    def get_recent_predictions(self, version_id, window):
        return self._right.get_recent_predictions(version_id, max(window, timedelta(days=1)))


class AnswersOfVersionOne(Monitor):
    def get_recent_predictions(self, version_id, window):
        return self._right.get_recent_predictions("1", window)


class AnswersAreText(Monitor):
    def get_recent_predictions(self, version_id, window):
        sample = self._right.get_recent_predictions(version_id, window)
        return attrs.evolve(sample, outputs=[str(output) for output in sample.outputs.tolist()])


class AnswersOfUsableInputs(Monitor):
    def get_recent_predictions(self, version_id, window):
        usable = len(self._right.get_recent_input_distribution(version_id, window).rows)
        return PredictionSample(self._right.get_recent_predictions(version_id, window).outputs[:usable])


class FailuresAreAnswers(Monitor):
    def get_recent_predictions(self, version_id, window):
        sample = self._right.get_recent_predictions(version_id, window)
        errors = self._right.get_model_metrics(version_id, window).error_count
        return attrs.evolve(sample, count=sample.count + errors)


class UnknownConfidenceIsZero(Monitor):
    def get_recent_predictions(self, version_id, window):
        sample = self._right.get_recent_predictions(version_id, window)
        return attrs.evolve(sample, confidences=np.nan_to_num(sample.confidences))


class KeepsTheCallersAnswer(KeepsTheCallersArray):
    def get_recent_predictions(self, version_id, window):
        for event in self._events:
            self._right.record_prediction(event)
        return self._right.get_recent_predictions(version_id, window)


class ForgetsLabels(Monitor):
    def set_baseline_predictions(self, version_id, predictions):
        self._right.set_baseline_predictions(version_id, attrs.evolve(predictions, labels=None))


class RemembersOldLabels(Monitor):
    def set_baseline_predictions(self, version_id, predictions):
        known = self._right.get_baseline_predictions(version_id)
        self._right.set_baseline_predictions(version_id, known or predictions)


class OneBaselineForAll(Monitor):
    def get_baseline_predictions(self, version_id):
        return self._right.get_baseline_predictions("1")


class AnythingIsABaseline(Monitor):
    def set_baseline_predictions(self, version_id, predictions):
        self._right.set_baseline_predictions(version_id, PredictionSample(getattr(predictions, "outputs", [0])))


class _PredictionContract(PredictionMonitorContract):
    def __init__(self, monitor: type[Monitor]) -> None:
        self._monitor = monitor

    def new_monitor(self, clock):
        return self._monitor(clock)


def clause_of_answers(monitor: type[Monitor], clause: str, arguments: dict[str, Any]) -> None:
    """Run the test of a clause against a monitor of a class."""
    clock, contract = ManualClock(), _PredictionContract(monitor)
    test = getattr(contract, clause)
    known = {"clock": clock, "monitor": contract.new_monitor(clock), **arguments}
    run(lambda: test(**{name: known[name] for name in inspect.signature(test).parameters}))


CLAUSES_OF_ANSWERS = [
    (AnswersAreSorted, "test_each_answer_stands_beside_its_own", {}),
    (AnswersAreDrawnTwice, "test_few_answers_are_all_in_the_sample", {"outputs": [3, 1, 2]}),
    (AnswersAreDrawnTwice, "test_answers_are_drawn_from_what_was_given", {}),
    (AnswersAreText, "test_answers_of_several_numbers_are_rows", {}),
    (AnswersAreText, "test_an_odd_answer_harms_no_other", {"odd": "text"}),
    (AnswersOfAllTimes, "test_answers_are_of_one_window", {}),
    (AnswersOfAllTimes, "test_a_window_of_answers_must_be_positive", {"window": timedelta(0)}),
    (AnswersOfVersionOne, "test_answers_are_of_one_version", {}),
    (AnswersOfUsableInputs, "test_an_input_that_is_no_row_takes_no_answer_away", {}),
    (FailuresAreAnswers, "test_failures_are_no_answers", {}),
    (UnknownConfidenceIsZero, "test_an_answer_without_confidence_has_none", {}),
    (UnknownConfidenceIsZero, "test_answers_without_any_confidence_have_none", {}),
    (KeepsTheCallersAnswer, "test_sampled_answers_are_copied", {}),
    (ForgetsLabels, "test_baseline_answers_come_back", {}),
    (RemembersOldLabels, "test_the_last_baseline_of_answers_counts", {}),
    (OneBaselineForAll, "test_baselines_of_answers_are_of_one_version", {}),
    (AnythingIsABaseline, "test_other_answers_are_no_baseline", {"predictions": [0, 1]}),
]


@pytest.mark.parametrize(("faulty", "clause", "arguments"), CLAUSES_OF_ANSWERS)
def test_a_clause_finds_faulty_answers(faulty, clause, arguments):
    """The test of a clause fails for a monitor whose answers break it."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        clause_of_answers(faulty, clause, arguments)


@pytest.mark.parametrize(("clause", "arguments"), [(clause, arguments) for _, clause, arguments in CLAUSES_OF_ANSWERS])
def test_a_clause_passes_right_answers(clause, arguments):
    """The test of a clause passes for the monitor of which the faulty ones are made."""
    assert clause_of_answers(Monitor, clause, arguments) is None


# ----------------------------------------------------------------------------------------- monitors of a whole fleet


class ListsVersionsTwice(Monitor):
    def cumulative_metrics(self):
        return 2 * self._right.cumulative_metrics()


class FailuresOfNobodyAreVersionOnes(Monitor):
    def record_prediction_error(self, kind, version_id):
        self._right.record_prediction_error(kind, version_id or "1")


class CumulativeIsAMonth(Monitor):
    def cumulative_metrics(self):
        versions = [metrics.model_version for metrics in self._right.cumulative_metrics()]
        month = timedelta(days=30)
        return tuple(attrs.evolve(self._right.get_model_metrics(one, month), window=None) for one in versions if one)


class CumulativeHasAWindow(Monitor):
    def cumulative_metrics(self):
        return tuple(attrs.evolve(one, window=timedelta(hours=1)) for one in self._right.cumulative_metrics())


class CumulativeKeepsNoOutcomes(Monitor):
    def cumulative_metrics(self):
        totals = self._right.cumulative_metrics()
        return tuple(attrs.evolve(one, labelled_count=0, accuracy=None, label_coverage=0.0) for one in totals)


class SnapshotsHaveNewNames(Monitor):
    def __init__(self, clock):
        super().__init__(clock)
        self._taken = 0

    def snapshot(self, after=0):
        self._taken += 1
        return attrs.evolve(self._right.snapshot(after), source=f"snapshot {self._taken} of {id(self)}")


class EverySourceIsOne(Monitor):
    def snapshot(self, after=0):
        return attrs.evolve(self._right.snapshot(after), source="the one")


class TheLastSnapshotCounts(Monitor):
    """Whatever comes last replaces what was known, also where it is older."""

    def __init__(self, clock):
        super().__init__(clock)
        self._merged = {}

    def merge(self, snapshot):
        InMemoryModelMonitor().merge(snapshot)
        own = self._right.snapshot()
        self._merged[snapshot.source] = snapshot
        self._right = InMemoryModelMonitor(clock=self._clock)
        for merged in [own, *self._merged.values()]:
            self._right.merge(merged)


class MergingCountsAgain(Monitor):
    def __init__(self, clock):
        super().__init__(clock)
        self._merges = 0

    def merge(self, snapshot):
        self._merges += 1
        self._right.merge(attrs.evolve(snapshot, source=f"{snapshot.source} {self._merges}"))


class CountsItself(Monitor):
    def merge(self, snapshot):
        self._right.merge(attrs.evolve(snapshot, source="another"))


class PassesOnWhatItMerged(Monitor):
    def __init__(self, clock):
        super().__init__(clock)
        self._last = None

    def merge(self, snapshot):
        self._right.merge(snapshot)
        self._last = attrs.evolve(snapshot, source="passed on")

    def snapshot(self, after=0):
        return self._last or self._right.snapshot(after)


class PartialSnapshotsAreEmpty(Monitor):
    def snapshot(self, after=0):
        taken = self._right.snapshot(after)
        empty = InMemoryModelMonitor(clock=self._clock).snapshot()
        return attrs.evolve(taken, header=empty.header, columns=empty.columns) if after else taken


class EverySnapshotIsWhole(Monitor):
    def snapshot(self, after=0):
        return attrs.evolve(self._right.snapshot(), after=min(after, 0))


class LosesErrors(Monitor):
    def snapshot(self, after=0):
        taken = self._right.snapshot(after)
        gone = {name: column[:0] for name, column in taken.columns.items() if name.startswith("errors")}
        return attrs.evolve(taken, columns={**taken.columns, **gone})


class LosesSums(Monitor):
    def snapshot(self, after=0):
        taken = self._right.snapshot(after)
        return attrs.evolve(taken, columns={**taken.columns, "floats": np.zeros_like(taken.columns["floats"])})


class MergesAtOtherTimes(Monitor):
    def snapshot(self, after=0):
        taken = self._right.snapshot(after)
        hour = timedelta(hours=1) // timedelta(microseconds=1)
        width = taken.columns["width"]
        earlier = taken.columns["index"] - np.where(width > 0, hour // np.maximum(width, 1), 0)
        return attrs.evolve(taken, columns={**taken.columns, "index": earlier})


class SequenceStandsStill(Monitor):
    def snapshot(self, after=0):
        return attrs.evolve(self._right.snapshot(after), sequence=1)


class TakesAnySequence(Monitor):
    def snapshot(self, after=0):
        return self._right.snapshot(max(after, 0))


class TakesAnything(Monitor):
    def merge(self, snapshot):
        if hasattr(snapshot, "columns"):
            self._right.merge(snapshot)


class MergesWhatIsDamaged(Monitor):
    def merge(self, snapshot):
        try:
            self._right.merge(snapshot)
        except ValueError:
            self._right.record_prediction_error("Damaged", "1")
            raise


class LosesWhileMerging(Monitor):
    def merge(self, snapshot):
        self._right.merge(attrs.evolve(snapshot, source="all of them"))


class _FleetContracts(CumulativeMonitorContract, MergeableMonitorContract):
    def __init__(self, monitor: type[Monitor]) -> None:
        self._monitor = monitor

    def new_monitor(self, clock):
        return self._monitor(clock)


def clause_of_fleets(monitor: type[Monitor], clause: str, arguments: dict[str, Any]) -> None:
    """Run the test of a clause against a monitor of a class."""
    clock, contract = ManualClock(), _FleetContracts(monitor)
    test = getattr(contract, clause)
    known = {"clock": clock, "monitor": contract.new_monitor(clock), **arguments}
    run(lambda: test(**{name: known[name] for name in inspect.signature(test).parameters}))


CLAUSES_OF_FLEETS = [
    (ListsVersionsTwice, "test_everything_since_it_was_built_is_counted", {}),
    (FailuresOfNobodyAreVersionOnes, "test_failures_without_a_version_stand_alone", {}),
    (CumulativeHasAWindow, "test_cumulative_metrics_have_no_window", {}),
    (CumulativeIsAMonth, "test_cumulative_metrics_have_no_window", {}),
    (CumulativeIsAMonth, "test_counts_never_fall", {}),
    (CumulativeIsAMonth, "test_outcomes_are_counted_for_good", {}),
    (CumulativeKeepsNoOutcomes, "test_outcomes_are_counted_for_good", {}),
    (LosesSums, "test_a_snapshot_says_what_its_monitor_says", {"seed": 1}),
    (LosesErrors, "test_a_snapshot_says_what_its_monitor_says", {"seed": 1}),
    (EverySourceIsOne, "test_counts_of_several_add", {}),
    (EverySourceIsOne, "test_two_monitors_are_two_sources", {}),
    (EverySourceIsOne, "test_the_order_of_merging_does_not_matter", {}),
    (MergingCountsAgain, "test_merging_again_changes_nothing", {}),
    (SnapshotsHaveNewNames, "test_merging_again_changes_nothing", {}),
    (SnapshotsHaveNewNames, "test_the_newest_snapshot_replaces_the_ones_before", {}),
    (SequenceStandsStill, "test_the_newest_snapshot_replaces_the_ones_before", {}),
    (SequenceStandsStill, "test_the_sequence_rises_with_every_change", {}),
    (TheLastSnapshotCounts, "test_an_older_snapshot_changes_nothing", {}),
    (CountsItself, "test_a_monitor_does_not_count_itself_twice", {}),
    (PassesOnWhatItMerged, "test_what_was_merged_travels_no_further", {}),
    (PartialSnapshotsAreEmpty, "test_a_full_and_a_partial_snapshot_are_a_full_one", {}),
    (EverySnapshotIsWhole, "test_a_full_and_a_partial_snapshot_are_a_full_one", {}),
    (PartialSnapshotsAreEmpty, "test_late_outcomes_reach_those_who_merged", {}),
    (MergesAtOtherTimes, "test_merged_counts_leave_the_window", {}),
    (TakesAnySequence, "test_a_sequence_is_not_negative", {}),
    (TakesAnything, "test_what_is_no_snapshot_is_refused", {"other": b""}),
    (MergesWhatIsDamaged, "test_a_damaged_snapshot_changes_nothing", {}),
    (LosesWhileMerging, "test_nothing_is_lost_while_others_merge", {}),
    (LosesBetweenThreads, "test_what_is_read_rises_while_others_record", {}),
]


@pytest.mark.parametrize(("faulty", "clause", "arguments"), CLAUSES_OF_FLEETS)
def test_a_clause_finds_a_faulty_fleet(faulty, clause, arguments):
    """The test of a clause fails for a monitor whose snapshots or totals break it."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        clause_of_fleets(faulty, clause, arguments)


@pytest.mark.parametrize(
    ("clause", "arguments"),
    {clause: arguments for _, clause, arguments in CLAUSES_OF_FLEETS}.items(),
)
def test_a_clause_passes_a_right_fleet(clause, arguments):
    """The test of a clause passes for the monitor of which the faulty ones are made."""
    assert clause_of_fleets(Monitor, clause, arguments) is None


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


# ------------------------------------------------------------------------------------------------ blocks with faults


class Blocks:
    """Passes everything on to a monitor that is right."""

    def __init__(self, clock: ManualClock) -> None:
        self._right = InMemoryModelMonitor(clock=clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._right, name)


class OnlyTheFirst(Blocks):
    def record_block(
        self, model_version, prediction_ids, inputs, outputs, processing_times_ms, timestamp, *more, **named
    ):
        columns = (column[:1] for column in (prediction_ids, inputs, outputs, processing_times_ms))
        self._right.record_block(model_version, *columns, timestamp)


class NoConfidences(Blocks):
    def record_block(self, model_version, *columns, confidences=None, **named):
        self._right.record_block(model_version, *columns, **named)


class CutsToTheShortest(Blocks):
    def record_block(self, model_version, prediction_ids, inputs, outputs, processing_times_ms, timestamp, **named):
        rows = list(zip(prediction_ids, inputs, outputs, processing_times_ms, strict=False))
        for name, input, output, took_ms in rows:
            self._right.record_block(model_version, [name], [input], [output], [took_ms], timestamp)


class AlwaysSomething(Blocks):
    def record_block(self, model_version, prediction_ids, inputs, outputs, processing_times_ms, timestamp, **named):
        if not prediction_ids:
            prediction_ids, inputs, outputs, processing_times_ms = ["none"], [None], [0], [0.0]
        columns = (prediction_ids, inputs, outputs, processing_times_ms)
        self._right.record_block(model_version, *columns, timestamp, **named)


class KeepsArrays(Blocks):
    def record_block(self, model_version, prediction_ids, inputs, outputs, *more, **named):
        self._kept = lambda: self._right.record_block(model_version, prediction_ids, inputs, outputs, *more, **named)

    def get_model_metrics(self, *asked):
        self._kept()
        return self._right.get_model_metrics(*asked)


class OneVersion(Blocks):
    def record_block(self, model_version, *columns, **named):
        self._right.record_block("1", *columns, **named)


class _BlockContract(BlockMonitorContract):
    def __init__(self, monitor: type[Blocks]) -> None:
        self._monitor = monitor

    def new_monitor(self, clock):
        return self._monitor(clock)


@pytest.mark.parametrize(
    ("faulty", "clause", "arguments"),
    [
        (OnlyTheFirst, "test_a_block_is_its_predictions", {"confidences": None}),
        (NoConfidences, "test_a_block_is_its_predictions", {"confidences": [0.5, None, 0.75, 1.0, None] * 8}),
        (CutsToTheShortest, "test_columns_of_other_lengths_are_refused", {"name": "inputs", "count": 2}),
        (KeepsArrays, "test_columns_may_be_arrays", {"count": 40}),
        (AlwaysSomething, "test_a_block_of_nothing_is_nothing", {}),
        (OneVersion, "test_blocks_add_up", {}),
    ],
)
def test_a_clause_finds_faulty_blocks(faulty, clause, arguments):
    """The test of a clause fails for a monitor whose blocks break it."""
    clock, contract = ManualClock(), _BlockContract(faulty)
    test = getattr(contract, clause)
    known = {"clock": clock, "monitor": contract.new_monitor(clock), **arguments}
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(**{name: known[name] for name in inspect.signature(test).parameters})
