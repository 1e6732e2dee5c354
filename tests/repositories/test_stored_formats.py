"""In which forms models, examples and baselines are kept, and what is refused when they are read."""

from __future__ import annotations

import functools
import io
import pickle
import subprocess
import sys
import threading
import zipfile
from datetime import UTC, date, datetime, timedelta

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stored_models import SIGNER, VERIFIER, Constant, opened

from mlserve import ArraySchema, InMemoryModelMonitor, ModelMetrics, ModelServer, RecordSchema
from mlserve.clocks import ManualClock
from mlserve.errors import (
    DecompressionBombError,
    IntegrityError,
    InvalidArgumentError,
    MalformedDocumentError,
    MissingExtraError,
    SerializationError,
    UnsafePathError,
    UnsupportedFormatError,
    UntrustedModelError,
)
from mlserve.numerics._sketches import LatencyHistogram
from mlserve.records import Baseline, InputSample, Stage
from mlserve.records._values import FrozenMapping
from mlserve.repositories import (
    CloudpickleFormat,
    DirectoryModelRepository,
    JoblibFormat,
    LibraryMismatchWarning,
    NumpyFormat,
    OnnxFormat,
    OnnxModel,
    PickleFormat,
    SkopsFormat,
)
from mlserve.repositories._archives import checked_archive, read_npz, write_npz
from mlserve.repositories._encoding import decoded, encoded
from mlserve.testing import ConstantModel

X = np.random.default_rng(7).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "repository"


def kept(path, model, **options):
    """A model as it comes back, through two objects."""
    options.setdefault("clock", ManualClock())
    version = DirectoryModelRepository(path, **options).register(model)
    return DirectoryModelRepository(path, **options).load_model(version)


# ------------------------------------------------------------------------------------------------------------- numpy


@pytest.mark.parametrize("model", [np.arange(6.0).reshape(2, 3), np.array("text"), np.array([1 + 2j])], ids=str)
def test_an_array_is_kept(path, model):
    """An array comes back with its dtype and shape."""
    loaded = kept(path, model)
    assert loaded.dtype == model.dtype
    np.testing.assert_array_equal(loaded, model)


def test_a_mapping_of_arrays_is_kept(path):
    """A mapping of names to arrays comes back in its order."""
    loaded = kept(path, {"b": np.zeros(2), "a": np.ones(1, np.int8)})
    assert [(name, array.dtype.name) for name, array in loaded.items()] == [("b", "float64"), ("a", "int8")]


def test_a_class_made_of_arrays_is_kept(path):
    """A class that is given to the format is made again from its arrays."""
    assert kept(path, Constant(3.0), formats=[NumpyFormat(Constant)]) == Constant(3.0)


def test_a_class_that_is_not_named_is_not_made(path):
    """What a file names is looked up among the classes given, never imported."""
    kept(path, Constant(3.0), formats=[NumpyFormat(Constant)])
    repository = DirectoryModelRepository(path)
    with pytest.raises(UnsupportedFormatError, match=r"NumpyFormat\(Constant\)"):
        repository.load_model(repository.get_latest_version())


@pytest.mark.parametrize("classes", [(int,), (Constant, type("Constant", (Constant,), {})), (5,)])
def test_the_classes_of_the_format_are_array_models(classes):
    """The format takes classes with the two methods, of distinct names."""
    with pytest.raises(InvalidArgumentError):
        NumpyFormat(*classes)


def test_a_name_that_is_no_plain_one_is_refused(path):
    """An array whose name would lead elsewhere is not written."""
    with pytest.raises(UnsafePathError):
        kept(path, {"../a": np.zeros(1)})


# ---------------------------------------------------------------------------------------------------------- archives


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for name, data in members:
            made.writestr(name, data)
    return buffer.getvalue()


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape: str, descr: str = "'<f8'", version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


