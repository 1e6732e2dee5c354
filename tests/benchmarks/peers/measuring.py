"""Contenders, and turns between them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import attrs

LONG = 1.0
"""Seconds from which on a call is not repeated within a turn: what the first one left in caches is lost in it."""

LEAST_ROUNDS = 2


class Evidence(Enum):
    """What a contender's numbers are, and so what they must be equal to."""

    PRESENT = "D and χ² of the values that are not missing"
    MISSING_ABOVE = "D and χ² where a missing value is a value of its own, above all others"
    SCIPY_P = "the p-value that scipy's formula gives for our D of the values that are not missing"


@attrs.frozen
class Contender:
    """One way to do the work.

    Attributes:
        name: Library and configuration.
        prepare: What is done once for a reference.
        compare: What is done for each window, given what ``prepare`` returned.
        numbers: From the result of ``compare`` the numbers that can be checked, by column.
        evidence: What they are.
        scale: The work is this many times what is done here, where all of it would take too long.
    """

    name: str
    prepare: Callable[[], Any]
    compare: Callable[[Any], Any]
    numbers: Callable[[Any], Mapping[str, float]] | None = None
    evidence: Evidence | None = None
    scale: float = 1.0


@attrs.frozen
class Taken:
    """Median milliseconds.

    Attributes:
        prepare: Of ``prepare``.
        both: Of ``prepare`` and the first ``compare`` after it.
        compare: Of ``compare`` with a reference that was used before.
        rounds: How many were measured.
    """

    prepare: float
    both: float
    compare: float
    rounds: int


def turn(one: Contender) -> tuple[tuple[float, float, float], Any]:
    gc.collect()  # nobody pays for what another left behind
    begun = time.perf_counter()
    prepared = one.prepare()
    ready = time.perf_counter()
    result = one.compare(prepared)
    done = time.perf_counter()
    again = done - ready
    if again < LONG:
        one.compare(prepared)
        again = time.perf_counter() - done
    return (ready - begun, done - begun, again), result


def alternate(contenders: list[Contender], rounds: int, budget: float) -> tuple[dict[str, Taken], dict[str, Any]]:
    """Everybody's times and last results, the turns of all interleaved; the first turn warms up and does not count.

    Args:
        contenders: Who takes turns.
        rounds: Turns that count, at most.
        budget: Seconds after which a contender that had two of them gets no other.
    """
    parts: dict[str, list[tuple[float, float, float]]] = {one.name: [] for one in contenders}
    results: dict[str, Any] = {}
    spent = dict.fromkeys(parts, 0.0)
    for number in range(rounds + 1):
        for one in contenders:
            if len(parts[one.name]) >= LEAST_ROUNDS and spent[one.name] > budget:
                continue
            times, results[one.name] = turn(one)
            spent[one.name] += times[1] + times[2]
            if number:
                parts[one.name].append(times)
    scales = {one.name: one.scale * 1e3 for one in contenders}
    taken = {
        name: Taken(*(statistics.median(part) * scales[name] for part in zip(*found, strict=True)), len(found))
        for name, found in parts.items()
    }
    return taken, results
