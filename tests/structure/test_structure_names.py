"""What the package shows: ``__all__`` and docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mlserve

ROOMS = ["mlserve", *(f"mlserve.{found.name}" for found in pkgutil.iter_modules(mlserve.__path__) if found.ispkg)]
PAGES = [
    f"mlserve.{found.name}"
    for found in pkgutil.iter_modules(mlserve.__path__)
    if not found.ispkg and not found.name.startswith("_")
]
SOURCES = sorted(Path(mlserve.__file__).parent.rglob("*.py"))


def visible(module: ModuleType) -> set[str]:
    """Public names of a module that are no modules."""
    names = {name for name in dir(module) if not name.startswith("_")}
    return {name for name in names if not inspect.ismodule(getattr(module, name))}


@pytest.mark.parametrize("name", ROOMS)
def test_all_of_a_room_is_what_is_visible(name: str) -> None:
    """A room's ``__all__`` names every public name in its ``__init__`` but modules, and no other."""
    module = importlib.import_module(name)
    assert set(module.__all__) == visible(module)


@pytest.mark.parametrize("name", PAGES)
def test_all_of_a_module_is_what_it_defines(name: str) -> None:
    """A public module's ``__all__`` names every public class and function that it defines."""
    module = importlib.import_module(name)
    defined = {
        name
        for name in visible(module)
        if inspect.isclass(value := getattr(module, name)) or inspect.isfunction(value)
        if value.__module__ == module.__name__
    }
    assert defined == set(module.__all__)


@pytest.mark.parametrize("name", [*ROOMS, *PAGES])
def test_all_is_sorted(name: str) -> None:
    """``__all__`` is sorted and names nothing twice."""
    names = importlib.import_module(name).__all__
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_what_is_public_has_a_docstring(path: Path) -> None:
    """Every module, and every class and function at its top level without an underscore, has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = [
        node
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_")
        if not any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)
    ]
    undocumented = [node.name for node in definitions if not ast.get_docstring(node)]
    assert (bool(ast.get_docstring(tree)), undocumented) == (True, [])


def members() -> Iterator[tuple[str, list[Any]]]:
    """Public methods and properties of exported classes that mlserve defines, as each class of the tree has them."""
    for room in [*ROOMS, *PAGES]:
        shown = importlib.import_module(room)
        for cls in (getattr(shown, name) for name in shown.__all__):
            if not inspect.isclass(cls):
                continue
            for name, member in inspect.getmembers(cls):
                wrapped = inspect.unwrap(member.fget if isinstance(member, property) else member)
                module = getattr(wrapped, "__module__", None) or ""
                if not name.startswith("_") and inspect.isroutine(wrapped) and module.startswith("mlserve"):
                    yield f"{cls.__module__}.{cls.__qualname__}.{name}", [vars(base).get(name) for base in cls.__mro__]


@pytest.mark.parametrize("said", [pytest.param(said, id=name) for name, said in sorted(dict(members()).items())])
def test_what_an_exported_class_offers_has_a_docstring(said: list[Any]) -> None:
    """Every public method and property of an exported class has a docstring, its own or the one it overrides."""
    assert any(getattr(member, "__doc__", None) for member in said if member is not None)
