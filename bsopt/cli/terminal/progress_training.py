"""One training under way, without a study around it: renewed in place in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import click
from rich.console import Console

from bsopt.cli.terminal.formatting import sparkline
from bsopt.cli.terminal.run_progress import RunProgress
from bsopt.trial.events import Listener, TrialStart
from bsopt.trial.record import Tick
from bsopt.units import format_number

__all__ = ["TrainingLines", "showing_training"]

SECONDS_BETWEEN_LINES = 30.0


class TrainingLines(Listener):
    """Tells how the training goes, one line after another.

    Args:
        tell: Takes one line.
        progress: The training, which passes its events on to this.
        monitor: Name of the metric.
        seconds_between: At least so many seconds lie between two lines.
    """

    def __init__(
        self, tell: Callable[[str], object], progress: RunProgress, *, monitor: str, seconds_between: float
    ) -> None:
        self._tell = tell
        self._progress = progress
        self._monitor = monitor
        self._seconds_between = seconds_between
        self._last = progress.elapsed

    def trial_started(self, start: TrialStart) -> None:
        self._tell(f"training with batch size {start.plan}, lr {format_number(start.lr)}; its log: {start.log}")

    def ticked(self, number: int, tick: Tick) -> None:
        now = self._progress.elapsed
        if now - self._last < self._seconds_between:
            return
        self._last = now
        value = f"{self._monitor} {format_number(tick.value)}"
        self._tell(f"{tick.where}: {value}  {sparkline(self._progress.curve(number))}")


@contextlib.contextmanager
def showing_training(monitor: str, *, is_shown: bool) -> Iterator[Listener]:
    """Give the listener that shows a training; one that shows nothing where programs read."""
    console, progress = Console(highlight=False), RunProgress()
    if not is_shown:
        yield progress
    elif console.is_terminal:
        with console.status("starting") as status:
            yield progress.shown_by(TrainingLines(status.update, progress, monitor=monitor, seconds_between=0.0))
    else:
        lines = TrainingLines(click.echo, progress, monitor=monitor, seconds_between=SECONDS_BETWEEN_LINES)
        yield progress.shown_by(lines)
