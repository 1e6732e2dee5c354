"""What all tests share."""

from __future__ import annotations

import re
from typing import Any

import pytest

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def pytest_make_parametrize_id(config: pytest.Config, val: Any, argname: str) -> str | None:
    """Name a case by its value, without the address: the processes that share the tests must agree on their names."""
    if val is None or isinstance(val, (str, bool, int, float, type)) or callable(val):
        return None
    text = ADDRESS.sub("", repr(val))
    return text if len(text) < 100 else None
