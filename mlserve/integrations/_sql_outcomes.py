"""True values that any process may hear of, for predictions that any process made."""

from __future__ import annotations

import threading
from collections import ChainMap, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, final

import attrs
import sqlalchemy as sa

from mlserve._counting import Tally
from mlserve.integrations._sql_documents import from_answer, key_of, to_answer
from mlserve.integrations._sql_store import Store
from mlserve.monitors._blocks import RequestBlock, Waiting
from mlserve.monitors._outcomes import pair_up
from mlserve.records import OutcomeEvent

MOST_LOOKS = 5
"""An outcome is looked for at so many flushes before its prediction counts as unknown: the process that made the
prediction may not have written it yet."""


class Heard(NamedTuple):
    """A true value as it was told; seconds since 1970."""

    prediction_id: str
    actual: Any
    at: float
    looks: int = 0


@attrs.frozen
class Decision:
    """What becomes of outcomes, once the predictions at hand are known.

    Attributes:
        joined: Those that have their prediction.
        rest: Those whose prediction is not at hand.
        duplicates: Number of those whose prediction already has one.
        mismatched: Number of those that cannot be compared with their prediction, which goes on waiting.
    """

    joined: tuple[OutcomeEvent, ...]
    rest: tuple[Heard, ...]
    duplicates: int
    mismatched: int


