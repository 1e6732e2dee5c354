"""What a repository that can be written keeps to."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from typing_extensions import override

from mlserve.clocks import Clock, ManualClock
from mlserve.errors import InvalidArgumentError, VersionNotFoundError
from mlserve.protocols import WritableModelRepository
from mlserve.records import ModelVersion, Stage
from mlserve.testing._repositories import ModelRepositoryContract
from mlserve.testing._repository_machine import RepositoryMachine
from mlserve.testing._threads import THREADS, at_once


class WritableModelRepositoryContract(ModelRepositoryContract):
    """The methods of ``WritableModelRepository``, and a state machine that runs them beside dicts and lists.

    ``publish`` and ``withdraw`` call ``register`` and ``retire`` unless they are overridden; override them, and
    ``active_ids``, where the store can be written and read by another way.

    Attributes:
        state_machine_settings: How much the state machine tries. Lower it for a slow store.
    """

    state_machine_settings: ClassVar[hypothesis.settings] = hypothesis.settings(
        max_examples=50,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @abstractmethod
    @override
    def new_repository(self, clock: Clock) -> WritableModelRepository[Any]:
        """A new, empty repository that shares nothing with those made before. Called many times in a test.

        Args:
            clock: For a repository that can be given one. Versions and history must then carry its times.
        """

    @override
    def publish(self, repository: Any, model: Any) -> ModelVersion:
        version: ModelVersion = repository.register(model)
        return version

    @override
    def withdraw(self, repository: Any, version: ModelVersion) -> None:
        repository.retire(version.id)

    def active_ids(self, repository: Any) -> list[str]:
        """Ids of the active versions, the most recently activated first, read by another way where there is one."""
        return [version.id for version in repository.get_active_versions()]

    @pytest.fixture
    @override
    def repository(self, clock: ManualClock) -> WritableModelRepository[Any]:
        return self.new_repository(clock)

    def _registered(self, repository: WritableModelRepository[Any], count: int) -> list[ModelVersion]:
        return [repository.register(self.new_model(number)) for number in range(count)]

    def test_it_is_a_writable_repository(self, repository: WritableModelRepository[Any]) -> None:
        """It has the methods of ``WritableModelRepository``."""
        assert isinstance(repository, WritableModelRepository)

    # ------------------------------------------------------------------------------------------------- register

    def test_ids_count_from_one(self, repository: WritableModelRepository[Any]) -> None:
        """Ids are decimal numbers in order of registration, from "1"."""
        assert [version.id for version in self._registered(repository, 3)] == ["1", "2", "3"]

    def test_candidates_are_numbered_too(self, repository: WritableModelRepository[Any]) -> None:
        """A candidate takes the next number like any other version."""
        ids = [repository.register(self.new_model(n), activate=activate).id for n, activate in enumerate([False, True])]
        assert ids == ["1", "2"]

    def test_numbers_are_never_reused(self, repository: WritableModelRepository[Any]) -> None:
        """The number of a retired version is not given again."""
        repository.retire(self._registered(repository, 1)[0].id)
        assert repository.register(self.new_model(1)).id == "2"

    def test_a_registered_version_is_the_latest(self, repository: WritableModelRepository[Any]) -> None:
        """``register`` makes the new version active and the latest."""
        self._registered(repository, 2)
        assert self.active_ids(repository) == ["2", "1"]

    def test_a_candidate_is_not_served(self, repository: WritableModelRepository[Any]) -> None:
        """``register(activate=False)`` leaves the versions that serve as they were."""
        self._registered(repository, 1)
        repository.register(self.new_model(1), activate=False)
        assert self.active_ids(repository) == ["1"]

    def test_a_candidate_can_be_loaded(self, repository: WritableModelRepository[Any]) -> None:
        """``load_model`` takes a candidate: it must be tried before it is promoted."""
        version = repository.register(self.new_model(7), activate=False)
        self.assert_same_model(repository.load_model(version), self.new_model(7))

    def test_tags_are_kept(self, repository: WritableModelRepository[Any]) -> None:
        """``register(tags=...)`` keeps the text with the version."""
        version = repository.register(self.new_model(0), tags={"commit": "abc"})
        assert dict(repository.get_version(version.id).tags) == {"commit": "abc"}

    def test_tags_are_copied(self, repository: WritableModelRepository[Any]) -> None:
        """A caller that changes its mapping afterwards does not change the version."""
        tags = {"commit": "abc"}
        version = repository.register(self.new_model(0), tags=tags)
        tags["commit"] = "other"
        assert dict(repository.get_version(version.id).tags) == {"commit": "abc"}

    def test_a_version_says_when_it_was_registered(
        self, repository: WritableModelRepository[Any], clock: ManualClock
    ) -> None:
        """``ModelVersion.created_at`` is the time of ``register``."""
        clock.advance(timedelta(minutes=3))
        version = repository.register(self.new_model(0))
        assert repository.get_version(version.id).created_at == clock.now()

    def test_threads_register_distinct_versions(self, repository: WritableModelRepository[Any]) -> None:
        """Versions that are registered at the same moment all get a number of their own and keep their own model."""
        models = [self.new_model(number) for number in range(THREADS)]
        versions = at_once([partial(repository.register, model) for model in models])
        assert sorted(int(version.id) for version in versions) == list(range(1, THREADS + 1))
        for version, model in zip(versions, models, strict=True):
            self.assert_same_model(repository.load_model(version), model)

    # --------------------------------------------------------------------------------------- get_version and stage

    @pytest.mark.parametrize("stage", list(Stage))
    def test_a_version_is_found_in_every_stage(self, repository: WritableModelRepository[Any], stage: Stage) -> None:
        """``get_version`` finds a version in whatever stage."""
        version = self._in_stage(repository, stage)
        assert repository.get_version(version.id) == version

    @pytest.mark.parametrize("stage", list(Stage))
    def test_the_stage_is_told(self, repository: WritableModelRepository[Any], stage: Stage) -> None:
        """``stage`` tells where a version stands, asked by id or by version."""
        version = self._in_stage(repository, stage)
        assert (repository.stage(version.id), repository.stage(version)) == (stage, stage)

    def _in_stage(self, repository: WritableModelRepository[Any], stage: Stage) -> ModelVersion:
        version = repository.register(self.new_model(0), activate=stage is not Stage.CANDIDATE)
        if stage is Stage.RETIRED:
            repository.retire(version.id)
        return version

    @pytest.mark.parametrize("method", ["get_version", "stage", "activate", "retire", "resolve_alias"])
    @pytest.mark.parametrize("name", ["2", "0", "-1", "", "champion"])
    def test_an_unknown_name_is_not_found(
        self, repository: WritableModelRepository[Any], method: str, name: str
    ) -> None:
        """``VersionNotFoundError`` is raised for what was never registered, and nothing is changed."""
        self._registered(repository, 1)
        with pytest.raises(VersionNotFoundError):
            getattr(repository, method)(name)
        assert self.active_ids(repository) == ["1"]

    # ------------------------------------------------------------------------------------------------- activate

    @pytest.mark.parametrize("stage", list(Stage))
    def test_activating_makes_the_latest(self, repository: WritableModelRepository[Any], stage: Stage) -> None:
        """``activate`` makes a version active and the latest, whatever it was before."""
        version = self._in_stage(repository, stage)
        repository.register(self.new_model(1))
        assert repository.activate(version.id) == version
        assert self.active_ids(repository) == ["1", "2"]
        assert repository.get_latest_version() == version
        assert repository.stage(version) is Stage.ACTIVE

    # --------------------------------------------------------------------------------------- retire and rollback

    def test_retiring_gives_the_version_back(self, repository: WritableModelRepository[Any]) -> None:
        """``retire`` returns the version it took out of service."""
        first, _ = self._registered(repository, 2)
        assert repository.retire(first.id) == first
        assert self.active_ids(repository) == ["2"]

    @pytest.mark.parametrize("stage", [Stage.CANDIDATE, Stage.RETIRED])
    def test_only_an_active_version_can_be_retired(
        self, repository: WritableModelRepository[Any], stage: Stage
    ) -> None:
        """``retire`` raises ``VersionNotFoundError`` for a version that is not active, and leaves its stage."""
        version = self._in_stage(repository, stage)
        with pytest.raises(VersionNotFoundError):
            repository.retire(version.id)
        assert repository.stage(version) is stage

    def test_rollback_gives_the_version_that_serves_now(self, repository: WritableModelRepository[Any]) -> None:
        """``rollback`` returns the version before, which serves from now on."""
        first, _ = self._registered(repository, 2)
        assert repository.rollback() == first
        assert self.active_ids(repository) == ["1"]

    def test_rollback_retires_the_version_it_leaves(self, repository: WritableModelRepository[Any]) -> None:
        """``rollback`` retires the latest version."""
        _, second = self._registered(repository, 2)
        repository.rollback()
        assert repository.stage(second) is Stage.RETIRED

    def test_rollback_follows_the_order_of_activation(self, repository: WritableModelRepository[Any]) -> None:
        """``rollback`` goes to the version activated before, not to the next lower number."""
        self._registered(repository, 3)
        repository.activate("1")
        assert repository.rollback().id == "3"

    @pytest.mark.parametrize("active", [0, 1])
    def test_nothing_to_roll_back_to_changes_nothing(
        self, repository: WritableModelRepository[Any], active: int
    ) -> None:
        """``rollback`` raises ``VersionNotFoundError`` with fewer than two active versions and changes nothing."""
        self._registered(repository, active)
        before = list(repository.history())
        with pytest.raises(VersionNotFoundError):
            repository.rollback()
        assert self.active_ids(repository) == ["1"][:active]
        assert list(repository.history()) == before

    def test_threads_roll_back_one_version_each(self, repository: WritableModelRepository[Any]) -> None:
        """Rollbacks at the same moment each leave another version."""
        self._registered(repository, THREADS + 1)
        served = at_once([repository.rollback] * THREADS)
        assert sorted(int(version.id) for version in served) == list(range(1, THREADS + 1))
        assert self.active_ids(repository) == ["1"]

    # ------------------------------------------------------------------------------------------------- aliases

    def test_an_alias_points_at_a_version(self, repository: WritableModelRepository[Any]) -> None:
        """``resolve_alias`` gives the version that ``set_alias`` named."""
        first, _ = self._registered(repository, 2)
        repository.set_alias("champion", first.id)
        assert repository.resolve_alias("champion") == first

    def test_an_alias_can_be_moved(self, repository: WritableModelRepository[Any]) -> None:
        """``set_alias`` moves an alias that exists."""
        first, second = self._registered(repository, 2)
        repository.set_alias("champion", first.id)
        repository.set_alias("champion", second.id)
        assert repository.resolve_alias("champion") == second

    @pytest.mark.parametrize("stage", list(Stage))
    def test_an_alias_points_at_any_stage(self, repository: WritableModelRepository[Any], stage: Stage) -> None:
        """An alias may name a version in whatever stage, and does not change it."""
        version = self._in_stage(repository, stage)
        repository.set_alias("challenger", version.id)
        assert repository.resolve_alias("challenger") == version
        assert repository.stage(version) is stage

    def test_an_alias_does_not_change_the_latest(self, repository: WritableModelRepository[Any]) -> None:
        """``set_alias`` activates nothing."""
        self._registered(repository, 2)
        repository.set_alias("champion", "1")
        assert self.active_ids(repository) == ["2", "1"]

    def test_an_alias_of_an_unknown_version_is_refused(self, repository: WritableModelRepository[Any]) -> None:
        """``set_alias`` raises ``VersionNotFoundError`` for a version never registered and sets nothing."""
        with pytest.raises(VersionNotFoundError):
            repository.set_alias("champion", "1")
        with pytest.raises(VersionNotFoundError):
            repository.resolve_alias("champion")

    @pytest.mark.parametrize("alias", ["1", "007", ""])
    def test_an_alias_that_could_be_an_id_is_refused(
        self, repository: WritableModelRepository[Any], alias: str
    ) -> None:
        """``set_alias`` raises ``InvalidArgumentError`` for an alias that is a number, or no name at all."""
        self._registered(repository, 1)
        with pytest.raises(InvalidArgumentError):
            repository.set_alias(alias, "1")

    def test_an_expected_alias_moves(self, repository: WritableModelRepository[Any]) -> None:
        """``set_alias(expected=...)`` moves an alias that points where it was expected to."""
        self._registered(repository, 2)
        repository.set_alias("champion", "1")
        repository.set_alias("champion", "2", expected="1")
        assert repository.resolve_alias("champion").id == "2"

    @pytest.mark.parametrize("pointing", [None, "1"])
    def test_an_unexpected_alias_stays(self, repository: WritableModelRepository[Any], pointing: str | None) -> None:
        """``set_alias(expected=...)`` raises ``InvalidArgumentError`` where the alias points elsewhere or nowhere."""
        self._registered(repository, 3)
        if pointing is not None:
            repository.set_alias("champion", pointing)
        before = list(repository.history())
        with pytest.raises(InvalidArgumentError):
            repository.set_alias("champion", "3", expected="2")
        assert list(repository.history()) == before

    def test_one_of_many_wins_an_alias(self, repository: WritableModelRepository[Any]) -> None:
        """Of several that move an alias from the same version at the same moment, exactly one succeeds."""
        self._registered(repository, THREADS + 1)
        repository.set_alias("champion", "1")

        def take(version_id: str) -> str | None:
            try:
                repository.set_alias("champion", version_id, expected="1")
            except InvalidArgumentError:
                return None
            return version_id

        ids = [str(number) for number in range(2, THREADS + 2)]
        winners = [winner for winner in at_once([partial(take, version_id) for version_id in ids]) if winner]
        assert winners == [repository.resolve_alias("champion").id]

    # ------------------------------------------------------------------------------------------------- history

    def test_every_change_is_in_the_history(self, repository: WritableModelRepository[Any]) -> None:
        """``history`` names every change by action and version, oldest first."""
        repository.register(self.new_model(0), activate=False)
        repository.activate("1")
        repository.register(self.new_model(1), activate=False)
        repository.activate("2")
        repository.set_alias("champion", "2")
        repository.rollback()
        repository.retire("1")
        assert [(entry.action, entry.version_id) for entry in repository.history()] == [
            ("register", "1"),
            ("activate", "1"),
            ("register", "2"),
            ("activate", "2"),
            ("alias", "2"),
            ("rollback", "1"),
            ("retire", "1"),
        ]

    def test_generations_rise_in_the_history(self, repository: WritableModelRepository[Any]) -> None:
        """Each entry of ``history`` carries a higher generation than the one before."""
        self._registered(repository, 3)
        generations = [entry.generation for entry in repository.history()]
        assert generations == sorted(set(generations))

    def test_the_history_says_when(self, repository: WritableModelRepository[Any], clock: ManualClock) -> None:
        """Each entry of ``history`` carries the time of its change."""
        self._registered(repository, 1)
        clock.advance(timedelta(hours=1))
        repository.retire("1")
        assert repository.history()[-1].at == clock.now()

    def test_a_history_that_was_given_does_not_change(self, repository: WritableModelRepository[Any]) -> None:
        """The answer of ``history`` stays as it was when the repository changes."""
        self._registered(repository, 1)
        history = repository.history()
        before = list(history)
        self._registered(repository, 1)
        assert list(history) == before

    def test_it_behaves_like_dicts_and_lists(self, clock: ManualClock) -> None:
        """After any sequence of changes, whatever can be read is what dicts and lists would say."""
        run_state_machine_as_test(
            lambda: RepositoryMachine(self.new_repository(clock), self.new_model, self.assert_same_model),  # type: ignore[arg-type]  # "it can be a class or a function", as its docstring has it
            settings=self.state_machine_settings,
        )
