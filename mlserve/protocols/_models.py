"""What a model may be."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
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


@runtime_checkable
class AsyncPredictor(Protocol[TIn_contra, TOut_co]):
    """A model that is awaited, such as the client of a remote one. Its ``predict`` is a coroutine function.

    The convention is scikit-learn's, as of ``Regressor``; wrap one that answers a single input in ``SingleRow``.
    """

    @abstractmethod
    async def predict(self, X: TIn_contra, /) -> TOut_co:
        """One answer for each row."""
        ...


@runtime_checkable
class BatchPredictor(Protocol[TIn_contra, TOut_co]):
    """A model that answers several inputs by one call and is no table model.

    A class attribute ``is_pure = True`` says that a call may be made again without doing anything twice; a batch that
    fails is then taken apart, so that the inputs at fault fail alone.
    """

    @abstractmethod
    def predict_batch(self, inputs: Sequence[TIn_contra]) -> Sequence[TOut_co]:
        """Answer each input.

        Args:
            inputs: At least one, in the form in which callers send them.

        Returns:
            One answer for each, in order.
        """
        ...


@runtime_checkable
class SupportsWarmUp(Protocol):
    """A model that wants to be called once before it takes traffic, for example to compile or to fill caches."""

    @abstractmethod
    def warm_up(self) -> None:
        """Get ready. Called once after the model was loaded and before any request; a failure fails the load."""
        ...
