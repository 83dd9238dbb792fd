"""A run as a live picture in the terminal: trials that ended scroll by, the ones under way stay below."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bsopt.cli.terminal.formatting import sparkline
from bsopt.cli.terminal.run_progress import Running, RunProgress
from bsopt.trial.events import Listener, RunSummary
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.units import format_duration, format_number

__all__ = ["LiveProgress"]

_SIGNS = {"complete": ("✓", "green"), "pruned": ("–", "yellow"), "fail": ("✗", "red")}
_COUNTED = {"complete": "complete", "pruned": "pruned", "fail": "failed"}
_CURVE_WIDTH = 12
_CHOOSING = Text("●  choosing the next trial", style="dim")


class LiveProgress(Listener):
    """Shows the study from its start until `close`.

    Args:
        console: Where to.
        progress: The run, which passes its events on to this; rich's thread reads it for every picture.
    """

    def __init__(self, console: Console, progress: RunProgress) -> None:
        self._console = console
        self._progress = progress
        self._live = Live(console=console, get_renderable=self.picture, refresh_per_second=8, transient=True)

    def close(self) -> None:
        """Take the picture down, also when the run raised."""
        self._live.stop()

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        self._live.start()

    def trial_ended(self, record: TrialRecord) -> None:
        self._console.print(self._ended(record))

    def note(self, message: str) -> None:
        self._console.print(Text(message, style="yellow"))

    def study_ended(self, summary: RunSummary) -> None:
        """The command prints the summary."""
        self.close()

    def picture(self) -> RenderableType:
        """Return the trials under way, the totals and the best, as they are now."""
        under_way = [self._under_way(trial) for trial in self._progress.running]
        return Group(Text(), *(under_way or [_CHOOSING]), self._totals(), self._best())

    def _ended(self, record: TrialRecord) -> RenderableType:
        is_best = self._progress.best is record
        sign, colour = _SIGNS[record.outcome]
        best = ", best so far" if is_best else ""
        took = f", {format_duration(record.seconds)}" if record.seconds is not None else ""
        row = _row()
        row.add_row(
            Text(sign, style=colour),
            Text(f"trial {record.number}", style="dim"),
            f"batch {record.batch_size if record.batch_size is not None else '–'}",
            f"lr {format_number(record.lr, digits=3)}",
            Text(format_number(record.value), style="bold green" if is_best else ""),
            _curve(record.ticks),
            Text(f"{record.ending}{took}{best}", style="dim"),
        )
        if record.stop_reason is StopReason.FAILED and record.message:
            return Group(row, Text(f"   {record.message}", style="red"))
        return row

    def _under_way(self, trial: Running) -> RenderableType:
        start = trial.start
        row = _row()
        row.add_row(
            Text("●", style="blue"),
            Text(f"trial {start.number}", style="bold"),
            f"batch {start.batch_size}",
            f"lr {format_number(start.lr, digits=3)}",
            format_number(trial.ticks[-1].value) if trial.ticks else "…",
            _curve(trial.ticks),
            Text(_how_far(trial) + start.words, style="dim"),
        )
        if str(start.plan) == str(start.batch_size):
            return row
        why = f": {start.plan.reason}" if start.plan.reason else ""
        return Group(row, Text(f"   as {start.plan}{why}", style="dim", no_wrap=True, overflow="ellipsis"))

    def _totals(self) -> RenderableType:
        progress = self._progress
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=12 if self._console.width < 100 else 24)
        row.add_column(no_wrap=True, overflow="ellipsis")
        counts = {name: progress.counts[outcome] for outcome, name in _COUNTED.items()}
        parts = [f"{progress.num_done} of {progress.total} trials", *(f"{n} {name}" for name, n in counts.items() if n)]
        row.add_row(
            ProgressBar(total=progress.total, completed=progress.num_done_in_part),
            " · ".join([*parts, _time_left(progress.seconds_left)]),
        )
        return row

    def _best(self) -> RenderableType:
        best = self._progress.best
        if best is None:
            return Text("no trial is complete yet", style="dim")
        return Text.assemble(
            ("best  ", "dim"),
            (f"batch size {best.batch_size}, lr {format_number(best.lr, digits=3)}", "bold green"),
            (f"  {self._progress.info.objective.value_name} {format_number(best.value)} (trial {best.number})", ""),
            no_wrap=True,
            overflow="ellipsis",
        )


def _row() -> Table:
    row = Table.grid(padding=(0, 2, 0, 0))
    for width in (1, 8, 10, 11, 7, _CURVE_WIDTH):
        row.add_column(min_width=width, no_wrap=True)
    row.add_column(no_wrap=True, overflow="ellipsis")
    return row


def _curve(ticks: Sequence[Tick]) -> Text:
    return Text(sparkline([tick.value for tick in ticks], width=_CURVE_WIDTH), style="cyan")


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return "estimating the time left"
    return "a few seconds left" if seconds < 10 else f"about {format_duration(seconds)} left"


def _how_far(trial: Running) -> str:
    if not trial.ticks:
        return "starting"
    last, num_ticks = trial.ticks[-1], trial.start.num_ticks
    so_far = f"{last.index}/{num_ticks}" if num_ticks else format_duration(last.seconds)
    return f"{last.where}, {so_far}"
