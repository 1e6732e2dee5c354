"""What every contender is asked, and the two shapes in which contenders are described."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from sklearn.linear_model import LogisticRegression

FEATURES = 10
ROWS = 64
TRAINED_ON = 4_000
CONSTANT = 1.0

Row = np.ndarray[Any, Any]


def table() -> tuple[Row, Row]:
    X = np.random.default_rng(0).normal(size=(TRAINED_ON, FEATURES))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def logistic() -> LogisticRegression:
    """The model, which is the same wherever it is fitted."""
    return LogisticRegression().fit(*table())


def rows() -> Row:
    return table()[0][:ROWS]


def second(probabilities: Any) -> float:
    """The probability of class 1 in what ``predict_proba`` answers for one row."""
    return float(probabilities[0][1])


@attrs.frozen
class Call:
    """A call in process.

    ``given`` makes of a row of shape (10,) what the call takes, before time is taken. ``read`` makes of the answer the
    probability of class 1, or the label where ``answers_label``.
    """

    name: str
    given: Callable[[Row], Any]
    call: Callable[[Any], Any]
    read: Callable[[Any], float]
    awaited: bool = False
    answers_label: bool = False


@attrs.frozen
class Door:
    """Where a server is asked over HTTP: ``body`` makes the request of a row, ``read`` the probability of an answer."""

    name: str
    path: str
    body: Callable[[Row], Any]
    read: Callable[[Any], float]

    def request(self, row: Row) -> bytes:
        body = json.dumps(self.body(row)).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@attrs.frozen
class Server:
    """A server: its command for a port and a new directory, its doors, what it adds to the environment, and how long
    after its first answers it still closes connections, because it reads its configuration again."""

    command: Callable[[int, Path], list[str]]
    doors: Sequence[Door]
    environment: Mapping[str, str] = attrs.field(factory=dict)
    settle_seconds: float = 0.0
