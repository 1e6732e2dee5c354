"""Writers that race, die or are cut off from the store: what is there is whole, and nothing is lost."""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from remote_doubles import Killed, ObjectFileSystem, new_store, remote

from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, RepositoryWriteError, VersionNotFoundError
from mlserve.repositories import DirectoryModelRepository
from mlserve.testing import ConstantModel

PATIENCE_SECONDS = 60.0
NO_TIME = timedelta(0)


def opened(store: ObjectFileSystem, clock: Any = None, **options: Any):
    return remote(store, clock, trust=True, **options)


def whole(store: ObjectFileSystem) -> None:
    """A new object finds every registered version sound, the log intact, and can go on."""
    repository = opened(store)
    assert repository.verify().problems == ()
    for entry in repository.history():
        if entry.action == "register":
            number = float(entry.evidence["value"])
            assert repository.load_model(repository.get_version(entry.version_id)) == ConstantModel(number)
    numbers = [entry.version_id for entry in repository.history() if entry.action == "register"]
    version = repository.register(ConstantModel(99.0), evidence={"value": 99.0})
    assert version.id not in numbers
    assert repository.load_model(version) == ConstantModel(99.0)


# ---------------------------------------------------------------------------------------------------------- killed


CHANGES: dict[str, Callable[[Any], object]] = {
    "register": lambda repository: repository.register(ConstantModel(4.0), evidence={"value": 4.0}),
    "activate": lambda repository: repository.activate("1"),
    "alias": lambda repository: repository.set_alias("champion", "2", expected="1"),
    "rollback": lambda repository: repository.rollback(),
    "gc": lambda repository: repository.gc(keep=0),
    "pin": lambda repository: repository.pin("2", "a job"),
}


def begun() -> ObjectFileSystem:
    store = new_store()
    repository = opened(store)
    for number in (1.0, 2.0, 3.0):
        repository.register(ConstantModel(number), evidence={"value": number}, activate=number != 2.0)
    repository.set_alias("champion", "1")
    return store


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_killed_writer_leaves_all_or_nothing(change: str, when: str) -> None:
    """Killed before or after any of its operations on the store, a change is made wholly or not at all."""
    for stop in itertools.count():
        store = begun()
        repository = opened(store)
        left = itertools.repeat(None, stop)

        def kill(operation: str, name: str, left: Any = left) -> None:
            if operation != "get" and next(left, Killed) is Killed:
                raise Killed

        setattr(store.bucket, when, kill)
        try:
            CHANGES[change](repository)
        except Killed:
            killed = True
        else:
            killed = False
        setattr(store.bucket, when, lambda operation, name: None)
        whole_but_collected(store) if change == "gc" else whole(store)
        if not killed:
            break
    assert stop >= 2


def whole_but_collected(store: ObjectFileSystem) -> None:
    repository = opened(store)
    assert repository.verify().problems == ()
    repository.repair(older_than=NO_TIME)
    assert repository.verify().leftovers == ()
    assert [version.id for version in repository.get_active_versions()] == ["3", "1"]
    assert repository.register(ConstantModel(99.0)).id == "4"


def test_what_a_killed_writer_left_is_cleared_up() -> None:
    """A half of an upload is nothing to readers, and ``repair`` removes it once no living writer can be behind it."""
    store, clock = new_store(), ManualClock()
    repository = opened(store, clock)

    def cut_off(operation: str, name: str) -> None:
        raise Killed

    def cut_off_from_here(operation: str, name: str) -> None:
        if "model/" in name:
            store.bucket.before = cut_off
            raise Killed

    store.bucket.before = cut_off_from_here
    with pytest.raises(Killed):
        repository.register(ConstantModel(1.0))
    store.bucket.before = lambda operation, name: None
    assert any(name.endswith("versions/1/manifest.json") for name in store.bucket.objects)
    assert repository.verify().leftovers == ("versions/1",)

    clock.advance(timedelta(hours=2))
    assert repository.repair().removed == ("versions/1",)
    assert repository.register(ConstantModel(2.0)).id == "2"


