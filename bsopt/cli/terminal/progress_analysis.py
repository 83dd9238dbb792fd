"""An analysis under way: bars in a terminal, a line for each examination elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click
from rich.console import Console
from rich.progress import Progress, TaskID

from bsopt.experiment.analyzing import AnalysisListener
from bsopt.units import count_of

__all__ = ["AnalysisProgress", "showing_analysis"]


class AnalysisProgress(AnalysisListener):
    """Shows how far the examinations are.

    Args:
        bars: Where their bars go.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._total = self._done = 0
        self._all: TaskID | None = None

    def started(self, *, num_new: int, num_known: int, num_without_weights: int) -> None:
        self._total = num_new
        known = f", {num_known} are known" if num_known else ""
        click.echo(f"{num_new} examinations of trained weights to make{known}")
        if num_without_weights:
            click.echo(
                f"{count_of(num_without_weights, 'run')} without the weights to examine: `checkpoints: all` in the "
                "study file keeps them, and those at a matched_loss where a logged training loss comes down to it"
            )
        if num_new:
            self._all = self._bars.add_task("all", total=num_new)

    def progressed(self, key: str, done: int, total: int) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(key, total=total)
        self._bars.update(self._tasks[key], completed=done)

    def ended(self, key: str) -> None:
        self._done += 1
        if key in self._tasks:
            self._bars.remove_task(self._tasks.pop(key))
        if self._all is not None:
            self._bars.advance(self._all)
        if self._bars.disable:
            click.echo(f"{key} [{self._done}/{self._total}]")


@contextlib.contextmanager
def showing_analysis(*, is_shown: bool) -> Iterator[AnalysisListener]:
    """Give the listener that shows an analysis; one that shows nothing where programs read."""
    if not is_shown:
        yield AnalysisListener()
        return
    console = Console(highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        yield AnalysisProgress(bars)
