"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsopt.units import printable

__all__ = ["show_table"]


def show_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    left: Collection[int] = (),
    spare: Sequence[int] = (),
) -> None:
    """Print a table, right-aligned but for the columns in `left`; in a pipe no line is cut or wrapped.

    Where a terminal is too narrow the columns in `spare` are left out, the first of them first, and then words are
    wrapped: nothing is cut.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    # As it is: a name is neither markup nor an order to the terminal.
    cells = [[Text(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows]
    shown = _that_fit([cell_len(name) for name in header], cells, spare=spare, width=console.width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number in shown:
        is_left = number in left
        table.add_column(
            header[number], justify="left" if is_left else "right", no_wrap=not is_left, overflow="fold", min_width=3
        )
    for row in cells:
        table.add_row(*(row[number] for number in shown))
    console.print(table)


def _that_fit(widths: list[int], rows: Sequence[Sequence[Text]], *, spare: Sequence[int], width: int) -> list[int]:
    """Return the columns to show: all, less those of `spare` that a line of this width has no room for."""
    needed = [max([head, *(row[number].cell_len for row in rows)]) + 2 for number, head in enumerate(widths)]
    shown = list(range(len(widths)))
    for number in spare:
        if sum(needed[i] for i in shown) - 2 <= width:
            break
        shown.remove(number)
    return shown
