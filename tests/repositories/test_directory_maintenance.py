"""What is the directory repository's own: who and why, following, pins, garbage, repair, and the cost of a long log."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from crashes import ROOT, Seen, prepared
from stored_models import Constant, described, opened

from mlserve import InMemoryModelMonitor, ModelServer
from mlserve.clocks import ManualClock
from mlserve.errors import (
    InvalidArgumentError,
    MlserveError,
    RepositoryUnavailableError,
    RepositoryWriteError,
    VersionNotFoundError,
)
from mlserve.repositories import Filesystem, HmacVerifier, Kind, Repair, RepositoryStatistics, _log
from mlserve.testing import SimulatedDisk

GENEROUS_SECONDS = 60.0


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "repository"


def reads(disk: SimulatedDisk, begun: int) -> list[str]:
    return [operation[1].removeprefix(f"{ROOT}/") for operation in disk.operations[begun:] if operation[0] == "read"]


# ------------------------------------------------------------------------------------------------------ who and why


def test_the_history_says_who_and_why(path):
    """Every change carries its actor, the reason and the evidence that were given."""
    repository = opened(path, actor="training job")
    repository.register(Constant(), reason="drift", evidence={"accuracy": 0.9})
    repository.set_alias("champion", "1", reason="better", evidence={"versus": ["0"]})
    entries = [(entry.action, entry.actor, entry.reason, dict(entry.evidence)) for entry in repository.history()]
    assert entries == [
        ("register", "training job", "drift", {"accuracy": 0.9}),
        ("activate", "training job", "drift", {"accuracy": 0.9}),
        ("alias", "training job", "better", {"versus": ["0"]}),
    ]


def test_the_actor_is_the_user_by_default(path, monkeypatch):
    """Without an actor, user and machine are named."""
    monkeypatch.setattr("getpass.getuser", lambda: "user")
    monkeypatch.setattr("platform.node", lambda: "machine")
    repository = opened(path, actor=None)
    repository.register(Constant())
    assert repository.history()[0].actor == "user@machine"


def test_a_user_without_a_name_is_unknown(path, monkeypatch):
    """In a container without an entry for its user, the actor is still told by the machine."""

    def getuser():
        raise KeyError("no such user")

    monkeypatch.setattr("getpass.getuser", getuser)
    monkeypatch.setattr("platform.node", lambda: "machine")
    repository = opened(path, actor=None)
    repository.register(Constant())
    assert repository.history()[0].actor == "unknown@machine"


def test_the_lineage_comes_back(path):
    """Where a version came from is part of its description."""
    repository = opened(path)
    described(repository, lineage={"parent": "7", "trigger": "drift"})
    assert dict(opened(path).describe("1").lineage) == {"parent": "7", "trigger": "drift"}


def test_equal_models_have_equal_digests(path):
    """The digest is that of the model's bytes, which do not depend on when they were written."""
    clock = ManualClock()
    repository = opened(path, clock)
    first = repository.register(Constant(1.0))
    clock.advance(timedelta(days=400))
    second, third = repository.register(Constant(1.0)), repository.register(Constant(2.0))
    assert first.digest == second.digest != third.digest


# -------------------------------------------------------------------------------------------------------- following


def test_another_object_sees_every_change_at_once(path):
    """Methods see what another process has changed, without waiting."""
    reader, writer = opened(path), opened(path)
    writer.register(Constant(1.0))
    assert reader.get_latest_version().id == "1"
    writer.register(Constant(2.0))
    writer.set_alias("champion", "1")
    assert (reader.get_latest_version().id, reader.resolve_alias("champion").id) == ("2", "1")
    assert reader.history() == writer.history()


