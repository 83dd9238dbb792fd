"""The parts of a recommendation as rows of text, the same for the terminal, the report and the dashboard."""

from __future__ import annotations

import math

from bsopt.laws.estimate import Estimate
from bsopt.recommendation.result import Goal, NextRun, Recommendation, SizeFinding
from bsopt.units import format_chance, format_device_time, format_duration, format_number

__all__ = ["GOAL_NAMES", "SIZE_COLUMNS", "next_run_text", "size_rows"]

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
    best = _best_size(found)
    return [_size_row(finding, is_best=finding.batch_size == best) for finding in found.sizes]


def next_run_text(run: NextRun) -> str:
    """Return one run that would settle something, in a sentence."""
    took = ""
    if run.seconds is not None:
        took = f" (about {format_duration(run.seconds)}"
        is_many = run.device_hours is not None and run.device_hours * 3600.0 > 1.01 * run.seconds
        took += f", {format_device_time(run.device_hours)} of device time)" if is_many else ")"
    again = f"trial {run.repeats} again over a fresh seed: " if run.repeats is not None else ""
    further = "".join(
        f", {name} {format_number(value) if isinstance(value, float) else value}" for name, value in run.further.items()
    )
    return f"{again}batch size {run.batch_size}, lr {format_number(run.lr, digits=3)}{further}{took}: {run.reason}"


def _best_size(found: Recommendation) -> int | None:
    choices = [choice for choice in (found.choice, *found.alternatives) if choice is not None]
    return next((choice.batch_size for choice in choices if choice.goal == "quality"), None)


def _size_row(finding: SizeFinding, *, is_best: bool) -> tuple[str, ...]:
    return (
        str(finding.batch_size),
        "recommended" if is_best else finding.state.words,
        str(finding.num_complete),
        "–" if is_best else _span(finding.gap),
        "–" if is_best or math.isnan(finding.chance) else format_chance(finding.chance),
        "–" if finding.trial is None else str(finding.trial),
    )


def _span(gap: Estimate | None) -> str:
    return "–" if gap is None else f"{gap.low:.2g} to {gap.high:.2g}"
