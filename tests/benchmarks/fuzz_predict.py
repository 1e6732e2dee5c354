"""Coverage-guided search for an input that makes ``predict`` raise, with atheris, where it is installed.

    python tests/benchmarks/fuzz_predict.py [--seconds S] [--seed N]

Bytes become inputs of every kind: numbers, texts, lists, mappings, arrays of any dtype and shape. Each goes to servers
of different models, alone and among others, guarded and not. Only results of documented kinds may come back, and the
counters must balance. Without atheris the same inputs are drawn at random, which finds less in the same time. Exits
with 1 when something was found.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402  # the project's own root first

from mlserve import (  # noqa: E402  # as above
    ArraySchema,
    Batching,
    ErrorKind,
    InMemoryModelMonitor,
    InMemoryModelRepository,
    ModelServer,
)

DTYPES = ("f8", "f4", "i8", "u1", "?", "c16", "U3", "S2", "M8[s]", "m8[s]", "O")
DEEPEST = 3
LONGEST = 5
LONG_MS = 60_000.0
ALLOWED = {ErrorKind.InvalidInput, ErrorKind.PredictionException}


class Bytes:
    """Draws values from bytes; zeros where there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken.ljust(count, b"\0")

    def below(self, limit: int) -> int:
        return self.take(1)[0] % limit

    def value(self, depth: int = 0) -> Any:
        """Anything."""
        kind = self.below(12 if depth < DEEPEST else 8)
        if kind == 0:
            return None
        if kind == 1:
            return bool(self.below(2))
        if kind == 2:
            return int.from_bytes(self.take(1 + self.below(16)), "little", signed=True)
        if kind == 3:
            return float(np.frombuffer(self.take(8), "f8")[0])
        if kind == 4:
            return self.take(self.below(LONGEST)).decode("utf-8", "surrogateescape")
        if kind == 5:
            return self.take(self.below(LONGEST))
        if kind in (6, 7):
            return self.array()
        items = [self.value(depth + 1) for _ in range(self.below(LONGEST))]
        if kind == 8:
            return tuple(items)
        if kind == 9:
            return {f"x{number}": item for number, item in enumerate(items)}
        return items

    def array(self) -> Any:
        """An array of up to three dimensions."""
        dtype = np.dtype(DTYPES[self.below(len(DTYPES))])
        shape = tuple(self.below(LONGEST) for _ in range(self.below(4)))
        if dtype.hasobject:
            found = np.empty(shape, dtype)
            found.fill(self.below(256))
            return found
        return np.frombuffer(self.take(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


class Pairing:
    """A model of batches that works on whatever can be doubled."""

    def predict_batch(self, inputs: Any) -> list[Any]:
        return [input + input for input in inputs]


class Rows:
    """A table model that keeps nothing in order."""

    is_pure = True

    def predict(self, X: Any) -> Any:
        return X.sum(axis=tuple(range(1, X.ndim)))


def servers() -> list[ModelServer]:
    found = []
    for model, schema in (
        (lambda x: sum(x), None),
        (Pairing(), None),
        (Rows(), None),
        (Rows(), ArraySchema(shape=(4,))),
    ):
        for batching in (None, Batching()):
            repository: InMemoryModelRepository[Any] = InMemoryModelRepository()
            repository.register(model, schema=schema)
            found.append(ModelServer(repository, InMemoryModelMonitor(), batching=batching))
    return found


SERVERS = servers()


def try_one(data: bytes) -> None:
    """One round; raises when something is wrong."""
    drawn = Bytes(data)
    server = SERVERS[drawn.below(len(SERVERS))]
    first, others = drawn.value(), [drawn.value() for _ in range(drawn.below(3))]
    with np.errstate(all="ignore"):
        results = [server.predict(first), *server.predict_many([first, *others])]
        if drawn.below(8) == 0:
            results.append(server.predict(first, timeout_ms=LONG_MS))
    for result in results:
        assert result.error is None or result.error.kind in ALLOWED, result
    found = server.statistics()
    assert (found.accepted, found.in_flight, found.monitor_errors) == (found.answered, 0, 0), found


def at_random(seconds: float, seed: int) -> int:
    """Random inputs for so long; gives the number of rounds."""
    drawn, ends, rounds = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        data = drawn.randbytes(drawn.randrange(1, 200))
        try:
            try_one(data)
        except BaseException:
            print(f"found by {data!r}")
            traceback.print_exc()
            raise SystemExit(1) from None
        rounds += 1
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    try:
        import atheris  # type: ignore  # optional; mypy words it differently with and without it
    except ImportError:
        print(
            f"{at_random(arguments.seconds, arguments.seed):,} rounds at random, since atheris is not installed: fine"
        )
        return
    atheris.instrument_all()
    options = [sys.argv[0], f"-max_total_time={int(arguments.seconds)}", f"-seed={arguments.seed + 1}", "-max_len=300"]
    atheris.Setup(options, try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
