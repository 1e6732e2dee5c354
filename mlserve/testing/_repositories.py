"""What every repository keeps to: one class for each protocol, one method for each clause."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pytest

from mlserve.clocks import Clock, ManualClock
from mlserve.errors import InvalidArgumentError, VersionNotFoundError
from mlserve.protocols import ModelRepository, ObservableRepository, VersionDescriber
from mlserve.records import Baseline, ModelVersion, Task, VersionDescription
from mlserve.schemas import ArraySchema
from mlserve.testing._models import ConstantModel
from mlserve.testing._threads import THREADS, at_once


class RepositoryContract(ABC):  # noqa: B024  # each subclass has its own factory, of its own type
    """What all suites of repositories share: models to store."""

    def new_model(self, number: int) -> Any:
        """A model that the repository can store; other numbers give models that answer otherwise.

        Override it where the repository takes only models of some kind.
        """
        return ConstantModel(float(number))

    def assert_same_model(self, loaded: Any, stored: Any) -> None:
        """Fail unless a model that was loaded does the same as the one that was stored.

        By default both must answer the same to two rows of two features. Override it where models answer otherwise.
        """
        rows = np.array([[0.0, 1.0], [2.0, 3.0]])
        np.testing.assert_array_equal(loaded.predict(rows), stored.predict(rows))

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock of the test."""
        return ManualClock()


