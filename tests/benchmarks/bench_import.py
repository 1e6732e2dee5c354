"""What ``import mlserve`` costs, against what it stands on, in one run.

    python tests/benchmarks/bench_import.py [--quick] [--json FILE]

Each import happens in a fresh interpreter, which times it and says how long it took; starting Python is not counted.
The contenders alternate, so that a slow moment of the machine meets both; the median counts. Bytecode is kept in a
folder of the benchmark's own, which a first round that is not counted fills, so that neither side is compiled again
and again where the environment forbids writing it. BLAS is told to start no threads: that takes longer the busier the
machine is, and would drown the difference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

TIMED = """
import sys, time
sys.path.insert(0, sys.argv[1])
begun = time.perf_counter()
{statement}
print(time.perf_counter() - begun)
"""

GROUND = "import numpy, attrs"
CONTENDERS = (GROUND, "import mlserve")


def milliseconds(statement: str, bytecode: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement=statement), str(ROOT)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment.update(PYTHONPYCACHEPREFIX=bytecode, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout) * 1000.0


def measure(rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {statement: [] for statement in CONTENDERS}
    with tempfile.TemporaryDirectory() as bytecode:
        for round_number in range(rounds + 1):
            for statement in CONTENDERS:
                took = milliseconds(statement, bytecode)
                if round_number:
                    taken[statement].append(took)
    return {statement: statistics.median(rounds_taken) for statement, rounds_taken in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    figures = measure(5 if options.quick else 21)
    print(f"{'':24}{'ms':>10}{'ratio':>10}")
    for statement, value in figures.items():
        print(f"{statement:24}{value:10.1f}{value / figures[GROUND]:10.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
