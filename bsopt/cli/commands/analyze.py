"""`bsopt study analyze`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.options import json_option, storage_option, study_argument, study_name_option, workers_option

if TYPE_CHECKING:
    import optuna
    from rich.progress import Progress, TaskID

    from bsopt.experiment.analyzing import AnalysisListener
    from bsopt.experiment.measurements import Experiment

__all__ = ["analyze"]

KINDS = ("sharpness", "line", "landscape")
ARMS = ("fixed_lr", "scaled_lr", "higher_lr", "grid")
SIGNS = {"supported": "✓", "contradicted": "✗", "can't tell": "?"}


@click.command(cls=Command, short_help="Judge a batch-size experiment and draw its figures.")
@study_argument
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
@click.option("--recompute", is_flag=True, help="Compute also what is known.")
@click.option(
    "-o",
    "--output",
    "--out",
    "output",
    metavar="DIR",
    help="Where the figures go; by default a folder `figures` in the study's.",
)
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["html", "png", "svg", "pdf"]),
    default="html",
    show_default=True,
    help="Of the figures.",
)
@workers_option
@storage_option
@study_name_option
@json_option
def analyze(
    study: str | None,
    kinds: tuple[str, ...],
    arms: tuple[str, ...],
    samples: int,
    starts: int,
    points: int,
    recompute: bool,
    output: str | None,
    suffix: str,
    workers: int | None,
    storage: str | None,
    study_name: str | None,
    as_json: bool,
) -> None:
    """Examine the weights of a batch-size experiment, judge its findings, and draw its figures.

    STUDY is its name or its study file; it may be left out where the storage holds one study. What was computed
    before isn't computed again; what was computed is kept if it is interrupted.
    """
    from bsopt.cli.opening import open_study
    from bsopt.experiment.analyzing import AnalysisPlan
    from bsopt.experiment.analyzing import analyze as analyze_study
    from bsopt.serialization import to_json
    from bsopt.study.study import load_study

    known = open_study(study, storage=storage, study_name=study_name)
    opened = load_study(known.optuna.study_name, known.storage)
    if workers is not None:
        opened.config = opened.config.model_copy(update={"workers": workers})
    plan = AnalysisPlan(num_samples=samples, num_starts=starts, num_points=points)
    plan = replace(plan, kinds=kinds or plan.kinds, arms=arms or plan.arms)
    with _watching(is_shown=not as_json) as listener:
        experiment = analyze_study(opened, plan, listener=listener, recompute=recompute)
    if as_json:
        click.echo(json.dumps(to_json(experiment.as_dict()), ensure_ascii=False))
        return
    click.echo(_said(experiment))
    folder = Path(output) if output else known.folder / "figures"
    click.echo(f"\n{_draw(opened.optuna, folder, suffix)} figures are in {folder}")
    click.echo(f"Next: bsopt study report {opened.config.name}")


def _said(experiment: Experiment) -> str:
    """Return every finding with what the data say about it."""
    design = experiment.design
    lines = [
        f"{len(experiment.runs)} runs: batch sizes {', '.join(map(str, design.batch_sizes))}, {design.num_seeds} seeds"
        + (f" ({experiment.num_missing} runs are still missing)" if experiment.num_missing else ""),
        "",
    ]
    for verdict in experiment.verdicts:
        lines += [f"{SIGNS[verdict.outcome.value]} {verdict.claim}", f"    {verdict.sentence}"]
    return "\n".join(lines)


def _draw(study: optuna.Study, folder: Path, suffix: str) -> int:
    from bsopt.errors import ConfigError
    from bsopt.visualization.figure import EXPERIMENT_FIGURES
    from bsopt.visualization.saving import save_figure
    from bsopt.visualization.study_data import load

    data = load(study)
    for name, plot in EXPERIMENT_FIGURES.items():
        path = folder / f"{name}.{suffix}"
        try:
            save_figure(plot(data), path)
        except OSError as error:
            raise ConfigError(f"can't write {path}: {error.strerror or error}.") from error
    return len(EXPERIMENT_FIGURES)


@contextlib.contextmanager
def _watching(*, is_shown: bool) -> Iterator[AnalysisListener]:
    """Show the examinations: as bars in a terminal, a line each elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    from bsopt.experiment.analyzing import AnalysisListener

    if not is_shown:
        yield AnalysisListener()
        return
    console = Console(highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        yield _listener(bars, is_live=console.is_terminal)


def _listener(bars: Progress, *, is_live: bool) -> AnalysisListener:
    from bsopt.experiment.analyzing import AnalysisListener

    class Watcher(AnalysisListener):
        def __init__(self) -> None:
            self.tasks: dict[str, TaskID] = {}
            self.total = self.done = 0
            self.all: TaskID | None = None

        def started(self, *, num_new: int, num_known: int, num_without_weights: int) -> None:
            self.total = num_new
            known = f", {num_known} are known" if num_known else ""
            click.echo(f"{num_new} examinations of trained weights to make{known}")
            if num_without_weights:
                click.echo(
                    f"{num_without_weights} runs kept no weights (checkpoints: all in the study file keeps them)"
                )
            if num_new:
                self.all = bars.add_task("all", total=num_new)

        def progressed(self, key: str, done: int, total: int) -> None:
            if key not in self.tasks:
                self.tasks[key] = bars.add_task(key, total=total)
            bars.update(self.tasks[key], completed=done)

        def ended(self, key: str) -> None:
            self.done += 1
            if key in self.tasks:
                bars.remove_task(self.tasks.pop(key))
            if self.all is not None:
                bars.advance(self.all)
            if not is_live:
                click.echo(f"{key} [{self.done}/{self.total}]")

    return Watcher()