def overlapping() -> bytes:
    """Two members that are the same bytes of the archive."""
    data = archive(("a.npy", npy(np.zeros(1000))), ("b.npy", npy(np.zeros(1000))))
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        first, second = (entry.header_offset for entry in made.infolist())
    directory = data.rindex(b"PK\x01\x02")
    offset = directory + 42
    assert int.from_bytes(data[offset : offset + 4], "little") == second
    cut = data[:second] + data[data.index(b"PK\x01\x02") : offset] + first.to_bytes(4, "little") + data[offset + 4 :]
    shorter = len(data) - len(cut)
    end = cut.rindex(b"PK\x05\x06") + 16
    start = int.from_bytes(cut[end : end + 4], "little") - shorter
    return cut[:end] + start.to_bytes(4, "little") + cut[end + 4 :]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (archive(("a.npy", bytes(10**6)), compression=zipfile.ZIP_DEFLATED), DecompressionBombError),
        (archive(("a.npy", npy(np.zeros(3))), compression=zipfile.ZIP_BZIP2), DecompressionBombError),
        (archive(("a.npy", header("(1000000000000,)"))), DecompressionBombError),
        (archive(("a.npy", header("(-1,)") + bytes(8))), DecompressionBombError),
        (archive(("a.npy", header("(1,)") + bytes(16))), DecompressionBombError),
        (overlapping(), DecompressionBombError),
        (archive(("a.npy", npy(np.array([object()])))), UntrustedModelError),
        (archive(("../a.npy", npy(np.zeros(3)))), UnsafePathError),
        (archive(("/a.npy", npy(np.zeros(3)))), UnsafePathError),
        (archive(("a.npy", b"text")), MalformedDocumentError),
        (archive(("a.npy", header("(1,)", version=b"\x07\x00") + bytes(8))), MalformedDocumentError),
        (archive(("a.npy", header("(1,)", descr="'nonsense'") + bytes(8))), MalformedDocumentError),
        (archive(("a.txt", b"text")), MalformedDocumentError),
        (b"", MalformedDocumentError),
        (b"PK\x05\x06", MalformedDocumentError),
    ],
)
def test_an_archive_takes_no_more_than_its_length(data, error):
    """Whatever is compressed, overlaps, announces more than follows, or is no array, is refused by its own error."""
    with pytest.raises(error):
        read_npz(data, "arrays.npz")


def test_a_member_named_twice_is_refused():
    """An archive with two members of one name is refused."""
    with pytest.warns(UserWarning, match="Duplicate"):
        data = archive(("a.npy", npy(np.zeros(1))), ("a.npy", npy(np.ones(1))))
    with pytest.raises(MalformedDocumentError, match="twice"):
        read_npz(data, "arrays.npz")


def test_an_encrypted_member_is_refused():
    """An archive with an encrypted member is refused."""
    data = bytearray(archive(("a.npy", npy(np.zeros(1)))))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(MalformedDocumentError, match="encrypted"):
        checked_archive(bytes(data), "arrays.npz")


@pytest.mark.parametrize("length", [100, 100_000])
def test_the_checksum_of_a_member_is_looked_at(length):
    """Bytes that are not those of the archive's own checksum are refused, found with the header or at the end."""
    data = write_npz({"a": np.arange(float(length))})
    position = data.index(np.arange(100.0).tobytes()) + 80
    with pytest.raises(MalformedDocumentError, match="CRC"):
        read_npz(data[:position] + b"\xff" + data[position + 1 :], "arrays.npz")


def test_equal_arrays_have_equal_bytes():
    """An archive holds no date: the same arrays give the same bytes."""
    assert write_npz({"a": np.arange(3)}) == write_npz({"a": np.arange(3)})
    assert np.load(io.BytesIO(write_npz({"a": np.arange(3)})))["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(5), np.array(["é"])],
)
def test_an_array_has_the_bytes_that_numpy_gives_it(array):
    """A member of an archive is what ``numpy.save`` writes."""
    with zipfile.ZipFile(io.BytesIO(write_npz({"a": array}))) as made:
        assert made.read("a.npy") == npy(array)