class ModelRepositoryContract(RepositoryContract):
    """The three methods of ``ModelRepository``.

    Subclass it in a test module under a name that begins with ``Test`` and override the three abstract methods. Two
    of them are back doors, so that reading is not tested with the repository's own way of writing. Fixtures work as
    in any test class: for a directory, let an autouse fixture put ``tmp_path`` on ``self``, and make a new directory
    below it in ``new_repository``.

    Example:
        >>> from mlserve import InMemoryModelRepository
        >>> class TestOurRepository(ModelRepositoryContract):
        ...     def new_repository(self, clock):
        ...         return InMemoryModelRepository(clock=clock)
        ...
        ...     def publish(self, repository, model):
        ...         return repository.register(model)
        ...
        ...     def withdraw(self, repository, version):
        ...         repository.retire(version.id)
    """

    @abstractmethod
    def new_repository(self, clock: Clock) -> ModelRepository[Any]:
        """A new, empty repository that shares nothing with those made before. Called many times in a test.

        Args:
            clock: For a repository that can be given one.
        """

    @abstractmethod
    def publish(self, repository: Any, model: Any) -> ModelVersion:
        """Put a model into a repository, active and the latest, by another way than the protocol's where there is one.

        Args:
            repository: One that ``new_repository`` made.
            model: One that ``new_model`` made.

        Returns:
            The version as the repository will give it.
        """

    @abstractmethod
    def withdraw(self, repository: Any, version: ModelVersion) -> None:
        """Take an active version out of service, by another way than the protocol's where there is one."""

    @pytest.fixture
    def repository(self, clock: ManualClock) -> ModelRepository[Any]:
        """A new, empty repository."""
        return self.new_repository(clock)

    def _published(self, repository: Any, count: int) -> list[ModelVersion]:
        return [self.publish(repository, self.new_model(number)) for number in range(count)]

    def test_it_is_a_model_repository(self, repository: ModelRepository[Any]) -> None:
        """It has the methods of ``ModelRepository``."""
        assert isinstance(repository, ModelRepository)

    def test_an_empty_repository_has_no_latest_version(self, repository: ModelRepository[Any]) -> None:
        """``get_latest_version`` raises ``VersionNotFoundError`` where no version is active."""
        with pytest.raises(VersionNotFoundError):
            repository.get_latest_version()

    def test_an_empty_repository_lists_nothing(self, repository: ModelRepository[Any]) -> None:
        """``get_active_versions`` of an empty repository is empty."""
        assert list(repository.get_active_versions()) == []

    def test_the_latest_is_the_one_published_last(self, repository: ModelRepository[Any]) -> None:
        """``get_latest_version`` is the most recently activated active version."""
        versions = self._published(repository, 3)
        assert repository.get_latest_version() == versions[-1]

    def test_active_versions_come_latest_first(self, repository: ModelRepository[Any]) -> None:
        """``get_active_versions`` lists the most recently activated first."""
        versions = self._published(repository, 3)
        assert list(repository.get_active_versions()) == versions[::-1]

    def test_the_second_digit_does_not_change_the_order(self, repository: ModelRepository[Any]) -> None:
        """The order is that of activation, not that of spelling: version 10 comes before version 9."""
        versions = self._published(repository, 11)
        assert list(repository.get_active_versions()) == versions[::-1]

    @pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 1000])
    def test_a_limit_takes_the_most_recent(self, repository: ModelRepository[Any], limit: int) -> None:
        """``get_active_versions(limit)`` gives at most so many, the most recently activated."""
        versions = self._published(repository, 3)
        assert list(repository.get_active_versions(limit)) == versions[::-1][:limit]

    def test_a_limit_of_none_gives_all(self, repository: ModelRepository[Any]) -> None:
        """``get_active_versions(None)`` gives all."""
        versions = self._published(repository, 3)
        assert list(repository.get_active_versions(None)) == versions[::-1]

    def test_a_negative_limit_is_refused(self, repository: ModelRepository[Any]) -> None:
        """``get_active_versions`` raises ``InvalidArgumentError`` for a negative limit."""
        self._published(repository, 1)
        with pytest.raises(InvalidArgumentError):
            repository.get_active_versions(-1)

    def test_each_version_loads_its_own_model(self, repository: ModelRepository[Any]) -> None:
        """``load_model`` gives the model of the version asked for."""
        for number, version in enumerate(self._published(repository, 3)):
            self.assert_same_model(repository.load_model(version), self.new_model(number))

    def test_a_listed_version_can_be_loaded(self, repository: ModelRepository[Any]) -> None:
        """``load_model`` takes a version as the repository itself gave it."""
        self._published(repository, 2)
        self.assert_same_model(repository.load_model(repository.get_latest_version()), self.new_model(1))

    def test_an_unknown_version_cannot_be_loaded(self, repository: ModelRepository[Any]) -> None:
        """``load_model`` raises ``VersionNotFoundError`` for a version that was never registered."""
        self._published(repository, 1)
        with pytest.raises(VersionNotFoundError):
            repository.load_model(ModelVersion("987654321", datetime(2026, 1, 1, tzinfo=UTC)))

    def test_ids_are_distinct_decimals(self, repository: ModelRepository[Any]) -> None:
        """The id of a version is a decimal number of its own."""
        ids = [version.id for version in self._published(repository, 3)]
        assert len(set(ids)) == 3
        assert all(version_id.isdecimal() for version_id in ids)

    def test_a_withdrawn_version_is_not_listed(self, repository: ModelRepository[Any]) -> None:
        """``get_active_versions`` lists only what may be served."""
        first, second, third = self._published(repository, 3)
        self.withdraw(repository, second)
        assert list(repository.get_active_versions()) == [third, first]

    def test_the_one_before_follows_a_withdrawn_latest(self, repository: ModelRepository[Any]) -> None:
        """When the latest version is taken out of service, the one activated before it is the latest."""
        first, second = self._published(repository, 2)
        self.withdraw(repository, second)
        assert repository.get_latest_version() == first

    def test_nothing_is_latest_when_all_are_withdrawn(self, repository: ModelRepository[Any]) -> None:
        """``get_latest_version`` raises ``VersionNotFoundError`` when the last active version was taken out."""
        (version,) = self._published(repository, 1)
        self.withdraw(repository, version)
        with pytest.raises(VersionNotFoundError):
            repository.get_latest_version()

    def test_a_withdrawn_version_can_still_be_loaded(self, repository: ModelRepository[Any]) -> None:
        """``load_model`` needs a version that was registered, not one that is active."""
        version, _ = self._published(repository, 2)
        self.withdraw(repository, version)
        self.assert_same_model(repository.load_model(version), self.new_model(0))

    def test_reading_changes_nothing(self, repository: ModelRepository[Any]) -> None:
        """Asking twice gives the same answer."""
        self._published(repository, 3)
        before = list(repository.get_active_versions())
        repository.load_model(repository.get_active_versions()[-1])
        assert list(repository.get_active_versions()) == before

    def test_a_list_that_was_given_does_not_change(self, repository: ModelRepository[Any]) -> None:
        """The answer of ``get_active_versions`` stays as it was when the repository changes."""
        versions = self._published(repository, 2)
        listed = repository.get_active_versions()
        self.publish(repository, self.new_model(2))
        assert list(listed) == versions[::-1]

    def test_two_repositories_share_nothing(self, repository: ModelRepository[Any], clock: ManualClock) -> None:
        """What is put into one repository is not in another."""
        self._published(repository, 1)
        assert list(self.new_repository(clock).get_active_versions()) == []

    def test_many_threads_read_the_same(self, repository: ModelRepository[Any]) -> None:
        """Every method may be called from any thread at once."""
        versions = self._published(repository, 3)

        def read() -> tuple[Any, Any, list[Any]]:
            listed = list(repository.get_active_versions())
            return repository.get_latest_version(), listed, [repository.load_model(version) for version in listed]

        for latest, listed, models in at_once([read] * THREADS):
            assert (latest, listed) == (versions[-1], versions[::-1])
            for number, model in enumerate(models[::-1]):
                self.assert_same_model(model, self.new_model(number))


