"""Contract suites for those who write a repository or a monitor of their own, and a clock that stands still.

Subclass the contract of each protocol that the store implements, say how one is made, and run pytest::

    from mlserve.testing import ModelRepositoryContract

    class TestOurRepository(ModelRepositoryContract):
        def new_repository(self, clock):
            return OurRepository(clock=clock)
        ...

Needs pytest and hypothesis: ``pip install 'mlserve[test]'``. ``import mlserve`` never imports this package.
"""

from mlserve.clocks import ManualClock
from mlserve.errors import MissingExtraError as _MissingExtraError

try:
    import pytest as _pytest  # noqa: PT013  # under its own name it would be visible

    # Before the modules below are imported: their asserts then say what they compared, like those of a test file.
    _pytest.register_assert_rewrite(
        "mlserve.testing._block_monitors",
        "mlserve.testing._event_monitors",
        "mlserve.testing._fleet_monitors",
        "mlserve.testing._further_monitors",
        "mlserve.testing._monitor_contract",
        "mlserve.testing._monitor_machine",
        "mlserve.testing._monitors",
        "mlserve.testing._prediction_monitors",
        "mlserve.testing._repositories",
        "mlserve.testing._repository_machine",
        "mlserve.testing._writable_repositories",
    )

    from mlserve.testing._block_monitors import BlockMonitorContract
    from mlserve.testing._event_monitors import DeferringMonitorContract, EventMonitorContract
    from mlserve.testing._filesystem import PowerLoss, SimulatedDisk
    from mlserve.testing._fleet_monitors import CumulativeMonitorContract, MergeableMonitorContract
    from mlserve.testing._further_monitors import BaselineMonitorContract, LabelledMonitorContract
    from mlserve.testing._models import ConstantModel
    from mlserve.testing._monitor_machine import MonitorMachine
    from mlserve.testing._monitors import ModelMonitorContract
    from mlserve.testing._prediction_monitors import PredictionMonitorContract
    from mlserve.testing._repositories import (
        ModelRepositoryContract,
        ObservableRepositoryContract,
        VersionDescriberContract,
    )
    from mlserve.testing._repository_machine import RepositoryMachine
    from mlserve.testing._writable_repositories import WritableModelRepositoryContract
except ModuleNotFoundError as _error:  # pragma: no cover  # tested in an interpreter of its own
    _missing = (_error.name or "").partition(".")[0]
    if _missing not in {"hypothesis", "pytest"}:
        raise
    raise _MissingExtraError(_missing, "test", "mlserve.testing") from _error

__all__ = [
    "BaselineMonitorContract",
    "BlockMonitorContract",
    "ConstantModel",
    "CumulativeMonitorContract",
    "DeferringMonitorContract",
    "EventMonitorContract",
    "LabelledMonitorContract",
    "ManualClock",
    "MergeableMonitorContract",
    "ModelMonitorContract",
    "ModelRepositoryContract",
    "MonitorMachine",
    "ObservableRepositoryContract",
    "PowerLoss",
    "PredictionMonitorContract",
    "RepositoryMachine",
    "SimulatedDisk",
    "VersionDescriberContract",
    "WritableModelRepositoryContract",
]