def interrupted(store: ObjectFileSystem, repository: Any) -> None:
    """Register a model by a writer that is killed between its upload and the log."""

    def kill(operation: str, name: str) -> None:
        if operation == "create" and "/log/" in name:
            raise Killed

    store.bucket.before = kill
    with pytest.raises(Killed):
        repository.register(ConstantModel(7.0))
    store.bucket.before = lambda operation, name: None


def test_repair_leaves_a_living_writer_alone() -> None:
    """What was begun less than ``older_than`` ago is taken for a living writer's."""
    store, clock = new_store(), ManualClock()
    repository = opened(store, clock)
    interrupted(store, repository)
    clock.advance(timedelta(minutes=59))
    assert repository.repair().left == ("versions/1",)
    assert repository.verify().leftovers == ("versions/1",)


def test_repair_registers_what_is_whole() -> None:
    """A version whose upload was complete but which no entry names becomes a candidate."""
    store, clock = new_store(), ManualClock()
    repository = opened(store, clock)
    interrupted(store, repository)
    clock.advance(timedelta(minutes=61))
    assert repository.repair().registered == ("1",)
    assert repository.load_model(repository.get_version("1")) == ConstantModel(7.0)


def test_a_writer_that_was_given_up_publishes_nothing() -> None:
    """A writer that is slower than ``repair`` waits for is refused, and what it uploaded is nothing to readers."""
    store, clock = new_store(), ManualClock()
    slow, other = opened(store, clock), opened(store, clock)
    repaired: list[Any] = []

    def repair(operation: str, name: str) -> None:
        if "model/" in name and not repaired:
            repaired.append(None)
            clock.advance(timedelta(hours=2))
            repaired[0] = other.repair()

    store.bucket.before = repair
    with pytest.raises(VersionNotFoundError, match="discarded by a repair"):
        slow.register(ConstantModel(1.0))
    assert repaired[0].discarded == ("1",)
    assert list(other.get_active_versions()) == []
    other.repair(older_than=NO_TIME)
    assert other.verify().leftovers == ()


# ----------------------------------------------------------------------------------------------------------- races


def at_once(store: ObjectFileSystem, writers: int, count: int) -> None:
    """Writers that share nothing but the store register and move one alias, all at the same time."""
    opened(store).register(ConstantModel(0.0), evidence={"value": 0.0})
    opened(store).set_alias("champion", "1")
    barrier, failures = threading.Barrier(writers), []

    def write(number: int) -> None:
        try:
            repository = opened(store, actor=f"writer {number}")
            barrier.wait(PATIENCE_SECONDS)
            for round_ in range(count):
                value = float(number * 1000 + round_)
                version = repository.register(ConstantModel(value), evidence={"value": value})
                while True:
                    current = repository.resolve_alias("champion").id
                    try:
                        repository.set_alias("champion", version.id, expected=current, evidence={"from": current})
                    except InvalidArgumentError:
                        continue
                    break
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, writers + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert failures == []

    history = opened(store).history()
    assert [entry.generation for entry in history] == list(range(1, len(history) + 1))
    registered = [entry.version_id for entry in history if entry.action == "register"]
    assert len(registered) == len(set(registered)) == writers * count + 1
    moves = [entry for entry in history if entry.action == "alias"]
    assert len(moves) == writers * count + 1, "no update is lost"
    assert all(after.evidence["from"] == before.version_id for before, after in itertools.pairwise(moves))
    whole(store)


def test_writers_at_once_lose_nothing() -> None:
    """Of writers at once every number is unique, the history is linear and no update of an alias is lost."""
    at_once(new_store(), writers=4, count=3)


@pytest.mark.slow
def test_eight_writers_at_once_lose_nothing() -> None:
    """The same with eight writers and twenty versions each."""
    at_once(new_store(), writers=8, count=20)


