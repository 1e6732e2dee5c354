"""Looking a repository over, clearing it up, and mending what killed writers left."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from functools import partial
from typing import final

from mlserve.clocks import Clock
from mlserve.errors import BrokenHistoryError, IntegrityError, MlserveError, RepositoryError, VersionNotFoundError
from mlserve.repositories._changes import State
from mlserve.repositories._filesystem import remove_tree
from mlserve.repositories._layout import LOG, STAGING, VERSIONS, Layout, temporary_since
from mlserve.repositories._log import Log
from mlserve.repositories._reports import Collection, Repair, Verification
from mlserve.repositories._versions import Versions


@final
class Maintenance:
    """What ``verify``, ``gc`` and ``repair`` do. *Thread safety*: yes.

    Args:
        layout: Where what lies.
        log: The log.
        versions: The directories of versions.
        clock: Tells what is old.
    """

    def __init__(self, layout: Layout, log: Log, versions: Versions, clock: Clock) -> None:
        self._layout = layout
        self._log = log
        self._versions = versions
        self._clock = clock

    def verify(self, version_id: str | None) -> Verification:
        """See ``DirectoryModelRepository.verify``."""
        problems: list[MlserveError] = []
        with self._log.state() as state:
            ids = list(state.versions) if version_id is None else [state.known(version_id).id]
        if version_id is None:
            problems += self._log_problems()
        checked = []
        for one in ids:
            try:
                with self._log.state() as state:
                    registered = state.known(one)
                self._versions.check(one, registered)
            except VersionNotFoundError:
                continue  # collected meanwhile
            except RepositoryError as error:
                if self._is_registered(one):
                    problems.append(error)
            checked.append(one)
        return Verification(tuple(checked), tuple(problems), self._leftovers() if version_id is None else ())

    def _is_registered(self, version_id: str) -> bool:
        with self._log.state() as state:
            return version_id in state.versions

    def _log_problems(self) -> list[MlserveError]:
        try:
            replayed = self._log.replayed()
        except RepositoryError as error:
            return [error]
        with self._log.state() as state:
            if state.generation == replayed.generation and state.to_body() != replayed.to_body():
                return [BrokenHistoryError("a checkpoint is not what the log adds up to.", path=LOG)]
        return []

    def _staged(self) -> list[str]:
        try:
            return sorted(self._layout.filesystem.listdir(self._layout.path(STAGING)))
        except FileNotFoundError:
            return []

    def _unregistered(self) -> list[int]:
        numbers = self._versions.numbers()
        with self._log.state() as state:
            return [number for number in numbers if str(number) not in state.versions]

    def _leftovers(self) -> tuple[str, ...]:
        unregistered = [f"{VERSIONS}/{number}" for number in self._unregistered()]
        return (*unregistered, *(f"{STAGING}/{name}" for name in self._staged()))

    def gc(self, keep: int) -> Collection:
        """See ``DirectoryModelRepository.gc``."""
        now = self._clock.now()
        with self._log.state() as state:
            ids = state.collectable(keep, now)
        collected, freed = [], 0
        for one in ids:
            size = self._size(one)
            # The log says first that it is gone: whoever activates or pins it at this moment is either seen or refused.
            if (
                self._log.append(
                    partial(State.to_collect, version_id=one, keep=keep, now=now), reason=f"gc(keep={keep})"
                )
                is not None
            ):
                self._versions.remove(one)
                collected.append(one)
                freed += size
        return Collection(tuple(collected), freed)

    def _size(self, version_id: str) -> int:
        with contextlib.suppress(RepositoryError):  # what is damaged goes all the same
            return sum(file.size for file in self._versions.manifest(version_id).files)
        return 0

    def repair(self, older_than: timedelta) -> Repair:
        """See ``DirectoryModelRepository.repair``."""
        registered, discarded, removed, left = [], [], [], []
        for number in self._unregistered():
            where, version_id = f"{VERSIONS}/{number}", str(number)
            if self._versions.is_being_written(version_id, self._clock.now() - older_than):
                left.append(where)
                continue
            try:
                with self._log.state() as state:
                    was_dealt_with = state.to_discard(number) is None
                if was_dealt_with:
                    raise IntegrityError("it was collected, or discarded, and not removed any more.")
                version = self._versions.check(version_id).version
                if self._log.append(partial(State.to_register, version=version), reason="repair") is not None:
                    registered.append(version_id)
            except IntegrityError:
                if self._log.append(partial(State.to_discard, number=number), reason="repair") is not None:
                    discarded.append(version_id)
                if not self._is_registered(version_id):
                    self._versions.remove(version_id)
                    removed.append(where)
            except VersionNotFoundError:  # another repair was faster, and has discarded it
                continue
            except RepositoryError:
                left.append(where)
        for name in self._staged():
            since = temporary_since(name)
            where = f"{STAGING}/{name}"
            if since is None or self._clock.now() - since < older_than:
                left.append(where)
                continue
            self._remove_staged(name)
            removed.append(where)
        return Repair(tuple(registered), tuple(discarded), tuple(removed), tuple(left))

    def _remove_staged(self, name: str) -> None:
        trash = self._layout.temporary("trash", self._clock.now())
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            # Out of its writer's sight first, whole: a writer that lives after all then fails, and publishes no half.
            self._layout.filesystem.rename(self._layout.path(STAGING, name), trash)
            remove_tree(self._layout.filesystem, trash)
