"""Snapshots of a ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mlserve.monitors._cells import CellTable
from mlserve.monitors._ledger import Ledger
from mlserve.monitors._tables import TrafficTable
from mlserve.records import MonitorSnapshot


def taken(ledger: Ledger, source: str, after: int, at: datetime) -> MonitorSnapshot:
    """What a ledger itself counted, as far as it changed after a change; the owner holds its lock."""
    inputs = ledger.inputs
    header, columns = TrafficTable.of(ledger.changed_traffic(after)).parts()
    cells = CellTable.of(inputs.digests, inputs.complete_since, inputs.changed(after))
    input_header, input_columns = cells.parts()
    levels: dict[str, Any] = {"levels": ledger.levels, "input_levels": inputs.levels}
    return MonitorSnapshot(
        source=source,
        sequence=ledger.change,
        after=after,
        taken_at=at,
        header={**header, **input_header, **levels},
        columns={**columns, **input_columns},
    )
