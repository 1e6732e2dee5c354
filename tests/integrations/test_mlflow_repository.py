"""Models that others logged and promoted in MLflow, and what mlserve adds to them."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_registry import LocalRegistry, local_registry, mlflow
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression

from mlserve import InMemoryModelMonitor, ModelServer
from mlserve.errors import (
    DigestMismatchError,
    InvalidArgumentError,
    MalformedDocumentError,
    MissingExtraError,
    MissingFileError,
    RepositoryUnavailableError,
    RepositoryWriteError,
    UnexpectedFileError,
    UnsupportedFormatError,
    UntrustedModelError,
    VersionNotFoundError,
)
from mlserve.integrations import _mlflow_registry
from mlserve.integrations._mlflow_artifacts import Download
from mlserve.records import Stage
from mlserve.testing import ConstantModel

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow's own making

ROOT = Path(__file__).parents[2]
ROWS = np.array([[0.0], [1.0], [2.0]])
MODEL = LinearRegression().fit(ROWS, [1.0, 3.0, 5.0])


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with local_registry(tmp_path_factory.mktemp("mlflow")) as registry:
        yield registry


def registered(registry: LocalRegistry, directory: Path, name: str | None = None) -> str:
    """Register what lies in a directory by MLflow's own means; gives the name."""
    if name is None:
        name = registry.new_name()
        registry.client.create_registered_model(name)
    registry.client.create_model_version(name, directory.as_uri())
    return name


def constants(registry: LocalRegistry, count: int, **options: Any) -> Any:
    """A repository with some versions, registered through mlserve and not active."""
    repository = registry.opened(registry.new_name(), trust=True, **options)
    for number in range(count):
        repository.register(ConstantModel(float(number)), activate=False)
    return repository


# --------------------------------------------------------------------------------------------------- what serves


def test_an_alias_that_is_moved_in_mlflow_is_followed(registry) -> None:
    """By the rule of an alias, the version that has it is the latest, whoever set it."""
    repository = constants(registry, 3, alias="champion")
    name = repository._registry.name
    with pytest.raises(VersionNotFoundError, match="alias 'champion'"):
        repository.get_latest_version()
    registry.client.set_registered_model_alias(name, "champion", "2")
    assert repository.get_latest_version().id == "2"
    registry.client.set_registered_model_alias(name, "champion", "3")
    assert [version.id for version in repository.get_active_versions()] == ["3"]


def test_an_alias_that_is_deleted_in_mlflow_ends_the_service(registry) -> None:
    """Whoever deletes the alias takes the model out of service, also what mlserve activated before."""
    repository = constants(registry, 2, alias="champion")
    repository.activate("1")
    repository.activate("2")
    registry.client.delete_registered_model_alias(repository._registry.name, "champion")
    assert repository.get_active_versions() == ()


def test_rollback_moves_the_alias_back(registry) -> None:
    """``rollback`` gives the alias to the version that served before."""
    repository = constants(registry, 2, alias="champion")
    repository.activate("1")
    repository.activate("2")
    assert repository.rollback().id == "1"
    assert str(registry.client.get_model_version_by_alias(repository._registry.name, "champion").version) == "1"


def test_setting_the_alias_that_serves_activates(registry) -> None:
    """``set_alias`` of the alias that says what serves makes the version active, so that one can roll back to it."""
    repository = constants(registry, 2, alias="champion")
    repository.set_alias("champion", "1")
    repository.set_alias("champion", "2", expected="1")
    assert [version.id for version in repository.get_active_versions()] == ["2", "1"]
    assert [entry.action for entry in repository.history()][-2:] == ["alias", "alias"]


def test_a_registered_model_that_is_not_there_yet_is_empty(registry) -> None:
    """Before the first registration nothing is active, by whatever rule, and the history is empty."""
    for rule in ({}, {"alias": "champion"}, {"stage": "Production"}):
        repository = registry.opened("not-there", **rule)
        assert (repository.get_active_versions(), repository.history()) == ((), ())
        with pytest.raises(VersionNotFoundError):
            repository.get_latest_version()


