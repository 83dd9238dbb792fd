"""The designed batch-size experiment in the report: what it says about the article's findings, and its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from bsopt.experiment.findings.verdicts import Outcome, Verdict
from bsopt.experiment.measurements import Experiment
from bsopt.report.boxes import framed
from bsopt.report.figures import pictures
from bsopt.report.markup import Html, join, tag
from bsopt.study.command_line import typed_study
from bsopt.trial.record import StopReason
from bsopt.visualization.experiment.verdicts import short_name
from bsopt.visualization.figure import EXPERIMENT_FIGURES
from bsopt.visualization.study_data import StudyData

__all__ = ["experiment_section"]

_SIGNS: Mapping[Outcome, str] = {Outcome.SUPPORTED: "✓", Outcome.CONTRADICTED: "✗", Outcome.CANT_TELL: "?"}


def experiment_section(data: StudyData, *, prefix: str) -> Html | None:
    """Return the runs, the verdict on each finding of the article, and the figures; None without an experiment."""
    experiment = data.experiment
    if experiment is None:
        return None
    if not experiment.runs:
        return tag("p", _design(experiment), " No run of it has ended yet.")
    return join(
        tag("p", _design(experiment), " ", _progress(experiment)),
        tag("p", _count(experiment.verdicts)),
        _table(experiment.verdicts),
        tag(
            "p",
            "The findings are those of Chang & Pathak 2020, Effect of Batch Size on Neural Net Training. One is "
            "supported or contradicted where the p of its test, two-sided and corrected for the number of findings "
            "(Holm) and of looks, is below 0.05, over at least 5 seeds; its interval, corrected alike, then leaves out "
            "no effect. That the data can't tell is no evidence of no effect: the interval says how large one may be, "
            f"and the number of seeds how many would decide; `bsopt study run {typed_study(data.info)} --settle` "
            "trains them. Other models and data may differ.",
            class_="hint",
        ),
        *(_variant(name, found) for name, found in experiment.variant_verdicts.items()),
        tag("noscript", tag("p", "The figures need JavaScript; the verdicts don't.")),
        *pictures(data, EXPERIMENT_FIGURES.values(), prefix=prefix),
    )


def _variant(name: str, verdicts: Sequence[Verdict]) -> Html:
    """Return what these data say of a variant."""
    return join(tag("h3", f"With {name}"), _table(verdicts, label=f"With {name}"))


def _design(experiment: Experiment) -> str:
    design = experiment.design
    sizes, smallest = ", ".join(map(str, design.batch_sizes)), design.batch_sizes[0]
    rates = {
        "fixed_lr": f"at learning rate {design.reference_lr:g}",
        "scaled_lr": f"at learning rates in proportion to the batch size ({design.reference_lr:g} × B/{smallest})",
        "higher_lr": f"at the higher learning rate {design.higher_lr:g}",
        "grid": f"at each of {', '.join(f'{rate:g}' for rate in design.grid)}",
    }
    named = [rates[arm] for arm in design.arms if arm in rates]
    seeds = "1 seed" if design.num_seeds == 1 else f"{design.num_seeds} seeds, each with initial weights of its own"
    return f"Batch sizes {sizes}, {'; '.join(named)}; {seeds}.{_patience(experiment)}"


def _patience(experiment: Experiment) -> str:
    patience, monitor = experiment.design.patience, experiment.info.objective.monitor
    return f" Each run trained until its {monitor} had not improved for {patience}, or its budget ended."


def _progress(experiment: Experiment) -> str:
    runs, missing = (*experiment.runs, *experiment.varied), experiment.num_missing
    ended = len(runs)
    words = f"{ended} runs have ended, {missing} are still missing." if missing else f"All {ended} runs have ended."
    cut = sum(run.record.stop_reason is StopReason.COMPLETED for run in runs)
    if cut:
        words += f" {cut} of them ended with their budget, perhaps before they had converged."
    return words


def _count(verdicts: Sequence[Verdict]) -> Html:
    counts = Counter(verdict.outcome for verdict in verdicts)
    said = {Outcome.SUPPORTED: "support", Outcome.CONTRADICTED: "contradict", Outcome.CANT_TELL: "can't tell about"}
    parts = [f"{words} {counts[outcome]}" for outcome, words in said.items()]
    return tag("b", f"Of {len(verdicts)} findings, this study's data {', '.join(parts)}.")


def _table(verdicts: Sequence[Verdict], *, label: str = "The article's findings") -> Html:
    rows = [
        tag(
            "tr",
            tag("td", verdict.claim, tag("div", short_name(verdict), class_="hint")),
            tag(
                "td",
                f"{_SIGNS[verdict.outcome]} {verdict.outcome.value}",
                class_=f"verdict {verdict.outcome.name.lower().replace('_', '-')}",
            ),
            tag("td", _said(verdict)),
            tag("td", _capital(verdict.article), data_label="The article"),
        )
        for verdict in verdicts
    ]
    heads = ("finding", "verdict", "what these data say", "what the article says")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in heads)))
    return framed(tag("table", head, tag("tbody", *rows), class_="verdicts"), label=label)


def _said(verdict: Verdict) -> str:
    """Return the verdict's sentence without the verdict, which has a column."""
    _, mark, rest = verdict.sentence.partition(": ")
    return _capital(rest) if mark else verdict.sentence


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