def test_arrays_of_objects_are_not_written():
    """An array of Python objects is refused when it is written."""
    with pytest.raises(SerializationError):
        write_npz({"a": np.array([object()])})


# ------------------------------------------------------------------------------------------------------------- skops


class Doubler(BaseEstimator):
    """An estimator of our own, which skops does not know."""

    def fit(self, X, y=None):
        self.factor_ = 2.0
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0] * self.factor_


def test_an_estimator_is_kept_without_pickle(path):
    """A pipeline of scikit-learn comes back and predicts the same, by a format that runs no code."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    loaded = kept(path, model)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert [file.name for file in path.glob("versions/1/model/*")] == ["model.skops"]


def test_an_estimator_of_ones_own_needs_trust(path):
    """A type that skops does not know is made only where it is named, or by trust."""
    DirectoryModelRepository(path).register(Doubler().fit(X))
    refusing = DirectoryModelRepository(path)
    version = refusing.get_latest_version()
    with pytest.raises(UntrustedModelError, match="Doubler") as caught:
        refusing.load_model(version)
    name = next(word for word in str(caught.value).replace(",", " ").split() if word.endswith("Doubler."))
    for options in ({"formats": [SkopsFormat(types=[name.rstrip(".")])]}, {"trust": True}):
        assert DirectoryModelRepository(path, **options).load_model(version).predict([[2.0]]).tolist() == [4.0]


def test_a_bomb_in_an_estimator_is_refused():
    """The archive of an estimator is bounded before skops sees it."""
    with pytest.raises(DecompressionBombError):
        SkopsFormat().load(
            {"model.skops": archive(("a", bytes(10**6)), compression=zipfile.ZIP_DEFLATED)}, trusted=True
        )


def test_a_broken_estimator_is_malformed(path):
    """Whatever skops raises about bytes that are none of its own is a ``MalformedDocumentError``."""

    class Broken(SkopsFormat.__mro__[1]):
        name, runs_code, packages = "skops", False, ()

        def accepts(self, model):
            return True

        def save(self, model):
            return {"model.skops": archive(("schema.json", b"{}"))}

        def load(self, files, *, trusted):
            return None

    DirectoryModelRepository(path, formats=[Broken()]).register(1)
    repository = DirectoryModelRepository(path)
    with pytest.raises(MalformedDocumentError, match="skops"):
        repository.load_model(repository.get_latest_version())


def test_an_estimator_is_served(path):
    """A classifier from disk is served with its schema and the confidence of its answers."""
    repository = DirectoryModelRepository(path)
    repository.register(LogisticRegression().fit(X, Y), task="classification", example=X[0])
    with ModelServer(repository, InMemoryModelMonitor()) as server:
        assert server.predict(X[1]).value == LogisticRegression().fit(X, Y).predict(X[1:2])[0]
        assert server.check_health().is_healthy


# -------------------------------------------------------------------------------------------------------------- onnx


def linear_graph(element=TensorProto.FLOAT, column: bool = True, external: bool = False):
    """A graph of y = 2·x₀ + 3·x₁ + 1, as a column or flat."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    weights = numpy_helper.from_array(np.array([[2], [3]], dtype), "weights")
    if external:
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="weights.bin")
    bias = numpy_helper.from_array(np.array([1], dtype), "bias")
    nodes = [
        helper.make_node("MatMul", ["X", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["column" if not column else "Y"]),
    ]
    if not column:
        nodes.append(helper.make_node("Flatten", ["column"], ["Y"], axis=0))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("X", element, [None, 2])],
        [helper.make_tensor_value_info("Y", element, [None, 1])],
        [weights, bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("made", [linear_graph, lambda: OnnxModel(linear_graph().SerializeToString())])
def test_a_graph_is_kept_and_predicts(path, made):
    """A graph comes back as an ``OnnxModel`` that predicts one value a row."""
    loaded = kept(path, made())
    assert loaded.predict([[1.0, 1.0], [0.0, 2.0]]).tolist() == [6.0, 7.0]


def test_an_output_that_is_no_column_keeps_its_shape():
    """Only an output of one column is made flat."""
    model = OnnxModel(linear_graph(column=False).SerializeToString())
    assert model.predict([[1.0, 1.0], [0.0, 2.0]]).shape == (1, 2)


def test_inputs_are_cast_to_what_the_graph_takes():
    """A graph of doubles is given doubles."""
    model = OnnxModel(linear_graph(TensorProto.DOUBLE).SerializeToString())
    assert model.predict(np.array([[1, 1]])).tolist() == [6.0]


def test_a_graph_is_served(path):
    """A graph from disk is served like any regressor."""
    repository = DirectoryModelRepository(path)
    repository.register(linear_graph(), task="regression", example=[1.0, 1.0])
    with ModelServer(repository, InMemoryModelMonitor()) as server:
        assert server.predict([1.0, 2.0]).value == 9.0


def test_a_graph_with_weights_elsewhere_is_refused(path):
    """A graph that names files beside it would come back without its weights."""
    with pytest.raises(SerializationError, match=r"onnx\.load"):
        kept(path, linear_graph(external=True))


def test_bytes_that_are_no_graph_are_malformed(path):
    """Bytes that ONNX Runtime does not take are a ``MalformedDocumentError``."""
    repository = DirectoryModelRepository(path)
    version = repository.register(OnnxModel(b"no graph"))
    with pytest.raises(MalformedDocumentError, match="onnx"):
        repository.load_model(version)


# ------------------------------------------------------------------------------------------------- by trust only


@pytest.mark.parametrize("chosen", [PickleFormat(), JoblibFormat(), CloudpickleFormat()], ids=lambda one: one.name)
def test_anything_is_kept_by_trust(path, chosen):
    """With ``trust=True`` whatever pickles is kept."""
    assert kept(path, ConstantModel(4.0), formats=[chosen], trust=True) == ConstantModel(4.0)


def test_a_function_of_a_notebook_is_kept(path):
    """Cloudpickle keeps what has no importable name."""
    assert kept(path, lambda row: row[0] + 1, formats=[CloudpickleFormat()], trust=True)([2]) == 3


def test_pickle_is_refused_without_trust(path):
    """Without trust nothing is pickled, and the message names every way out."""
    with pytest.raises(UnsupportedFormatError, match=r"to_arrays.*ONNX.*trust=True"):
        kept(path, ConstantModel())


class Bomb:
    """A model that runs code when it is unpickled."""

    went_off = False

    @staticmethod
    def go_off() -> Bomb:
        Bomb.went_off = True
        return Bomb()

    def __reduce__(self):
        return Bomb.go_off, ()


@pytest.mark.parametrize("chosen", [PickleFormat(), JoblibFormat(), CloudpickleFormat()], ids=lambda one: one.name)
def test_no_code_runs_without_trust(path, chosen):
    """A pickle that somebody trusted is not read by whoever does not."""
    version = DirectoryModelRepository(path, formats=[chosen], trust=True).register(Bomb())
    with pytest.raises(UntrustedModelError, match="runs whatever code"):
        DirectoryModelRepository(path, formats=[chosen]).load_model(version)
    assert not Bomb.went_off


def test_a_verified_signature_is_trust(path):
    """What is signed by a known key may be pickled, and is loaded only where it verifies."""
    options = {"signer": SIGNER, "verifier": VERIFIER}
    assert kept(path, ConstantModel(4.0), **options) == ConstantModel(4.0)
    with pytest.raises(UntrustedModelError):
        DirectoryModelRepository(path).load_model(DirectoryModelRepository(path).get_latest_version())


def test_what_no_format_takes_is_refused(path):
    """A model that no format takes at all is refused with the way out."""
    with pytest.raises(UnsupportedFormatError, match="ModelFormat"):
        kept(path, ConstantModel(), formats=[NumpyFormat()], trust=True)


def test_what_does_not_pickle_is_refused(path):
    """A model that holds a lock is a ``SerializationError`` that keeps the exception."""
    with pytest.raises(SerializationError) as caught:
        kept(path, functools.partial(max, threading.Lock()), trust=True)
    assert isinstance(caught.value.exception, TypeError)


def test_a_format_that_is_not_known_is_refused(path):
    """A version in a format that the repository was not opened with is refused by name."""
    version = DirectoryModelRepository(path).register(np.zeros(1))
    with pytest.raises(UnsupportedFormatError, match="npz"):
        DirectoryModelRepository(path, formats=[PickleFormat()]).load_model(version)


def test_a_pickle_of_what_is_gone_is_malformed(path):
    """A pickle that names what is not there any more is a ``MalformedDocumentError``."""

    class Gone(PickleFormat.__mro__[1]):
        name, FILE = "pickle", "model.pickle"

        def _dumps(self, model):
            return pickle.dumps(np.float64(1.0)).replace(b"numpy", b"nvmpy")

        def _loads(self, data):
            return None

    DirectoryModelRepository(path, formats=[Gone()], trust=True).register(1)
    repository = DirectoryModelRepository(path, trust=True)
    with pytest.raises(MalformedDocumentError, match="pickle"):
        repository.load_model(repository.get_latest_version())


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("skops", "skops", "SkopsFormat().save(None)"),
        ("joblib", "joblib", "JoblibFormat().save(None)"),
        ("cloudpickle", "cloudpickle", "CloudpickleFormat().save(None)"),
        ("onnxruntime", "onnx", "OnnxFormat().load({'model.onnx': b''}, trusted=False)"),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, package, extra, use):
    """Where a format's package is not installed, the error names the extra that brings it."""
    for name in [*sys.modules]:
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"mlserve\[{extra}\]") as caught:
        eval(use, globals())
    assert caught.value.extra == extra
    assert OnnxFormat.name == "onnx"


