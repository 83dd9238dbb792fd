"""The answer that opens the report: the recommendation as HTML. What it says is chosen in `bsopt.recommendation`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from bsopt.laws.estimate import Estimate
from bsopt.recommendation.result import Choice, Recommendation
from bsopt.report.markup import Html, join, tag
from bsopt.trial.record import TrialRecord
from bsopt.visualization.study_data import StudyData

__all__ = ["answer_section", "as_good", "comparison_table"]

_GOALS = {
    "quality": "best value",
    "largest": "largest batch size without loss",
    "fastest": "fastest",
    "cheapest": "cheapest",
}
_MOST_ROWS = 8


def answer_section(data: StudyData, *, prefix: str) -> Html:
    """Return the answer in a sentence, its caveats, what is as good within noise, and settings to paste."""
    found = data.recommendation
    return tag(
        "section",
        tag("p", found.sentence, class_="answer"),
        tag("ul", *(tag("li", caveat) for caveat in found.caveats), class_="caveats") if found.caveats else None,
        _by_goal(data),
        _as_good(data),
        _settings(found, prefix),
        class_="answer-card",
        id=f"{prefix}-answer",
    )


def comparison_table(sources: Sequence[StudyData]) -> Html:
    """Return one row per study: its answer in numbers."""
    heads = ("study", "metric", "trials", "completed", "best batch size", "learning rate", "value", "noise (1 sd)")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in heads)))
    rows = (
        tag(
            "tr",
            tag("th", tag("a", data.name, href=f"#s{index}"), scope="row"),
            *(tag("td", cell) for cell in _in_numbers(data)),
        )
        for index, data in enumerate(sources)
    )
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")


def as_good(data: StudyData) -> list[TrialRecord]:
    """Return the best complete trial at each batch size that is as good as the best within noise, best first."""
    best: dict[int, TrialRecord] = {}
    for record in sorted(data.completed, key=lambda record: data.sign * cast(float, record.value)):
        if record.batch_size in data.recommendation.ties:
            best.setdefault(record.batch_size, record)
    return list(best.values())


def _in_numbers(data: StudyData) -> list[str]:
    choice = data.recommendation.choice
    value = choice.value if choice is not None else None
    return [
        data.info.objective.monitor,
        str(len(data.records)),
        str(len(data.completed)),
        _text(choice.batch_size if choice is not None else None, ","),
        _text(choice.lr.value if choice is not None else None, ".3g"),
        _text(value.value if value is not None else None, ".5g"),
        _text(data.fits.noise_sd if choice is not None else None, ".2g"),
    ]


def _by_goal(data: StudyData) -> Html | None:
    """Return what to take for each goal, where the data tell more than one."""
    found = data.recommendation
    if found.choice is None or not found.alternatives:
        return None
    names = ("batch size", "learning rate", data.info.objective.monitor, _time_name(data))
    rows = [_goal_row(choice, names) for choice in (found.choice, *found.alternatives)]
    numbers = (tag("th", name, scope="col", class_="number") for name in names)
    head = tag("tr", tag("th", "goal", scope="col"), *numbers, tag("th", "why", scope="col"))
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return join(tag("h3", "By goal"), tag("div", table, class_="scroll wide"))


def _goal_row(choice: Choice, names: Sequence[str]) -> Html:
    cells = (
        str(choice.batch_size),
        _interval(choice.lr, ".2g"),
        _interval(choice.value, ".4g"),
        _interval(choice.cost.seconds if choice.cost is not None else None, ".3g"),
    )
    numbers = (
        tag("td", cell, class_="number", data_label=name)  # the label stands before it in a narrow card
        for name, cell in zip(names, cells, strict=True)
    )
    return tag("tr", tag("th", _GOALS[choice.goal], scope="row"), *numbers, tag("td", " ".join(choice.reasons)))


def _time_name(data: StudyData) -> str:
    """Return what the goals' times are to: the target that costs are told for, else the end of a trial."""
    target = data.evidence.target
    return "time of a trial [s]" if target is None else f"time to {data.info.objective.monitor} {target:.4g} [s]"


def _as_good(data: StudyData) -> Html | None:
    trials = as_good(data)
    if len(trials) < 2:
        return None
    names = ("batch size", "learning rate", data.info.objective.monitor, "time [s]", "trial")
    head = tag("tr", *(tag("th", name, scope="col", class_="number") for name in names))
    rows = (
        tag("tr", *(tag("td", cell, class_="number") for cell in _trial_cells(record)))
        for record in trials[:_MOST_ROWS]
    )
    more = f" ({len(trials) - _MOST_ROWS} more in the table of trials)" if len(trials) > _MOST_ROWS else ""
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return join(tag("h3", f"As good within noise{more}"), tag("div", table, class_="scroll"))


def _trial_cells(record: TrialRecord) -> tuple[str, ...]:
    return (
        _text(record.batch_size, ","),
        _text(record.lr, ".3g"),
        _text(record.value, ".5g"),
        _text(record.seconds, ".3g"),
        str(record.number),
    )


def _settings(found: Recommendation, prefix: str) -> Html | None:
    if found.choice is None:
        return None
    return join(
        tag("h3", "Settings to paste"),
        tag(
            "div",
            _code("YAML, for LightningCLI", found.to_yaml().strip(), f"{prefix}-yaml"),
            _code("Python, for a Lightning Trainer", found.to_lightning().strip(), f"{prefix}-python"),
            class_="settings",
        ),
    )


def _code(title: str, text: str, element_id: str) -> Html:
    button = tag("button", "copy", type="button", class_="copy", data_copy=element_id)
    return tag("div", tag("div", title, button, class_="code-title"), tag("pre", text, id=element_id))


def _interval(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "–"
    words = format(estimate.value, form)
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        words += f" ({format(estimate.low, form)} to {format(estimate.high, form)})"
    return words


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
