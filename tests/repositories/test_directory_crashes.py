"""Power failures, full and broken disks, at every single operation of everything that changes a repository."""

from __future__ import annotations

import pytest
from crashes import (
    ACTIONS,
    BROKEN,
    BY_NAME,
    FULL,
    ROOT,
    Seen,
    check_crashes,
    check_crashes_behind_a_killed_writer,
    check_failures,
    check_order,
    check_sound,
    prepared,
    published_operations,
)
from stored_models import described, opened

from mlserve.errors import MlserveError
from mlserve.testing import PowerLoss, SimulatedDisk

FEWEST_OPERATIONS = {"publish": 30, "gc": 12}

# These have operations of their own; the others append an entry to the log as an alias does.
DEFAULT_TIER = frozenset({"publish", "activate", "alias", "gc"})


@pytest.mark.parametrize(
    "action",
    [pytest.param(one, marks=() if one.name in DEFAULT_TIER else pytest.mark.slow) for one in ACTIONS],
    ids=lambda action: action.name,
)
def test_a_crash_behind_any_operation_leaves_all_or_nothing(action):
    """After a crash behind each operation, with what was not synced lost, kept or torn, everything is whole."""
    crashes = check_crashes(action)
    assert crashes >= 4 * FEWEST_OPERATIONS.get(action.name, 5)


@pytest.mark.parametrize(("name", "error"), [("publish", BROKEN), ("alias", FULL)])
def test_any_operation_may_fail_once(name, error):
    """When one operation fails, the call raises an error of mlserve or succeeds wholly, and everything is whole."""
    assert check_failures(BY_NAME[name], error) > 10


@pytest.mark.parametrize("name", ["alias"])
def test_a_disk_may_fill_up_at_any_operation(name):
    """When from some operation on nothing can be written, not even cleared up, everything that was there is whole."""
    assert check_failures(BY_NAME[name], FULL, lasting=True) > 10


@pytest.mark.parametrize("most", [1, 7])
def test_writes_may_be_short(most):
    """A disk that takes a few bytes at a time gets every byte."""
    disk = prepared()
    before = Seen.of(opened(ROOT, filesystem=disk.copy()))
    disk.max_write = most
    repository = opened(ROOT, filesystem=disk)
    described(repository, 5.0)
    assert Seen.of(repository).values == {**before.values, "5": 5.0}
    check_sound(disk.after_crash("nothing"), before, BY_NAME["publish"])


def test_a_disk_that_takes_nothing_is_an_error():
    """A write that takes no bytes again and again is an error, not an endless loop."""
    disk = prepared()
    disk.max_write = 0
    with pytest.raises(MlserveError, match="took no bytes"):
        described(opened(ROOT, filesystem=disk), 5.0)


def test_making_a_repository_may_crash_anywhere():
    """A crash behind each operation of making the directory leaves something that opens and takes models."""
    step = 0
    while True:
        step += 1
        disk = SimulatedDisk()
        disk.crash_after = step
        try:
            opened(ROOT, filesystem=disk)
        except PowerLoss:
            for survival, seed in (("nothing", 0), ("everything", 0), ("some", 1), ("some", 2)):
                after = disk.after_crash(survival, seed)
                repository = opened(ROOT, filesystem=after)
                assert described(repository).id == "1"
                assert opened(ROOT, filesystem=after.after_crash("nothing")).verify().checked == ("1",)
            continue
        break
    assert step > 10


def test_an_entry_never_survives_the_one_before_it():
    """A writer that goes on from the entry of a killed one leaves no gap in the log, wherever it crashes."""
    assert check_crashes_behind_a_killed_writer() > 50


def test_a_publication_keeps_to_its_order():
    """Files, manifest, directories, rename, registration: each durable before the next."""
    check_order(published_operations())


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
@pytest.mark.parametrize("error", [FULL, BROKEN], ids=["full", "broken"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_every_operation_of_everything_may_fail(action, error, lasting):
    """The same for every action, and for disks that stay full or broken."""
    assert check_failures(action, error, lasting=lasting) > 5
