"""What answers when a model cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs

from mlserve.errors import InvalidArgumentError


@final
@attrs.frozen
class PreviousVersion:
    """The most recently activated other version answers."""


@final
@attrs.frozen
class StaticAnswer:
    """Always the same answer.

    Attributes:
        value: The answer; every caller gets this very object.
    """

    value: Any


@final
@attrs.frozen
class CallableFallback:
    """A function answers.

    Attributes:
        function: Called as ``function(input)`` with the input as it came; may be a coroutine function only where all
            callers await. One that raises passes the request on to the next fallback.
    """

    function: Callable[[Any], Any]


Fallback = PreviousVersion | StaticAnswer | CallableFallback


def checked_fallbacks(fallbacks: Any) -> tuple[Fallback, ...]:
    """The chain of a server.

    Raises:
        InvalidArgumentError: Something that is no fallback.
    """
    listed = tuple(fallbacks)
    for one in listed:
        if not isinstance(one, (PreviousVersion, StaticAnswer, CallableFallback)):
            raise InvalidArgumentError(
                "fallbacks", one, "PreviousVersion(), StaticAnswer(value) or CallableFallback(function)",
                hint="Wrap a function as CallableFallback(function).",
            )  # fmt: skip
    return listed