def test_a_missing_package_is_told_when_registering(path, monkeypatch):
    """``register`` passes the error on."""
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(MissingExtraError):
        DirectoryModelRepository(path).register(LinearRegression().fit(X, Y))


def test_reading_arrays_needs_no_optional_package(path):
    """A repository of arrays is written and read without importing skops, onnx, joblib or scikit-learn."""
    script = (
        "import sys, numpy as np\nfrom mlserve.repositories import DirectoryModelRepository\n"
        f"repository = DirectoryModelRepository({str(path)!r})\n"
        "repository.load_model(repository.register(np.zeros(3), example=[1.0]))\n"
        "found = {'skops', 'onnx', 'onnxruntime', 'joblib', 'sklearn', 'cloudpickle', 'pandas'} & set(sys.modules)\n"
        "print(sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --------------------------------------------------------------------------------------------------------- libraries


def test_other_libraries_are_warned_of(path, monkeypatch):
    """Loading with other versions of the model's libraries warns and names both; with the same ones it does not."""
    model = LinearRegression().fit(X, Y)
    repository = DirectoryModelRepository(path)
    version = repository.register(model)
    repository.load_model(version)
    monkeypatch.setattr("sklearn.__version__", "0.1")
    with pytest.warns(LibraryMismatchWarning, match=r"version 1 was saved with sklearn \d.*\(now 0\.1\)"):
        repository.load_model(version)


def test_another_python_is_warned_of_where_code_was_kept(path, monkeypatch):
    """Bytes that hold code are told apart by the version of Python; arrays are not."""
    repository = DirectoryModelRepository(path, trust=True)
    pickled, arrays = repository.register(ConstantModel()), repository.register(np.zeros(2))
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("2", "7", "18"))
    with pytest.warns(LibraryMismatchWarning, match=r"python 3\.\d+ \(now 2\.7\)"):
        repository.load_model(pickled)
    assert repository.load_model(arrays).tolist() == [0.0, 0.0]


