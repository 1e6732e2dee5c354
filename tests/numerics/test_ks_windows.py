"""Windows of which only some features are tested against a sorted reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve.errors import InvalidArgumentError
from mlserve.numerics import SortedReference, ks_2samp
from mlserve.numerics._ks import sort_and_test

FEATURES = 6


def samples(seed, n, m):
    """Features without ties, with ties within a sample, with a few across both, and with missing values."""
    generator = np.random.default_rng(seed)
    reference, current = generator.normal(size=(n, FEATURES)), generator.normal(0.1, size=(m, FEATURES))
    shared = min(n, m) // 50
    current[:shared, 1] = reference[:shared, 1]
    reference[:, 2], current[:, 2] = reference[:, 2].round(1), current[:, 2].round(1)
    current[:3, 3] = np.nan
    reference[:40, 4] = np.nan
    return reference, current


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.sampled_from([30, 2500, 6000]),
    m=st.sampled_from([1, 40, 900, 3000]),
    first=st.integers(0, FEATURES - 1),
    count=st.integers(1, FEATURES),
)
def test_a_part_of_a_window_gives_what_each_feature_alone_gives(seed, n, m, first, count):
    """Of any features tested together each gets what it gets alone; of p-values that are exact but the last bits."""
    reference, current = samples(seed, n, m)
    stop = min(first + count, FEATURES)
    prepared = SortedReference(reference)
    together, rows = sort_and_test(prepared, current[:, first:stop], slice(first, stop))
    assert np.array_equal(rows, np.sort(current[:, first:stop], axis=0).T, equal_nan=True)
    for position, feature in enumerate(range(first, stop)):
        one, _ = sort_and_test(prepared, current[:, [feature]], slice(feature, feature + 1))
        assert one.statistic[0] == together.statistic[position]
        assert one.statistic_sign[0] == together.statistic_sign[position]
        assert one.ties[0] == together.ties[position]
        assert one.pvalue[0] == pytest.approx(together.pvalue[position], rel=1e-12)
        assert one.pvalue[0] == together.pvalue[position] or n + m <= 4000


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int64, np.uint64])
def test_a_window_is_tested_as_by_ks_2samp(dtype):
    """A whole window of any dtype is found as by ``ks_2samp``; integers are not counted here, but found alike."""
    generator = np.random.default_rng(5)
    reference, current = (generator.integers(0, 900, size=(size, 3)).astype(dtype) for size in (5000, 800))
    found, rows = sort_and_test(SortedReference(reference), current, slice(0, 3))
    assert found == ks_2samp(reference, current)
    assert rows.dtype == np.float64


def test_integers_beyond_floats_keep_their_type():
    """Where the reference is compared as 64-bit integers, so is the window."""
    reference = 2**60 + np.arange(5000)[:, np.newaxis]
    found, rows = sort_and_test(SortedReference(reference), reference[::7] + 100, slice(0, 1))
    assert (rows.dtype, rows[0, 0]) == (np.int64, 2**60 + 100)
    assert found == ks_2samp(reference, reference[::7] + 100)


def test_a_window_of_other_features_is_refused():
    """A window must have as many features as are asked for."""
    prepared = SortedReference(np.zeros((50, 4)))
    with pytest.raises(InvalidArgumentError, match=r"shape \(m, 2\)"):
        sort_and_test(prepared, np.zeros((20, 3)), slice(1, 3))
