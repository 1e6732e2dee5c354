"""A monitor that has merged nothing."""

from __future__ import annotations

from mlserve.monitors._inputs import CellCounts
from mlserve.monitors._windows import TrafficSummary


class NothingMerged:
    """Stands for the snapshots of others where there are none: most monitors never merge, and need not load how."""

    gaps = 0

    def __len__(self) -> int:
        return 0

    def summaries(self, *_span: object) -> list[TrafficSummary]:
        """Nothing."""
        return []

    def has_answers(self, *_span: object) -> bool:
        """No."""
        return False

    def cells(self, *_span: object) -> list[CellCounts]:
        """Nothing."""
        return []

    def totals(self) -> list[tuple[str | None, TrafficSummary]]:
        """Nothing."""
        return []

    def forget_old(self, _now: int) -> None:
        """Nothing."""


NOTHING_MERGED = NothingMerged()
