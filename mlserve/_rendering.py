"""Records as text and as HTML for notebooks. Everything shown is escaped; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_STYLE = "border-collapse:collapse;font-size:13px"
_CELL = "text-align:left;padding:2px 10px;border-bottom:1px solid #8884;vertical-align:top"


def text_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A title and one aligned line for each (name, text)."""
    listed = list(rows)
    width = max((len(name) for name, _ in listed), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in listed)])


def text_grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A grid with aligned columns; the header is underlined."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def escape(text: str) -> str:
    """Text as it may stand in HTML."""
    import html  # its table of a thousand entities is not needed to serve

    return html.escape(text)


def html_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A caption and one row for each (name, text)."""
    body = "".join(
        f"<tr><th style='{_CELL}'>{escape(name)}</th><td style='{_CELL}'>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table style='{_STYLE}'><caption><b>{escape(title)}</b></caption><tbody>{body}</tbody></table>"


def html_grid(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A caption, a header and the rows."""
    head = "".join(f"<th style='{_CELL}'>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td style='{_CELL}'>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<table style='{_STYLE}'><caption><b>{escape(title)}</b></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def described(exception: BaseException) -> str:
    """The type and the text of an exception; never raises, whatever the exception's own ``__str__`` does."""
    name = type(exception).__name__
    try:
        text = str(exception)
    except Exception:
        return f"{name}, whose text cannot be shown"
    return f"{name}: {text}" if text else name


def number(value: float | None, digits: int = 4) -> str:
    """A number for people; ``"-"`` where there is none."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; ``"-"`` where there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"