def test_the_generation_follows_other_processes(path):
    """``generation`` is looked up again when ``follow_seconds`` have passed, and not before."""
    clock = ManualClock()
    reader, writer = opened(path, clock, follow_seconds=5.0), opened(path)
    assert reader.generation == 0
    writer.register(Constant())
    assert reader.generation == 0
    clock.advance(timedelta(seconds=5))
    disk_answers, looked, right = threading.Event(), threading.Event(), reader._catch_up_quietly

    def look() -> None:
        assert disk_answers.wait(GENEROUS_SECONDS)
        right()
        looked.set()

    reader._catch_up_quietly = look
    assert reader.generation == 0, "whoever asks does not wait for the disk"
    disk_answers.set()
    assert looked.wait(GENEROUS_SECONDS)
    assert reader.generation == 2


def test_the_generation_may_be_looked_up_each_time(path):
    """With ``follow_seconds=0`` whoever reads ``generation`` looks."""
    reader, writer = opened(path, follow_seconds=0), opened(path)
    writer.register(Constant())
    assert reader.generation == 2


def test_the_generation_is_told_without_the_disk(path):
    """Where the disk cannot be read, ``generation`` stays what it was, and raises nothing."""
    disk = prepared()
    reader = opened(ROOT, filesystem=disk, follow_seconds=0)
    before = reader.generation
    disk.fail_at, disk.keeps_failing = dict.fromkeys(range(len(disk.operations), 10**4), 5), True
    assert reader.generation == before
    with pytest.raises(RepositoryUnavailableError):
        reader.get_latest_version()


def test_the_generation_is_told_without_a_thread(path, monkeypatch):
    """Where no thread can be started, ``generation`` stays what it was, and raises nothing."""
    clock = ManualClock()
    reader = opened(path, clock, follow_seconds=1.0)
    clock.advance(timedelta(seconds=1))

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert reader.generation == 0


def test_one_looks_at_a_time(path):
    """While somebody looks, others take what is known."""
    reader, writer = opened(path, follow_seconds=0), opened(path)
    writer.register(Constant())
    with reader._looking:
        assert reader.generation == 0
    assert reader.generation == 2


def test_a_server_follows_another_process(path):
    """A server on one object serves what another object has registered, with schema and example."""
    writer = opened(path)
    described(writer, 1.0)
    with ModelServer(opened(path, follow_seconds=0), InMemoryModelMonitor()) as server:
        assert server.predict([1.0, 2.0]).value == 1.0
        described(writer, 2.0)
        assert server.predict([1.0, 2.0]).value == 2.0
        writer.rollback()
        assert server.predict([1.0, 2.0]).value == 1.0
        assert server.predict([1.0]).error.kind == "InvalidInput"


# --------------------------------------------------------------------------------------------- the cost of a long log


def test_the_latest_version_costs_the_same_however_long_the_log_is():
    """Finding the latest version with a new object reads the marker, the hint and one entry."""
    disk = prepared()
    repository = opened(ROOT, filesystem=disk)
    for _ in range(30):
        repository.activate("1")
    begun = len(disk.operations)
    opened(ROOT, filesystem=disk).get_latest_version()
    newest = repository.generation
    assert reads(disk, begun) == [
        "repository.json",
        "CURRENT",
        f"log/{newest:012d}.json",
        f"log/{newest + 1:012d}.json",
        f"log/{newest + 1:012d}.json",
    ]


@pytest.mark.parametrize("hint", [None, b"", b"x", b"0", b"-3", b"3", b"999999"])
def test_a_hint_may_be_wrong(hint):
    """``CURRENT`` is only a hint: without it, or with any other, the newest entry is found."""
    disk = prepared()
    disk.unlink(f"{ROOT}/CURRENT")
    if hint is not None:
        handle = disk.create(f"{ROOT}/CURRENT")
        disk.write(handle, memoryview(hint))
    assert Seen.of(opened(ROOT, filesystem=disk)) == Seen.of(opened(ROOT, filesystem=prepared()))


@pytest.fixture
def short_checkpoints(monkeypatch):
    """A checkpoint every four entries."""
    monkeypatch.setattr(_log, "CHECKPOINT_ENTRIES", 4)


