"""The documents whose Python is run, and how."""

from __future__ import annotations

import builtins
from doctest import ELLIPSIS
from pathlib import Path
from typing import Any

from sybil import Sybil
from sybil.document import Document
from sybil.parsers.myst import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *(path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts)]

_READER = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)], path=str(ROOT))


def read(path: Path) -> Document:
    """A document, with its blocks of Python as examples. None can be skipped."""
    return _READER.parse(path)


def run(path: Path) -> tuple[int, dict[str, Any]]:
    """Run every block of a document, one after the other. Gives how many there were, and what they defined."""
    document = read(path)
    examples = list(document.examples())
    for example in examples:
        example.evaluate()
    # sybil takes it out again, but a function that imports later, as pickle does, looks for it.
    document.namespace["__builtins__"] = builtins
    return len(examples), document.namespace
