"""What to run next, as a card: the runs, what each would settle, how long they take, and the command."""

from __future__ import annotations

from collections.abc import Sequence

from bsopt.laws.estimate import FitStatus
from bsopt.recommendation.result import NextRun
from bsopt.recommendation.views import next_run_setting, next_run_time, settling_command, total_seconds
from bsopt.report.boxes import code
from bsopt.report.markup import Html, tag
from bsopt.study.command_line import typed_study
from bsopt.units import count_of, format_duration
from bsopt.visualization.study_data import StudyData

__all__ = ["next_steps"]


def next_steps(data: StudyData, *, prefix: str) -> Html | None:
    """Return the card; None where there is no answer that more runs could make surer."""
    found = data.recommendation
    if found.choice is None:
        return None
    runs = found.next_runs
    command: str | None
    if runs:
        words = tag("ul", *(_run(run) for run in runs), class_="runs")
        command = settling_command(data.info, runs, names=data.names, study=data.study)
    elif found.status is not FitStatus.OK:
        words = tag("p", "More trials: these don't say how sure the answer is.")
        command = _going_on(data)
    else:
        words = tag("p", "Nothing is open that a few runs would settle. Train the best once more and keep its weights:")
        command = f"bsopt study train {typed_study(data.info)}" if data.info.config else None
    return tag(
        "section",
        tag("h3", "What to run next", _total(runs), id=f"{prefix}-next-title"),
        words,
        code("In the terminal" if data.info.config else "In Python", command, f"{prefix}-next") if command else None,
        class_="next",
        aria_labelledby=f"{prefix}-next-title",
    )


def _run(run: NextRun) -> Html:
    took = next_run_time(run)
    setting = next_run_setting(run)
    return tag(
        "li",
        tag("b", setting[:1].upper() + setting[1:]),
        tag("span", took, class_="took") if took else None,
        tag("div", f"Tells {run.reason}.", class_="hint"),
    )


def _total(runs: Sequence[NextRun]) -> Html | None:
    seconds = total_seconds(runs)
    if seconds is None:
        return None
    return tag("span", f"{count_of(len(runs), 'run')}, about {format_duration(seconds)}", class_="took")


def _going_on(data: StudyData) -> str:
    if not data.info.config:
        return "study.optimize(objective, n_trials=20)"
    asked = data.info.num_trials or 0
    is_done = len(data.records) >= asked
    return f"bsopt study run {typed_study(data.info, changes={'budget.trials': asked + 20} if is_done else None)}"
