"""Models to put into a repository under test."""

from __future__ import annotations

from typing import final

import attrs
import numpy as np
import numpy.typing as npt


@final
@attrs.frozen
class ConstantModel:
    """A regressor that always answers the same number. Two are equal when their numbers are; it pickles.

    Attributes:
        value: The answer.
    """

    value: float = 0.0

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The value once for each row.

        Args:
            X: Rows ``(n_samples, n_features)``.

        Returns:
            Float64, shape ``(n_samples,)``.
        """
        return np.full(len(np.asarray(X)), self.value)