def test_another_alias_activates_nothing(registry) -> None:
    """``set_alias`` of another alias than that which says what serves changes nothing but this alias."""
    repository = constants(registry, 2, alias="champion")
    repository.activate("1")
    repository.set_alias("challenger", "2", reason="to be compared")
    assert repository.resolve_alias("challenger").id == "2"
    assert [version.id for version in repository.get_active_versions()] == ["1"]
    assert (repository.history()[-1].action, repository.history()[-1].detail) == ("alias", "challenger")


def test_a_stage_that_is_changed_in_mlflow_is_followed(registry) -> None:
    """By the rule of a stage, what is in it is active, the one that came to it last first."""
    repository = constants(registry, 2, stage="Production")
    name = repository._registry.name
    with pytest.raises(VersionNotFoundError, match="stage 'Production'"):
        repository.get_latest_version()
    for version_id in ("2", "1"):
        found = registry.client.search_model_versions(f"name='{name}'")
        before = max(one.last_updated_timestamp for one in found)
        # MLflow's times are whole milliseconds.
        while registry.client.get_model_version(name, version_id).last_updated_timestamp <= before:
            registry.client.transition_model_version_stage(name, version_id, "Production")
    assert [version.id for version in repository.get_active_versions()] == ["1", "2"]
    registry.client.transition_model_version_stage(name, "1", "Archived")
    assert (repository.stage("1"), repository.stage("2")) == (Stage.RETIRED, Stage.ACTIVE)


def test_retiring_archives_the_stage(registry) -> None:
    """By the rule of a stage, ``activate`` moves a version into it and ``retire`` archives it."""
    repository = constants(registry, 1, stage="Production")
    repository.activate("1")
    assert registry.client.get_model_version(repository._registry.name, "1").current_stage == "Production"
    repository.retire("1")
    assert registry.client.get_model_version(repository._registry.name, "1").current_stage == "Archived"


def test_without_a_rule_mlserve_says_what_serves(registry, tmp_path) -> None:
    """Without alias and stage, what MLflow registered is a candidate until it is activated through mlserve."""
    name = registered(registry, tmp_path)
    repository = registry.opened(name)
    assert repository.stage("1") is Stage.CANDIDATE
    with pytest.raises(VersionNotFoundError, match="by mlserve"):
        repository.get_latest_version()
    repository.activate("1")
    assert repository.get_latest_version().id == "1"


def test_only_an_active_version_can_be_retired(registry) -> None:
    """``retire`` of a candidate is refused and leaves nothing in the history."""
    repository = constants(registry, 1)
    before = repository.history()
    with pytest.raises(VersionNotFoundError, match="CANDIDATE"):
        repository.retire("1")
    with pytest.raises(VersionNotFoundError, match="roll back"):
        repository.rollback()
    assert repository.history() == before


def test_rollback_without_an_alias(registry) -> None:
    """Without a rule, ``rollback`` retires the latest and the one before it serves."""
    repository = constants(registry, 2)
    repository.activate("1")
    repository.activate("2")
    assert repository.rollback().id == "1"
    assert repository.stage("2") is Stage.RETIRED


# ----------------------------------------------------------------------------------------------- what was told


def test_mlflow_s_own_tags_and_times_are_told(registry, tmp_path) -> None:
    """A version that MLflow registered has MLflow's tags and time, no digest, and nothing that it carries."""
    name = registered(registry, tmp_path)
    registry.client.set_model_version_tag(name, "1", "team", "risk")
    repository = registry.opened(name)
    version = repository.get_version("1")
    found = registry.client.get_model_version(name, "1")
    assert (dict(version.tags), version.digest) == ({"team": "risk"}, None)
    assert version.created_at.timestamp() * 1000 == pytest.approx(found.creation_timestamp)
    description = repository.describe(version)
    assert (description.task, description.example, description.schema, description.baseline) == (None,) * 4


def test_what_was_registered_comes_back(registry) -> None:
    """Example, schema, task, lineage and tags come back, under the number that MLflow gave."""
    repository = registry.opened(registry.new_name(), trust=True)
    version = repository.register(
        ConstantModel(1.0), task="regression", example=[1.0], tags={"team": "risk"}, lineage={"parent": "0"}
    )
    description = repository.describe(version.id)
    assert (description.version, list(description.example), dict(description.lineage)) == (
        version,
        [1.0],
        {"parent": "0"},
    )
    found = registry.client.get_model_version(repository._registry.name, "1")
    assert found.tags["team"] == "risk"


