"""A run as a live picture in the terminal: trials that ended scroll by, the ones under way stay below."""

from __future__ import annotations

import threading

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bsopt.cli.formatting import ending, format_duration, format_number, sparkline
from bsopt.cli.tally import Running, Tally
from bsopt.progress import Listener, RunSummary, TrialStart
from bsopt.records import StudyInfo, Tick, TrialRecord

__all__ = ["LiveProgress"]

_SIGNS = {"complete": ("✓", "green"), "pruned": ("–", "yellow"), "fail": ("✗", "red")}


_CHOOSING = Text("●  choosing the next trial", style="dim")


class LiveProgress(Listener):
    """Shows the study from its start until `close`.

    Args:
        console: Where to.
        tally: Counts the study's trials.
    """

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._tally = tally
        self._lock = threading.RLock()
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=8, transient=True)

    def close(self) -> None:
        """Take the picture down, also when the run raised."""
        self._live.stop()

    def study_started(self, info: StudyInfo, *, done: int, total: int) -> None:
        with self._lock:
            self._tally.begin(info, total=total)
        self._live.start()

    def trial_started(self, start: TrialStart) -> None:
        with self._lock:
            self._tally.running[start.number] = Running(start)

    def ticked(self, number: int, tick: Tick) -> None:
        with self._lock:
            if number in self._tally.running:
                self._tally.running[number].ticks.append(tick)

    def trial_ended(self, record: TrialRecord) -> None:
        with self._lock:
            is_best = self._tally.end(record)
            line = self._ended(record, is_best=is_best)
        self._console.print(line)

    def note(self, message: str) -> None:
        self._console.print(Text(message, style="yellow"))

    def study_ended(self, summary: RunSummary) -> None:
        """The command prints the summary."""
        self.close()

    def _ended(self, record: TrialRecord, *, is_best: bool) -> RenderableType:
        sign, colour = _SIGNS[record.outcome]
        row = _row()
        row.add_row(
            Text(sign, style=colour),
            Text(f"trial {record.number}", style="dim"),
            f"batch {record.batch_size if record.batch_size is not None else '–'}",
            f"lr {format_number(record.lr, digits=3)}",
            Text(format_number(record.value), style="bold green" if is_best else ""),
            Text(sparkline([tick.value for tick in record.ticks], width=16), style="cyan"),
            Text(
                f"{ending(record)}, {format_duration(record.seconds)}{', the best so far' if is_best else ''}",
                style="dim",
            ),
        )
        if record.outcome == "fail" and record.message:
            return Group(row, Text(f"    {record.message}", style="red"))
        return row

    def _picture(self) -> RenderableType:
        with self._lock:
            under_way = [self._under_way(trial) for trial in self._tally.running.values()]
            return Group(Text(), *(under_way or [_CHOOSING]), self._totals(), self._best())

    def _under_way(self, trial: Running) -> RenderableType:
        start = trial.start
        last = trial.ticks[-1] if trial.ticks else None
        row = _row()
        plan = f"{start.plan}" if str(start.plan) != str(start.batch_size) else f"{start.batch_size}"
        row.add_row(
            Text("●", style="blue"),
            Text(f"trial {start.number}", style="bold"),
            f"batch {plan}",
            f"lr {format_number(start.lr, digits=3)}",
            format_number(last.value) if last else "…",
            Text(sparkline([tick.value for tick in trial.ticks], width=16), style="cyan"),
            Text(_how_far(trial), style="dim"),
        )
        return row

    def _totals(self) -> RenderableType:
        tally = self._tally
        row = Table.grid(padding=(0, 2))
        row.add_column(no_wrap=True)
        row.add_column(width=24)
        row.add_column(no_wrap=True, overflow="ellipsis")
        left = tally.seconds_left()
        counts = tally.counts
        done = tally.num_done + sum(trial.fraction for trial in tally.running.values())
        parts = [f"{tally.num_done} of {tally.total}", f"{counts['complete']} complete", f"{counts['pruned']} pruned"]
        parts += [f"{counts['fail']} failed"] if counts["fail"] else []
        parts.append(_time_left(left))
        row.add_row(
            Text(tally.info.name, style="bold"), ProgressBar(total=tally.total, completed=done), " · ".join(parts)
        )
        return row

    def _best(self) -> RenderableType:
        best = self._tally.best
        if best is None:
            return Text("no trial is complete yet", style="dim")
        return Text.assemble(
            ("best  ", "dim"),
            (f"batch size {best.batch_size}, lr {format_number(best.lr, digits=3)}", "bold green"),
            (f"  {self._tally.value_name} {format_number(best.value)} (trial {best.number})", ""),
            no_wrap=True,
            overflow="ellipsis",
        )


def _row() -> Table:
    row = Table.grid(padding=(0, 2, 0, 0))
    for width in (1, 9, 10, 11, 8, 16):
        row.add_column(min_width=width, no_wrap=True)
    row.add_column(no_wrap=True, overflow="ellipsis")
    return row


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return "estimating the time left"
    return "a few seconds left" if seconds < 10 else f"about {format_duration(seconds)} left"


def _how_far(trial: Running) -> str:
    if not trial.ticks:
        return "starting"
    last = trial.ticks[-1]
    if trial.start.num_ticks:
        return f"epoch {last.epoch:.3g}, validation {last.index} of {trial.start.num_ticks}"
    return f"epoch {last.epoch:.3g}, {format_duration(last.seconds)}"
