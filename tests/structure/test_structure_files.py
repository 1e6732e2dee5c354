"""The files themselves: short enough to read, and finished."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "mlserve").rglob("*.py"))
LONGEST_MODULE = 420

FOLDERS = ("mlserve", "tests", "docs", "examples", ".ci")
TEXT = frozenset(
    {".cfg", ".css", ".html", ".ini", ".ipynb", ".md", ".py", ".rst", ".sh", ".toml", ".txt", ".yaml", ".yml"}
)
WITHOUT_SUFFIX = frozenset({".gitignore", "LICENSE", "run"})
BUILT = frozenset({"_build", "__pycache__", "output"})
# Put together here, so that this file does not hold them.
UNFINISHED = re.compile(rf"\b({'|'.join(('TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'TB' + 'D'))})\b")


def text_files() -> list[Path]:
    """The repository's own files of text."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    own = (path for path in found if not BUILT & set(path.relative_to(ROOT).parts))
    return sorted(path for path in own if path.suffix in TEXT or path.name in WITHOUT_SUFFIX)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    """No module of the package is longer than 420 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


def test_nothing_is_left_for_later() -> None:
    """No file of the repository holds a mark that says it is not finished."""
    marked = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert marked == []


def test_the_files_are_found() -> None:
    """The search for unfinished marks sees the package, the tests, the docs and the files at the top."""
    names = {str(path.relative_to(ROOT)) for path in text_files()}
    assert {
        "pyproject.toml",
        "mlserve/__init__.py",
        "docs/index.md",
        "tests/structure/test_structure_files.py",
    } <= names