def test_a_model_that_was_registered_is_loaded(registry) -> None:
    """A model comes back as it went in, with its digest, by trust where its format runs code."""
    repository = registry.opened(registry.new_name(), trust=True)
    version = repository.register(ConstantModel(7.0))
    assert repository.load_model(version) == ConstantModel(7.0)
    assert repository.get_version("1") == version
    with pytest.raises(UntrustedModelError):
        registry.opened(repository._registry.name).load_model(version)


def test_a_baseline_comes_back(registry) -> None:
    """The rows of a baseline come back, read from the artifacts that hold them."""
    repository = registry.opened(registry.new_name(), trust=True)
    version = repository.register(ConstantModel(7.0), baseline=ROWS)
    np.testing.assert_array_equal(repository.describe(version).baseline.inputs.rows, ROWS)


def test_the_last_to_be_retired_takes_the_alias_with_it(registry) -> None:
    """``retire`` deletes the alias where no other version is active, and nothing is served."""
    repository = constants(registry, 1, alias="champion")
    repository.activate("1")
    assert repository.stage("1") is Stage.ACTIVE
    repository.retire("1")
    assert repository.stage("1") is Stage.RETIRED
    with pytest.raises(VersionNotFoundError):
        repository.resolve_alias("champion")


def test_the_history_says_who_and_why(registry) -> None:
    """The history holds actor, reason and evidence of changes through mlserve, and no others."""
    repository = constants(registry, 1, actor="training job")
    repository.activate("1", reason="better", evidence={"accuracy": 0.9})
    registry.client.set_registered_model_alias(repository._registry.name, "elsewhere", "1")
    entry = repository.history()[-1]
    assert (entry.action, entry.actor, entry.reason, entry.evidence["accuracy"]) == (
        "activate",
        "training job",
        "better",
        0.9,
    )
    assert repository.resolve_alias("elsewhere").id == "1"


def test_more_versions_than_a_page_are_listed(registry, monkeypatch) -> None:
    """Versions are read page by page."""
    monkeypatch.setattr(_mlflow_registry, "_PAGE", 1)
    repository = constants(registry, 3)
    assert [repository.stage(str(number)) for number in (1, 2, 3)] == [Stage.CANDIDATE] * 3


# ------------------------------------------------------------------------------------------------------- flavors


def test_a_model_that_mlflow_logged_is_served_by_trust(registry, tmp_path) -> None:
    """An estimator that MLflow pickled is loaded by trust, answers as it did, and is refused without."""
    mlflow.sklearn.save_model(MODEL, tmp_path / "model", serialization_format="cloudpickle", pip_requirements=[])
    name = registered(registry, tmp_path / "model")
    registry.client.set_registered_model_alias(name, "champion", "1")
    version = registry.opened(name).get_version("1")
    with pytest.raises(UntrustedModelError, match="trust=True"):
        registry.opened(name).load_model(version)
    server = ModelServer(registry.opened(name, trust=True, alias="champion"), InMemoryModelMonitor())
    assert server.predict([5.0]).value == pytest.approx(11.0)


def test_an_estimator_kept_by_skops_needs_no_trust(registry, tmp_path) -> None:
    """An estimator that MLflow keeps by skops is loaded without trust."""
    mlflow.sklearn.save_model(MODEL, tmp_path / "model", serialization_format="skops", pip_requirements=[])
    repository = registry.opened(registered(registry, tmp_path / "model"))
    loaded = repository.load_model(repository.get_version("1"))
    np.testing.assert_array_equal(loaded.predict(ROWS), MODEL.predict(ROWS))


