"""The repository in a store keeps every contract, on each kind of store."""

from __future__ import annotations

import itertools
from uuid import uuid4

import hypothesis
import pytest
from remote_doubles import new_store, remote

from mlserve.integrations.remote import RemoteModelRepository
from mlserve.repositories import HmacSigner, HmacVerifier
from mlserve.testing import (
    ObservableRepositoryContract,
    VersionDescriberContract,
    WritableModelRepositoryContract,
)

KEY = bytes(range(32))


class EveryContract(WritableModelRepositoryContract, VersionDescriberContract, ObservableRepositoryContract):
    state_machine_settings = hypothesis.settings(
        WritableModelRepositoryContract.state_machine_settings, max_examples=10, stateful_step_count=20
    )


class TestRemoteRepositoryInAStore(EveryContract):
    """A store with conditional writes, as S3 has them."""

    def new_repository(self, clock):
        return remote(new_store(), clock, trust=True)

    def active_ids(self, repository):
        """Read by another object, as another machine would."""
        again = remote(repository._store._fs, trust=True)
        return [version.id for version in again.get_active_versions()]


class TestRemoteRepositoryInMemory(EveryContract):
    """The ``memory://`` of fsspec."""

    def new_repository(self, clock):
        return RemoteModelRepository(
            f"memory://{uuid4().hex}/models", clock=clock, actor="test", follow_seconds=0, trust=True
        )


@pytest.mark.slow
class TestRemoteRepositoryOnDisk(EveryContract):
    """Files of this machine: every object durable, which takes its time."""

    @pytest.fixture(autouse=True)
    def directories(self, tmp_path):
        self.paths = (tmp_path / str(number) for number in itertools.count())

    def new_repository(self, clock):
        return RemoteModelRepository(next(self.paths).as_uri(), clock=clock, actor="test", follow_seconds=0, trust=True)


class TestCachedAndSignedRemoteRepository(VersionDescriberContract):
    """With a cache, a signer and a verifier."""

    @pytest.fixture(autouse=True)
    def directories(self, tmp_path):
        self.cache = tmp_path / "cache"

    def new_repository(self, clock):
        signing = {"signer": HmacSigner("key", KEY), "verifier": HmacVerifier({"key": KEY})}
        return remote(new_store(), clock, cache_directory=self.cache, **signing)
