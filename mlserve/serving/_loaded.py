"""What a request needs of a version, found once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from mlserve.records import ModelVersion
from mlserve.serving._dispatch import Adapter


class LoadedVersion:
    """A version whose model is in memory, with all that a request needs, found once.

    A request that uses it appends to ``leases`` and pops when done: both are atomic, so no lock is taken.
    """

    __slots__ = (
        "adapter", "average_ms", "call", "check", "evicting", "example", "has_confidence", "id", "is_async", "leases",
        "validated", "version",
    )  # fmt: skip

    def __init__(
        self, version: ModelVersion, adapter: Adapter, check: Callable[[Any], Any] | None, validated: bool, example: Any
    ) -> None:
        self.version = version
        self.id = version.id
        self.adapter = adapter
        self.call = adapter.call
        self.has_confidence = adapter.has_confidence
        self.is_async = adapter.is_async
        self.check = check
        self.validated = validated
        self.example = example
        self.leases: list[str] = []
        self.evicting = False
        self.average_ms: float | None = None


@attrs.frozen(eq=False, repr=False)
class Current:
    """The version that answers when none is named, and until when that need not be asked again.

    Attributes:
        loaded: The version.
        generation: The repository's generation when it was found.
        expires: Monotonic seconds.
    """

    loaded: LoadedVersion
    generation: float
    expires: float