def test_a_checkpoint_saves_reading_the_log(short_checkpoints):
    """What stands in a checkpoint is not read from the log again."""
    disk = prepared()
    checkpoints = sorted(disk.listdir(f"{ROOT}/checkpoints"))
    assert len(checkpoints) == _log.CHECKPOINTS_KEPT
    begun = len(disk.operations)
    assert opened(ROOT, filesystem=disk).get_active_versions()
    newest = int(checkpoints[-1][:-5])
    assert [name for name in reads(disk, begun) if name < f"log/{newest:012d}.json" and "log/" in name] == []


def test_a_checkpoint_says_what_the_log_says(short_checkpoints):
    """A repository read from its checkpoint is the one read from its log."""
    disk = prepared()
    repository = opened(ROOT, filesystem=disk)
    repository.pin("3", "evaluation")
    repository.gc(keep=0)
    without = disk.copy()
    for name in without.listdir(f"{ROOT}/checkpoints"):
        without.unlink(f"{ROOT}/checkpoints/{name}")
    assert Seen.of(opened(ROOT, filesystem=disk)) == Seen.of(opened(ROOT, filesystem=without))
    assert opened(ROOT, filesystem=disk).verify().is_sound


@pytest.mark.parametrize("damage", ["empty", "another", "missing"])
def test_a_damaged_checkpoint_is_passed_over(short_checkpoints, damage):
    """A checkpoint that is damaged, or does not belong to the log, is not used; an older one or the log is."""
    disk = prepared()
    before = Seen.of(opened(ROOT, filesystem=disk.copy()))
    for name in disk.listdir(f"{ROOT}/checkpoints"):
        disk.unlink(f"{ROOT}/checkpoints/{name}")
        if damage != "missing":
            handle = disk.create(f"{ROOT}/checkpoints/{name}")
            elsewhere = SimulatedDisk()
            other = opened(ROOT, filesystem=elsewhere)
            for _ in range(6):
                described(other, 9.0)
            data = elsewhere.read(f"{ROOT}/checkpoints/{elsewhere.listdir(f'{ROOT}/checkpoints')[0]}", 10**6)
            disk.write(handle, memoryview(data if damage == "another" else b""))
    if damage == "missing":
        disk.rmdir(f"{ROOT}/checkpoints")
    assert Seen.of(opened(ROOT, filesystem=disk)) == before


def test_a_checkpoint_too_long_to_read_is_not_written(short_checkpoints, monkeypatch):
    """A checkpoint above the limit of a document is left out."""
    monkeypatch.setattr(_log, "MAX_DOCUMENT_BYTES", 5000)
    disk = SimulatedDisk()
    repository = opened(ROOT, filesystem=disk)
    for _ in range(4):
        repository.register(Constant(), tags={"note": "x" * 2000}, activate=False)
    assert disk.listdir(f"{ROOT}/checkpoints") == []


def test_verify_compares_the_checkpoint_with_the_log(short_checkpoints):
    """``verify`` says so where what was read from a checkpoint is not what the log adds up to."""
    repository = opened(ROOT, filesystem=prepared())
    with repository._state() as state:
        state.aliases["champion"] = "2"
    (problem,) = repository.verify().problems
    assert "checkpoint" in str(problem)


# ------------------------------------------------------------------------------------------------ pins and garbage


def remaining(repository) -> list[str]:
    with repository._state() as state:
        return list(state.versions)


def test_garbage_collection_keeps_what_somebody_may_need(path):
    """Active, aliased and pinned versions stay, and the last registered; the others go."""
    repository = opened(path)
    for number in range(1, 9):
        repository.register(Constant(float(number)), activate=number in (2, 4))
    repository.retire("4")
    repository.set_alias("champion", "3")
    repository.pin("5", "evaluation")
    collection = repository.gc(keep=2)
    assert collection.collected == ("1", "4", "6")
    assert collection.freed_bytes > 0
    assert remaining(repository) == ["2", "3", "5", "7", "8"]
    assert sorted(path.glob("versions/*")) == [path / "versions" / one for one in ["2", "3", "5", "7", "8"]]


