"""What a model may be."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

from typing_extensions import TypeVar

TIn_contra = TypeVar("TIn_contra", contravariant=True, default=Any)
TOut_co = TypeVar("TOut_co", covariant=True, default=Any)


@runtime_checkable
class Regressor(Protocol[TIn_contra, TOut_co]):
    """Predicts numbers for rows.

    The convention is scikit-learn's: ``predict`` takes ``(n_samples, n_features)`` and answers ``(n_samples,)``.

    *Thread safety*: ``predict`` is called from several threads at once.
    """

    @abstractmethod
    def predict(self, X: TIn_contra, /) -> TOut_co:
        """One answer for each row."""
        ...


@runtime_checkable
class Classifier(Protocol[TIn_contra, TOut_co]):
    """Predicts labels for rows, and how probable they are.

    The convention is scikit-learn's: both methods take ``(n_samples, n_features)``; ``predict`` answers labels
    ``(n_samples,)`` and ``predict_proba`` probabilities ``(n_samples, n_classes)``.

    *Thread safety*: both are called from several threads at once.
    """

    @abstractmethod
    def predict(self, X: TIn_contra, /) -> TOut_co:
        """One label for each row."""
        ...

    @abstractmethod
    def predict_proba(self, X: TIn_contra, /) -> Any:
        """The probability of each class for each row."""
        ...