@final
class SharedOutcomes:
    """Predictions of this process on their way to the database, and outcomes that were told to this process.

    A prediction that was never handed to the database is known here only, so that its outcome can be counted here. One
    that may be in the database belongs to whoever takes it out of there: of several processes that were told the same
    outcome, one counts it. Where nobody knows whether a transaction was committed, its predictions are taken to be in
    the database until that is known.

    *Thread safety*: ``answered`` and ``record`` from any thread; the rest from one thread at a time.

    Args:
        most: Predictions that wait to be sent, at most, beyond it the oldest are given up; and outcomes that wait to be
            joined, beyond it the newest are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._blocks: deque[RequestBlock] = deque()
        self._block_rows = 0
        self._heard: list[Heard] = []
        self._undecided: tuple[Heard, ...] = ()
        self._unsent: dict[str, Waiting] = {}
        self._doubtful: dict[str, Waiting] = {}
        self._unstorable: dict[str, Waiting] = {}
        self._labelled: dict[str, None] = {}
        self._outcomes_dropped = Tally()
        self._predictions_dropped = 0
        self.unknown = self.duplicates = self.mismatched = 0
        self.unstorable = self.unreadable = 0

    # ---------------------------------------------------------------------------------------------- on the request

    def answered(self, block: RequestBlock) -> None:
        """Take in predictions, without their inputs."""
        with self._lock:
            self._blocks.append(block)
            self._block_rows += len(block)
            # Whole blocks only, so that it is quick; the flush counts to the row.
            while self._block_rows - len(self._blocks[0]) >= self._most:
                gone = len(self._blocks.popleft())
                self._block_rows -= gone
                self._predictions_dropped += gone

    def record(self, prediction_id: Any, actual: Any, at: float) -> None:
        """Take in a true value, which nobody may change any more; seconds since 1970."""
        if not isinstance(prediction_id, str):
            self.unknown += 1
        elif len(self._heard) + len(self._undecided) >= self._most:
            self._outcomes_dropped.next()
        else:
            self._heard.append(Heard(prediction_id, actual, at))

    # ------------------------------------------------------------------------------------------------ at a flush

    @property
    def queued(self) -> int:
        """Predictions and outcomes that wait to be written."""
        waiting = self._block_rows + len(self._unsent) + len(self._doubtful)
        return waiting + len(self._heard) + len(self._undecided)

    @property
    def dropped(self) -> int:
        """Predictions and outcomes that were given up because too many waited."""
        return self._predictions_dropped + self._outcomes_dropped.value

    def joined_here(self) -> Sequence[OutcomeEvent]:
        """Outcomes of predictions that are known here only. Call it after all that was recorded was folded."""
        self._collect()
        decision = self._decide(self._undecided, ChainMap(self._unsent, self._unstorable))
        for outcome in decision.joined:
            self._unsent.pop(outcome.prediction_id, None)
            self._unstorable.pop(outcome.prediction_id, None)
        self._undecided = decision.rest
        self._settle(decision)
        return decision.joined

    @property
    def is_undecided(self) -> bool:
        """Whether there are outcomes whose prediction may be in the database."""
        return bool(self._undecided)

    def take_stored(self, connection: sa.Connection, store: Store) -> Decision:
        """Take the predictions of the undecided outcomes out of the database, in the caller's transaction."""
        found = store.locked_predictions(connection, [key_of(one.prediction_id) for one in self._undecided])
        candidates: dict[str, Waiting] = {}
        for prediction_id in {one.prediction_id for one in self._undecided}:
            stored = found.get(key_of(prediction_id))
            if stored is None:
                continue
            time, answer = stored
            try:
                candidates[prediction_id] = from_answer(answer, time)
            except (TypeError, ValueError):
                self.unreadable += 1
        decision = self._decide(self._undecided, candidates)
        store.forget_predictions(connection, [key_of(outcome.prediction_id) for outcome in decision.joined])
        return decision

    def settle_stored(self, decision: Decision) -> None:
        """The transaction in which they were taken was committed: they are this process's to count."""
        looked = [one._replace(looks=one.looks + 1) for one in decision.rest]
        self._undecided = tuple(one for one in looked if one.looks < MOST_LOOKS)
        self.unknown += len(looked) - len(self._undecided)
        self._settle(decision)

    def rows(self) -> list[tuple[str, int, str]]:
        """Key, moment and answer of the predictions to be sent."""
        rows = []
        unstorable = []
        for prediction_id, waiting in self._unsent.items():
            try:
                rows.append((key_of(prediction_id), waiting.time, to_answer(waiting)))
            except Exception:  # whatever an answer of the caller's raises, it is one that cannot be stored
                unstorable.append(prediction_id)
        for prediction_id in unstorable:
            self._unstorable[prediction_id] = self._unsent.pop(prediction_id)
        self.unstorable += len(unstorable)
        _forget_oldest(self._unstorable, self._most)
        return rows

    def doubt(self) -> None:
        """What ``rows`` gave is about to be committed."""
        self._doubtful, self._unsent = self._unsent, {}

    def resolve(self, *, was_committed: bool) -> None:
        """It is known whether it was committed."""
        if not was_committed:
            self._unsent = {**self._doubtful, **self._unsent}
        self._doubtful = {}

    def _collect(self) -> None:
        with self._lock:
            blocks, self._blocks, self._block_rows = self._blocks, deque(), 0
        for block in blocks:
            self._unsent.update(zip(block.ids, block.waiting(0), strict=True))
        self._predictions_dropped += _forget_oldest(self._unsent, self._most)
        # As many as there were when it began: others go on appending.
        heard = self._heard[:]
        self._undecided = (*self._undecided, *heard)
        del self._heard[: len(heard)]

    def _decide(self, outcomes: Iterable[Heard], candidates: Mapping[str, Waiting]) -> Decision:
        joined: dict[str, OutcomeEvent] = {}
        rest: list[Heard] = []
        duplicates = mismatched = 0
        for one in outcomes:
            waiting = candidates.get(one.prediction_id)
            if one.prediction_id in self._labelled or one.prediction_id in joined:
                duplicates += 1
            elif waiting is None:
                rest.append(one)
            elif pair_up(waiting.output, one.actual) is None:
                mismatched += 1
            else:
                joined[one.prediction_id] = waiting.outcome(one.prediction_id, one.actual, one.at)
        return Decision(tuple(joined.values()), tuple(rest), duplicates, mismatched)

    def _settle(self, decision: Decision) -> None:
        self.duplicates += decision.duplicates
        self.mismatched += decision.mismatched
        self._labelled.update(dict.fromkeys(outcome.prediction_id for outcome in decision.joined))
        _forget_oldest(self._labelled, self._most)


def _forget_oldest(known: dict[str, Any], most: int) -> int:
    """Keep the newest entries only. Gives how many went."""
    surplus = max(0, len(known) - most)
    for name in list(islice(known, surplus)):
        del known[name]
    return surplus