def test_a_graph_needs_no_trust(registry, tmp_path) -> None:
    """A model of the ONNX flavor is loaded without trust."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["X", "X"], ["Y"])],
        "twice",
        [helper.make_tensor_value_info("X", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("Y", TensorProto.DOUBLE, [None, 1])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    mlflow.onnx.save_model(proto, tmp_path / "model", pip_requirements=[])
    repository = registry.opened(registered(registry, tmp_path / "model"))
    np.testing.assert_array_equal(repository.load_model(repository.get_version("1")).predict(ROWS), [0.0, 2.0, 4.0])


def test_the_files_of_a_model_stay_while_it_lives(registry, tmp_path) -> None:
    """A model of the flavor ``python_function`` may read its files when it predicts; they go when it goes."""

    class ReadsLate(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            self.path = context.artifacts["answer"]

        def predict(self, context, model_input, params=None):
            return np.full(len(model_input), float(Path(self.path).read_text()))

    (tmp_path / "answer.txt").write_text("42")
    mlflow.pyfunc.save_model(
        tmp_path / "model",
        python_model=ReadsLate(),
        artifacts={"answer": str(tmp_path / "answer.txt")},
        pip_requirements=[],
    )
    repository = registry.opened(registered(registry, tmp_path / "model"), trust=True)
    loaded = repository.load_model(repository.get_version("1"))
    assert list(loaded.predict(ROWS)) == [42.0] * 3
    path = Path(loaded.unwrap_python_model().path)
    assert path.exists()
    del loaded
    gc.collect()
    assert not path.exists()


def flavored(tmp_path: Path, flavor: str) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text(f"flavors:\n  {flavor}:\n    data: model.bin\n")
    return tmp_path / "model"


def test_a_loader_of_the_user_s_comes_first(registry, tmp_path) -> None:
    """``flavors=`` says how a flavor is loaded that mlserve does not know."""
    name = registered(registry, flavored(tmp_path, "house_made"))
    seen: list[bool] = []

    def load(directory: str) -> list[str]:
        seen.append(Path(directory, "MLmodel").exists())
        return ["model"]

    repository = registry.opened(name, flavors={"house_made": load})
    assert repository.load_model(repository.get_version("1")) == ["model"]
    assert seen == [True]


def test_an_unknown_flavor_is_named(registry, tmp_path) -> None:
    """A flavor for which there is no loader is refused by its name."""
    repository = registry.opened(registered(registry, flavored(tmp_path, "house_made")))
    with pytest.raises(UnsupportedFormatError, match="house_made"):
        repository.load_model(repository.get_version("1"))


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (ValueError("no such file"), MalformedDocumentError),
        (ModuleNotFoundError("torch", name="torch"), MissingExtraError),
        (UntrustedModelError("no."), UntrustedModelError),
    ],
)
def test_a_loader_that_fails_is_translated(registry, tmp_path, raised, error) -> None:
    """Whatever a loader raises is an error of mlserve."""

    def load(directory: str) -> Any:
        raise raised

    repository = registry.opened(registered(registry, flavored(tmp_path, "broken")), flavors={"broken": load})
    with pytest.raises(error):
        repository.load_model(repository.get_version("1"))


def test_what_is_no_model_is_refused(registry, tmp_path) -> None:
    """A source without an ``MLmodel`` file is no model of MLflow."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "weights.bin").touch()
    repository = registry.opened(registered(registry, tmp_path / "source"))
    with pytest.raises(UnsupportedFormatError, match="MLmodel"):
        repository.load_model(repository.get_version("1"))


# ------------------------------------------------------------------------------------------------------ failures


def source_of(repository: Any) -> Path:
    return Path(repository._registry.one("1").source.removeprefix("file://"))


def damaged(source: Path) -> None:
    path = source / "model/model.pickle"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (damaged, DigestMismatchError),
        (lambda source: (source / "model/model.pickle").unlink(), MissingFileError),
        (lambda source: (source / "other").touch(), UnexpectedFileError),
        (lambda source: (source / "manifest.json").write_text("{}"), MalformedDocumentError),
        (lambda source: shutil.rmtree(source), RepositoryUnavailableError),
    ],
)
def test_what_is_not_as_it_was_registered_is_refused(registry, damage, error) -> None:
    """Files that were changed, lost or added since they were registered are refused."""
    repository = constants(registry, 1)
    damage(source_of(repository))
    with pytest.raises(error):
        repository.load_model(repository.get_version("1"))


def test_a_version_whose_manifest_is_gone_carries_nothing(registry) -> None:
    """Where the manifest is gone nothing is known of what a version carried."""
    repository = constants(registry, 1)
    (source_of(repository) / "manifest.json").unlink()
    assert repository.describe("1").example is None