def test_a_collected_version_is_gone(path):
    """A collected version is not found, its number is never given again, and the history keeps it."""
    repository = opened(path)
    version = repository.register(Constant(), activate=False)
    repository.gc(keep=0)
    for ask in (repository.load_model, repository.describe, repository.stage):
        with pytest.raises(VersionNotFoundError, match="collected"):
            ask(version)
    with pytest.raises(VersionNotFoundError):
        repository.activate("1")
    assert opened(path).register(Constant()).id == "2"
    assert [entry.action for entry in repository.history()][:2] == ["register", "collect"]


def test_a_version_collected_while_it_is_read_is_not_found(path):
    """A reader that was overtaken by garbage collection is told that the version is gone, not that it is damaged."""
    repository = opened(path)
    version = repository.register(Constant(), activate=False)

    class Overtaken(Filesystem):
        def read(self, name: str, limit: int) -> bytes:
            data = super().read(name, limit)
            if name.endswith("manifest.json"):
                repository.gc(keep=0)
            return data

    with pytest.raises(VersionNotFoundError, match="collected"):
        opened(path, filesystem=Overtaken()).load_model(version)


def test_a_pin_ends_by_itself(path):
    """A pin with a time holds until then."""
    clock = ManualClock()
    repository = opened(path, clock)
    repository.register(Constant(), activate=False)
    repository.pin("1", "evaluation", until=clock.now() + timedelta(hours=1))
    assert (repository.gc(keep=0).collected, repository.statistics().pinned) == ((), 1)
    clock.advance(timedelta(hours=1))
    assert (repository.gc(keep=0).collected, repository.statistics().pinned) == (("1",), 0)


def test_each_holder_has_a_pin_of_its_own(path):
    """A version is held until every holder has let go; letting go twice is no change."""
    repository = opened(path)
    repository.register(Constant(), activate=False)
    repository.pin("1", "first")
    repository.pin("1", "second")
    repository.unpin("1", "first")
    assert repository.gc(keep=0).collected == ()
    repository.unpin("1", "second")
    before = repository.generation
    repository.unpin("1", "second")
    assert repository.generation == before
    assert repository.gc(keep=0).collected == ("1",)


@pytest.mark.parametrize(
    "arguments",
    [
        {"holder": ""},
        {"holder": 5},
        {"holder": "a", "until": datetime(2026, 1, 1)},
        {"holder": "a", "until": "tomorrow"},
    ],
    ids=str,
)
def test_a_pin_needs_a_holder_and_a_time_with_a_zone(path, arguments):
    """``pin`` refuses what cannot mean anything."""
    repository = opened(path)
    repository.register(Constant())
    with pytest.raises(InvalidArgumentError):
        repository.pin("1", **arguments)


def test_a_pin_may_name_any_zone(path):
    """The time of a pin is one moment, whatever zone it is given in."""
    repository = opened(path)
    repository.register(Constant(), activate=False)
    repository.pin("1", "a", until=datetime(2027, 1, 1, tzinfo=UTC))
    assert repository.gc(keep=0).collected == ()


@pytest.mark.parametrize("keep", [-1, 1.5, True, None])
def test_keep_is_a_number_of_versions(path, keep):
    """``gc`` refuses what is no number of versions."""
    with pytest.raises(InvalidArgumentError):
        opened(path).gc(keep)


def test_damage_does_not_keep_a_version(path):
    """A version whose manifest is damaged is collected like any other; its size is not known."""
    repository = opened(path)
    repository.register(Constant(), activate=False)
    (path / "versions/1/manifest.json").write_bytes(b"")
    collection = repository.gc(keep=0)
    assert (collection.collected, collection.freed_bytes) == (("1",), 0)


def test_what_becomes_needed_is_not_collected(path):
    """A version that another process activates between the look and the entry stays."""
    writer = opened(path)
    writer.register(Constant(), activate=False)

    class Overtaken(Filesystem):
        def read(self, name: str, limit: int) -> bytes:
            if name.endswith("manifest.json"):
                writer.activate("1")
            return super().read(name, limit)

    assert opened(path, filesystem=Overtaken()).gc(keep=0).collected == ()
    assert writer.get_latest_version().id == "1"


# ------------------------------------------------------------------------------------------------------------ repair


