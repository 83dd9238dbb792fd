"""The parts of the report in words and tables: questions, what was stopped, configuration, how to reproduce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import yaml

from bsopt.recommendation.questions import answers
from bsopt.report.boxes import framed
from bsopt.report.markup import Html, join, tag
from bsopt.trial.record import StopReason, TrialRecord
from bsopt.visualization.study_data import StudyData, status_of

__all__ = ["configuration", "questions", "stopped"]

_MEANING: dict[str, str] = {
    StopReason.COMPLETED.words: "trained to the end of the budget",
    StopReason.CONVERGED.words: "stopped improving within reach of the best: kept with its best value",
    StopReason.TARGET_REACHED.words: "reached the study's target",
    StopReason.TIMEOUT.words: "reached the time limit of a trial",
    StopReason.PRUNED.words: "stopped by the pruner",
    StopReason.PRUNED_PLATEAU.words: "stopped improving out of reach of the best",
    StopReason.PRUNED_HOPELESS.words: "was not going to come near the best",
    StopReason.PAUSED.words: "had a small chance to come near the best; what others reach decides whether it goes on",
    StopReason.DIVERGED.words: "the metric became NaN, infinite or exploded",
    StopReason.OUT_OF_MEMORY.words: "didn't fit into memory",
    StopReason.FAILED.words: "raised an error",
    StopReason.INTERRUPTED.words: "was interrupted; it is run again with the same parameters",
    StopReason.LOST.words: "its process vanished; it is run again with the same parameters",
}


def questions(data: StudyData) -> Html | None:
    """Return what people ask about batch sizes, answered from this study; None where there is nothing to answer from.

    That is before the first result, and with several objectives, which no law is fitted to.
    """
    if data.recommendation.choice is None or data.evidence.num_objectives > 1:
        return None
    parts = []
    for answer in answers(data.evidence):
        parts += [tag("dt", answer.question), tag("dd", answer.answer, tag("p", answer.basis, class_="hint"))]
    return tag("dl", *parts, class_="questions")


def stopped(data: StudyData) -> Html:
    """Return how the trials ended: a row per reason, with its trials."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in data.records:
        reason = record.stop_reason.words if record.stop_reason else status_of(record).value
        groups.setdefault(reason, []).append(record)
    rows = [
        tag(
            "tr",
            tag("th", reason, scope="row"),
            tag("td", str(len(records)), class_="number", data_label="trials"),
            tag("td", _MEANING.get(reason, "")),
            tag("td", _numbers(records), data_label="which"),
            tag("td", next((record.message for record in records if record.message), ""), data_label="for example"),
        )
        for reason, records in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    heads = tag(
        "tr", *(tag("th", name, scope="col") for name in ("ended", "trials", "meaning", "which", "for example"))
    )
    return framed(tag("table", tag("thead", heads), tag("tbody", *rows)), label="How the trials ended", class_="wide")


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
    parts = [framed(tag("table", tag("tbody", *rows)), label="Configuration")]
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


def _numbers(records: Sequence[TrialRecord]) -> str:
    shown = ", ".join(str(record.number) for record in records[:12])
    return shown + (f" and {len(records) - 12} more" if len(records) > 12 else "")


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
