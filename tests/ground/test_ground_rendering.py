"""Records as text and as HTML."""

from __future__ import annotations

import pytest

from mlserve._rendering import described, html_grid, html_table, number, percent, text_grid, text_table

SCRIPT = "<script>alert('x')</script> & \"more\""


def test_a_text_table_is_aligned():
    """The texts of a table begin in one column."""
    assert text_table("Title", [("a", "1"), ("long", "2")]) == "Title\n  a     1\n  long  2"


def test_a_text_table_may_be_empty():
    """A table without rows is its title."""
    assert text_table("Title", []) == "Title"


def test_a_text_grid_is_aligned():
    """The cells of a grid stand below each other and the header is underlined."""
    assert text_grid(["a", "long"], [["1", "2"], ["333", ""]]) == "a    long\n---  ----\n1    2\n333"


def test_a_text_grid_may_be_empty():
    """A grid without rows is its header."""
    assert text_grid(["a", "b"], []) == "a  b\n-  -"


@pytest.mark.parametrize(
    "html",
    [
        html_table(SCRIPT, []),
        html_table("", [(SCRIPT, "")]),
        html_table("", [("", SCRIPT)]),
        html_grid(SCRIPT, [], []),
        html_grid("", [SCRIPT], []),
        html_grid("", ["a"], [[SCRIPT]]),
    ],
    ids=["table title", "name", "text", "grid title", "header", "cell"],
)
def test_everything_shown_is_escaped(html):
    """Whatever is shown is escaped, wherever it stands."""
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "&amp;" in html


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        (ValueError("too large"), "ValueError: too large"),
        (ValueError(), "ValueError"),
        (MuteError(), "MuteError, whose text cannot be shown"),
    ],
    ids=["text", "no text", "no text to be had"],
)
def test_an_exception_is_told_by_type_and_text(exception, text):
    """An exception is its type and its text; one whose text cannot be had is told by its type."""
    assert described(exception) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0"), (0.123456, "0.1235"), (123456.0, "1.235e+05"), (2, "2")]
)
def test_numbers_are_short(value, text):
    """A number has four digits; what is absent is a dash, not a zero."""
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.0, "0.0 %"), (0.1234, "12.3 %"), (1.0, "100.0 %")])
def test_shares_are_percentages(value, text):
    """A share is a percentage; what is absent is a dash, not a zero."""
    assert percent(value) == text