def unregistered(path, monkeypatch, **options):
    """A repository whose writer was stopped between the rename and the log; version 1 is there and whole."""
    repository = opened(path, **options)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(_log.Log, "append", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("stopped")))
        repository.register(Constant(4.0))
    return repository


def test_repair_registers_what_is_whole(path, monkeypatch):
    """A version that is wholly there and not registered becomes a candidate."""
    repository = unregistered(path, monkeypatch)
    assert repository.verify().leftovers == ("versions/1",)
    assert repository.repair().registered == ("1",)
    assert repository.stage("1") == "CANDIDATE"
    assert repository.load_model(repository.get_version("1")) == Constant(4.0)
    assert repository.verify().leftovers == ()


def test_repair_discards_what_is_not_whole(path, monkeypatch):
    """What is not wholly there is removed, and its number is never given."""
    repository = unregistered(path, monkeypatch)
    (path / "versions/1/model/arrays.npz").unlink()
    repair = repository.repair()
    assert (repair.registered, repair.discarded, repair.removed) == ((), ("1",), ("versions/1",))
    assert repository.register(Constant()).id == "2"
    assert repository.history()[0].action == "discard"


def test_repair_leaves_what_it_cannot_judge(path, monkeypatch):
    """A version that is signed by an unknown key is neither registered nor removed."""
    unregistered(path, monkeypatch)
    other = opened(path, verifier=HmacVerifier({"other": bytes(32)}))
    assert other.repair().left == ("versions/1",)
    assert (path / "versions/1/manifest.json").exists()


def test_a_writer_overtaken_by_repair_has_registered(path, monkeypatch):
    """A slow writer whose version was registered by a repair meanwhile goes on as if it had done so itself."""
    right = _log.Log.append
    repairing = opened(path)

    def append(log, plan, **options):
        monkeypatch.setattr(_log.Log, "append", right)
        assert repairing.repair().registered == ("1",)
        return right(log, plan, **options)

    monkeypatch.setattr(_log.Log, "append", append)
    assert opened(path).register(Constant()).id == "1"
    assert [entry.action for entry in repairing.history()] == ["register", "activate"]


def test_a_writer_whose_version_was_discarded_is_told(path, monkeypatch):
    """A slow writer whose version was found damaged and discarded gets an error, and nothing is registered."""
    right = _log.Log.append
    repairing = opened(path)

    def append(log, plan, **options):
        monkeypatch.setattr(_log.Log, "append", right)
        (path / "versions/1/model/arrays.npz").unlink()
        assert repairing.repair().discarded == ("1",)
        return right(log, plan, **options)

    monkeypatch.setattr(_log.Log, "append", append)
    with pytest.raises(VersionNotFoundError, match="discarded"):
        opened(path).register(Constant())


def test_a_writer_whose_staging_was_removed_has_published_nothing(path, monkeypatch):
    """A writer that is slower than ``older_than`` fails with an error of its own."""

    class Slow(Filesystem):
        def rename(self, source: str, target: str) -> None:
            if "versions" in target:
                assert len(repairing.repair(older_than=timedelta(0)).removed) == 1
            super().rename(source, target)

    repairing = opened(path)
    with pytest.raises(RepositoryWriteError):
        opened(path, filesystem=Slow()).register(Constant())
    assert (repairing.history(), repairing.verify().leftovers) == ((), ())


def test_a_lower_number_may_be_registered_later(path, monkeypatch):
    """A number that was taken and not registered yet may be, after higher ones; then never again."""
    repository = unregistered(path, monkeypatch)
    assert repository.register(Constant(5.0)).id == "2"
    assert repository.statistics().lost_numbers == 1
    assert repository.repair().registered == ("1",)
    assert remaining(opened(path)) == ["2", "1"]
    assert opened(path).register(Constant()).id == "3"


