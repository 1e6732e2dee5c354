"""What cannot be kept is refused with a clear error, and nothing is half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from stored_models import Constant, described, files_of, opened

from mlserve import ModelVersion
from mlserve.clocks import ManualClock
from mlserve.errors import (
    InvalidArgumentError,
    RepositoryWriteError,
    SerializationError,
    UnsafePathError,
    VersionNotFoundError,
)
from mlserve.repositories import (
    DirectoryModelRepository,
    Filesystem,
    ModelFormat,
    NumpyFormat,
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def repository(path) -> DirectoryModelRepository:
    repository = opened(path)
    described(repository)
    return repository


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in files_of(path)}


class Unwritable(ModelFormat):
    """A format that cannot write, or writes what may not be."""

    name = "unwritable"
    runs_code = False

    def __init__(self, files: object) -> None:
        self.files = files

    def accepts(self, model) -> bool:
        return True

    def save(self, model):
        if isinstance(self.files, Exception):
            raise self.files
        return self.files

    def load(self, files, *, trusted):
        return files


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"tags": {"a": 1}}, InvalidArgumentError),
        ({"tags": "text"}, InvalidArgumentError),
        ({"lineage": {"parent": 1}}, InvalidArgumentError),
        ({"lineage": ["parent"]}, InvalidArgumentError),
        ({"task": "clustering"}, InvalidArgumentError),
        ({"baseline": 5}, InvalidArgumentError),
        ({"reason": 5}, InvalidArgumentError),
        ({"evidence": {"a": object()}}, InvalidArgumentError),
        ({"evidence": {1: "a"}}, InvalidArgumentError),
        ({"evidence": [1]}, InvalidArgumentError),
        ({"evidence": {"p": float("nan")}}, InvalidArgumentError),
        ({"example": object()}, SerializationError),
        ({"example": {"a": {1, 2}}}, SerializationError),
        ({"example": LOOP}, SerializationError),
        ({"baseline": np.array([[object()]])}, SerializationError),
    ],
    ids=lambda value: str(value).split("<object")[0],
)
def test_a_bad_argument_writes_nothing(path, repository, arguments, error):
    """``register`` refuses what cannot be kept, and leaves the directory as it was."""
    before = contents(path)
    with pytest.raises(error):
        repository.register(Constant(2.0), **arguments)
    assert contents(path) == before


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (ValueError("no"), SerializationError),
        ({}, SerializationError),
        ({"model.bin": "text"}, SerializationError),
        (None, SerializationError),
        ({"../model.bin": b"x"}, UnsafePathError),
        ({"/model.bin": b"x"}, UnsafePathError),
    ],
    ids=str,
)
def test_a_model_that_cannot_be_written_writes_nothing(path, repository, files, error):
    """A model whose format fails, or names files elsewhere, leaves the directory as it was."""
    before = contents(path)
    with pytest.raises(error):
        opened(path, formats=[Unwritable(files)]).register(Constant(2.0))
    assert contents(path) == before


@pytest.mark.parametrize("alias", ["1", "007", "", "a/b", "..\\b", "a\nb", " a", 5, None])
def test_a_bad_alias_writes_nothing(path, repository, alias):
    """An alias that could be a number or a path is refused."""
    before = contents(path)
    with pytest.raises(InvalidArgumentError):
        repository.set_alias(alias, "1")
    assert contents(path) == before


@pytest.mark.parametrize("name", ["../1", "1/", "01", "+1", "1 ", "one", "²", "1.0"])
def test_an_id_is_never_a_path(repository, name):
    """What is no id of a registered version is not found, however it is spelled."""
    with pytest.raises(VersionNotFoundError):
        repository.load_model(ModelVersion(name, ManualClock().now()))


@pytest.mark.parametrize("wrong", [5, None, "", "a\0b", b"bytes"])
def test_a_path_that_is_none_is_refused(wrong):
    """The path must be text or a ``Path``."""
    with pytest.raises(InvalidArgumentError):
        opened(wrong)


def test_a_path_that_is_a_file_is_refused(tmp_path):
    """A file is no repository, and stays as it is."""
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises((InvalidArgumentError, RepositoryWriteError)):
            opened(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_of_something_else_is_refused(tmp_path):
    """A directory that holds other things is no repository, and stays as it is."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidArgumentError):
        opened(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


class ReadOnly(Filesystem):
    """A file system that is mounted read-only. (Whoever runs the tests may be allowed to write everywhere.)"""

    def create(self, path: str) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    mkdir = create


def test_a_read_only_directory_is_read(path, repository):
    """A repository that may only be read is read, and refuses to be written with an error that names the path."""
    before = contents(path)
    again = opened(path, filesystem=ReadOnly())
    assert again.load_model(again.get_latest_version()) == Constant(1.0)
    assert again.verify().is_sound
    for write in (lambda: again.register(Constant(2.0)), lambda: again.set_alias("champion", "1")):
        with pytest.raises(RepositoryWriteError) as caught:
            write()
        assert (caught.value.exception.errno, caught.value.path[:1]) == (errno.EROFS, "/")
    assert contents(path) == before


def test_a_read_only_place_takes_no_new_repository(tmp_path):
    """Where no directory can be made, opening a new repository is a ``RepositoryWriteError``."""
    with pytest.raises(RepositoryWriteError):
        opened(tmp_path / "new", filesystem=ReadOnly())


@pytest.mark.parametrize("options", [{"actor": ""}, {"actor": 5}, {"follow_seconds": -1.0}, {"formats": []}])
def test_a_bad_option_is_refused(path, options):
    """Options of the constructor that cannot mean anything are refused before anything is made."""
    with pytest.raises(InvalidArgumentError):
        opened(path, **options)
    assert not path.exists()


@pytest.mark.parametrize("formats", [[NumpyFormat(), NumpyFormat()], [object()]], ids=["twice", "none"])
def test_formats_are_distinct_formats(path, formats):
    """Two formats of one name, or something that is no format, are refused."""
    with pytest.raises(InvalidArgumentError):
        opened(path, formats=formats)