def test_a_lost_number_costs_no_upload() -> None:
    """A writer finds out that its number was taken before it uploads a model."""
    store = new_store()
    first, second = opened(store, actor="first"), opened(store, actor="second")
    raced: list[str] = []

    def race(operation: str, name: str) -> None:
        if operation == "create" and name.endswith("1/manifest.json") and not raced:
            raced.append(name)
            second.register(ConstantModel(2.0))
            store.bucket.operations.clear()

    store.bucket.before = race
    assert first.register(ConstantModel(1.0)).id == "2"
    assert first.statistics().lost_numbers == 1
    written = [name for operation, name in store.bucket.operations if operation == "put" and "model/" in name]
    assert written == ["models/versions/2/model/model.pickle"]


def test_a_lost_answer_is_no_lost_race() -> None:
    """Where the store took an entry and its answer was lost, the client's second try is known for the first."""
    store = begun()
    repository = opened(store)

    def refuse_itself(operation: str, name: str) -> None:
        if operation == "create" and "/log/" in name:
            store.bucket.after = lambda operation, name: None
            raise FileExistsError(errno.EEXIST, "by the request before", name)

    store.bucket.after = refuse_itself
    before = repository.history()
    repository.set_alias("champion", "3", expected="1")
    assert len(repository.history()) == len(before) + 1
    assert repository.statistics().lost_races == 0


def test_a_lost_answer_to_a_claim_skips_a_number() -> None:
    """Where the answer to a claim was lost, the next number is taken and the other is cleared up later."""
    store = new_store()
    repository = opened(store)

    def refuse_itself(operation: str, name: str) -> None:
        if operation == "create" and name.endswith("manifest.json"):
            store.bucket.after = lambda operation, name: None
            raise FileExistsError(errno.EEXIST, "by the request before", name)

    store.bucket.after = refuse_itself
    assert repository.register(ConstantModel(1.0)).id == "2"
    assert repository.repair(older_than=NO_TIME).discarded == ("1",)
    assert repository.verify().leftovers == ()


def test_an_equal_change_by_somebody_else_is_another_change() -> None:
    """Two that do the same at the same moment under one name have each made a change of their own."""
    store, clock = begun(), ManualClock()
    first, second = opened(store, clock), opened(store, clock)
    raced: list[str] = []

    def race(operation: str, name: str) -> None:
        if operation == "create" and "/log/" in name and not raced:
            raced.append(name)
            second.activate("1")

    store.bucket.before = race
    first.activate("1")
    assert [entry.action for entry in first.history()][-2:] == ["activate", "activate"]
    assert first.statistics().lost_races == 1


def test_readers_are_not_blocked() -> None:
    """While a writer hangs in the middle of its upload, readers get what was there before."""
    store = begun()
    writer, reader = opened(store), opened(store)
    hanging, go_on = threading.Event(), threading.Event()

    def hang(operation: str, name: str) -> None:
        if operation == "put" and "versions/4/model/" in name:
            hanging.set()
            assert go_on.wait(PATIENCE_SECONDS)

    store.bucket.before = hang
    thread = threading.Thread(target=writer.register, args=(ConstantModel(4.0),))
    thread.start()
    try:
        assert hanging.wait(PATIENCE_SECONDS)
        assert reader.load_model(reader.get_latest_version()) == ConstantModel(3.0)
        reader.set_alias("champion", "3")
        assert reader.resolve_alias("champion").id == "3"
    finally:
        go_on.set()
        thread.join(PATIENCE_SECONDS)
    assert reader.get_latest_version().id == "4"


# ------------------------------------------------------------------------------------------- conditional writes


class Unknown(ObjectFileSystem):
    """A store of which mlserve does not know whether it has conditional writes."""

    protocol = "elsewhere"


class Forgetful(ObjectFileSystem):
    """A server that speaks S3 and ignores the condition."""

    def pipe_file(self, path, value, mode="overwrite", **options):
        super().pipe_file(path, value)


def test_an_unknown_store_is_not_written() -> None:
    """Where it is not known whether the store has conditional writes, nothing is written before somebody says so."""
    store = Unknown("unknown")
    with pytest.raises(RepositoryWriteError, match="exclusive=True"):
        opened(store)
    assert store.bucket.objects == {}