def test_repair_leaves_what_may_be_a_living_writers(path):
    """What was staged lately, or bears a name of somebody else, stays; what is old goes."""
    clock = ManualClock()
    repository = opened(path, clock)
    (path / "staging/20251231T225959-0123456789abcdef-publish").mkdir()
    (path / "staging/20251231T225959-0123456789abcdef-publish/model").write_bytes(b"x")
    (path / "staging/20251231T233000-0123456789abcdef-entry").write_bytes(b"x")
    (path / "staging/notes.txt").write_bytes(b"x")
    repair = repository.repair()
    assert repair.removed == ("staging/20251231T225959-0123456789abcdef-publish",)
    assert repair.left == ("staging/20251231T233000-0123456789abcdef-entry", "staging/notes.txt")
    assert len(repository.verify().leftovers) == 2


def test_what_a_collection_did_not_delete_is_removed(path, monkeypatch):
    """A version that the log says is gone, but whose collector was killed before it was deleted, is removed."""
    repository = opened(path)
    repository.register(Constant(), activate=False)
    with monkeypatch.context() as patched:
        patched.setattr(type(repository._versions), "remove", lambda *_: None)
        repository.gc(keep=0)
    assert repository.verify().leftovers == ("versions/1",)
    assert repository.repair().removed == ("versions/1",)
    assert not (path / "versions/1").exists()
    assert [entry.action for entry in repository.history()] == ["register", "collect"]


def test_two_may_clear_up_at_once(path, monkeypatch):
    """What another process has removed meanwhile is no error."""
    repository = unregistered(path, monkeypatch)
    (path / "versions/1/manifest.json").unlink()
    (path / "staging/20251231T225959-0123456789abcdef-publish").mkdir()
    other = opened(path)

    class Overtaken(Filesystem):
        def rename(self, source: str, target: str) -> None:
            if target.endswith("-trash"):
                other.repair()
            super().rename(source, target)

    assert opened(path, filesystem=Overtaken()).repair().removed
    assert repository.verify().leftovers == ()


def test_a_version_registered_while_it_is_repaired_stays(path, monkeypatch):
    """What its own writer registers while a repair looks at it is neither registered twice nor discarded."""
    for damaged in (False, True):
        repository = unregistered(path / str(damaged), monkeypatch)

        class Overtaken(Filesystem):
            def read(self, name: str, limit: int) -> bytes:
                data = super().read(name, limit)
                if name.endswith("manifest.json"):
                    assert repository.repair().registered == ("1",)  # noqa: B023  # called in this very round
                return b"" if name.endswith(".npz") and damaged else data  # noqa: B023  # as above

        repair = opened(path / str(damaged), filesystem=Overtaken()).repair()
        assert (repair.registered, repair.discarded, repair.removed) == ((), (), ())
        assert repository.verify().is_sound


def test_a_version_discarded_while_it_is_repaired_is_gone(path, monkeypatch):
    """Of two repairs that find different things, the one that was faster has decided."""
    repository = unregistered(path, monkeypatch)

    class Overtaken(Filesystem):
        def kind(self, name: str):
            if name.endswith("model.json"):
                (path / "versions/1/model/arrays.npz").unlink(missing_ok=True)
                repository.repair()
                return Kind.FILE
            return super().kind(name)

        def read(self, name: str, limit: int) -> bytes:
            return self.model if name.endswith("model.json") else super().read(name, limit)

    overtaken = Overtaken()
    overtaken.model = (path / "versions/1/model/model.json").read_bytes()
    assert opened(path, filesystem=overtaken).repair() == Repair()
    assert [entry.action for entry in repository.history()] == ["discard"]


def test_a_version_collected_while_it_is_verified_is_no_problem(path):
    """``verify`` says nothing of what garbage collection has taken away meanwhile."""
    repository = opened(path)
    for _ in range(2):
        repository.register(Constant(), activate=False)

    class Overtaken(Filesystem):
        def kind(self, name: str):
            if name.endswith("versions/1/manifest.json"):
                repository.gc(keep=0)
            return super().kind(name)

    verification = opened(path, filesystem=Overtaken()).verify()
    assert verification.problems == ()
    assert "2" not in verification.checked


