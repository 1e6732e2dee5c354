"""The repository on an MLflow registry keeps the contracts by each of its rules."""

from __future__ import annotations

import hypothesis
import pytest
from mlflow_registry import local_registry

from mlserve.testing import ModelRepositoryContract, VersionDescriberContract, WritableModelRepositoryContract

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow's own making


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with local_registry(tmp_path_factory.mktemp("mlflow")) as registry:
        yield registry


class OnMlflow:
    """A new registered model for each repository."""

    options: dict[str, str] = {}

    @pytest.fixture(autouse=True)
    def on_mlflow(self, registry):
        self.registry = registry

    def new_repository(self, clock):
        return self.registry.opened(self.registry.new_name(), clock, trust=True, **self.options)


@pytest.mark.slow
class TestReadingMlflowByAlias(OnMlflow, ModelRepositoryContract):
    """The contract of reading, where an alias says what serves; published by mlserve, withdrawn by it."""

    options = {"alias": "serving"}

    def publish(self, repository, model):
        return repository.register(model)

    def withdraw(self, repository, version):
        repository.retire(version.id)


class Written(OnMlflow, WritableModelRepositoryContract, VersionDescriberContract):
    state_machine_settings = hypothesis.settings(
        WritableModelRepositoryContract.state_machine_settings, max_examples=3, stateful_step_count=10
    )


@pytest.mark.slow
class TestMlflowByMlserve(Written):
    """Every contract, where mlserve says what serves."""


@pytest.mark.slow
class TestMlflowByAlias(Written):
    """Every contract, where an alias says what serves."""

    options = {"alias": "serving"}


@pytest.mark.slow
class TestMlflowByStage(Written):
    """Every contract, where a stage says what serves."""

    options = {"stage": "Production"}
