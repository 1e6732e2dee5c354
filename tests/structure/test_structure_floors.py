"""The import contract: a room imports what stands below it, and optional packages come in through floor 4 only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mlserve"

# From the ground up; what shares a line may not import its neighbours.
FLOORS = (
    ("errors", "_importing", "_logs"),
    ("numerics",),
    ("clocks", "_plotting", "_progress", "_rendering", "_stacking"),
    ("records",),
    ("schemas",),
    ("protocols",),
    ("_buckets", "_counting", "_forking"),
    ("repositories", "monitors", "serving", "drift", "rollout"),
    ("operations",),
    ("integrations", "dashboard", "testing"),
)
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}
DOORS = frozenset({"integrations", "dashboard", "testing"})
CORE = frozenset({"attr", "attrs", "mlserve", "numpy", "scipy", "typing_extensions"}) | sys.stdlib_module_names

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(nodes: Iterable[ast.AST], *, inside_functions: bool) -> Iterator[str]:
    """Names of imported modules; what only type checkers import does not count."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from mlserve import x` may mean the module x.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(node.orelse, inside_functions=inside_functions)
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(ast.iter_child_nodes(node), inside_functions=inside_functions)


def imported(path: Path, *, inside_functions: bool) -> set[str]:
    """Names of the modules that a file imports."""
    return set(imports([ast.parse(path.read_text(encoding="utf-8"))], inside_functions=inside_functions))


def rooms_imported(path: Path) -> set[str]:
    """The rooms of mlserve that a file imports, anywhere in it."""
    return {name.split(".")[1] for name in imported(path, inside_functions=True) if name.startswith("mlserve.")}


def test_every_module_has_its_floor() -> None:
    """Whatever lies in the package is on the plan of the house."""
    assert {room_of(path) for path in MODULES} <= HEIGHT.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_stands_below_it(path: Path) -> None:
    """No module imports from a higher floor, from a neighbour on its own, or from the package's front page."""
    room = room_of(path)
    assert {other for other in rooms_imported(path) - {room} if HEIGHT.get(other, len(FLOORS)) >= HEIGHT[room]} == set()


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room_of(path) not in DOORS], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_optional_packages_are_imported_where_they_are_needed(path: Path) -> None:
    """Below floor 4 a package that is no core dependency is imported inside a function only."""
    packages = {name.partition(".")[0] for name in imported(path, inside_functions=False)}
    assert packages - CORE == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "numerics").glob("*.py")), ids=lambda path: path.name)
def test_numerics_knows_nothing_of_serving(path: Path) -> None:
    """Of mlserve, the numerics import their own room, the errors and the lazy imports only."""
    assert rooms_imported(path) <= {"errors", "numerics", "_importing"}
