"""What ``import mlserve`` does: as little as possible. Each question is put to a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

ALLOWED = frozenset({"attr", "attrs", "mlserve", "numpy", "typing_extensions"})

LOOK_AROUND = """
import json, logging, sys, threading
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import mlserve
loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
print(json.dumps({
    "modules": sorted(set(sys.modules) - before),
    "handlers": [logger.name for logger in loggers if logger.handlers],
    "levels": [logger.name for logger in loggers[1:] if logger.name.startswith("mlserve") and logger.level],
    "threads": [thread.name for thread in threading.enumerate()],
}))
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What a fresh interpreter holds after ``import mlserve``."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOOK_AROUND, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_import_brings_no_package_but_the_core_dependencies(seen: dict[str, Any]) -> None:
    """Of third parties, ``import mlserve`` imports numpy, attrs and typing_extensions, and nothing else."""
    packages = {name.partition(".")[0] for name in seen["modules"]}
    assert packages - sys.stdlib_module_names - ALLOWED == set()


def test_import_leaves_scipy_for_later(seen: dict[str, Any]) -> None:
    """``import mlserve`` imports no part of scipy: its first use pays for it."""
    assert [name for name in seen["modules"] if name.partition(".")[0] == "scipy"] == []


def test_import_configures_no_logging(seen: dict[str, Any]) -> None:
    """``import mlserve`` adds no handler to any logger and sets no level of its own loggers."""
    assert (seen["handlers"], seen["levels"]) == ([], [])


def test_import_starts_no_thread(seen: dict[str, Any]) -> None:
    """After ``import mlserve`` the main thread is the only one."""
    assert seen["threads"] == ["MainThread"]


KOLMOGOROV_SMIRNOV = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy
from mlserve.drift import compare_inputs
rng = numpy.random.default_rng(0)
compare_inputs(rng.normal(size=(5000, 3)), rng.normal(size=(1000, 3)))
compare_inputs(rng.normal(size=(100, 3)), rng.normal(size=(100, 3)))
print(*[name for name in sys.modules if name.startswith("scipy.stats")])
"""


def test_drift_detection_never_imports_scipy_stats() -> None:
    """Comparing inputs, with large and with small samples, does without ``scipy.stats``, a second to import."""
    ran = subprocess.run(
        [sys.executable, "-c", KOLMOGOROV_SMIRNOV, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []
