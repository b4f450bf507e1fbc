"""Tables that never split words: where columns do not fit the console, each row becomes a list."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

GAP = 2
"""Between two columns, characters."""
LEAST = 12
"""Cells of up to this many characters are not wrapped."""
ANY = 10_000


class FittingTable(Table):
    """A table without lines. Where a column had to split words, each row is printed as a list."""

    def __init__(self, title: str | None = None) -> None:
        super().__init__(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim"
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render what fits the console."""
        if self._fit(console, options):
            yield from super().__rich_console__(console, options)
        else:
            yield from self._list()

    def _fit(self, console: Console, options: ConsoleOptions) -> bool:
        """Set the columns' widths; return False when they do not fit."""
        wide = options.update(width=ANY)
        least: list[int] = []
        most: list[int] = []
        for column in self.columns:
            cells = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
            widest, word = max(c.maximum for c in cells), max(c.minimum for c in cells)
            most.append(widest)
            least.append(widest if column.no_wrap else max(word, min(widest, max(LEAST, column.min_width or 0))))
        left = options.max_width - sum(least) - GAP * (len(least) - 1)
        if left < 0:
            return False
        for column, low, high in zip(self.columns, least, most, strict=True):
            more = min(left, high - low)
            column.width = low + more
            left -= more
        return True

    def _list(self) -> RenderResult:
        if self.title:
            yield Text(str(self.title), style="bold")
        for row in zip(*(list(column.cells) for column in self.columns), strict=True):
            yield from _entry(self.columns, row)


def _entry(columns: list[Column], row: tuple[object, ...]) -> Iterator[RenderableType]:
    """Yield the first cell, and below it the others with their columns' names."""
    first, *cells = row
    line = Text()
    for column, cell in zip(columns[1:], cells, strict=True):
        text = _text(cell)
        text.rstrip()
        if text.plain:
            line.append(", " if line.plain else "")
            line.append(f"{column.header} ", style="dim")
            line.append_text(text)
    yield _text(first)
    yield Padding(line, (0, 0, 0, 2))


def _text(cell: object) -> Text:
    return cell.copy() if isinstance(cell, Text) else Text(str(cell))
