"""A process that writes to a repository until it is done or killed, and says what it has done.

    python writer_process.py PATH FIRST_VALUE COUNT

It says ``ready``, waits for a line, and then prints ``version ID VALUE`` and ``alias FROM TO`` once each is done.
"""

from __future__ import annotations

import sys

from stored_models import Constant, opened

from mlserve.clocks import SystemClock
from mlserve.errors import InvalidArgumentError, VersionNotFoundError


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201  # what this process is for


def main() -> None:
    path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    repository = opened(path, SystemClock(), actor=f"writer {first}")
    say("ready")
    sys.stdin.readline()
    for value in range(first, first + count):
        version = repository.register(Constant(float(value)))
        say("version", version.id, value)
        while True:
            try:
                current = repository.resolve_alias("champion").id
            except VersionNotFoundError:
                current = None
            if current is None:
                # Nobody has set it yet: whoever does so first is no update that could be lost.
                repository.set_alias("champion", version.id, evidence={"from": None})
                say("first", version.id)
                break
            try:
                repository.set_alias("champion", version.id, expected=current, evidence={"from": current})
            except InvalidArgumentError:
                continue
            say("alias", current, version.id)
            break


if __name__ == "__main__":
    main()
