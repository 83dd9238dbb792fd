"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsopt.units import printable

__all__ = ["show_table"]


def show_table(header: Sequence[str], rows: Sequence[Sequence[str | Text]], *, left: Collection[int] = ()) -> None:
    """Print a table, right-aligned but for the columns in `left`; in a pipe no line is cut or wrapped."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(header):
        is_left = number in left
        table.add_column(name, justify="left" if is_left else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        # As it is: a name is neither markup nor an order to the terminal.
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    console.print(table)