def test_a_store_that_ignores_the_condition_is_found_out() -> None:
    """A store that takes the condition and ignores it is found out before the first change."""
    store = Forgetful("forgetful")
    repository = opened(store)
    with pytest.raises(RepositoryWriteError, match="no conditional writes"):
        repository.register(ConstantModel(1.0))
    assert not any("versions" in name for name in store.bucket.objects)


@pytest.mark.parametrize(("kind", "exclusive"), [(Unknown, True), (Unknown, False), (Forgetful, False)])
def test_one_who_knows_the_store_says_so(kind: type[ObjectFileSystem], exclusive: bool) -> None:
    """``exclusive=True`` trusts the store, and ``exclusive=False`` looks before it writes: for one writer at a time."""
    store = kind(f"{kind.__name__}-{exclusive}")
    assert [opened(store, exclusive=exclusive).register(ConstantModel(1.0)).id for _ in range(2)] == ["1", "2"]
    assert opened(store, exclusive=exclusive).verify().is_sound


class Answer(Exception):  # noqa: N818  # named as botocore's exceptions are made
    """An error that carries a server's answer, as botocore's do."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


def answered(code: str) -> OSError:
    """What s3fs makes of an answer that it has no class for."""
    error = OSError(errno.EIO, code)
    error.__cause__ = Answer(code)
    return error


def test_a_refusal_of_another_server_is_one() -> None:
    """A server that calls it otherwise that an object is there is understood."""
    store = begun()
    first, second = opened(store), opened(store)
    raced: list[str] = []

    def race(operation: str, name: str) -> None:
        if operation == "create" and "/log/" in name and not raced:
            raced.append(name)
            second.activate("1")
            raise answered("PreconditionFailed")

    store.bucket.before = race
    first.activate("2")
    assert [version.id for version in second.get_active_versions()] == ["2", "1", "3"]


def test_a_conflict_is_tried_again() -> None:
    """Where the store decides for neither of two writers, both try again."""
    store = begun()
    repository = opened(store)
    conflicts = iter(["ConditionalRequestConflict"] * 3)

    def conflict(operation: str, name: str) -> None:
        code = next(conflicts, None) if operation == "create" else None
        if code is not None:
            raise answered(code)

    store.bucket.before = conflict
    repository.activate("1")
    assert repository.get_latest_version().id == "1"


def test_endless_conflicts_are_an_error() -> None:
    """A store that never decides is given up."""
    store = begun()
    repository = opened(store)

    def conflict(operation: str, name: str) -> None:
        if operation == "create":
            raise answered("ConditionalRequestConflict")

    store.bucket.before = conflict
    with pytest.raises(RepositoryWriteError, match="ConditionalRequestConflict"):
        repository.activate("1")


# ------------------------------------------------------------------------------------------------ one form for all


def test_a_copy_opens_as_a_directory(tmp_path) -> None:
    """What lies in a store, copied object by object, is a repository in a directory."""
    store = begun()
    for name, data in store.bucket.objects.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    copy = DirectoryModelRepository(tmp_path / "models", trust=True)
    assert copy.verify().problems == ()
    assert copy.history() == opened(store).history()
    assert copy.load_model(copy.get_latest_version()) == ConstantModel(3.0)
    assert copy.register(ConstantModel(4.0)).id == "4"


def test_a_directory_copied_into_a_store_opens_there(tmp_path) -> None:
    """A repository in a directory, copied file by file, is one in a store."""
    original = DirectoryModelRepository(tmp_path, trust=True)
    original.register(ConstantModel(5.0), tags={"commit": "abc"})
    store = new_store()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            store.bucket.objects[f"models/{path.relative_to(tmp_path).as_posix()}"] = path.read_bytes()
    copy = opened(store)
    assert copy.verify().problems == ()
    assert copy.get_latest_version() == original.get_latest_version()
    assert copy.load_model(copy.get_latest_version()) == ConstantModel(5.0)
