"""The monitor in memory keeps to every contract, with requests held whole and with requests in buckets."""

from __future__ import annotations

from datetime import datetime, timedelta

import hypothesis
import pytest

from mlserve import InMemoryModelMonitor
from mlserve.monitors import Resolution
from mlserve.testing import (
    BaselineMonitorContract,
    BlockMonitorContract,
    CumulativeMonitorContract,
    DeferringMonitorContract,
    EventMonitorContract,
    LabelledMonitorContract,
    MergeableMonitorContract,
    ModelMonitorContract,
    PredictionMonitorContract,
)

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

COARSE = (
    Resolution(timedelta(seconds=10), timedelta(minutes=20)),
    Resolution(timedelta(minutes=5), timedelta(hours=3)),
    Resolution(timedelta(hours=1), timedelta(days=2)),
)


class TestInMemoryModelMonitor(
    ModelMonitorContract,
    LabelledMonitorContract,
    BaselineMonitorContract,
    PredictionMonitorContract,
    CumulativeMonitorContract,
    MergeableMonitorContract,
    EventMonitorContract,
    DeferringMonitorContract,
    BlockMonitorContract,
):
    """With room for all that a test records: every window is exact to the microsecond."""

    def new_monitor(self, clock) -> InMemoryModelMonitor:
        return InMemoryModelMonitor(clock=clock)

    def kept_drift_events(self, monitor: InMemoryModelMonitor):
        return monitor.drift_events()


class TestSmallInMemoryModelMonitor(
    ModelMonitorContract,
    LabelledMonitorContract,
    PredictionMonitorContract,
    CumulativeMonitorContract,
    MergeableMonitorContract,
    BlockMonitorContract,
):
    """With room for 1 024 requests only: what is older lies in buckets, and a window may reach back to one's edge."""

    def new_monitor(self, clock) -> InMemoryModelMonitor:
        return InMemoryModelMonitor(clock=clock, resolutions=COARSE, recent_requests=1024, sample_size=64)

    def kept_drift_events(self, monitor: InMemoryModelMonitor):
        return monitor.drift_events()

    def reaches_back_to(self, start: datetime, now: datetime) -> datetime:
        width = next((level.width for level in COARSE if start >= now - level.retention), COARSE[-1].width)
        return start - (start - EPOCH) % width


@pytest.mark.slow
@pytest.mark.parametrize("contract", [TestInMemoryModelMonitor, TestSmallInMemoryModelMonitor])
def test_it_behaves_like_a_list_of_events_for_long(contract):
    """The state machine finds nothing in hundreds of longer runs either."""

    class Long(contract):
        state_machine_settings = hypothesis.settings(
            contract.state_machine_settings, max_examples=300, stateful_step_count=60
        )

    Long().test_it_behaves_like_a_list_of_events()
