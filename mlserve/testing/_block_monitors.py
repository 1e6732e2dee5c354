"""What monitors keep to that take many predictions at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError
from mlserve.protocols import BlockMonitor
from mlserve.records import PredictionEvent
from mlserve.testing._monitor_contract import MonitorContract


def _columns(count: int) -> dict[str, list[Any]]:
    return {
        "prediction_ids": [f"p{number}" for number in range(count)],
        "inputs": [np.array([float(number)]) for number in range(count)],
        "outputs": [number % 3 for number in range(count)],
        "processing_times_ms": [1.0 + number for number in range(count)],
    }


class BlockMonitorContract(MonitorContract):
    """The method of ``BlockMonitor``: predictions recorded together are predictions recorded one by one."""

    def test_it_is_a_block_monitor(self, monitor: Any) -> None:
        """It has the method of ``BlockMonitor``."""
        assert isinstance(monitor, BlockMonitor)

    @pytest.mark.parametrize("confidences", [None, [0.5, None, 0.75, 1.0, None] * 8], ids=["none", "some"])
    def test_a_block_is_its_predictions(self, monitor: Any, clock: ManualClock, confidences: Any) -> None:
        """A block gives the metrics of the same predictions recorded one after the other."""
        columns, now = _columns(40), clock.now()
        single = self.new_monitor(clock)
        for name, row, output, took_ms, confidence in zip(*columns.values(), confidences or [None] * 40, strict=True):
            single.record_prediction(PredictionEvent(name, "1", row, output, took_ms, now, confidence))
        monitor.record_block("1", **columns, timestamp=now.timestamp(), confidences=confidences)
        assert self.metrics(monitor) == self.metrics(single)

    @pytest.mark.parametrize("count", [3, 40])
    def test_columns_may_be_arrays(self, monitor: Any, clock: ManualClock, count: int) -> None:
        """Arrays, and a table of inputs, give the metrics that lists give, and belong to the caller afterwards."""
        columns, timestamp = _columns(count), clock.now().timestamp()
        confidences = [number / count for number in range(count)]
        listed = self.new_monitor(clock)
        listed.record_block("1", **columns, timestamp=timestamp, confidences=confidences)
        arrays: Any = {name: np.array(column) for name, column in columns.items() if name != "prediction_ids"}
        arrays["confidences"] = np.array(confidences)
        monitor.record_block("1", columns["prediction_ids"], timestamp=timestamp, **arrays)
        for array in arrays.values():
            array[:] = 0
        assert self.metrics(monitor) == self.metrics(listed)

    def test_a_block_of_nothing_is_nothing(self, monitor: Any, clock: ManualClock) -> None:
        """A block without predictions records nothing and is no error."""
        monitor.record_block("1", **_columns(0), timestamp=clock.now().timestamp())
        assert self.metrics(monitor, None).request_count == 0

    @pytest.mark.parametrize("count", [0, 2, 4])
    @pytest.mark.parametrize("name", ["inputs", "outputs", "processing_times_ms", "confidences", "arms", "keys"])
    def test_columns_of_other_lengths_are_refused(
        self, monitor: Any, clock: ManualClock, name: str, count: int
    ) -> None:
        """A column that is too short or too long is refused by its name, and nothing of the block is recorded."""
        columns = _columns(3) | {name: [0.5] * count}
        with pytest.raises(InvalidArgumentError, match=name):
            monitor.record_block("1", **columns, timestamp=clock.now().timestamp())
        assert self.metrics(monitor, None).request_count == 0

    def test_blocks_add_up(self, monitor: Any, clock: ManualClock) -> None:
        """Blocks of several versions are counted for each, and all together."""
        for version_id, count in (("1", 3), ("2", 700), ("1", 600)):
            monitor.record_block(version_id, **_columns(count), timestamp=clock.now().timestamp())
        counts = [self.metrics(monitor, version_id).request_count for version_id in ("1", "2", None)]
        assert counts == [603, 700, 1303]
