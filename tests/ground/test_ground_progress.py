"""Progress bars: only where they are wanted, and only where it takes long."""

from __future__ import annotations

import io
import sys

import pytest

from mlserve import _progress
from mlserve._progress import progressed
from mlserve.errors import InvalidArgumentError, MissingExtraError

ITEMS = ["a", "b", "c"]


class Terminal(io.StringIO):
    """A standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


def look(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal, in the test itself: between fixtures and test it is replaced."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def closed() -> Terminal:
    stream = Terminal()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [io.StringIO(), None, closed()], ids=["a file", "none", "closed"])
def test_nobody_asked_and_nobody_looks(monkeypatch, stream):
    """Where standard error is no terminal, and a bar was not asked for, the items are what was given."""
    monkeypatch.setattr(sys, "stderr", stream)
    assert progressed(ITEMS, label="letters", show=None) is ITEMS


def test_a_bar_can_be_refused(monkeypatch):
    """A bar that is not wanted is not made, on a terminal either."""
    look(monkeypatch)
    assert progressed(ITEMS, label="letters", show=False) is ITEMS


@pytest.mark.parametrize("show", [True, None])
def test_a_bar_counts_the_items(monkeypatch, show):
    """On a terminal, or where it is asked for, a bar with its label counts the items, and is taken away in the end."""
    terminal = look(monkeypatch)
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    assert list(progressed(ITEMS, label="letters", show=show, total=3)) == ITEMS
    said = terminal.getvalue()
    assert "letters" in said
    assert "0/3" in said
    assert said.rpartition("\r")[0].split("\r")[-1].strip() == ""


def test_what_is_done_at_once_shows_no_bar(monkeypatch):
    """Work that is done before the delay is over leaves nothing on the terminal."""
    terminal = look(monkeypatch)
    monkeypatch.setattr(_progress, "DELAY", 3600.0)
    assert list(progressed(ITEMS, label="letters", show=True)) == ITEMS
    assert terminal.getvalue() == ""


def test_a_bar_goes_away_with_an_exception(monkeypatch):
    """When the work breaks off, its bar is taken away, too."""
    terminal = look(monkeypatch)
    monkeypatch.setattr(_progress, "DELAY", 0.0)
    items = iter(progressed(ITEMS, label="letters", show=True))
    next(items)
    items.close()
    assert terminal.getvalue().rpartition("\r")[0].split("\r")[-1].strip() == ""


def test_a_bar_that_is_asked_for_needs_tqdm(monkeypatch):
    """Without tqdm the error names the extra that brings it, before any work is done."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(MissingExtraError, match=r"mlserve\[progress\]"):
        progressed(ITEMS, label="letters", show=True)


def test_without_tqdm_nobody_is_bothered(monkeypatch):
    """Without tqdm a bar that nobody asked for is left out."""
    look(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert progressed(ITEMS, label="letters", show=None) is ITEMS


def test_what_is_no_answer_is_refused():
    """``progress`` is True, False or None."""
    with pytest.raises(InvalidArgumentError, match="progress must be True, False or None"):
        progressed(ITEMS, label="letters", show="yes")
