"""The short way of requests that nothing but a batch stands before."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any, final

from mlserve.records import ModelVersion, ServingResult
from mlserve.serving._batching import HAND_OVER_MS, PASS_BELOW_MS, Batcher
from mlserve.serving._cache import VersionCache
from mlserve.serving._guarded import GuardedPath
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._requests import Request
from mlserve.serving._results import Results
from mlserve.serving._validation import checked
from mlserve.serving._waiters import Waiter


@final
class ExpressPath:
    """Answers requests of threads in batches, with as little as can be done for each; of coroutines see ``Turns``.

    *Thread safety*: yes.

    Args:
        guarded: Answers whatever is not for the latest version, or has a time limit.
        batcher: Batches requests.
        cache: The models.
        results: What requests came to.
        monotonic: Tells seconds.
    """

    def __init__(
        self,
        guarded: GuardedPath,
        batcher: Batcher,
        cache: VersionCache,
        results: Results,
        monotonic: Callable[[], float],
    ) -> None:
        self._guarded = guarded
        self._batcher = batcher
        self._cache = cache
        self._observed = cache.observed
        self._results = results
        self._monotonic = monotonic
        # What coroutines ask goes to it straight: another coroutine in between would cost as much as the rest.
        self.enlist = batcher.turns.enlist

    def predict(
        self, input: Any, version: ModelVersion | str | None, key: str | None, timeout_ms: float | None
    ) -> ServingResult[Any] | None:
        """As ``ModelServer.predict``; None where nothing is to stand before the model, which is better not batched."""
        current = self._cache.current
        if current is None or version is not None or timeout_ms is not None:
            return self._guarded.predict(input, version, key, timeout_ms)
        loaded = current.loaded
        lane, leases, typical = loaded.lane, loaded.leases, loaded.typical_ms
        # As the batcher says, but without calls: where many threads ask, all of them do this, one at a time.
        is_crowded = (
            lane is not None
            and lane.last_size > 1
            and lane.takes_rows
            and typical is not None
            and typical > PASS_BELOW_MS
            and len(leases) * typical > HAND_OVER_MS
        )
        if not is_crowded and not self._batcher.is_worth_it(loaded):
            return None
        started = self._monotonic()
        if self._observed.generation != current.generation or started >= current.expires:
            return self._guarded.predict(input, version, key, timeout_ms)
        results = self._results
        number = results.accepted.next()
        leases.append("batched")
        try:
            if not is_crowded:
                return self._answered_alone(loaded, input, key, started, number)
            waiter = Waiter()
            lane.put_caller((input, number, started, key, waiter, contextvars.copy_context()))
            outcome = self._batcher.wait(lane, waiter)
            return outcome if type(outcome) is ServingResult else self._guarded.settled(outcome)
        except Exception as error:
            return results.fail(error, loaded, input, started, results.id_of(number), key)
        except BaseException:
            results.cancelled.next()
            raise
        finally:
            leases.pop()
            if loaded.evicting:
                self._cache.sweep()

    def _answered_alone(
        self, loaded: LoadedVersion, input: Any, key: str | None, started: float, number: int
    ) -> ServingResult[Any]:
        """Where nobody may be there to share a batch with."""
        request = Request(input, self._results.id_of(number), started)
        request.loaded, request.key = loaded, key
        request.checked = checked(loaded.check, input)
        return self._guarded.succeeded(request, self._batcher.call(loaded, request))
