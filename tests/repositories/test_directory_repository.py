"""The repository in a directory: every contract, and what is its own."""

from __future__ import annotations

import itertools

import hypothesis
import pytest
from stored_models import SIGNER, VERIFIER, Constant, opened

from mlserve.clocks import ManualClock
from mlserve.repositories import DirectoryModelRepository
from mlserve.testing import (
    ConstantModel,
    ObservableRepositoryContract,
    VersionDescriberContract,
    WritableModelRepositoryContract,
)


class TestDirectoryRepository(WritableModelRepositoryContract, VersionDescriberContract, ObservableRepositoryContract):
    state_machine_settings = hypothesis.settings(
        WritableModelRepositoryContract.state_machine_settings, max_examples=15, stateful_step_count=25
    )

    @pytest.fixture(autouse=True)
    def directories(self, tmp_path):
        self.paths = (tmp_path / str(number) for number in itertools.count())

    def new_model(self, number: int) -> Constant:
        return Constant(float(number))

    def new_repository(self, clock) -> DirectoryModelRepository:
        return opened(next(self.paths), clock)

    def active_ids(self, repository: DirectoryModelRepository) -> list[str]:
        """Read by another object, as another process would."""
        again = opened(repository._layout.root)
        return [version.id for version in again.get_active_versions()]


class TestSignedDirectoryRepository(VersionDescriberContract):
    """With a signer and a verifier, models that pickle, and descriptions that were signed."""

    @pytest.fixture(autouse=True)
    def directories(self, tmp_path):
        self.paths = (tmp_path / str(number) for number in itertools.count())

    def new_model(self, number: int) -> ConstantModel:
        return ConstantModel(float(number))

    def new_repository(self, clock) -> DirectoryModelRepository:
        return DirectoryModelRepository(next(self.paths), clock=clock, signer=SIGNER, verifier=VERIFIER)


@pytest.mark.slow
def test_it_behaves_like_dicts_and_lists_for_long(tmp_path):
    """The state machine finds nothing in hundreds of longer runs either."""

    class Long(TestDirectoryRepository):
        state_machine_settings = hypothesis.settings(
            TestDirectoryRepository.state_machine_settings, max_examples=200, stateful_step_count=50
        )

    long = Long()
    long.paths = (tmp_path / str(number) for number in itertools.count())
    long.test_it_behaves_like_dicts_and_lists(ManualClock())
