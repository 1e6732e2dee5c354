"""What the Kolmogorov-Smirnov functions refuse, and that they say why and how to mend it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

import mlserve.numerics._ks as ks_module
from mlserve.errors import InvalidArgumentError
from mlserve.numerics import SortedReference, ks_2samp, ks_pvalue, ks_statistic

GOOD = [1.0, 2.0, 3.0]

BAD_SAMPLES = {
    "empty": ([], "at least one sample"),
    "no features": (np.empty((4, 0)), "at least one sample"),
    "no samples": (np.empty((0, 4)), "at least one sample"),
    "a scalar": (3.0, "Wrap a single value"),
    "three dimensions": (np.zeros((2, 2, 2)), "Reshape"),
    "objects": (np.array([1.0, None], dtype=object), "Convert it to one number type"),
    "strings": (["a", "b"], "chi-square"),
    "bytes": ([b"a"], "chi-square"),
    "complex": ([1j, 2.0], "real and the imaginary part"),
    "times": (np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"), 'astype("int64")'),
    "durations": (np.array([1, 2], dtype="timedelta64[s]"), 'astype("int64")'),
    "records": (np.zeros(3, dtype=[("a", float)]), "fields as columns"),
    "ragged": ([[1.0], [1.0, 2.0]], "same number of columns"),
    "masked": (np.ma.masked_array(GOOD, [0, 1, 0]), "filled"),
    "more digits than float64": (np.array([1.0, 1.0]) + np.finfo(np.longdouble).eps, "astype(numpy.float64)"),
    "beyond float64": (np.array([1.0, 10.0], dtype=np.longdouble) ** 400, "astype(numpy.float64)"),
    "none": (None, "Convert it"),
}


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_a_bad_sample_is_refused_by_name(name: str) -> None:
    """Either sample of either function: the error names the parameter and ends in a hint."""
    sample, hint = BAD_SAMPLES[name]
    if name in {"more digits than float64", "beyond float64"} and np.finfo(np.longdouble).nmant <= 52:
        assert np.asarray(sample).dtype.itemsize == 8
        return
    for call, parameter in (
        (lambda: ks_2samp(sample, GOOD), "reference"),
        (lambda: ks_2samp(GOOD, sample), "current"),
        (lambda: ks_statistic(sample, GOOD), "reference"),
        (lambda: ks_statistic(GOOD, sample), "current"),
        (lambda: SortedReference(sample), "reference"),
        (lambda: SortedReference(GOOD).ks_2samp(sample), "current"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            call()
        assert caught.value.parameter == parameter
        assert hint in caught.value.hint + caught.value.expected
        assert caught.value.hint.endswith(".")


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), "(m, 2)"),
        (np.zeros((3, 1)), np.zeros(3), "(m, 1)"),
        (np.zeros(3), np.zeros((3, 1)), "(m,)"),
    ],
)
def test_features_that_differ_are_refused(reference: Any, current: Any, expected: str) -> None:
    """The samples need the same number of dimensions and of features."""
    with pytest.raises(InvalidArgumentError, match="like the reference") as caught:
        ks_2samp(reference, current)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        (np.array([2**53 + 1]), np.array([0.5])),
        (np.array([2**53 + 1]), np.array([float(2**53)])),
        (np.array([float(2**53)]), np.array([2**53 + 1])),
        (np.array([2**53]), np.array([2**53 + 1])),
        (np.array([1e300]), np.array([2**53 + 1])),
        (np.array([-1, 2**60]), np.array([2**64 - 1], dtype=np.uint64)),
        (np.array([2**64 - 1], dtype=np.uint64), np.array([-1])),
    ],
)
def test_what_cannot_be_compared_exactly_is_refused(reference: Any, current: Any) -> None:
    """Integers beyond 2**53 against numbers that would need rounding are refused, with the way out."""
    with pytest.raises(InvalidArgumentError, match=r"2\*\*53") as caught:
        ks_2samp(reference, current)
    assert "astype(float)" in caught.value.hint


def test_floats_of_more_than_64_bits_are_accepted_where_nothing_is_lost() -> None:
    """Long doubles that hold float64 values, NaN and infinities are as good as those."""
    values = np.array([0.1, -np.inf, np.inf, np.nan, 5e-324])
    assert ks_statistic(values.astype(np.longdouble), values) == 0.0


@pytest.mark.parametrize("value", ["both", "Two-sided", "", None, 1, ["less"]])
def test_an_unknown_alternative_is_refused(value: Any) -> None:
    """By every function, with the names it could have been."""
    for call in (
        lambda: ks_2samp(GOOD, GOOD, alternative=value),
        lambda: ks_statistic(GOOD, GOOD, alternative=value),
        lambda: ks_pvalue(0.5, 3, 3, alternative=value),
        lambda: SortedReference(GOOD).ks_2samp(GOOD, alternative=value),
    ):
        with pytest.raises(InvalidArgumentError, match="alternative must be one of 'two-sided', 'less', 'greater'"):
            call()


@pytest.mark.parametrize("value", ["asymp", "approx", None, True, {}])
def test_an_unknown_method_is_refused(value: Any) -> None:
    """By every function, with the names it could have been."""
    for call in (
        lambda: ks_2samp(GOOD, GOOD, method=value),
        lambda: ks_pvalue(0.5, 3, 3, method=value),
        lambda: SortedReference(GOOD).ks_2samp(GOOD, method=value),
    ):
        with pytest.raises(InvalidArgumentError, match="method must be one of 'auto', 'exact', 'asymptotic'"):
            call()


@pytest.mark.parametrize("value", [0, -3, 2.5, 3.0, "3", None, True, np.bool_(True), [3], 10**31])
def test_a_bad_sample_size_is_refused(value: Any) -> None:
    """A size is a positive whole number."""
    for sizes, parameter in (((value, 5), "n"), ((5, value), "m")):
        with pytest.raises(InvalidArgumentError, match="positive integer") as caught:
            ks_pvalue(0.5, *sizes)
        assert caught.value.parameter == parameter


def test_integers_of_numpy_are_sample_sizes() -> None:
    """What behaves as an integer is one."""
    assert ks_pvalue(0.5, np.int8(100), np.uint64(100)) == ks_pvalue(0.5, 100, 100)


@pytest.mark.parametrize(
    "value", [np.nan, -0.1, 1.0000001, np.inf, [0.5, np.nan], "0.5", None, 0.5j, [[0.1], [0.1, 0.2]]]
)
def test_a_bad_statistic_is_refused(value: Any) -> None:
    """A statistic is a number in [0, 1]."""
    with pytest.raises(InvalidArgumentError) as caught:
        ks_pvalue(value, 5, 5)
    assert caught.value.parameter == "statistic"


def test_a_lattice_that_overflows_is_refused() -> None:
    """Exact p-values whose integers do not fit 64 bits are refused; the asymptotic ones are given."""
    with pytest.raises(InvalidArgumentError, match="overflows"):
        ks_pvalue(0.5, 2**32, 2**31, method="exact")
    assert ks_pvalue(1e-9, 2**32, 2**31) == pytest.approx(1.0)


def test_samples_whose_product_overflows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where n*m no longer fits the statistic's integers the window is refused, not wrapped round."""
    monkeypatch.setattr(ks_module, "_LARGEST_PRODUCT", 8)
    with pytest.raises(InvalidArgumentError, match="overflows"):
        ks_2samp(GOOD, GOOD)


def test_frames_and_series_are_samples() -> None:
    """Data frames and series of numbers are taken as they are; nullable ones are refused with the conversion to use."""
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 0.25, np.nan]})
    assert ks_statistic(frame, frame).tolist() == [0.0, 0.0]
    assert ks_statistic(frame["a"], frame["b"]) == 2 / 3
    with pytest.raises(InvalidArgumentError, match="to_numpy"):
        ks_2samp(pandas.Series([1, None], dtype="Int64").astype(object), GOOD)
