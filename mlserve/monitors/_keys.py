"""Names of buckets."""

from __future__ import annotations

from typing import NamedTuple

FOREVER = 0
"""The width of the one bucket that holds all that was ever recorded of a version."""

LAST_MICROSECOND = 2**62
"""No bucket ends later."""


class BucketKey(NamedTuple):
    """Names one bucket: version, width in microseconds, number."""

    version_id: str | None
    width: int
    number: int
