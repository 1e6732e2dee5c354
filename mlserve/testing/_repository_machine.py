"""A repository beside a model of it made of dicts and lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlserve.errors import InvalidArgumentError, MlserveError, VersionNotFoundError
from mlserve.protocols import ObservableRepository, WritableModelRepository
from mlserve.records import Stage

_IDS = st.integers(1, 4).map(str)
"""Few, so that most name a version that soon exists, and the same one again and again."""

_ALIASES = st.sampled_from(["champion", "challenger", "shadow"])


class RepositoryMachine(RuleBasedStateMachine):
    """Does the same to a ``WritableModelRepository`` and to dicts and lists, and compares all that can be read.

    ``WritableModelRepositoryContract`` runs it. By hand: ``run_state_machine_as_test(lambda: RepositoryMachine(...))``
    of ``hypothesis.stateful``.

    Args:
        repository: A new, empty one.
        new_model: From a number to a model; other numbers give other models.
        assert_same_model: Called with the model that was loaded and the one that was stored.
    """

    def __init__(
        self,
        repository: WritableModelRepository[Any],
        new_model: Callable[[int], Any],
        assert_same_model: Callable[[Any, Any], None],
    ) -> None:
        super().__init__()
        self._repository = repository
        self._new_model = new_model
        self._assert_same_model = assert_same_model
        self._models: dict[str, Any] = {}
        self._stages: dict[str, Stage] = {}
        # In order of activation: the last one is the latest.
        self._active: list[str] = []
        self._aliases: dict[str, str] = {}
        self._history = repository.history()
        self._generation = self._observed_generation()

    def _observed_generation(self) -> int | None:
        return self._repository.generation if isinstance(self._repository, ObservableRepository) else None

    def _changed(self, action: str, version_id: str) -> None:
        history, generation = self._repository.history(), self._observed_generation()
        assert list(history[: len(self._history)]) == list(self._history), "history never changes, it only grows"
        assert (action, version_id) in [(entry.action, entry.version_id) for entry in history[len(self._history) :]]
        assert generation is None or self._generation is None or generation > self._generation
        self._history, self._generation = history, generation

    def _refuses(self, error: type[Exception], call: Callable[..., object], *args: Any, **options: Any) -> None:
        try:
            call(*args, **options)
        except error:
            # What was refused leaves no trace; the invariants see to all the rest.
            assert list(self._repository.history()) == list(self._history)
            assert self._observed_generation() == self._generation
        else:
            raise AssertionError(f"{call.__name__}{args} must raise {error.__name__}")

    def _make_active(self, version_id: str) -> None:
        if version_id in self._active:
            self._active.remove(version_id)
        self._active.append(version_id)
        self._stages[version_id] = Stage.ACTIVE

    @initialize(activations=st.just([]) | st.lists(st.booleans(), min_size=2, max_size=4))
    def begin(self, activations: list[bool]) -> None:
        """Some versions to begin with: most rules mean little without."""
        for activate in activations:
            self.register(activate)

    @rule(activate=st.booleans())
    def register(self, activate: bool) -> None:
        """A new version has the next number and is the latest or a candidate."""
        model = self._new_model(len(self._models))
        version = self._repository.register(model, activate=activate)
        assert version.id == str(len(self._models) + 1)
        self._models[version.id] = model
        self._stages[version.id] = Stage.CANDIDATE
        if activate:
            self._make_active(version.id)
        self._changed("register", version.id)

    @rule(version_id=_IDS)
    def activate(self, version_id: str) -> None:
        """Whatever is registered can be made the latest."""
        if version_id not in self._models:
            self._refuses(VersionNotFoundError, self._repository.activate, version_id)
            return
        assert self._repository.activate(version_id).id == version_id
        self._make_active(version_id)
        self._changed("activate", version_id)

    @rule(version_id=_IDS)
    def retire(self, version_id: str) -> None:
        """Only an active version can be retired."""
        if version_id not in self._active:
            self._refuses(VersionNotFoundError, self._repository.retire, version_id)
            return
        assert self._repository.retire(version_id).id == version_id
        self._active.remove(version_id)
        self._stages[version_id] = Stage.RETIRED
        self._changed("retire", version_id)

    @rule()
    def rollback(self) -> None:
        """The latest is retired and the one before it serves."""
        if len(self._active) < 2:
            self._refuses(VersionNotFoundError, self._repository.rollback)
            return
        self._stages[self._active.pop()] = Stage.RETIRED
        assert self._repository.rollback().id == self._active[-1]
        self._changed("rollback", self._active[-1])

    @rule(alias=_ALIASES, version_id=_IDS)
    def set_alias(self, alias: str, version_id: str) -> None:
        """An alias points at whatever is registered."""
        if version_id not in self._models:
            self._refuses(VersionNotFoundError, self._repository.set_alias, alias, version_id)
            return
        self._repository.set_alias(alias, version_id)
        self._aliases[alias] = version_id
        self._changed("alias", version_id)

    @rule(alias=_ALIASES, version_id=_IDS, guess=st.none() | _IDS)
    def move_alias(self, alias: str, version_id: str, guess: str | None) -> None:
        """An alias moves only from where it was expected to point: where it does, or somewhere guessed."""
        expected = self._aliases.get(alias, "1") if guess is None else guess
        if version_id not in self._models:
            # Where both are wrong, either may be said.
            self._refuses(MlserveError, self._repository.set_alias, alias, version_id, expected=expected)
            return
        if self._aliases.get(alias) != expected:
            self._refuses(InvalidArgumentError, self._repository.set_alias, alias, version_id, expected=expected)
            return
        self._repository.set_alias(alias, version_id, expected=expected)
        self._aliases[alias] = version_id
        self._changed("alias", version_id)

    @rule(limit=st.integers(0, 8))
    def limit_the_list(self, limit: int) -> None:
        """A limit takes the most recently activated."""
        listed = [version.id for version in self._repository.get_active_versions(limit)]
        assert listed == self._active[::-1][:limit]

    @rule(version_id=_IDS)
    def load(self, version_id: str) -> None:
        """The model that comes out is the one that went in, in whatever stage."""
        if version_id not in self._models:
            self._refuses(VersionNotFoundError, self._repository.get_version, version_id)
            return
        loaded = self._repository.load_model(self._repository.get_version(version_id))
        self._assert_same_model(loaded, self._models[version_id])

    @invariant()
    def same_active_versions(self) -> None:
        """The active versions are the same, the most recently activated first, and so is the latest."""
        assert [version.id for version in self._repository.get_active_versions()] == self._active[::-1]
        if self._active:
            assert self._repository.get_latest_version().id == self._active[-1]
        else:
            self._refuses(VersionNotFoundError, self._repository.get_latest_version)

    @invariant()
    def same_stages(self) -> None:
        """Every version stands where it should."""
        assert {version_id: self._repository.stage(version_id) for version_id in self._models} == self._stages

    @invariant()
    def same_aliases(self) -> None:
        """Every alias points where it should."""
        pointed = {alias: self._repository.resolve_alias(alias).id for alias in self._aliases}
        assert pointed == self._aliases