def test_a_failed_upload_registers_nothing(registry, tmp_path) -> None:
    """Where the files cannot be written no version appears."""
    name = registry.new_name()
    repository = registry.opened(name, trust=True)
    (registry.directory / name).write_text("a file where the artifacts should be")
    with pytest.raises(RepositoryWriteError, match="registering"):
        repository.register(ConstantModel(1.0))
    assert repository.get_active_versions() == ()
    assert list(registry.client.search_model_versions(f"name='{name}'")) == []


def test_what_mlflow_refuses_is_an_error_of_mlserve(registry) -> None:
    """An alias that MLflow does not allow is refused, and nothing is in the history."""
    repository = constants(registry, 1)
    before = repository.history()
    with pytest.raises(RepositoryWriteError, match="latest"):
        repository.set_alias("latest", "1")
    assert repository.history() == before


def test_a_registry_that_cannot_be_reached_is_said(tmp_path, registry) -> None:
    """A database that cannot be opened is an error that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(RepositoryUnavailableError, match="registry"):
        LocalRegistry(f"sqlite:///{tmp_path / 'file' / 'registry.db'}", tmp_path, registry.client).opened("model")


class Down:
    """A client whose server does not answer."""

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            raise mlflow.MlflowException("the server is down")

        return call


def test_a_registry_that_goes_down_is_unavailable(registry) -> None:
    """Every question and every change ends in an error of mlserve when the server does not answer any more."""
    repository = constants(registry, 1, alias="champion")
    repository._registry.client = Down()
    for ask in (
        repository.get_latest_version,
        repository.get_active_versions,
        lambda: repository.get_version("1"),
    ):
        with pytest.raises(RepositoryUnavailableError, match="down"):
            ask()
    with pytest.raises(RepositoryWriteError, match="down"):
        repository.register(ConstantModel(1.0))


@pytest.mark.parametrize(
    ("parameter", "name", "options"),
    [
        ("name", "", {}),
        ("name", "it's", {}),
        ("stage", "model", {"alias": "a", "stage": "Production"}),
        ("alias", "model", {"alias": "1"}),
        ("formats", "model", {"formats": []}),
        ("actor", "model", {"actor": ""}),
    ],
)
def test_a_wrong_argument_is_named(registry, parameter, name, options) -> None:
    """What cannot mean a name or a rule is refused by name."""
    with pytest.raises(InvalidArgumentError) as caught:
        registry.opened(name, **options)
    assert caught.value.parameter == parameter


def test_tags_of_mlserve_s_own_are_refused(registry) -> None:
    """A tag that begins as mlserve's own do would be taken for one."""
    repository = registry.opened(registry.new_name(), trust=True)
    with pytest.raises(InvalidArgumentError, match=r"mlserve\."):
        repository.register(ConstantModel(1.0), tags={"mlserve.stage": "active"})


def test_an_expectation_that_fails_changes_nothing(registry) -> None:
    """``set_alias(expected=...)`` is refused where the alias points elsewhere."""
    repository = constants(registry, 2)
    with pytest.raises(InvalidArgumentError):
        repository.set_alias("champion", "1", expected="2")
    with pytest.raises(InvalidArgumentError):
        repository.get_active_versions(-1)
    with pytest.raises(VersionNotFoundError):
        repository.resolve_alias("champion")
    with pytest.raises(VersionNotFoundError):
        repository.activate("7")
    for version_id in ("7", "champion"):
        with pytest.raises(VersionNotFoundError):
            repository.get_version(version_id)
    assert [entry.action for entry in repository.history()] == ["register"] * 2


def test_a_download_that_nothing_holds_is_removed(registry) -> None:
    """Of a model to which nothing can be tied, the files go at once."""
    repository = constants(registry, 1)
    download = Download(str(source_of(repository)), registry.uri, "version 1")
    download.keep_for([])
    assert not download.directory.exists()


MISSING = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules["mlflow"] = None
from mlserve.errors import MissingExtraError
try:
    import mlserve.integrations.mlflow
except MissingExtraError as error:
    print(error.extra, error.package)
"""


def test_a_missing_package_is_named() -> None:
    """Without MLflow the import says which extra installs it."""
    ran = subprocess.run([sys.executable, "-c", MISSING, str(ROOT)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["mlflow", "mlflow"]
