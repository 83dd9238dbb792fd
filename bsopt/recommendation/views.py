"""The parts of a recommendation as rows of text, the same for the terminal, the report and the dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from bsopt.laws.estimate import Estimate
from bsopt.recommendation.result import Goal, NextRun, Recommendation, SizeFinding
from bsopt.storage.parameter_names import BATCH_SIZE, LR, ParameterNames, parameter_value, spaces_of
from bsopt.study.command_line import typed_study
from bsopt.trial.record import StudyInfo
from bsopt.units import digits_telling, format_chance, format_device_time, format_duration, format_number

__all__ = [
    "GOAL_NAMES",
    "SIZE_COLUMNS",
    "as_good_in_words",
    "best_size",
    "next_run_setting",
    "next_run_text",
    "next_run_time",
    "settling_command",
    "size_rows",
    "total_seconds",
]

GOAL_NAMES: dict[Goal, str] = {
    "quality": "best value",
    "largest": "largest as good",
    "fastest": "fastest",
    "cheapest": "least device time",
    "frugal": "least energy",
    "asked": "as asked",
}
SIZE_COLUMNS = ("batch size", "beside the best", "complete trials", "worse by (90 %)", "chance as good", "best trial")


def size_rows(found: Recommendation) -> list[tuple[str, ...]]:
    """Return what is known of each batch size, a row of `SIZE_COLUMNS` each; nothing before there is a choice."""
    best = best_size(found)
    return [_size_row(finding, is_best=finding.batch_size == best) for finding in found.sizes]


def next_run_text(run: NextRun) -> str:
    """Return one run that would settle something, in a sentence."""
    took = next_run_time(run)
    return f"{next_run_setting(run)}{f' ({took})' if took else ''}: {run.reason}"


def next_run_setting(run: NextRun) -> str:
    """Return what is run: "batch size 8, lr 0.0185"."""
    again = f"trial {run.repeats} again over a fresh seed: " if run.repeats is not None else ""
    further = "".join(
        f", {name} {format_number(value) if isinstance(value, float) else value}" for name, value in run.further.items()
    )
    return f"{again}batch size {run.batch_size}, lr {format_number(run.lr, digits=3)}{further}"


def next_run_time(run: NextRun) -> str:
    """Return what a run takes: "about 57 s"; empty where no trial was timed."""
    if run.seconds is None:
        return ""
    took = f"about {format_duration(run.seconds)}"
    is_many = run.device_hours is not None and run.device_hours * 3600.0 > 1.01 * run.seconds
    return f"{took}, {format_device_time(run.device_hours)} of device time" if is_many else took


def as_good_in_words(margin: float) -> str:
    """Return what as good means, for a margin in the objective's unit.

    >>> as_good_in_words(0.02), as_good_in_words(0.0)
    ('no more than 0.02 worse than the best', 'no worse than the best')
    """
    return f"no more than {margin:.2g} worse than the best" if margin > 0 else "no worse than the best"


def settling_command(
    info: StudyInfo,
    runs: Sequence[NextRun],
    *,
    names: ParameterNames | None = None,
    study: optuna.Study | None = None,
) -> str:
    """Return what makes runs happen: a command, or lines of Python for a study that bsopt didn't make.

    Args:
        info: The study.
        runs: What would settle something.
        names: What the study calls its batch size and learning rate; our names by default.
        study: The study itself, for the values that its parameters can take.
    """
    if info.config:
        return f"bsopt study run {typed_study(info)} --settle"
    spaces = spaces_of(study) if study is not None else {}
    lines = [f"study.enqueue_trial({_params(run, names, spaces)})" for run in runs]
    return "\n".join([*lines, f"study.optimize(objective, n_trials={len(runs)})"])


def total_seconds(runs: Sequence[NextRun]) -> float | None:
    """Return what runs take one after the other, in seconds; None where one of them isn't known."""
    seconds = [run.seconds for run in runs if run.seconds is not None]
    return sum(seconds) if len(seconds) == len(runs) > 0 else None


def best_size(found: Recommendation) -> int | None:
    """Return the batch size that is recommended for its value, whatever the goal; None before there is a choice."""
    choices = [choice for choice in (found.choice, *found.alternatives) if choice is not None]
    return next((choice.batch_size for choice in choices if choice.goal == "quality"), None)


def _size_row(finding: SizeFinding, *, is_best: bool) -> tuple[str, ...]:
    return (
        str(finding.batch_size),
        "recommended" if is_best else finding.words,
        str(finding.num_complete),
        "–" if is_best else _span(finding.gap),
        "–" if is_best or math.isnan(finding.chance) else format_chance(finding.chance),
        "–" if finding.trial is None else str(finding.trial),
    )


def _span(gap: Estimate | None) -> str:
    if gap is None:
        return "–"
    digits = digits_telling(gap.low, gap.high, digits=2)
    return f"{gap.low:.{digits}g} to {gap.high:.{digits}g}"


def _params(run: NextRun, names: ParameterNames | None, spaces: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    size, lr = (names.batch_size or BATCH_SIZE, names.lr or LR) if names is not None else (BATCH_SIZE, LR)
    natural = {size: run.batch_size, lr: float(f"{run.lr:.4g}")}
    return {**{name: parameter_value(value, name, spaces.get(name)) for name, value in natural.items()}, **run.further}
