"""What must hold of a repository when the power failed, the disk broke, or its writer was killed.

The checks are functions, so that they can also be run against a repository with a bug put in on purpose.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

import attrs
from stored_models import Constant, described, opened

from mlserve.clocks import ManualClock
from mlserve.errors import MlserveError
from mlserve.repositories import DirectoryModelRepository
from mlserve.testing import PowerLoss, SimulatedDisk

ROOT = "/models/repository"

OUTCOMES = (("nothing", 0), ("everything", 0), ("some", 1), ("some", 2))
"""What survives of what was not synced."""


@attrs.frozen
class Action:
    """Something done to the repository that ``prepared`` makes."""

    name: str
    do: Callable[[DirectoryModelRepository], object]
    entries: int
    """How many entries it appends to the log."""


ACTIONS = (
    Action("publish", lambda repository: described(repository, 5.0, reason="better"), 2),
    Action("candidate", lambda repository: repository.register(Constant(5.0), activate=False), 1),
    Action("activate", lambda repository: repository.activate("1", reason="again"), 1),
    Action("retire", lambda repository: repository.retire("4"), 1),
    Action("rollback", lambda repository: repository.rollback(), 1),
    Action("alias", lambda repository: repository.set_alias("champion", "4", expected="1"), 1),
    Action("pin", lambda repository: repository.pin("2", "evaluation"), 1),
    Action("gc", lambda repository: repository.gc(keep=1), 2),
)
BY_NAME = {action.name: action for action in ACTIONS}

LATER = timedelta(hours=2)


def prepared() -> SimulatedDisk:
    """A disk with four versions: 1 has an alias, 2 and 3 are collectable, 4 is the latest."""
    disk = SimulatedDisk()
    repository = opened(ROOT, filesystem=disk)
    for number in range(1, 5):
        described(repository, float(number))
    repository.set_alias("champion", "1")
    repository.retire("2")
    repository.retire("3")
    return disk


def values(repository: DirectoryModelRepository) -> dict[str, float]:
    """What every registered version answers."""
    with repository._state() as state:
        ids = list(state.versions)
    return {one: float(repository.load_model(repository.get_version(one)).predict([[0.0]])[0]) for one in ids}


@attrs.frozen
class Seen:
    """All that can be read of a repository."""

    values: dict
    history: tuple
    active: tuple
    champion: str

    @classmethod
    def of(cls, repository: DirectoryModelRepository) -> Seen:
        return cls(
            values=values(repository),
            history=repository.history(),
            active=tuple(version.id for version in repository.get_active_versions()),
            champion=repository.resolve_alias("champion").id,
        )


def check_sound(disk: SimulatedDisk, before: Seen, action: Action, wholly: Seen | None = None) -> None:
    """A repository that went through an action, or a part of it, is whole, and goes on.

    Args:
        disk: The disk after it.
        before: What was seen before it.
        action: What was begun.
        wholly: What was seen after it, where it was done to its end.
    """
    repository = opened(ROOT, ManualClock(), filesystem=disk)
    verification = repository.verify()
    assert verification.problems == ()
    now = Seen.of(repository)
    # The log is intact: what was there is there, and of the action's own entries the first ones are.
    assert now.history[: len(before.history)] == before.history
    assert len(now.history) <= len(before.history) + action.entries
    if wholly is not None:
        assert now == wholly
    # Each version is wholly there or not at all; none that was there is changed.
    assert set(now.values) <= {*before.values, "5"}
    assert all(value == float(one) for one, value in now.values.items())
    gone = set(before.values) - set(now.values)
    assert gone <= ({"2", "3"} if action.name == "gc" else set())
    for one in now.values:
        assert repository.describe(one).version.id == one
    # The next operations succeed, and give a number that was never seen.
    version = described(repository, 77.0)
    assert version.id not in {entry.version_id for entry in now.history}
    assert repository.load_model(version) == Constant(77.0)
    repository.set_alias("champion", version.id)
    later = ManualClock()
    later.advance(LATER)
    repaired = opened(ROOT, later, filesystem=disk)
    repaired.repair()
    again = repaired.verify()
    assert (again.problems, again.leftovers) == ((), ())


def crash_everywhere(action: Action, base: SimulatedDisk, before: Seen) -> Iterator[SimulatedDisk]:
    """The disk as it is found after a crash behind each operation of an action, in every outcome."""
    step = 0
    while True:
        step += 1
        disk = base.copy()
        repository = opened(ROOT, filesystem=disk)
        disk.crash_after = disk.changes + step
        try:
            action.do(repository)
        except PowerLoss:
            for survival, seed in OUTCOMES:
                yield disk.after_crash(survival, seed)
            continue
        wholly = Seen.of(repository)
        # What has returned survives, whatever the crash takes.
        for survival, seed in OUTCOMES:
            check_sound(disk.after_crash(survival, seed), before, action, wholly)
        return


def check_crashes(action: Action) -> int:
    """Crash behind every single operation of an action and look at what is left. Gives how many crashes there were."""
    base = prepared()
    before = Seen.of(opened(ROOT, filesystem=base.copy()))
    count = 0
    for disk in crash_everywhere(action, base, before):
        check_sound(disk, before, action)
        count += 1
    return count


def check_crashes_behind_a_killed_writer(seeds: int = 12) -> int:
    """Kill a writer whose entry has its name but is not durable, let another go on, and crash behind each operation.

    What the killed writer had begun may be there or not; the log must never have a gap. Gives how many crashes there
    were.
    """
    begun = prepared()
    step = 0
    while True:
        step += 1
        killed = begun.copy()
        repository = opened(ROOT, filesystem=killed)
        killed.crash_after = killed.changes + step
        with suppress(PowerLoss):
            repository.activate("1")
        if killed.operations[-1][0] == "link":
            break
    count, step = 0, 0
    while True:
        step += 1
        disk = killed.copy()
        repository = opened(ROOT, filesystem=disk)
        disk.crash_after = disk.changes + step
        try:
            repository.set_alias("champion", "4")
        except PowerLoss:
            pass
        else:
            assert opened(ROOT, filesystem=disk.after_crash("nothing")).resolve_alias("champion").id == "4"
            return count
        for seed in range(seeds):
            after = opened(ROOT, filesystem=disk.after_crash("some", seed))
            for version_id in ("4", "1", "4"):
                after.activate(version_id)
            assert after.verify().problems == ()
            count += 1


def check_failures(action: Action, error: int, *, lasting: bool = False, reading: bool = True) -> int:
    """Let every single operation of an action fail, and look at what is left. Gives how many failures there were."""
    base = prepared()
    before = Seen.of(opened(ROOT, filesystem=base.copy()))
    count, step = 0, 0
    while True:
        step += 1
        disk = base.copy()
        repository = opened(ROOT, filesystem=disk)
        first = len(disk.operations)
        disk.fail_at, disk.keeps_failing = {first + step: error}, lasting
        raised = False
        with suppress(MlserveError):
            raised = True
            action.do(repository)
            raised = False
        failed = len(disk.operations) >= first + step
        disk.fail_at, disk.keeps_failing, disk._failure = {}, False, None
        if not failed:
            return count
        count += 1
        check_sound(disk.copy(), before, action, None if raised else Seen.of(opened(ROOT, filesystem=disk.copy())))
        # And what was not synced when it failed may be lost as well.
        check_sound(disk.after_crash("nothing"), before, action)


def check_order(operations: list[tuple[str, ...]]) -> None:
    """The operations of one publication come in the order on which its promises rest."""
    done = [(name, *(path.removeprefix(f"{ROOT}/") for path in paths)) for name, *paths in operations]

    def positions(operation: str, pattern: str, at: int = 1) -> list[int]:
        return [
            index
            for index, found in enumerate(done)
            if found[0] == operation and len(found) > at and re.fullmatch(pattern, found[at])
        ]

    staged = r"staging/[^/]+-publish"
    (placed,) = positions("rename", r"versions/\d+", at=2)
    files = positions("create", rf"{staged}/.*")
    (manifest,) = positions("create", rf"{staged}/manifest\.json")
    assert files, "a version is staged"
    assert max(files) == manifest, "the manifest is written last"
    assert manifest < placed, "a version is put in its place when all of it is written"
    for index in files:
        path = re.escape(done[index][1])
        synced = positions("fsync", path)
        assert synced, f"{done[index][1]} is synced"
        assert max(positions("write", path)) < max(synced) < placed, "a file is synced after its last byte"
        if index != manifest:
            assert max(synced) < manifest, "what the manifest names is durable before there is a manifest"
    assert positions("fsync", rf"{staged}/manifest\.json")[-1] < placed
    for directory in {done[index][1].rpartition("/")[0] for index in files}:
        synced = [index for index in positions("fsync_directory", re.escape(directory)) if index < placed]
        inside = [index for index in files if done[index][1].rpartition("/")[0] == directory]
        assert synced, f"{directory} is synced before it is moved"
        assert max(synced) > max(inside), f"{directory} is synced after its last name was made"
    assert not positions("mkdir", r"versions/\d+"), "nothing is made where a version is to be"
    registered = positions("link", r"log/\d+\.json", at=2)
    assert registered, "a version is registered"
    durable = [index for index in positions("fsync_directory", "versions") if placed < index < registered[0]]
    assert durable, "a version is durable in its place before the log names it"
    for index in registered:
        entry = re.escape(done[index][1])
        assert max(positions("fsync", entry)) < index, "an entry is durable before it has its name"
        assert any(after > index for after in positions("fsync_directory", "log")), "its name is durable at the end"
    assert positions("fsync_directory", "log")[-1] > registered[-1]


def published_operations() -> list[tuple[str, ...]]:
    """What one publication does to the disk."""
    disk = prepared()
    repository = opened(ROOT, filesystem=disk)
    begun = len(disk.operations)
    described(repository, 5.0)
    return disk.operations[begun:]


FULL, BROKEN = errno.ENOSPC, errno.EIO
