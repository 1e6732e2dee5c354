"""Grafana: a ready dashboard for what ``mlserve.integrations.prometheus`` shows.

Write it to a file and import that in Grafana, or put it where Grafana provisions dashboards from::

    python -m mlserve.integrations.grafana > mlserve.json

It asks for its Prometheus data source when it is opened, and needs no package.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from typing import Any

__all__ = ["dashboard"]

FILE = "grafana_dashboard.json"


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it, schema version 39 (Grafana 10.4 or newer).

    Returns:
        A new dictionary: change title, panels or refresh before you store it.

    Example:
        >>> board = dashboard()
        >>> board["title"], [variable["name"] for variable in board["templating"]["list"]]
        ('mlserve', ['datasource', 'model', 'version'])
    """
    board: dict[str, Any] = json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return board


if __name__ == "__main__":  # pragma: no cover  # tested in an interpreter of its own
    json.dump(dashboard(), sys.stdout, indent=2)
