"""The log of a repository in a directory: one file an entry, each made whole by a link that only one writer can win."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator, Mapping
from typing import Any, final

from mlserve._forking import renew_after_fork
from mlserve.clocks import Clock
from mlserve.errors import BrokenHistoryError, IntegrityError, NewerFormatError
from mlserve.records import HistoryEntry, ModelVersion
from mlserve.repositories._changes import Change, Plan, State, broken, history_entry, version_body, version_of
from mlserve.repositories._documents import MAX_DOCUMENT_BYTES, digest_of, sealed, unsealed
from mlserve.repositories._filesystem import Filesystem, write_file
from mlserve.repositories._layout import CHECKPOINTS, CURRENT, LOG, Layout

CHECKPOINT_ENTRIES = 256
"""At least so many entries between two checkpoints: reading them takes some hundredths of a second."""

CHECKPOINT_SHARE = 16
"""With n versions at least n/16 entries between two checkpoints, so that writing them costs each entry the same."""

CHECKPOINTS_KEPT = 2
"""A reader may still be reading the one before the newest."""

_HINT_BYTES = 32


@final
class Log:
    """Appends to the log, and follows it as other processes append.

    The newest entry alone tells the latest version, so that asking for it costs the same however long the log is.
    The rest is added up when it is first asked for, from the newest checkpoint on.

    *Thread safety*: yes. Reading takes a lock that is never held while something is made durable.

    Args:
        layout: Where what lies.
        clock: Tells when entries are made.
        actor: Who makes them.
    """

    def __init__(self, layout: Layout, clock: Clock, actor: str) -> None:
        self._layout = layout
        self._filesystem: Filesystem = layout.filesystem
        self._clock = clock
        self._actor = actor
        self.generation = 0
        """Number of the newest entry that was seen."""
        self.lost_races = 0
        """How often another writer was faster."""
        self._digest = ""
        self._latest: ModelVersion | None = None
        self._state: State | None = None
        self._history: list[HistoryEntry] | None = None
        self._is_located = False
        self._durable = 0
        self._checkpoint = 0
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._writing = threading.RLock()

    # ------------------------------------------------------------------------------------------------- reading

    def catch_up(self) -> None:
        """See what other processes have appended."""
        with self._lock:
            if not self._is_located:
                self._begin_at(self._newest())
                self._is_located = True
            while (entry := self._entry(self.generation + 1)) is not None:
                self._follow(*entry)

    def latest(self) -> ModelVersion | None:
        """The most recently activated active version; None where there is none."""
        with self._lock:
            self.catch_up()
            return self._latest

    @contextlib.contextmanager
    def state(self) -> Iterator[State]:
        """What the log adds up to, which does not change inside the block."""
        with self._lock:
            self.catch_up()
            if self._state is None:
                self._state = self._added_up(self.generation)
            yield self._state

    def history(self) -> tuple[HistoryEntry, ...]:
        """Every entry, oldest first."""
        with self._lock:
            self.catch_up()
            if self._history is None:
                self._history = [history_entry(body) for body in self._bodies(0, "", self.generation)]
            return tuple(self._history)

    def replayed(self) -> State:
        """What the entries alone add up to, read anew from the first one on.

        Raises:
            IntegrityError: An entry is damaged, missing or does not follow.
        """
        with self._lock:
            self.catch_up()
            return self._replay(State(), self.generation)

    def _path(self, generation: int) -> str:
        return self._layout.path(LOG, f"{generation:012d}.json")

    def _entry(self, generation: int) -> tuple[dict[str, Any], str] | None:
        path = self._path(generation)
        try:
            data = self._filesystem.read(path, MAX_DOCUMENT_BYTES)
        except FileNotFoundError:
            return None
        return unsealed("entry", data, self._layout.shown(path)), digest_of(data)

    def _begin_at(self, generation: int) -> None:
        if not generation:
            return
        entry = self._entry(generation)
        if entry is None:
            raise self._missing(generation)
        body, digest = entry
        self._settle(body, generation, digest)

    def _settle(self, body: Mapping[str, Any], generation: int, digest: str) -> None:
        try:
            if body["generation"] != generation:
                raise ValueError("it is another entry")
            self._latest = None if body["latest"] is None else version_of(body["latest"])
        except (KeyError, ValueError, TypeError) as error:
            raise broken(self._layout.shown(self._path(generation)), error) from error
        self._digest = digest
        # Last, so that whoever sees the new generation sees the change.
        self.generation = generation

    def _follow(self, body: Mapping[str, Any], digest: str) -> None:
        generation = self.generation + 1
        if body.get("previous") != self._digest:
            where = self._layout.shown(self._path(generation))
            raise broken(where, ValueError("it does not name the entry before it"))
        if self._state is not None:
            self._state.apply(body, digest, self._layout.shown(self._path(generation)))
        if self._history is not None:
            self._history.append(history_entry(body))
        self._settle(body, generation, digest)

    def _newest(self) -> int:
        """The number of the newest entry, in as many steps as the hint is out of date by powers of two."""
        low, step = self._hint(), 1
        while self._exists(low + step):
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._exists(middle) else (low, middle)
        return low

    def _hint(self) -> int:
        try:
            hint = int(self._filesystem.read(self._layout.path(CURRENT), _HINT_BYTES))
        except (OSError, ValueError):
            return 0
        return hint if hint > 0 and self._exists(hint) else 0

    def _exists(self, generation: int) -> bool:
        return self._filesystem.kind(self._path(generation)) is not None

    def _added_up(self, generation: int) -> State:
        for checkpoint in self._checkpoints():
            if checkpoint <= generation and (state := self._checkpointed(checkpoint)) is not None:
                self._checkpoint = checkpoint
                return self._replay(state, generation)
        return self._replay(State(), generation)

    def _replay(self, state: State, generation: int) -> State:
        for body in self._bodies(state.generation, state.digest, generation):
            state.apply(body, body.pop("digest"), self._layout.shown(self._path(body["generation"])))
        if state.generation == self.generation and state.digest != self._digest:
            where = self._layout.shown(self._path(generation))
            raise broken(where, ValueError("it is another than was read before"))
        return state

    def _bodies(self, after: int, digest: str, until: int) -> Iterator[dict[str, Any]]:
        for generation in range(after + 1, until + 1):
            entry = self._entry(generation)
            if entry is None:
                raise self._missing(generation)
            body, found = entry
            if body.get("previous") != digest or body.get("generation") != generation:
                where = self._layout.shown(self._path(generation))
                raise broken(where, ValueError("it does not name the entry before it"))
            digest = found
            yield {**body, "digest": found}

    def _missing(self, generation: int) -> BrokenHistoryError:
        where = self._layout.shown(self._path(generation))
        return BrokenHistoryError(
            f"{where} is missing, though later entries are there.", hint="Restore the log from a backup.", path=where
        )

    # ------------------------------------------------------------------------------------------------- writing

    def append(self, plan: Plan, *, reason: str = "", evidence: Mapping[str, Any] | None = None) -> Change | None:
        """Append what a plan makes of the state, again and again until no other writer was faster.

        Args:
            plan: Called with the state before; what it raises is passed on, and nothing is appended.
            reason: Why.
            evidence: What the decision stands on.

        Returns:
            The change that was made; None where the plan found that nothing was to be done.
        """
        with self._writing:
            while True:
                with self.state() as state:
                    change = plan(state)
                    if change is None:
                        return None
                    latest = state.latest_after(change)
                    body = {
                        "action": change.action,
                        "actor": self._actor,
                        "at": self._clock.now().isoformat(),
                        "data": dict(change.data),
                        "detail": change.detail,
                        "evidence": dict(evidence or {}),
                        "generation": state.generation + 1,
                        "latest": None if latest is None else version_body(latest),
                        "previous": state.digest,
                        "reason": reason,
                        # No two entries are equal: a writer whose answer was lost on the way knows its own by it.
                        "token": secrets.token_hex(8),
                        "version_id": change.version_id,
                    }
                if self._created(body):
                    self.catch_up()
                    self._leave_traces()
                    return change
                self.lost_races += 1

    def _created(self, body: dict[str, Any]) -> bool:
        generation: int = body["generation"]
        directory = self._layout.path(LOG)
        if self._durable < generation - 1:
            # Another process's entry may not be durable yet; ours must not be without it.
            self._filesystem.fsync_directory(directory)
        temporary = self._layout.temporary("entry", self._clock.now())
        try:
            write_file(self._filesystem, temporary, sealed("entry", body))
            try:
                self._filesystem.link(temporary, self._path(generation))
            except FileExistsError:
                return False
            self._filesystem.fsync_directory(directory)
            self._durable = generation
            return True
        finally:
            with contextlib.suppress(OSError):
                self._filesystem.unlink(temporary)

    def _leave_traces(self) -> None:
        # Nothing is wrong without them, only slower: what goes wrong here is no failure of the change.
        with contextlib.suppress(OSError):
            self._replace(self._layout.path(CURRENT), f"{self.generation}\n".encode(), durable=False)
        with self.state() as state:
            due = max(CHECKPOINT_ENTRIES, len(state.versions) // CHECKPOINT_SHARE)
            if state.generation - self._checkpoint < due:
                return
            generation, data = state.generation, sealed("checkpoint", state.to_body())
        self._checkpoint = generation
        if len(data) <= MAX_DOCUMENT_BYTES:
            with contextlib.suppress(OSError):
                self._replace(self._layout.path(CHECKPOINTS, f"{generation:012d}.json"), data)
                for outdated in self._checkpoints()[CHECKPOINTS_KEPT:]:
                    self._filesystem.unlink(self._layout.path(CHECKPOINTS, f"{outdated:012d}.json"))

    def _replace(self, path: str, data: bytes, *, durable: bool = True) -> None:
        temporary = self._layout.temporary("trace", self._clock.now())
        write_file(self._filesystem, temporary, data, durable=durable)
        self._filesystem.rename(temporary, path)

    def _checkpoints(self) -> list[int]:
        """Generations of which there is a checkpoint, newest first."""
        try:
            names = self._filesystem.listdir(self._layout.path(CHECKPOINTS))
        except FileNotFoundError:
            return []
        return sorted((int(name[:-5]) for name in names if name[:-5].isdecimal()), reverse=True)

    def _checkpointed(self, generation: int) -> State | None:
        """The state of a checkpoint; None where it is damaged or is not of this log."""
        path = self._layout.path(CHECKPOINTS, f"{generation:012d}.json")
        try:
            body = unsealed("checkpoint", self._filesystem.read(path, MAX_DOCUMENT_BYTES), path)
            state = State.from_body(body)
            entry = self._entry(generation)
        except (OSError, IntegrityError, NewerFormatError, KeyError, ValueError, TypeError, AttributeError):
            return None
        belongs = entry is not None and (state.generation, state.digest) == (generation, entry[1])
        return state if belongs else None
