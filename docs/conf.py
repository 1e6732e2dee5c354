"""How the documentation is built: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import enum
from importlib import metadata
from typing import Any

from mlserve.monitors import _memory
from mlserve.records import MonitorStatistics, ServerStatistics
from mlserve.serving import Batching, Breaker, _server
from mlserve.serving._fallbacks import Fallback

project = "mlserve"
author = "The mlserve authors"
copyright = f"2026, {author}"
try:
    release = metadata.version("mlserve")
except metadata.PackageNotFoundError:  # built from a source tree that is not installed
    release = "source"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "mlserve"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ArrayLike": "ArrayLike", "npt.ArrayLike": "ArrayLike"}  # its definition fills three lines
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a list beside the class; an attribute of its own would be described twice
napoleon_attr_annotations = False  # the signature shows them already
python_maximum_signature_line_length = 100


def show_enum_members(_app: Any, _what: str, _name: str, obj: Any, _skip: bool, _options: Any) -> bool | None:
    """Show the members of an enum, which have values rather than docstrings."""
    return False if isinstance(obj, enum.Enum) else None


def escape_bars(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Leave |x| the absolute value, which reStructuredText would take for a substitution; code and formulas stay."""
    for number, line in enumerate(lines):
        if "math::" not in line and "\\" not in line:
            pieces = line.split("``")
            pieces[::2] = [piece.replace("|", "\\|") for piece in pieces[::2]]
            lines[number] = "``".join(pieces)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    # Names in signatures that the package imports only when they are used: Sphinx looks them up there.
    later = {
        _server: {"Batching": Batching, "Breaker": Breaker, "Fallback": Fallback, "ServerStatistics": ServerStatistics},
        _memory: {"MonitorStatistics": MonitorStatistics},
    }
    for module, names in later.items():
        for name, named in names.items():
            setattr(module, name, named)
    app.connect("autodoc-skip-member", show_enum_members)
    app.connect("autodoc-process-docstring", escape_bars)