# ---------------------------------------------------------------------------------------------------------- encoding

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.binary(max_size=8)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(
            st.text(max_size=4) | st.integers() | st.sampled_from(["$array", "$record"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(value=TREES)
def test_an_example_comes_back_as_it_was(value):
    """Whatever is made of numbers, text, bytes, lists, tuples and mappings comes back with its types."""
    arrays: dict = {}
    back = decoded(encoded(value, arrays, "the example"), arrays)
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        datetime(2026, 1, 1, tzinfo=UTC),
        timedelta(days=-1, microseconds=5),
        datetime(2026, 1, 1, 12),
        date(2026, 1, 1),
        frozenset({1, 2}),
        Stage.ACTIVE,
        FrozenMapping({"a": 1}),
        np.float32(1.5),
        np.int64(5),
        np.array([1.5, np.nan]),
        np.array(["a", None, 5.0], object),
        np.array([[1, "b"], [2.5, None]], object),
        np.array(["2026-01-01"], "datetime64[D]"),
        ArraySchema(shape=(2,), names=("a", "b")),
        RecordSchema.infer([{"a": 1, "b": "x"}, {"a": 2.5, "b": None}]),
        LatencyHistogram.from_values([1.0, 2.0]),
        ModelMetrics(window=timedelta(hours=1), errors_by_kind={"InvalidInput": 2}, accuracy=0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_comes_back_with_its_type(value):
    """Numbers that JSON cannot spell, times, arrays and records come back as they were."""
    arrays: dict = {}
    back = decoded(encoded(value, arrays, "the example"), arrays)
    assert (type(back), repr(back)) == (type(value), repr(value))
    assert getattr(back, "dtype", None) == getattr(value, "dtype", None)


def test_a_baseline_comes_back_whole(path):
    """Metrics and inputs of a baseline come back, categories among numbers included."""
    rows = np.array([[1.0, "red"], [2.0, None]], object)
    baseline = Baseline(
        metrics=ModelMetrics(accuracy=0.9, latency_histogram=LatencyHistogram.from_values([3.0])),
        inputs=InputSample(rows, feature_names=("size", "colour"), count=50, method="reservoir"),
    )
    repository = opened(path)
    back = opened(path).describe(repository.register(Constant(), baseline=baseline)).baseline
    assert (back.metrics, repr(back.inputs)) == (baseline.metrics, repr(baseline.inputs))
    assert back.inputs.rows.tolist() == rows.tolist()
    assert back.inputs.feature_names == ("size", "colour")


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 + 2j, pd.Series([1.0]), type("Text", (str,), {})("a")])
def test_an_example_that_cannot_be_kept_is_refused(value):
    """What could not come back as it was is refused, with the type and a way out."""
    with pytest.raises(SerializationError, match=type(value).__qualname__):
        encoded(value, {}, "the example")


def test_a_record_of_a_later_mlserve_loses_what_is_not_known():
    """A field that this mlserve does not know of a record is left out."""
    fields = {"accuracy": 0.5, "vibes": 1.0}
    assert decoded({"$record": "ModelMetrics", "fields": fields}, {}) == ModelMetrics(accuracy=0.5)


def test_only_records_of_mlserve_are_made():
    """A name that is none of the records is refused, whatever it could be imported as."""
    with pytest.raises(KeyError):
        decoded({"$record": "os.system", "fields": {"command": "true"}}, {})


def test_errors_of_integrity_are_errors_of_value():
    """Whoever catches ``ValueError`` catches what is not as it was published."""
    assert issubclass(IntegrityError, ValueError)
