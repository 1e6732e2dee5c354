"""Progress bars of what takes long; tqdm is imported when one is wanted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from mlserve.errors import InvalidArgumentError, MissingExtraError

__all__ = ["progressed"]

T = TypeVar("T")

DELAY = 3.0
"""Seconds before a bar appears: what is done sooner needs none."""


def progressed(items: Iterable[T], *, label: str, show: bool | None, total: int | None = None) -> Iterable[T]:
    """The same items, with a bar on standard error while they are worked through, if that takes seconds.

    Args:
        items: What is worked through.
        label: What stands before the bar.
        show: True: a bar; False: none; None: one if tqdm is installed and standard error is a terminal.
        total: How many items there are, where that is known.

    Returns:
        The items. Exceptions that ``items`` raises are passed on as they are.

    Raises:
        MissingExtraError: ``show`` is True and tqdm is not installed; it comes with the extra ``progress``.
        InvalidArgumentError: ``show`` is none of the three.

    Example:
        >>> [item * 2 for item in progressed([1, 2, 3], label="doubling", show=None)]
        [2, 4, 6]
    """
    if show is not None and not isinstance(show, bool):
        raise InvalidArgumentError("progress", show, "True, False or None")
    if show is False or (show is None and not _is_terminal(sys.stderr)):
        return items
    try:
        from tqdm import tqdm
    except ImportError as error:
        if show is None:
            return items
        raise MissingExtraError("tqdm", "progress", "a progress bar") from error
    return _counted(items, tqdm(desc=label, total=total, delay=DELAY, leave=False))


def _counted(items: Iterable[T], bar: Any) -> Iterator[T]:
    # However the work ends, also by an exception, the bar is taken away.
    with bar:
        for item in items:
            yield item
            # It may be large, and the next one may need its room.
            del item
            bar.update()


def _is_terminal(stream: Any) -> bool:
    # A process without a console has no standard error at all, and one that was closed refuses to answer.
    return stream is not None and not stream.closed and bool(stream.isatty())
