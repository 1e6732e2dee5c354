"""The two-sample Kolmogorov-Smirnov test of many features at once, against a reference that is sorted only once."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias, final

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from mlserve.errors import InvalidArgumentError
from mlserve.numerics import _ks_pvalues as pvalues
from mlserve.numerics._ks_counts import CountedReference, count_reference
from mlserve.numerics._ks_pvalues import Alternative, Method
from mlserve.numerics._ks_samples import Sample, checked_sample, comparable, sorted_rows
from mlserve.numerics._ks_suprema import (
    Probes,
    Supremum,
    find_supremum,
    group_ends,
    has_repeats,
    probe_step,
    take_probes,
)

__all__ = ["KSResult", "SortedReference", "ks_2samp", "ks_statistic"]

Values: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

# Features are sorted in blocks of about two megabytes: what was just sorted is still in the second-level cache when it
# is searched, and the working memory does not grow with the number of features.
_VALUES_PER_BLOCK = 2**18
# Sums and differences of up to n*m must fit 64 bits.
_LARGEST_PRODUCT = 2**62


def _equal(left: Any, right: Any) -> bool:
    try:
        return bool(np.array_equal(left, right, equal_nan=True))
    except TypeError:
        return bool(np.array_equal(left, right))


_EQUALITY = attrs.cmp_using(eq=_equal)


@final
@attrs.frozen
class KSResult:
    """What a two-sample Kolmogorov-Smirnov test found.

    One-dimensional samples give scalars, samples of shape ``(n_samples, n_features)`` read-only arrays of shape
    ``(n_features,)``. Equality compares all values, NaN equal to NaN; results with arrays cannot be hashed.

    Attributes:
        statistic: D, the largest difference of the two empirical distribution functions in the direction asked for;
            float64, in [0, 1].
        pvalue: The probability of a D at least as large if both samples had one distribution; float64, never NaN.
        statistic_location: A data value where the difference is D, the smallest such; where D is 0, the largest value
            of both samples. NaN when that value is NaN. Integers beyond 2**53 are rounded here, and only here.
        statistic_sign: +1 if the reference's distribution function is the larger one there (the current sample tends to
            larger values), -1 if the current sample's is. +1 when both directions tie.
        method: How the p-value was computed: ``"exact"`` (the permutation distribution, no ties), ``"exact-ties"`` (the
            permutation distribution given which pooled values are tied) or ``"asymptotic"`` (second-order expansion for
            samples without ties; with ties it is an upper bound, up to its own error of a few per cent).
        ties: Whether pooled values repeat. Looked for completely within either sample, and across the samples where
            N <= 4000 or the method is exact; otherwise across the samples only at hundreds of the reference's
            quantiles, so that a few shared values may be missed: they do not move the p-value then.
    """

    statistic: float | Floats = attrs.field(eq=_EQUALITY)
    pvalue: float | Floats = attrs.field(eq=_EQUALITY)
    statistic_location: float | Floats = attrs.field(eq=_EQUALITY)
    statistic_sign: int | Integers = attrs.field(eq=_EQUALITY)
    method: str | NDArray[np.str_] = attrs.field(eq=_EQUALITY)
    ties: bool | Booleans = attrs.field(eq=_EQUALITY)


def ks_2samp(
    reference: ArrayLike, current: ArrayLike, *, alternative: Alternative = "two-sided", method: Method = "auto"
) -> KSResult:
    r"""Test whether two samples come from one continuous distribution, feature by feature.

    .. math:: D = \sup_x |F_{reference}(x) - F_{current}(x)|

    D is computed in integers, exactly. For many windows against one reference use ``SortedReference``, which sorts the
    reference once.

    Ties: the p-value of untied samples is an upper bound for tied ones. Where N = n + m <= 4000, or ``method="exact"``,
    it is computed from the permutation distribution *given which pooled values are tied* (Schröer and Trenkler 1995),
    and ``method`` says ``"exact-ties"``. In larger samples ``"auto"`` gives the untied p-value, which is conservative:
    for data of few distinct values it may be several times too large.

    Missing and infinite values: NaN is a value of its own that sorts above +inf, on both sides, so that a change of the
    missing rate shows in D; infinities sort where they belong; -0.0 equals 0.0.

    Numbers are compared exactly. Integers beyond 2**53 are compared as 64-bit integers; where that is impossible, such
    as large integers against large floats, the call is refused rather than rounded.

    A p-value bounds false alarms of *one* comparison. Over d features correct for d tests; over repeated windows no
    fixed level holds: at p <= 0.05, 94 % of 50-window runs without any drift raise at least one alarm.

    Args:
        reference: Shape ``(n,)`` or ``(n, n_features)``, bool, integer or float.
        current: Shape ``(m,)`` or ``(m, n_features)``; as many dimensions and features as the reference.
        alternative: ``"two-sided"``; ``"greater"``: F_reference is the larger somewhere (the current values tend to be
            larger), D = sup(F_reference - F_current); ``"less"``: D = sup(F_current - F_reference).
        method: ``"auto"``, ``"exact"`` or ``"asymptotic"``; see ``ks_pvalue`` for formulas, sources and accuracy.
            ``"exact"`` takes time proportional to n*m with ties or one-sided.

    Returns:
        The result: scalars for one-dimensional samples, arrays of shape ``(n_features,)`` otherwise.

    Raises:
        InvalidArgumentError: A sample that is empty, not numbers, masked, zero- or three-dimensional; samples whose
            features differ or that cannot be compared exactly; an unknown alternative or method.

    Example:
        >>> result = ks_2samp([1.0, 2.0, 3.0, 4.0, 5.0], [3.5, 4.5, 5.5, 6.5])
        >>> result.statistic, round(result.pvalue, 4), result.statistic_location, result.statistic_sign, result.method
        (0.6, 0.2857, 3.0, 1, 'exact')
    """
    pvalues.check_choice("alternative", alternative, Alternative)
    pvalues.check_choice("method", method, Method)
    return SortedReference(reference).ks_2samp(current, alternative=alternative, method=method)


def ks_statistic(reference: ArrayLike, current: ArrayLike, *, alternative: Alternative = "two-sided") -> float | Floats:
    """The statistic of ``ks_2samp`` alone, without a p-value.

    Args:
        reference: As in ``ks_2samp``.
        current: As in ``ks_2samp``.
        alternative: As in ``ks_2samp``.

    Returns:
        D, in [0, 1]: a float for one-dimensional samples, else shape ``(n_features,)``. Ties, NaN and infinities as in
        ``ks_2samp``; like there, a single D above some threshold is no proof of drift when many windows are looked at.

    Raises:
        InvalidArgumentError: As in ``ks_2samp``.

    Example:
        >>> ks_statistic([1, 2, 3, 4], [3, 4, 5, 6])
        0.5
    """
    pvalues.check_choice("alternative", alternative, Alternative)
    sorted_reference = SortedReference(reference)
    sample = sorted_reference._checked(current, sorted_reference.n_features)
    found = sorted_reference._find(sample, alternative)
    statistic = found.thresholds / (sorted_reference.n * sample.values.shape[0])
    return float(statistic[0]) if sorted_reference._is_single else statistic


@attrs.frozen(eq=False)
class _Found:
    """The suprema of all features, filled block by block; thresholds are n*m*D."""

    thresholds: Integers
    location: Floats
    sign: Integers
    ties: Booleans
    ends: Booleans | None


@final
@attrs.frozen(eq=False, init=False, repr=False)
class SortedReference:
    """A reference sample, sorted once, to test many windows against.

    Keeps one sorted copy, feature by feature, and a few thousand cuts of it. A window then costs its own sort and a
    search that looks at about ``m**(2/3)`` of its values; integers in a small range are counted instead of sorted.

    Thread safety: immutable; any number of threads may test against it at once.

    Args:
        reference: Shape ``(n,)`` or ``(n, n_features)``, bool, integer or float. Copied. Kept as float64 where that is
            exact, else as 64-bit integers. NaN, infinities and ties as in ``ks_2samp``.

    Attributes:
        n: Number of samples.
        n_features: Number of features, 1 for a one-dimensional reference.

    Raises:
        InvalidArgumentError: The reference is empty, not numbers, masked, or zero- or three-dimensional.

    Example:
        >>> reference = SortedReference([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
        >>> reference.ks_2samp([[2.5, 1.0], [3.5, 2.0]]).statistic.round(4).tolist()
        [0.6667, 1.0]
    """

    n: int
    n_features: int
    _rows: Values
    _has_ties: Booleans
    _is_single: bool
    _counted: CountedReference | None
    # Filled when a window size is first seen. Two threads may do the same work, and either result will do.
    _probes: dict[int, Probes]

    def __init__(self, reference: ArrayLike) -> None:
        sample = checked_sample("reference", reference)
        rows = sorted_rows(sample.values, 0, sample.values.shape[1], sample.dtype)
        has_ties = has_repeats(rows)
        for array in (rows, has_ties):
            array.flags.writeable = False
        self.__attrs_init__(
            n=rows.shape[1],
            n_features=rows.shape[0],
            rows=rows,
            has_ties=has_ties,
            is_single=sample.is_single,
            counted=count_reference(sample.values, rows),
            probes={},
        )

    @property
    def sorted_values(self) -> Values:
        """The sorted copy, read-only: shape ``(n_features, n)``, float64 or 64-bit integers, NaN last."""
        return self._rows

    @override
    def __repr__(self) -> str:
        return f"SortedReference(n={self.n}, n_features={self.n_features})"

    def ks_2samp(
        self, current: ArrayLike, *, alternative: Alternative = "two-sided", method: Method = "auto"
    ) -> KSResult:
        """Test a window against this reference; the same as ``ks_2samp(reference, current)``.

        Args:
            current: Shape ``(m,)`` or ``(m, n_features)``, with the dimensions and features of the reference. Not
                changed. Working memory is about one more window, or a megabyte or two where that is more.
            alternative: As in ``ks_2samp``.
            method: As in ``ks_2samp``.

        Returns:
            Scalars for a one-dimensional reference, else arrays of shape ``(n_features,)``. On NaN, ties, what happens
            to large integers, and on false alarms over repeated windows, see ``ks_2samp``.

        Raises:
            InvalidArgumentError: As in ``ks_2samp``.

        Example:
            >>> reference = SortedReference(range(100))
            >>> result = reference.ks_2samp(range(50, 100))
            >>> result.statistic, result.statistic_location, result.method
            (0.5, 49.0, 'exact-ties')
        """
        pvalues.check_choice("alternative", alternative, Alternative)
        pvalues.check_choice("method", method, Method)
        return self._tested(self._checked(current, self.n_features), slice(self.n_features), alternative, method)

    def _tested(
        self, sample: Sample, features: slice, alternative: Alternative, method: Method, rows: Values | None = None
    ) -> KSResult:
        """The test of a window of some features; ``rows`` are its sorted values, where the caller has them."""
        m = sample.values.shape[0]
        pooled = method == "exact" or (method == "auto" and self.n + m <= pvalues.EXACT_TIES_LIMIT)
        found = self._find(sample, alternative, pooled=pooled, first=features.start or 0, rows=rows)
        result, methods = pvalues.window_pvalues(
            found.thresholds, found.ends, found.ties, self.n, m, alternative=alternative, method=method
        )
        statistic = found.thresholds / (self.n * m)
        if self._is_single:
            return KSResult(
                float(statistic[0]),
                float(result[0]),
                float(found.location[0]),
                int(found.sign[0]),
                str(methods[0]),
                bool(found.ties[0]),
            )
        for array in (statistic, result, found.location, found.sign, methods, found.ties):
            array.flags.writeable = False
        return KSResult(statistic, result, found.location, found.sign, methods, found.ties)

    def _checked(self, current: ArrayLike, n_features: int) -> Sample:
        sample = checked_sample("current", current)
        m = sample.values.shape[0]
        if sample.is_single != self._is_single or sample.values.shape[1] != n_features:
            expected = "(m,)" if self._is_single else f"(m, {n_features})"
            raise InvalidArgumentError(
                "current",
                sample.values.shape[:1] if sample.is_single else sample.values.shape,
                f"an array of shape {expected}, like the reference",
                hint="Pass the features the reference has, in its order; one feature of a table is table[:, [j]].",
            )
        if not comparable(sample, self._rows.dtype, self._largest_finite(sample)):
            raise InvalidArgumentError(
                "current",
                sample.values.dtype,
                f"exactly comparable with the reference of {self._rows.dtype} (one has integers beyond 2**53)",
                hint="Give both the same integer dtype, or .astype(float) both if rounding to 53 bits is acceptable.",
            )
        if self.n * m > _LARGEST_PRODUCT:
            raise InvalidArgumentError(
                "current", sample.values.shape, "smaller: n*m overflows 64 bits", hint="Take a random part of it."
            )
        return sample

    def _largest_finite(self, sample: Sample) -> float:
        if sample.dtype.kind == "f" or self._rows.dtype.kind != "f":
            return 0.0
        return float(np.max(np.abs(self._rows), where=np.isfinite(self._rows), initial=0.0))

    def _cuts(self, m: int) -> Probes:
        step = probe_step(self.n, m)
        probes = self._probes.get(step)
        if probes is None:
            probes = self._probes[step] = take_probes(self._rows, step)
        return probes

    def _find(
        self,
        sample: Sample,
        alternative: Alternative,
        *,
        pooled: bool = False,
        first: int = 0,
        rows: Values | None = None,
    ) -> _Found:
        """The suprema, block by block.

        ``pooled``: look for every tie, and note where tie groups end. ``first``: the reference's feature that is the
        window's first. ``rows``: as in ``_tested``.
        """
        m, n_features = sample.values.shape
        found = _Found(
            thresholds=np.empty(n_features, dtype=np.int64),
            sign=np.empty(n_features, dtype=np.int64),
            location=np.empty(n_features, dtype=np.float64),
            ties=np.empty(n_features, dtype=np.bool_),
            ends=np.empty((n_features, self.n + m), dtype=np.bool_) if pooled else None,
        )
        counted = self._counted
        if rows is not None:
            search = partial(self._search, first, rows)
        elif pooled or counted is None or sample.dtype.kind != "f" or not counted.suits(sample.values):
            search = partial(self._search, first, None)
        else:
            search = partial(self._count, counted)
        width = max(1, _VALUES_PER_BLOCK // m)
        for start in range(0, n_features, width):
            block = slice(start, min(start + width, n_features))
            supremum = search(sample, block, found, greater=alternative != "less", less=alternative != "greater")
            found.thresholds[block], found.location[block] = supremum.height, supremum.location
            found.sign[block] = np.where(supremum.is_plus, 1, -1)
        return found

    def _count(
        self, counted: CountedReference, sample: Sample, block: slice, found: _Found, *, greater: bool, less: bool
    ) -> Supremum:
        has_ties = self._has_ties[block]
        supremum = counted.find_supremum(
            sample.values, block, greater=greater, less=less, look_for_ties=not has_ties.all()
        )
        found.ties[block] = has_ties | supremum.shared
        return supremum

    def _search(
        self,
        first: int,
        rows: Values | None,
        sample: Sample,
        block: slice,
        found: _Found,
        *,
        greater: bool,
        less: bool,
    ) -> Supremum:
        own = slice(first + block.start, first + block.stop)
        reference, has_ties = self._rows[own], self._has_ties[own]
        if rows is None:
            current = sorted_rows(sample.values, block.start, block.stop, self._rows.dtype)
        else:
            current = rows[block]
        look_for_ties = found.ends is None and not has_ties.all()
        supremum = find_supremum(
            reference,
            current,
            self._cuts(current.shape[1]).rows(own),
            greater=greater,
            less=less,
            look_for_shared=look_for_ties,
            always_prune=rows is not None,
        )
        if found.ends is not None:
            ends = found.ends[block] = group_ends(np.concatenate((reference, current), axis=1))
            found.ties[block] = ~ends.all(axis=1)
        else:
            found.ties[block] = has_ties | supremum.shared | has_repeats(current) if look_for_ties else True
        return supremum


def sort_and_test(reference: SortedReference, current: ArrayLike, features: slice) -> tuple[KSResult, Values]:
    """Test some features of a reference; but for the last bits of exact p-values, each is found as if tested alone.

    Args:
        reference: Of two dimensions.
        current: A window of these features, shape ``(m, n_features)``.
        features: Which: a range with both ends given.

    Returns:
        What ``ks_2samp`` returns, and the window's sorted values, shape ``(n_features, m)``, NaN last.

    Raises:
        InvalidArgumentError: As in ``ks_2samp``.
    """
    sample = reference._checked(current, features.stop - features.start)
    rows = sorted_rows(sample.values, 0, sample.values.shape[1], reference.sorted_values.dtype)
    return reference._tested(sample, features, "two-sided", "auto", rows), rows
