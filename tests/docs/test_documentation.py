"""Whatever the documentation shows is run, and what it lists is complete."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from io import StringIO
from pathlib import Path

import pytest
from documents import DOCS, DOCUMENTS, ROOT, read, run

import mlserve
from mlserve.errors import ErrorKind

FENCE = re.compile(r"^```(\S+)", re.MULTILINE)
# Of code, only Python and the shell: a block marked otherwise would not be run.
LANGUAGES = frozenset({"python", "sh", "text", "{eval-rst}", "{literalinclude}", "{toctree}"})


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if list(read(path).examples())], ids=named)
def test_a_document_does_what_it_shows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of Python in a document runs, in order, and prints what the document says."""
    monkeypatch.chdir(tmp_path)
    count, _ = run(path)
    assert count > 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_a_block_says_its_language(path: Path) -> None:
    """Every block of code is Python, shell or plain text, so that no Python is left unrun for its name."""
    text = path.read_text(encoding="utf-8")
    opened = len(re.findall(r"^```", text, re.MULTILINE)) // 2
    languages = FENCE.findall(text)
    assert (len(languages), set(languages) - LANGUAGES) == (opened, set())


def docstrings() -> Iterator[doctest.DocTest]:
    """The examples in the docstrings of every module."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in [mlserve.__name__, *(info.name for info in pkgutil.walk_packages(mlserve.__path__, "mlserve."))]:
        yield from (test for test in finder.find(importlib.import_module(found)) if test.examples)


@pytest.mark.parametrize("example", [pytest.param(test, id=test.name) for test in docstrings()])
def test_a_docstring_does_what_it_shows(example: doctest.DocTest) -> None:
    """Every example in a docstring runs and prints what it says."""
    said = StringIO()
    result = doctest.DocTestRunner().run(example, out=said.write)
    assert result.failed == 0, said.getvalue()


def test_the_reference_names_the_whole_top_level() -> None:
    """The reference's page of the top level lists every name of ``mlserve.__all__``, once."""
    page = (DOCS / "reference" / "top_level.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\{py:\w+\}`~mlserve\.\w+\.(\w+)`", page)) == mlserve.__all__


def test_the_reference_has_a_page_for_every_room() -> None:
    """Every public module has its page in the reference."""
    rooms = {info.name for info in pkgutil.iter_modules(mlserve.__path__) if not info.name.startswith("_")}
    assert {path.stem for path in (DOCS / "reference").glob("*.md")} - {"index", "top_level"} == rooms


def test_every_error_kind_is_explained() -> None:
    """The table of status codes has a row for every kind of error."""
    page = (DOCS / "howto" / "errors.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| .* \| \d{3}", page, re.MULTILINE) == [kind.value for kind in ErrorKind]


def test_the_example_answers_with_the_documented_status() -> None:
    """The FastAPI example maps errors to the status codes that the documentation gives."""
    _, shown = run(DOCS / "howto" / "errors.md")
    loader = SourceFileLoader("documented_fastapi_service", str(ROOT / "examples" / "fastapi_service.py"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    service = module_from_spec(spec)
    loader.exec_module(service)
    assert shown["HTTP_STATUS"] == service.HTTP_STATUS


LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document leads to a file of the repository."""
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []
