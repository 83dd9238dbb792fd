"""The parts of the report in words and tables: answer, what was stopped, configuration, how to reproduce."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import yaml

from bsopt.laws.estimate import Estimate, FitStatus
from bsopt.recommendation.questions import answers
from bsopt.report.answer import Answer
from bsopt.report.markup import Html, join, tag
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.visualization.study_data import StudyData, status_of

__all__ = ["answer_section", "comparison_table", "configuration", "questions", "stopped"]

_MEANING: dict[str, str] = {
    StopReason.COMPLETED.value: "trained to the end of the budget",
    StopReason.CONVERGED.value: "stopped improving within reach of the best: kept with its best value",
    StopReason.TARGET_REACHED.value: "reached the study's target",
    StopReason.TIMEOUT.value: "reached the time limit of a trial",
    StopReason.PRUNED.value: "stopped by the pruner",
    StopReason.PRUNED_PLATEAU.value: "stopped improving out of reach of the best",
    StopReason.PRUNED_HOPELESS.value: "was not going to come near the best",
    StopReason.DIVERGED.value: "the metric became NaN, infinite or exploded",
    StopReason.OUT_OF_MEMORY.value: "didn't fit into memory",
    StopReason.FAILED.value: "raised an error",
    StopReason.INTERRUPTED.value: "was interrupted; it is run again with the same parameters",
    StopReason.LOST.value: "its process vanished; it is run again with the same parameters",
}


def answer_section(data: StudyData, found: Answer, *, prefix: str) -> Html:
    """Return the answer in a sentence, its caveats, what is as good within noise, and settings to paste."""
    return tag(
        "section",
        tag("p", found.sentence, class_="answer"),
        tag("ul", *(tag("li", caveat) for caveat in found.caveats), class_="caveats") if found.caveats else None,
        _choices(data, found),
        _as_good(data, found),
        _settings(found, prefix),
        class_="answer-card",
        id=f"{prefix}-answer",
    )


def comparison_table(sources: Sequence[StudyData], answers: Sequence[Answer]) -> Html:
    """Return one row per study: its answer in numbers."""
    heads = ("study", "metric", "trials", "completed", "best batch size", "learning rate", "value", "noise (1 sd)")
    rows = [
        tag(
            "tr",
            tag("th", tag("a", data.name, href=f"#s{index}"), scope="row"),
            *(
                tag("td", cell)
                for cell in (
                    data.info.objective.monitor,
                    str(len(data.records)),
                    str(len(data.completed)),
                    _text(found.batch_size),
                    _text(found.lr, ".3g"),
                    _text(found.value, ".5g"),
                    _text(found.noise, ".2g"),
                )
            ),
        )
        for index, (data, found) in enumerate(zip(sources, answers, strict=True))
    ]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in heads)))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")


def stopped(data: StudyData) -> Html:
    """Return how the trials ended: a row per reason, with its trials."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in data.records:
        reason = record.stop_reason.value if record.stop_reason else status_of(record).value
        groups.setdefault(reason, []).append(record)
    rows = [
        tag(
            "tr",
            tag("th", reason.replace("_", " "), scope="row"),
            tag("td", str(len(records)), class_="number"),
            tag("td", _MEANING.get(reason, "")),
            tag("td", _numbers(records)),
            tag("td", next((record.message for record in records if record.message), "")),
        )
        for reason, records in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    heads = tag(
        "tr", *(tag("th", name, scope="col") for name in ("ended", "trials", "meaning", "which", "for example"))
    )
    return tag("div", tag("table", tag("thead", heads), tag("tbody", *rows)), class_="scroll")


def configuration(data: StudyData) -> Html:
    """Return the study file with its defaults, seeds, versions and hardware, and how to run it again."""
    info = data.info
    facts: dict[str, Any] = {
        "metric": f"{info.objective.monitor} ({info.objective.direction})",
        "samples in the training set": info.num_train_samples,
        "samples per trial": info.budget_samples,
        "samples between validations": info.tick_samples,
        "study seed": info.seed,
        "devices": sorted({record.device for record in data.records if record.device}) or None,
        "trained": _when(data.records),
        **{str(key): value for key, value in info.environment.items()},
    }
    rows = [
        tag("tr", tag("th", key, scope="row"), tag("td", _fact(value)))
        for key, value in facts.items()
        if value not in (None, "", {}, [])
    ]
    parts = [tag("div", tag("table", tag("tbody", *rows)), class_="scroll")]
    if info.config:
        text = yaml.safe_dump(_plain(info.config), sort_keys=False, allow_unicode=True)
        parts.append(
            join(
                tag("h4", "Run it again"),
                tag(
                    "p",
                    "Save this as study.yaml beside the model's code and run ",
                    tag("code", "bsopt study run study.yaml"),
                    "; all trials start from the same weights, and data order follows the study's seed and the trial's "
                    "number.",
                ),
                tag("details", tag("summary", "The study file, every default filled in"), tag("pre", text)),
            )
        )
    return join(*parts)


_GOALS = {
    "quality": "best value",
    "largest": "largest batch size without loss",
    "fastest": "fastest",
    "cheapest": "cheapest",
}


def questions(data: StudyData) -> Html | None:
    """Return what people ask about batch sizes, answered from this study; None where there is no study to ask."""
    if data.study is None or len(data.study.directions) > 1 or data.best is None:
        return None
    parts = []
    for answer in answers(data.study, fits=data.fits):
        parts += [tag("dt", answer.question), tag("dd", answer.answer, tag("p", answer.basis, class_="hint"))]
    return tag("dl", *parts, class_="questions")


def _choices(data: StudyData, found: Answer) -> Html | None:
    """Return what to take for each goal, where the data tell more than one."""
    if len(found.choices) < 2:
        return None
    names = ("batch size", "learning rate", data.info.objective.monitor, _time_name(data))
    rows = [
        tag(
            "tr",
            tag("th", _GOALS[choice.goal], scope="row"),
            *(
                tag("td", cell, class_="number", data_label=name)  # the label stands before it in a narrow card
                for name, cell in zip(
                    names,
                    (
                        str(choice.batch_size),
                        _interval(choice.lr, ".2g"),
                        _interval(choice.value, ".4g"),
                        _interval(choice.cost.seconds if choice.cost is not None else None, ".3g"),
                    ),
                    strict=True,
                )
            ),
            tag("td", " ".join(choice.reasons)),
        )
        for choice in found.choices
    ]
    heads = [tag("th", name, scope="col", class_="number") for name in names]
    head = tag("tr", tag("th", "goal", scope="col"), *heads, tag("th", "why", scope="col"))
    return join(
        tag("h3", "By goal"), tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="scroll wide")
    )


