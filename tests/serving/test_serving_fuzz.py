"""``predict`` never raises, whatever it is given."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from mlserve import ArraySchema, ErrorKind, InMemoryModelMonitor, InMemoryModelRepository, ModelServer
from mlserve.records import HealthState

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.dates()
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
)
ARRAYS = st.one_of(
    np_st.scalar_dtypes(), np_st.unicode_string_dtypes(), np_st.byte_string_dtypes(), np_st.array_dtypes(),
    st.just(np.dtype(object)),
).flatmap(
    lambda dtype: np_st.arrays(
        dtype,
        np_st.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        elements=SCALARS if dtype.hasobject else None,
    )
)  # fmt: skip
ROWS = np_st.arrays(np.float64, 4, elements=st.floats()) | st.lists(st.floats(), min_size=4, max_size=4)
ANYTHING = st.recursive(
    SCALARS | ARRAYS | ROWS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.sets(st.integers() | st.text(max_size=4), max_size=4)
    ),
    max_leaves=12,
)
VERSIONS = st.none() | st.just("1") | st.text(max_size=4) | SCALARS | ARRAYS


def summing(input: Any) -> Any:
    """A callable that fails in every way that its input allows."""
    return sum(input) / len(input)


@functools.cache
def servers() -> dict[str, ModelServer]:
    X, y = load_iris(return_X_y=True)
    models: dict[str, dict[str, Any]] = {
        "callable": {"model": summing},
        "identity": {"model": lambda x: x},
        "tree": {"model": DecisionTreeClassifier(random_state=0).fit(X, y)},
        "naive Bayes with a schema": {"model": GaussianNB().fit(X, y), "schema": ArraySchema.infer(X)},
        "naive Bayes with an example": {"model": GaussianNB().fit(X, y), "example": X[0]},
    }
    found = {}
    for name, registered in models.items():
        repository = InMemoryModelRepository()
        repository.register(**registered)
        found[name] = ModelServer(repository, InMemoryModelMonitor())
    return found


@pytest.mark.parametrize("name", servers())
@given(input=ANYTHING)
@example(input=np.array(1.0))
@example(input=np.array([np.nan] * 4))
@example(input=np.array([1e308] * 4))
@example(input=[[]])
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_no_input_makes_predict_raise(name: str, input: Any) -> None:
    """Whatever the input, the result is a success or a failure of kind InvalidInput or PredictionException."""
    with np.errstate(all="ignore"):
        result = servers()[name].predict(input)
    allowed = {ErrorKind.InvalidInput, ErrorKind.PredictionException}
    assert result.success if result.error is None else result.error.kind in allowed


@given(version=VERSIONS)
@settings(deadline=None, max_examples=150)
def test_no_version_makes_predict_raise(version: Any) -> None:
    """Whatever is given as the version, the result is a success of a version that exists, or VersionNotFound."""
    result = servers()["identity"].predict(1, version)
    exists = version is None or (isinstance(version, str) and version == "1")
    assert result.success if exists else result.error.kind is ErrorKind.VersionNotFound


@given(input=ANYTHING)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_what_validation_lets_through_has_the_schemas_form(input: Any) -> None:
    """An input that the schema accepts reaches the model as a finite table of one row of four floats."""
    seen: list[Any] = []

    class Seeing:
        def predict(self, X: Any) -> list[int]:
            seen.append(X)
            return [0]

    repository = InMemoryModelRepository()
    repository.register(Seeing(), schema=ArraySchema(shape=(4,)))
    result = ModelServer(repository, InMemoryModelMonitor()).predict(input)
    assert len(seen) == result.success
    assert all(X.shape == (1, 4) and X.dtype == np.float64 and np.isfinite(X).all() for X in seen)


@given(inputs=st.lists(ANYTHING, max_size=20))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_came_in_is_counted(inputs: list[Any]) -> None:
    """Each request is recorded once, whatever its input was, and health can still be asked."""
    repository = InMemoryModelRepository()
    repository.register(lambda x: x)
    server = ModelServer(repository, InMemoryModelMonitor())
    for input in inputs:
        server.predict(input)
    metrics = server.get_model_metrics()
    assert (metrics.request_count, metrics.error_count) == (len(inputs), sum(input is None for input in inputs))
    assert (server.statistics().monitor_errors, server.check_health().status) == (0, HealthState.HEALTHY)
