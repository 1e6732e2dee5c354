"""Who speaks to the database: a thread of its own, or whoever asks."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum, auto
from typing import final

from typing_extensions import override


class Task(Enum):
    """What there is to do."""

    WRITE = auto()
    """Write what is new."""
    READ = auto()
    """Read what is new."""
    READ_UNLESS_RESTING = auto()
    """Read what is new, unless that failed a moment ago."""
    CLOSE = auto()
    """Write what is new, in the form that is the shortest to read. There is nothing to do after it."""


Perform = Callable[[frozenset[Task]], float]
"""Does some tasks and never raises; gives the seconds after which to write the next time."""


class Worker(ABC):
    """Does tasks, one after the other.

    *Thread safety*: yes.
    """

    @abstractmethod
    def ask(self, *tasks: Task) -> threading.Event:
        """Have tasks done. Gives what is set when they are, or when nothing is done any more."""

    @abstractmethod
    def close(self, patience: float) -> bool:
        """Have the last task done; whoever asks for more later is not heard.

        Args:
            patience: Seconds to wait.

        Returns:
            Whether it was done by then.
        """


@final
class InlineWorker(Worker):
    """Does tasks on the thread that asks.

    Args:
        perform: Called with the tasks.
    """

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self._lock = threading.Lock()
        self._is_closed = False

    @override
    def ask(self, *tasks: Task) -> threading.Event:
        done = threading.Event()
        with self._lock:
            if not self._is_closed:
                self._is_closed = Task.CLOSE in tasks
                self._perform(frozenset(tasks))
        done.set()
        return done

    @override
    def close(self, patience: float) -> bool:
        return self.ask(Task.CLOSE).is_set()


@final
class ThreadWorker(Worker):
    """Does tasks on a daemon thread, which writes every few seconds without being asked.

    Args:
        perform: Called with the tasks.
        name: Of the thread.
    """

    def __init__(self, perform: Perform, name: str) -> None:
        self._perform = perform
        self._condition = threading.Condition()
        self._asked: list[tuple[tuple[Task, ...], threading.Event]] = []
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @override
    def ask(self, *tasks: Task) -> threading.Event:
        done = threading.Event()
        with self._condition:
            if self._is_closing:
                done.set()
            else:
                self._asked.append((tasks, done))
                self._condition.notify()
        return done

    @override
    def close(self, patience: float) -> bool:
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        if threading.current_thread() is not self._thread:  # it may be the one that collects garbage
            self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        next_write = time.monotonic()
        is_closing = False
        while not is_closing:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._asked or self._is_closing, max(0.0, next_write - time.monotonic())
                )
                asked, self._asked, is_closing = self._asked, [], self._is_closing
            tasks = {task for some, _ in asked for task in some}
            if is_closing:
                tasks.add(Task.CLOSE)
            elif time.monotonic() >= next_write:
                tasks.add(Task.WRITE)
            delay = self._perform(frozenset(tasks))
            if Task.WRITE in tasks:
                next_write = time.monotonic() + delay
            for _, done in asked:
                done.set()
