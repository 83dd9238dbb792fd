"""`bsopt study analyze`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command, writing
from bsopt.cli.opening import NamedStudy, as_typed
from bsopt.cli.options import json_option, named_study, output_option, workers_option
from bsopt.cli.terminal.formatting import json_text
from bsopt.errors import TaskError
from bsopt.units import count_of

if TYPE_CHECKING:
    import optuna

    from bsopt.experiment.measurements import Experiment

__all__ = ["analyze"]

KINDS = ("sharpness", "line", "landscape")
ARMS = ("fixed_lr", "scaled_lr", "higher_lr", "grid")
SIGNS = {"supported": "✓", "contradicted": "✗", "can't tell": "?"}


@click.command(cls=Command, short_help="Judge a batch-size experiment and draw its figures.")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Examine this alone; may be repeated.")
@click.option(
    "--arm",
    "arms",
    type=click.Choice(ARMS),
    multiple=True,
    help="Examine the weights of this arm's runs; may be repeated. By default fixed_lr and scaled_lr.",
)
@click.option("--samples", type=click.IntRange(min=1), default=2000, show_default=True, help="Of every evaluation.")
@click.option("--starts", type=click.IntRange(min=1), default=2, show_default=True, help="Of each sharpness.")
@click.option("--points", type=click.IntRange(min=3), default=25, show_default=True, help="Per axis of a landscape.")
@click.option(
    "--all-seeds",
    is_flag=True,
    help="Examine every seed in full, also where no verdict reads it: two thirds longer, for intervals in the figures.",
)
@click.option("--recompute", is_flag=True, help="Compute also what is known.")
@output_option("Where the figures go; by default a folder `figures` in the study's.", metavar="DIR")
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["html", "png", "svg", "pdf"]),
    default="html",
    show_default=True,
    help="Of the figures.",
)
@workers_option
@named_study
@json_option
def analyze(
    named: NamedStudy,
    kinds: tuple[str, ...],
    arms: tuple[str, ...],
    samples: int,
    starts: int,
    points: int,
    all_seeds: bool,
    recompute: bool,
    output: str | None,
    suffix: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Examine the weights of a batch-size experiment, judge its findings, and draw its figures.

    STUDY is its name or its study file; it may be left out where the storage holds one study. What was computed
    before isn't computed again; what was computed is kept if it is interrupted. Where weights can't be examined, the
    findings that need none are judged, and the command fails with the reason.
    """
    from bsopt.cli.terminal.progress_analysis import showing_analysis
    from bsopt.experiment.analyzing import AnalysisPlan
    from bsopt.experiment.analyzing import analyze as analyze_study
    from bsopt.experiment.measurements import experiment_of
    from bsopt.study.command_line import typed_study
    from bsopt.study.study import load_study

    known = named.open()
    opened = load_study(known.optuna.study_name, known.storage)
    plan = AnalysisPlan(num_samples=samples, num_starts=starts, num_points=points, all_seeds=all_seeds)
    plan = replace(plan, kinds=kinds or plan.kinds, arms=arms or plan.arms)
    failure: TaskError | None = None
    try:
        with showing_analysis(is_shown=not as_json) as listener:
            experiment = analyze_study(opened, plan, listener=listener, recompute=recompute, num_workers=workers)
    except TaskError as error:  # what training measured is judged all the same
        failure, so_far = error, experiment_of(known.optuna)
        assert so_far is not None, "a study without an experiment isn't examined"
        experiment = so_far
    except KeyboardInterrupt:
        click.echo("what was examined is kept; the same command goes on", err=True)
        raise
    if as_json:
        click.echo(json_text(experiment.document(), indent=None))
    else:
        click.echo(_said(experiment, file=typed_study(known.info)))
        folder = Path(output) if output else known.folder / "figures"
        click.echo(f"\n{_draw(known.optuna, folder, suffix)} figures are in {folder}")
        click.echo(f"Next: bsopt study report {as_typed(known.optuna.study_name, known.storage)}")
    if failure is not None:
        raise TaskError(f"not all weights could be examined, and what needs them isn't judged: {failure}") from failure


def _said(experiment: Experiment, *, file: str) -> str:
    """Return every finding with what the data say about it."""
    design = experiment.design
    lines = [
        f"{len(experiment.runs)} runs: batch sizes {', '.join(map(str, design.batch_sizes))}, {design.num_seeds} seeds"
        + (f" ({experiment.num_missing} runs are still missing)" if experiment.num_missing else ""),
        "",
    ]
    for verdict in experiment.verdicts:
        lines += [f"{SIGNS[verdict.outcome.value]} {verdict.claim}", f"    {verdict.sentence}"]
    for name, found in experiment.variant_verdicts.items():
        lines += ["", f"With {name} ({count_of(sum(run.variant == name for run in experiment.varied), 'run')}):"]
        for verdict in found:
            lines += [f"{SIGNS[verdict.outcome.value]} {verdict.claim}", f"    {verdict.sentence}"]
    return "\n".join([*lines, *_counted(experiment, file=file)])


def _counted(experiment: Experiment, *, file: str) -> list[str]:
    """Return how many findings were told, and what more seeds would tell."""
    from bsopt.experiment.settling import settling_of

    every = (experiment.verdicts, *experiment.variant_verdicts.values())
    counts = Counter(verdict.outcome.value for found in every for verdict in found)
    lines = ["", ", ".join(f"{counts[name]} {name}" for name in SIGNS) + "."]
    settling = settling_of(experiment)
    if settling.runs and not experiment.num_missing:
        most = max(settling.seeds.values())
        lines.append(
            f"Up to {most} seeds, {count_of(len(settling.runs), 'run')} more, would decide "
            f"{count_of(len(settling.seeds), 'finding')} with 80 % power: bsopt study run {file} --settle"
        )
    return lines


def _draw(study: optuna.Study, folder: Path, suffix: str) -> int:
    from bsopt.visualization.figure import EXPERIMENT_FIGURES
    from bsopt.visualization.saving import save_figure
    from bsopt.visualization.study_data import load

    data = load(study)
    for name, plot in EXPERIMENT_FIGURES.items():
        path = folder / f"{name}.{suffix}"
        with writing(path):
            save_figure(plot(data), path)
    return len(EXPERIMENT_FIGURES)
