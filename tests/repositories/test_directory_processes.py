"""Several processes at once, and processes that are killed."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from stored_models import Constant, opened

from mlserve.clocks import SystemClock

WRITER = Path(__file__).with_name("writer_process.py")
GENEROUS_SECONDS = 120.0
ENDLESS = 1_000_000
SPACING = 10_000
"""Values of one writer are this far from those of the next, so that each value was written once."""


@contextmanager
def writer(path: Path, first: int, count: int) -> Iterator[subprocess.Popen[str]]:
    """A process that writes, ready to begin. It is killed at the end if it still lives."""
    # The writer's own folder is on its path because it is run as a script; the project's is not.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(path), str(first), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def check(path: Path, said: list[list[str]]) -> None:
    """Whatever a process said is done is there; numbers are unique, the history is linear, every byte is right."""
    repository = opened(path, SystemClock())
    verification = repository.verify()
    assert verification.problems == ()
    values = {words[1]: float(words[2]) for words in said if words[0] == "version"}
    assert len(values) == sum(words[0] == "version" for words in said), "no number is given twice"
    for version_id, value in values.items():
        assert repository.load_model(repository.get_version(version_id)) == Constant(value)
    history = repository.history()
    assert [entry.generation for entry in history] == list(range(1, len(history) + 1))
    registered = [entry.version_id for entry in history if entry.action == "register"]
    assert len(set(registered)) == len(registered)
    moves = [entry for entry in history if entry.action == "alias"]
    for before, after in itertools.pairwise(moves):
        if after.evidence["from"] is not None:
            assert after.evidence["from"] == before.version_id, "an alias moves from where it was seen"
    made = {(entry.evidence["from"], entry.version_id) for entry in moves}
    assert {(words[1], words[2]) for words in said if words[0] == "alias"} <= made, "no update is lost"
    if moves:
        assert repository.resolve_alias("champion").id == moves[-1].version_id


def killed_at_random(path: Path, rounds: int) -> None:
    """Children that publish and flip an alias, each killed at a random moment; a survivor checks everything."""
    chance = random.Random(20260101)
    said: list[list[str]] = []
    for number in range(1, rounds + 1):
        with writer(path, number * SPACING, ENDLESS) as process:
            begin(process)
            assert process.stdout is not None
            said += [process.stdout.readline().split() for _ in range(chance.randrange(6))]
            process.kill()
            # What was said before the kill arrived was done, too; of the last line perhaps only a part was written.
            said += [line.split() for line in process.stdout if line.endswith("\n")]
        if number % 10 == 0 or number == rounds:
            check(path, said)
    survivor = opened(path, SystemClock())
    survivor.repair(older_than=timedelta(0))
    assert survivor.verify().leftovers == ()
    check(path, said)
    assert survivor.register(Constant(1.0)).id not in {words[1] for words in said if words[0] == "version"}


def at_once(path: Path, processes: int, count: int) -> None:
    """Processes that publish and move one alias at the same time."""
    opened(path, SystemClock())
    said: list[list[str]] = []
    with writers([(path, (number + 1) * SPACING, count) for number in range(processes)]) as running:
        for process in running:
            begin(process)
        for process in running:
            output, _ = process.communicate(timeout=GENEROUS_SECONDS)
            assert process.returncode == 0
            said += [line.split() for line in output.splitlines()]
    check(path, said)
    assert sum(words[0] == "version" for words in said) == processes * count
    moves = [entry for entry in opened(path, SystemClock()).history() if entry.action == "alias"]
    assert len(moves) == processes * count
    assert opened(path, SystemClock()).verify().leftovers == ()


@contextmanager
def writers(arguments: list[tuple[Path, int, int]]) -> Iterator[list[subprocess.Popen[str]]]:
    if not arguments:
        yield []
        return
    with writer(*arguments[0]) as process, writers(arguments[1:]) as others:
        yield [process, *others]


def test_a_killed_writer_leaves_all_or_nothing(tmp_path):
    """Of writers killed by SIGKILL, whatever they said is done is there, and nothing is half there."""
    killed_at_random(tmp_path / "repository", 6)


@pytest.mark.slow
def test_two_hundred_killed_writers_leave_all_or_nothing(tmp_path):
    """The same two hundred times."""
    killed_at_random(tmp_path / "repository", 200)


def test_processes_write_at_once(tmp_path):
    """Of processes that publish and move an alias at once, every number is unique and no update is lost."""
    at_once(tmp_path / "repository", 4, 4)


@pytest.mark.slow
def test_eight_processes_write_at_once(tmp_path):
    """The same with eight processes and thirty versions each."""
    at_once(tmp_path / "repository", 8, 30)