class VersionDescriberContract(RepositoryContract):
    """The method of ``VersionDescriber``: what a version carries beside its model comes back as it was given."""

    @abstractmethod
    def new_repository(self, clock: Clock) -> VersionDescriber:
        """A new, empty repository."""

    def publish_description(self, repository: Any, model: Any, description: VersionDescription) -> ModelVersion:
        """Put a model with a description into a repository. By default through ``WritableModelRepository.register``.

        Args:
            repository: One that ``new_repository`` made.
            model: One that ``new_model`` made.
            description: Its task, example, schema and baseline are what the version carries; the rest is not used.

        Returns:
            The version as the repository will give it.
        """
        version: ModelVersion = repository.register(
            model,
            task=description.task,
            example=description.example,
            schema=description.schema,
            baseline=description.baseline,
        )
        return version

    def _described(self, clock: ManualClock, **carried: Any) -> tuple[VersionDescriber, ModelVersion]:
        repository = self.new_repository(clock)
        description = VersionDescription(ModelVersion("1", clock.now()), **carried)
        return repository, self.publish_description(repository, self.new_model(0), description)

    def test_it_is_a_version_describer(self, clock: ManualClock) -> None:
        """It has the method of ``VersionDescriber``."""
        assert isinstance(self.new_repository(clock), VersionDescriber)

    def test_a_description_names_its_version(self, clock: ManualClock) -> None:
        """``describe`` answers about the version asked for, by id or by version."""
        repository, version = self._described(clock)
        assert repository.describe(version.id).version == repository.describe(version).version == version

    def test_an_unknown_version_has_no_description(self, clock: ManualClock) -> None:
        """``describe`` raises ``VersionNotFoundError`` for a version that was never registered."""
        repository, _ = self._described(clock)
        with pytest.raises(VersionNotFoundError):
            repository.describe("987654321")

    @pytest.mark.parametrize("task", [*Task, None])
    def test_the_task_comes_back(self, clock: ManualClock, task: Task | None) -> None:
        """``describe(...).task`` is the task the version was registered with."""
        repository, version = self._described(clock, task=task)
        assert repository.describe(version).task is task

    def test_the_example_comes_back(self, clock: ManualClock) -> None:
        """``describe(...).example`` is the example the version was registered with."""
        repository, version = self._described(clock, example=[1.0, 2.0])
        assert list(repository.describe(version).example) == [1.0, 2.0]

    def test_the_schema_comes_back(self, clock: ManualClock) -> None:
        """``describe(...).schema`` is the schema the version was registered with."""
        schema = ArraySchema.infer([[1.0, 2.0], [3.0, float("nan")]], names=["a", "b"])
        repository, version = self._described(clock, schema=schema)
        assert repository.describe(version).schema == schema

    def test_the_baseline_comes_back(self, clock: ManualClock) -> None:
        """``describe(...).baseline`` holds the rows the version was registered with."""
        rows = np.array([[1.0, 2.0], [3.0, 4.0]])
        repository, version = self._described(clock, baseline=rows)
        baseline = repository.describe(version).baseline
        assert isinstance(baseline, Baseline)
        assert baseline.inputs is not None
        np.testing.assert_array_equal(baseline.inputs.rows, rows)

    @pytest.mark.parametrize("field", ["task", "example", "schema", "baseline"])
    def test_what_was_not_said_is_none(self, clock: ManualClock, field: str) -> None:
        """``describe`` answers None about what the version was registered without."""
        repository, version = self._described(clock)
        assert getattr(repository.describe(version), field) is None


class ObservableRepositoryContract(RepositoryContract):
    """The property of ``ObservableRepository``. For one that is writable too, the state machine checks each change."""

    @abstractmethod
    def new_repository(self, clock: Clock) -> ObservableRepository:
        """A new, empty repository."""

    def change(self, repository: Any, number: int) -> None:
        """Change a repository as it is changed in production. By default a version is registered.

        Args:
            repository: One that ``new_repository`` made.
            number: How many changes were made before.
        """
        repository.register(self.new_model(number))

    def test_it_is_an_observable_repository(self, clock: ManualClock) -> None:
        """It has the property of ``ObservableRepository``, an integer."""
        repository = self.new_repository(clock)
        assert isinstance(repository, ObservableRepository)
        assert isinstance(repository.generation, int)

    def test_the_generation_rises_with_every_change(self, clock: ManualClock) -> None:
        """``generation`` rises with every change."""
        repository = self.new_repository(clock)
        generations = [repository.generation]
        for number in range(3):
            self.change(repository, number)
            generations.append(repository.generation)
        assert generations == sorted(set(generations))

    def test_the_generation_stays_while_nothing_changes(self, clock: ManualClock) -> None:
        """``generation`` is the same each time it is read between two changes."""
        repository = self.new_repository(clock)
        self.change(repository, 0)
        assert repository.generation == repository.generation

    def test_no_change_made_by_a_thread_is_missed(self, clock: ManualClock) -> None:
        """``generation`` counts changes that are made at the same moment one by one."""
        repository = self.new_repository(clock)
        before = repository.generation
        at_once([partial(self.change, repository, number) for number in range(THREADS)])
        assert repository.generation >= before + THREADS
