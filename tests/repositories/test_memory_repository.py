"""The repository in memory: every contract, and what is its own."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import hypothesis
import numpy as np
import pandas as pd
import pytest

from mlserve import ArraySchema, InMemoryModelRepository, ModelMetrics, ModelVersion
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, VersionNotFoundError
from mlserve.records import Baseline, InputSample, Stage, Task, VersionDescription
from mlserve.testing import (
    ConstantModel,
    ObservableRepositoryContract,
    VersionDescriberContract,
    WritableModelRepositoryContract,
)

GENEROUS_SECONDS = 60.0


class TestInMemoryModelRepository(
    WritableModelRepositoryContract, VersionDescriberContract, ObservableRepositoryContract
):
    def new_repository(self, clock) -> InMemoryModelRepository:
        return InMemoryModelRepository(clock=clock)

    def publish(self, repository: InMemoryModelRepository, model) -> ModelVersion:
        version = ModelVersion(str(len(repository._models) + 1), datetime(2026, 1, 1, tzinfo=UTC))
        repository._models[version.id] = model
        repository._descriptions[version.id] = VersionDescription(version)
        repository._stages[version.id] = Stage.ACTIVE
        repository._active[version.id] = version
        return version

    def withdraw(self, repository: InMemoryModelRepository, version: ModelVersion) -> None:
        del repository._active[version.id]
        repository._stages[version.id] = Stage.RETIRED

    def active_ids(self, repository: InMemoryModelRepository) -> list[str]:
        return list(reversed(repository._active))


@pytest.mark.slow
def test_it_behaves_like_dicts_and_lists_for_long():
    """The state machine finds nothing in hundreds of longer runs either."""

    class Long(TestInMemoryModelRepository):
        state_machine_settings = hypothesis.settings(
            TestInMemoryModelRepository.state_machine_settings, max_examples=500, stateful_step_count=60
        )

    Long().test_it_behaves_like_dicts_and_lists(ManualClock())


@pytest.fixture
def repository() -> InMemoryModelRepository:
    return InMemoryModelRepository(clock=ManualClock())


# ------------------------------------------------------------------------------------------------------- register


@pytest.mark.parametrize(
    ("said", "task"),
    [
        ("classification", Task.CLASSIFICATION),
        ("classifier", Task.CLASSIFICATION),
        ("regression", Task.REGRESSION),
        ("regressor", Task.REGRESSION),
    ],
)
def test_a_task_can_be_said_in_words(repository, said, task):
    """The words of mlserve and those of scikit-learn both name a task."""
    assert repository.describe(repository.register(sum, task=said)).task is task


@pytest.mark.parametrize(
    "arguments",
    [
        {"task": "clustering"},
        {"task": 5},
        {"tags": {"a": 1}},
        {"tags": {1: "a"}},
        {"tags": "text"},
        {"tags": 5},
        {"baseline": [1.0, 2.0]},
        {"baseline": [[1.0, 2.0], [3.0]]},
        {"baseline": 5},
        {"baseline": pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])},
        {"example": [1.0], "schema": ArraySchema(shape=(2,))},
        {"example": [float("nan")], "schema": ArraySchema(shape=(1,))},
        {"baseline": [[1.0]], "schema": ArraySchema(shape=(2,), names=("a", "b"))},
    ],
)
def test_a_bad_argument_registers_nothing(repository, arguments):
    """``register`` raises ``InvalidArgumentError`` for what cannot be kept, and nothing is changed."""
    with pytest.raises(InvalidArgumentError):
        repository.register(ConstantModel(), **arguments)
    assert repository.generation == 0
    assert repository.history() == ()
    assert repository.register(ConstantModel()).id == "1"


def test_a_schema_is_learned_from_the_example(repository):
    """A model that predicts rows gets its schema from the example: its shape, finite, integers taken for floats."""
    version = repository.register(ConstantModel(), example=np.array([1, 2, 3]))
    assert repository.describe(version).schema == ArraySchema(shape=(3,), dtype="float64")


def test_a_narrow_example_keeps_its_dtype(repository):
    """A float32 example gives a float32 schema."""
    version = repository.register(ConstantModel(), example=np.zeros(3, np.float32))
    assert repository.describe(version).schema.dtype == "float32"


@pytest.mark.parametrize("example", [{"a": 1.0}, "text", None, ["a", "b"]])
def test_no_schema_is_learned_from_what_is_no_array(repository, example):
    """A mapping, text or nothing teaches no schema."""
    assert repository.describe(repository.register(ConstantModel(), example=example)).schema is None


def test_no_schema_is_learned_for_a_plain_callable(repository):
    """A plain callable takes what it likes, so one example teaches nothing."""
    assert repository.describe(repository.register(sum, example=[1.0, 2.0])).schema is None


def test_a_given_schema_is_kept(repository):
    """A schema that is given is not learned anew."""
    schema = ArraySchema(shape=(2,), dtype="float32", allow_missing=True)
    version = repository.register(ConstantModel(), example=[1.0, 2.0], schema=schema)
    assert repository.describe(version).schema == schema


def test_a_frame_brings_the_names_of_its_features(repository):
    """A frame as baseline names its features."""
    version = repository.register(sum, baseline=pd.DataFrame({"a": [1.0], "b": [2.0]}))
    assert repository.describe(version).baseline.inputs.feature_names == ("a", "b")


def test_an_array_takes_the_names_of_the_schema(repository):
    """An array as baseline takes the names of the schema."""
    schema = ArraySchema(shape=(2,), names=("a", "b"))
    version = repository.register(ConstantModel(), schema=schema, baseline=[[1.0, 2.0]])
    assert repository.describe(version).baseline.inputs.feature_names == ("a", "b")


@pytest.mark.parametrize(
    "baseline",
    [Baseline(metrics=ModelMetrics(accuracy=0.9)), InputSample(rows=np.array([[1.0]]), feature_names=("a",))],
    ids=["Baseline", "InputSample"],
)
def test_a_baseline_that_is_a_record_is_kept_as_it_is(repository, baseline):
    """A ``Baseline`` or an ``InputSample`` is kept, not copied."""
    kept = repository.describe(repository.register(sum, baseline=baseline)).baseline
    assert baseline in (kept, kept.inputs)


def test_a_model_is_handed_out_as_it_is(repository):
    """Models are kept by reference."""
    model = ConstantModel()
    assert repository.load_model(repository.register(model)) is model


# ------------------------------------------------------------------------------------------- history, errors, threads


def test_registering_is_two_changes(repository):
    """Registering and activating are told apart in the history; each raises the generation by one."""
    repository.register(sum)
    assert [(entry.generation, entry.action) for entry in repository.history()] == [(1, "register"), (2, "activate")]
    assert repository.generation == 2


def test_the_history_tells_the_alias(repository):
    """The entry of an alias names it."""
    repository.register(sum)
    repository.set_alias("champion", "1")
    assert repository.history()[-1].detail == "champion"


def test_the_history_tells_what_a_rollback_left(repository):
    """The entry of a rollback names the version that was left."""
    repository.register(sum)
    repository.register(max)
    repository.rollback()
    assert repository.history()[-1].detail == "left 2"


def test_an_unknown_version_is_named_in_the_error(repository):
    """The error about an unknown version carries its id."""
    with pytest.raises(VersionNotFoundError) as caught:
        repository.stage("77")
    assert caught.value.version_id == "77"


def test_the_system_clock_is_the_default():
    """Without a clock, versions carry the time of the machine."""
    before = datetime.now(UTC)
    version = InMemoryModelRepository().register(sum)
    assert timedelta(0) <= version.created_at - before < timedelta(hours=1)


def test_whoever_sees_the_generation_sees_the_change(repository):
    """The generation rises after the change, so that a reader who sees the new one finds the new version."""
    rounds = 200
    found: list[str] = []

    def follow():
        for number in range(1, rounds + 1):
            while repository.generation < number:
                if not writer.is_alive() and repository.generation < number:
                    return
            found.append(repository.get_version(str(number)).id)

    def register():
        for _ in range(rounds):
            repository.register(sum, activate=False)

    writer, reader = threading.Thread(target=register), threading.Thread(target=follow)
    writer.start()
    reader.start()
    writer.join(GENEROUS_SECONDS)
    reader.join(GENEROUS_SECONDS)
    assert found == [str(number) for number in range(1, rounds + 1)]
