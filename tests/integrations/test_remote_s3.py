"""The repository over HTTP: a server of S3's protocol on this machine, and servers that refuse or hang."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from uuid import uuid4

import hypothesis
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from mlserve.clocks import ManualClock
from mlserve.errors import (
    DigestMismatchError,
    MissingFileError,
    RepositoryUnavailableError,
    RepositoryWriteError,
)
from mlserve.integrations.remote import RemoteModelRepository
from mlserve.testing import ConstantModel, ModelRepositoryContract, VersionDescriberContract
from mlserve.testing import ObservableRepositoryContract as ObservableContract
from mlserve.testing import WritableModelRepositoryContract as WritableContract

ANY_KEYS = {"key": "any", "secret": "any"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server of S3's protocol."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def options(endpoint: str) -> dict[str, Any]:
    """How the server is reached; the bucket ``models`` is there."""
    options = {**ANY_KEYS, "endpoint_url": endpoint}
    filesystem = s3fs.S3FileSystem(**options)
    if not filesystem.exists("models"):
        filesystem.mkdir("models")
    return options


def opened(options: dict[str, Any], folder: str = "", clock: Any = None, **more: Any) -> RemoteModelRepository[Any]:
    more = {"trust": True, "actor": "test", "follow_seconds": 0, "clock": clock or ManualClock(), **more}
    return RemoteModelRepository(f"s3://models/{folder or uuid4().hex}", storage_options=options, **more)


class OverHttp(WritableContract, VersionDescriberContract, ObservableContract):
    state_machine_settings = hypothesis.settings(
        WritableContract.state_machine_settings, max_examples=3, stateful_step_count=10
    )

    @pytest.fixture(autouse=True)
    def server(self, options):
        self.options = options

    def new_repository(self, clock):
        return opened(self.options, clock=clock)


@pytest.mark.slow
class TestRemoteRepositoryOverHttp(OverHttp):
    """Every contract over HTTP."""


@pytest.mark.slow
class TestReadingOverHttp(ModelRepositoryContract):
    """The contract of reading over HTTP."""

    @pytest.fixture(autouse=True)
    def server(self, options):
        self.options = options

    def new_repository(self, clock):
        return opened(self.options, clock=clock)

    def publish(self, repository, model):
        return repository.register(model)

    def withdraw(self, repository, version):
        repository.retire(version.id)


def test_what_one_publishes_another_serves(options) -> None:
    """Another machine sees versions, aliases, history and descriptions, and every byte is right."""
    repository = opened(options, "shared")
    repository.register(ConstantModel(1.0), example=[1.0, 2.0], tags={"commit": "abc"}, reason="the first")
    repository.set_alias("champion", "1")
    again = opened(options, "shared")
    assert again.load_model(again.resolve_alias("champion")) == ConstantModel(1.0)
    assert list(again.describe("1").example) == [1.0, 2.0]
    assert [entry.action for entry in again.history()] == ["register", "activate", "alias"]
    assert again.verify().is_sound


def test_an_object_is_created_once(options) -> None:
    """Of two that create the same object, the second is refused by the server: ``If-None-Match`` is sent."""
    store = opened(options)._store
    store.create("one", b"first")
    with pytest.raises(FileExistsError):
        store.create("one", b"second")
    assert store.read("one", 10) == b"first"


def test_an_empty_object_is_read(options) -> None:
    """An object without bytes, of which the server gives no range, is read."""
    store = opened(options)._store
    store.put("empty", b"")
    assert store.read("empty", 10) == b""
    assert store.exists("empty")


def test_the_next_number_is_found_by_another(options) -> None:
    """A writer that has not looked for a while takes a number that is free."""
    first, second = opened(options, "numbers"), opened(options, "numbers")
    assert [one.register(ConstantModel(1.0)).id for one in (first, second, first)] == ["1", "2", "3"]


def test_wrong_bytes_and_missing_objects_are_refused(options) -> None:
    """What the server gives is compared with what was published."""
    repository = opened(options, "damaged")
    version = repository.register(ConstantModel(1.0))
    name = "versions/1/model/model.pickle"
    data = repository._store.read(name, 10**6)
    repository._store.put(name, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DigestMismatchError):
        repository.load_model(version)
    repository._store.delete(name)
    with pytest.raises(MissingFileError):
        repository.load_model(version)


def test_collected_versions_leave_no_objects(options) -> None:
    """Garbage collection deletes every object of a version."""
    repository = opened(options, "collected")
    for number in range(3):
        repository.register(ConstantModel(float(number)))
    repository.retire("1")
    assert repository.gc(keep=0).collected == ("1",)
    assert repository._store.names("versions") == ["2", "3"]
    assert repository._store.walk("versions/1") == []


def test_a_bucket_that_is_not_there_is_said(options) -> None:
    """A bucket that is missing is an error that says so."""
    with pytest.raises(RepositoryWriteError, match="bucket"):
        RemoteModelRepository("s3://not-there/models", storage_options=options)


def test_a_bucket_that_vanishes_is_said(options) -> None:
    """A bucket that is deleted in the middle of things is not taken for one without news."""
    filesystem = s3fs.S3FileSystem(**options)
    filesystem.mkdir("vanishing")
    repository = RemoteModelRepository("s3://vanishing/models", storage_options=options)
    filesystem.rm("vanishing", recursive=True)
    with pytest.raises(RepositoryUnavailableError, match="bucket"):
        repository.get_latest_version()


# ------------------------------------------------------------------------------------------- servers that do not serve


class Handler(BaseHTTPRequestHandler):
    """Answers every request with one status, or not at all."""

    status: ClassVar[int | None] = None
    closing: ClassVar[threading.Event] = threading.Event()
    WAIT_SECONDS: ClassVar[float] = 30.0

    def answer(self) -> None:
        if self.status is None:
            self.closing.wait(self.WAIT_SECONDS)
            return
        body = f"<Error><Code>{ {403: 'AccessDenied'}.get(self.status, 'InternalError') }</Code></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815  # as http.server asks for them

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def refusing(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A server that answers with ``request.param``, or hangs where it is None; and how it is reached."""
    handler = type("Refusing", (Handler,), {"status": request.param, "closing": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {
        **ANY_KEYS,
        "endpoint_url": f"http://127.0.0.1:{server.server_address[1]}",
        "config_kwargs": {"read_timeout": 0.2, "connect_timeout": 1, "retries": {"max_attempts": 0}},
    }
    handler.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second tries by the client: they would only take time."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


@pytest.mark.parametrize(
    ("refusing", "said"), [(403, "PermissionError"), (500, "OSError"), (None, "Timeout")], indirect=["refusing"]
)
def test_a_server_that_does_not_serve_is_unavailable(refusing, said, options, once) -> None:
    """403, 500 and a server that hangs each end in an error that says which, within the client's time limit."""
    repository = opened(options, "healthy")
    repository.register(ConstantModel(1.0))
    broken = s3fs.S3FileSystem(**refusing, use_listings_cache=False)
    repository._store._filesystem = broken
    with pytest.raises(RepositoryUnavailableError, match=said):
        repository.get_latest_version()
    with pytest.raises(RepositoryWriteError, match=said):
        repository.register(ConstantModel(2.0))


def test_nobody_at_the_address_is_said(once) -> None:
    """A port on which nobody listens is an error that says so."""
    options = {**ANY_KEYS, "endpoint_url": "http://127.0.0.1:1", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(RepositoryWriteError, match="connect"):
        opened(options)
