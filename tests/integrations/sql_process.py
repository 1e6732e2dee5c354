"""A process that records in a database until it is done or killed, and says how far it is.

    python sql_process.py URL FIRST COUNT FLUSH_EVERY LAG

It says ``ready``, waits for a line, and then records COUNT predictions, those from FIRST on, and LAG predictions later
each one's outcome. With FLUSH_EVERY above 0 it flushes after every so many and then prints how many there were. It does
not close the monitor.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from mlserve.integrations.sql import SqlModelMonitor
from mlserve.records import PredictionEvent


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201  # what this process is for


def main() -> None:
    url, (first, count, flush_every, lag) = sys.argv[1], map(int, sys.argv[2:])
    monitor = SqlModelMonitor(url, flush_seconds=0.05 if flush_every else 1.0)
    say("ready")
    sys.stdin.readline()
    for number in range(first, first + count):
        monitor.record_prediction(PredictionEvent(f"p{number}", "1", [1.0], 0, 1.0, datetime.now(UTC)))
        if number >= first + lag:
            monitor.record_outcome(f"p{number - lag}", 0)
        done = number - first + 1
        if flush_every and done % flush_every == 0 and not monitor.flush().flush_errors:
            say(done)
    say("done")


if __name__ == "__main__":
    main()
