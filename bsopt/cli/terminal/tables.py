"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsopt.units import printable

__all__ = ["show_table"]

_LEAST = 12
"""Characters of a column of words before its neighbours would be cut."""


def show_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    left: Collection[int] = (),
    spare: Sequence[int] = (),
) -> None:
    """Print a table, right-aligned but for the columns in `left`; in a pipe no line is cut or wrapped.

    Where a terminal is too narrow headings are broken at spaces, then the columns in `spare` are left out, the first of
    them first, and then words are wrapped: nothing is cut.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    # As it is: a name is neither markup nor an order to the terminal.
    cells = [[Text(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows]
    heads, shown = _that_fit(header, cells, spare=spare, width=console.width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number in shown:
        is_left, needed = number in left, _width(heads[number], [row[number] for row in cells])
        table.add_column(
            heads[number],
            justify="left" if is_left else "right",
            no_wrap=not is_left,
            overflow="fold",
            min_width=min(needed, _LEAST) if is_left else needed,
        )
    for row in cells:
        table.add_row(*(row[number] for number in shown))
    console.print(table)


def _that_fit(
    header: Sequence[str], rows: Sequence[Sequence[Text]], *, spare: Sequence[int], width: int
) -> tuple[list[str], list[int]]:
    """Return the headings and the columns to show: all, or what a line of this width has room for."""
    columns = [[row[number] for row in rows] for number in range(len(header))]
    shown = list(range(len(header)))
    broken = [
        "\n".join(wrap(name, max(_width("", column), *map(cell_len, name.split())))) if name else name
        for name, column in zip(header, columns, strict=True)
    ]

    def is_fitting(heads: Sequence[str]) -> bool:
        return sum(_width(heads[i], columns[i]) + 2 for i in shown) - 2 <= width

    if not (is_fitting(header) or is_fitting(broken)):
        for number in spare:
            shown.remove(number)
            if is_fitting(broken):
                break
    return list(header) if is_fitting(header) else broken, shown


def _width(head: str, column: Sequence[Text]) -> int:
    return max([*map(cell_len, head.split("\n")), *(cell.cell_len for cell in column)])