def _time_name(data: StudyData) -> str:
    """What the goals' times are to: the study's target, or the one that the fitted law took; else a whole trial."""
    steps = data.fits.steps
    if steps.target is None or steps.status not in (FitStatus.OK, FitStatus.NOT_IDENTIFIED):
        return "time of a trial [s]"
    return f"time to {data.info.objective.monitor} {steps.target:.4g} [s]"


def _interval(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "–"
    words = format(estimate.value, form)
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        words += f" ({format(estimate.low, form)} to {format(estimate.high, form)})"
    return words


def _as_good(data: StudyData, found: Answer) -> Html | None:
    if len(found.as_good) < 2:
        return None
    shown = found.as_good[:8]
    rows = [
        tag(
            "tr",
            *(
                tag("td", cell, class_="number")
                for cell in (
                    _text(record.batch_size),
                    _text(record.lr, ".3g"),
                    _text(record.value, ".5g"),
                    _text(record.seconds, ".3g"),
                    str(record.number),
                )
            ),
        )
        for record in shown
    ]
    names = ("batch size", "learning rate", data.info.objective.monitor, "time [s]", "trial")
    head = tag("tr", *(tag("th", name, scope="col", class_="number") for name in names))
    more = (
        f" ({len(found.as_good) - len(shown)} more in the table of trials)" if len(found.as_good) > len(shown) else ""
    )
    return join(
        tag("h3", f"As good within noise{more}"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="scroll"),
    )


def _settings(found: Answer, prefix: str) -> Html | None:
    if not found.yaml:
        return None
    return join(
        tag("h3", "Settings to paste"),
        tag(
            "div",
            _code("YAML, for LightningCLI", found.yaml, f"{prefix}-yaml"),
            _code("Python, for a Lightning Trainer", found.snippet, f"{prefix}-python"),
            class_="settings",
        ),
    )


def _code(title: str, text: str, element_id: str) -> Html:
    button = tag("button", "copy", type="button", class_="copy", data_copy=element_id)
    return tag("div", tag("div", title, button, class_="code-title"), tag("pre", text, id=element_id))


def _numbers(records: Sequence[TrialRecord]) -> str:
    shown = ", ".join(str(record.number) for record in records[:12])
    return shown + (f" and {len(records) - 12} more" if len(records) > 12 else "")


def _text(value: float | None, form: str = ",") -> str:
    return "–" if value is None else format(value, form)


def _when(records: Sequence[TrialRecord]) -> str | None:
    times = [record.started for record in records if record.started is not None]
    if not times:
        return None
    first, last = (
        datetime.fromtimestamp(t, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC") for t in (min(times), max(times))
    )
    return first if first == last else f"{first} to {last}"


def _fact(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _plain(value: Any) -> Any:
    """Return the value with only what YAML knows: mappings, lists, numbers, strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
