"""`bsopt study recommend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import json_option, named_study, names_options
from bsopt.cli.terminal.formatting import flowing, json_text
from bsopt.units import format_number, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna

    from bsopt.recommendation.result import Recommendation
    from bsopt.storage.parameter_names import ParameterNames
    from bsopt.trial.record import StepUnit, StudyInfo

__all__ = ["recommend"]

_GOALS = ("quality", "largest", "fastest", "cheapest", "frugal")
_COMPANIONS = {"weight_decay_factor": "weight decay ×"}
_TITLES = {
    "quality": "Best quality at the budget",
    "largest": "Largest batch size that was tested to be as good",
    "fastest": "Fastest",
    "cheapest": "Least device time",
    "frugal": "Least energy",
    "asked": "As you asked",
}


@click.command(cls=Command, short_help="Say which batch size and learning rate to use.")
@click.option("--goal", type=click.Choice(_GOALS), default="quality", show_default=True, help="What counts.")
@click.option("--devices", type=click.IntRange(min=1), metavar="N", help="Devices per node to plan for.")
@click.option("--nodes", type=click.IntRange(min=1), metavar="N", help="Nodes to plan for.")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="B", help="Answer for this global batch size.")
@click.option("--budget", metavar="AMOUNT", help="Another training budget, e.g. '40 epochs' or '200000 samples'.")
@click.option(
    "--bandwidth", metavar="RATE", help="Of the slowest link between devices, e.g. '25 GB/s', if not measured."
)
@click.option("--margin", type=float, metavar="X", help="Difference in value up to which a size counts as as good.")
@click.option("--target", type=float, metavar="X", help="Tell times and costs to this value, not over the budget.")
@names_options
@click.option(
    "--step-unit",
    type=click.Choice(("samples", "epochs", "steps")),
    help="What the trials of a study that isn't bsopt's report by.",
)
@click.option("--questions", is_flag=True, help="Also answer what people ask about batch sizes, from this study.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the choice as a LightningCLI configuration.")
@click.option("--python", "as_python", is_flag=True, help="Print the choice as Python to paste.")
@named_study
@json_option
def recommend(
    named: NamedStudy,
    goal: str,
    devices: int | None,
    nodes: int | None,
    batch_size: int | None,
    budget: str | None,
    bandwidth: str | None,
    margin: float | None,
    target: float | None,
    batch_size_name: str | None,
    lr_name: str | None,
    step_unit: StepUnit | None,
    questions: bool,
    as_yaml: bool,
    as_python: bool,
    as_json: bool,
) -> None:
    """Say which batch size and learning rate to use, for any number of devices, and how sure that is.

    STUDY is its name or its study file; it may be left out where the storage holds one study. No training.
    """
    from bsopt.recommendation.evidence import Evidence
    from bsopt.recommendation.questions import answers
    from bsopt.recommendation.recommender import recommend_from
    from bsopt.serialization import to_json
    from bsopt.storage.attributes import read_info, read_records
    from bsopt.storage.parameter_names import find_names

    opened = named.open()
    study = opened.optuna
    names = find_names(study, batch_size=batch_size_name, lr=lr_name)
    evidence = Evidence.of(
        read_info(study, names=names, step_unit=step_unit),
        read_records(study, names=names, step_unit=step_unit),
        study=study,
        names=names,
        num_devices=devices,
        num_nodes=nodes,
        budget=budget,
        bandwidth=float(parse_bytes(bandwidth.strip().removesuffix("/s"))) if bandwidth else None,
        margin=margin,
        target=target,
    )
    found = recommend_from(evidence, goal=goal, at_batch_size=batch_size)
    asked = answers(evidence) if questions else []
    if as_json:
        document = {**to_json(found), "ties": list(found.ties)}
        if questions:
            document["answers"] = to_json(asked)
        click.echo(json_text(document))
    elif found.choice is None and (as_yaml or as_python):
        click.echo(flowing(found.sentence), err=True)
        click.get_current_context().exit(1)
    elif as_yaml:
        click.echo(found.to_yaml(), nl=False)
    elif as_python:
        click.echo(found.to_lightning(), nl=False)
    else:
        _show(found, evidence.info, names, study)
        for answer in asked:
            click.echo("\n" + click.style(answer.question, bold=True))
            click.echo(f"{flowing(answer.answer)}\n({answer.basis})")
    if found.choice is None and not found.front:
        click.get_current_context().exit(1)


def _show(found: Recommendation, info: StudyInfo, names: ParameterNames, study: optuna.Study) -> None:
    click.secho(flowing(found.sentence), bold=True)
    if found.front:
        _show_front(found)
    if found.choice is None:
        return
    for choice in (found.choice, *found.alternatives):
        point = f"batch size {choice.batch_size}, lr {format_number(choice.lr.value, digits=3)}"
        plan = "" if str(choice.plan) == str(choice.batch_size) else f", as {choice.plan}"
        click.echo("\n" + flowing(f"{_TITLES[choice.goal]}: {point}{plan}"))
        for reason in (*choice.reasons, *choice.doubts):
            click.echo(flowing(reason, indent="  "))
        if choice.companions:
            moved = ", ".join(
                f"{_COMPANIONS.get(name, name)} {format_number(value, digits=3)}"
                for name, value in choice.companions.items()
            )
            words = f"Published rules would also set {moved}. Not tried here: search the lr again then."
            click.echo(flowing(words, indent="  "))
    for refusal in found.refusals:
        click.echo(f"\n{_TITLES[refusal.goal]}: can't be told\n{flowing(refusal.reason, indent='  ')}")
    _show_sizes(found)
    _show_list("To know:", found.caveats)
    _show_next_runs(found, info, names, study)
    click.echo("\nTo paste (--yaml for LightningCLI, --json for programs):\n")
    click.echo(found.to_lightning(), nl=False)


def _show_next_runs(found: Recommendation, info: StudyInfo, names: ParameterNames, study: optuna.Study) -> None:
    from bsopt.recommendation.views import next_run_text, settling_command

    if not found.next_runs:
        return
    runs = [next_run_text(run) for run in found.next_runs]
    command = settling_command(info, found.next_runs, names=names, study=study)
    if info.config:
        _show_list(f"What to run next (`{command}`):", runs)
        return
    _show_list("What to run next:", runs)
    click.echo("\n" + command)  # to copy, so no line of it is broken


def _show_list(title: str, lines: Sequence[str]) -> None:
    if lines:
        click.echo(f"\n{title}")
    for line in lines:
        click.echo(flowing(line, indent="  "))


def _show_sizes(found: Recommendation) -> None:
    from bsopt.cli.terminal.tables import show_table
    from bsopt.recommendation.views import SIZE_COLUMNS, as_good_in_words, size_rows

    rows = size_rows(found)
    if len(rows) > 1 and found.margin is not None:
        click.echo("\n" + flowing(f"By batch size (as good: {as_good_in_words(found.margin)}):"))
        # What it has room for at 60 characters: the batch size, how it stands, by how much and how sure that is.
        show_table(list(SIZE_COLUMNS), [list(row) for row in rows], left={1}, spare=(5, 2))


def _show_front(found: Recommendation) -> None:
    from bsopt.cli.terminal.tables import show_table

    values = [f"objective {i + 1}" for i in range(len(found.front[0].values))]
    rows = [
        [str(point.batch_size), format_number(point.lr), *map(format_number, point.values), str(point.trial)]
        for point in found.front
    ]
    show_table(["batch size", "lr", *values, "trial"], rows)