def test_older_than_is_a_length_of_time(path):
    """``repair`` refuses a negative or meaningless age."""
    for wrong in (timedelta(seconds=-1), 5):
        with pytest.raises(InvalidArgumentError):
            opened(path).repair(older_than=wrong)


def test_a_repository_without_directories_is_read_and_written(path):
    """Empty directories that a copy has lost are missed by nobody."""
    opened(path)
    for name in ("log", "versions", "staging", "checkpoints"):
        (path / name).rmdir()
    repository = opened(path)
    assert (repository.history(), repository.verify().leftovers) == ((), ())
    assert described(repository).id == "1"


def test_statistics_count_what_was_done(path):
    """``statistics`` tells what is there, and what this object did."""
    repository = opened(path)
    described(repository)
    repository.register(Constant(), activate=False)
    repository.set_alias("champion", "1")
    repository.load_model(repository.get_latest_version())
    assert repository.statistics() == RepositoryStatistics(
        generation=4,
        versions=2,
        active=1,
        aliases=1,
        pinned=0,
        registered=2,
        loaded=1,
        lost_races=0,
        lost_numbers=0,
    )


def test_a_lost_race_is_run_again(path):
    """A writer that finds its entry taken reads what was written and decides anew."""
    other = opened(path)
    other.register(Constant(1.0))
    other.register(Constant(2.0))

    class Overtaken(Filesystem):
        overtaken = False

        def link(self, source: str, target: str) -> None:
            if not self.overtaken:
                self.overtaken = True
                other.set_alias("shadow", "1")
            super().link(source, target)

    repository = opened(path, filesystem=Overtaken())
    repository.set_alias("champion", "2")
    assert repository.statistics().lost_races == 1
    assert [entry.detail for entry in repository.history()[-2:]] == ["shadow", "champion"]


@pytest.mark.parametrize("moved", ["2", "1"])
def test_an_expectation_is_checked_at_the_moment_of_the_change(path, moved):
    """An alias that another process moves meanwhile is refused; a race about something else is run again."""
    other = opened(path)
    other.register(Constant(1.0))
    other.register(Constant(2.0))
    other.set_alias("champion", "1")

    class Overtaken(Filesystem):
        overtaken = False

        def link(self, source: str, target: str) -> None:
            if not self.overtaken:
                self.overtaken = True
                other.set_alias("champion", moved)
            super().link(source, target)

    repository = opened(path, filesystem=Overtaken())
    if moved == "2":
        with pytest.raises(InvalidArgumentError):
            repository.set_alias("champion", "2", expected="1")
    else:
        repository.set_alias("champion", "2", expected="1")
        assert repository.history()[-1].version_id == "2"


def test_an_error_of_the_system_is_kept(path):
    """What the system raised while writing is kept as ``exception``."""
    disk = prepared()
    repository = opened(ROOT, filesystem=disk)
    disk.fail_at, disk.keeps_failing = {len(disk.operations) + 3: 28}, True
    with pytest.raises(MlserveError) as caught:
        described(repository)
    assert caught.value.exception.errno == 28


def test_a_model_of_large_arrays_comes_back(path):
    """Arrays of every kind and order come back with dtype, shape and order."""
    rng = np.random.default_rng(1)
    model = {
        "c": rng.normal(size=(300, 50)),
        "f": np.asfortranarray(rng.normal(size=(40, 30))),
        "text": np.array(["a", "bc"]),
        "empty": np.empty((0, 3), np.float32),
        "scalar": np.array(5),
        "flags": np.array([True, False]),
        "big": rng.normal(size=200_000),
        "strided": rng.normal(size=(20, 10))[::2, ::3],
        "fields": np.array([(1, 2.0), (3, 4.0)], [("a", np.int32), ("b", np.float64)]),
        "days": np.array(["2026-01-01", "NaT"], "datetime64[D]"),
    }
    repository = opened(path)
    loaded = repository.load_model(repository.register(model))
    assert list(loaded) == list(model)
    for name, array in model.items():
        assert loaded[name].dtype == array.dtype
        assert name == "strided" or loaded[name].flags.f_contiguous == array.flags.f_contiguous
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].flags.writeable
