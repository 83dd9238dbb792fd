"""`bsopt study recommend`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.options import json_option, storage_option, study_argument, study_name_option

if TYPE_CHECKING:
    from bsopt.recommendation.result import Choice, Recommendation

__all__ = ["recommend"]

_GOALS = ("quality", "largest", "fastest", "cheapest")
_COMPANIONS = {"weight_decay_factor": "weight decay ×"}
_TITLES = {
    "quality": "Best quality at the budget",
    "largest": "Largest batch size that costs no quality",
    "fastest": "Fastest",
    "cheapest": "Cheapest",
}


@click.command(cls=Command, short_help="Say which batch size and learning rate to use.")
@study_argument
@click.option("--goal", type=click.Choice(_GOALS), default="quality", show_default=True, help="What counts.")
@click.option("--devices", type=click.IntRange(min=1), metavar="N", help="Devices per node to plan for.")
@click.option("--nodes", type=click.IntRange(min=1), metavar="N", help="Nodes to plan for.")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="B", help="Answer for this global batch size.")
@click.option("--budget", metavar="AMOUNT", help="Another training budget, e.g. '40 epochs' or '200000 samples'.")
@click.option(
    "--bandwidth", metavar="RATE", help="Of the slowest link between devices, e.g. '25 GB/s', if not measured."
)
@click.option("--questions", is_flag=True, help="Also answer what people ask about batch sizes, from this study.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the choice as a LightningCLI configuration.")
@click.option("--python", "as_python", is_flag=True, help="Print the choice as Python to paste.")
@storage_option
@study_name_option
@json_option
def recommend(
    study: str | None,
    goal: str,
    devices: int | None,
    nodes: int | None,
    batch_size: int | None,
    budget: str | None,
    bandwidth: str | None,
    questions: bool,
    as_yaml: bool,
    as_python: bool,
    storage: str | None,
    study_name: str | None,
    as_json: bool,
) -> None:
    """Say which batch size and learning rate to use, for any number of devices, and how sure that is.

    STUDY is its name or its study file; it may be left out where the storage holds one study. No training.
    """
    from bsopt.cli.opening import open_study
    from bsopt.recommendation.questions import answers
    from bsopt.recommendation.recommender import recommend as recommend_
    from bsopt.serialization import to_json
    from bsopt.units import parse_bytes

    opened = open_study(study, storage=storage, study_name=study_name).optuna
    found = recommend_(
        opened,
        goal=goal,
        num_devices=devices,
        num_nodes=nodes,
        batch_size=batch_size,
        budget=budget,
        bandwidth=float(parse_bytes(bandwidth.strip().removesuffix("/s"))) if bandwidth else None,
    )
    if as_json:
        document = to_json(found)
        if questions:
            document["answers"] = [
                {"question": a.question, "answer": a.answer, "basis": a.basis} for a in answers(opened)
            ]
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif as_yaml:
        click.echo(found.to_yaml(), nl=False)
    elif as_python:
        click.echo(found.to_lightning(), nl=False)
    else:
        _show(found)
        if questions:
            for answer in answers(opened):
                click.echo("\n" + click.style(answer.question, bold=True))
                click.echo(f"{answer.answer}\n({answer.basis})")
    if found.choice is None:
        click.get_current_context().exit(1)


def _show(found: Recommendation) -> None:
    click.secho(found.sentence, bold=True)
    if found.choice is None:
        return
    for choice in (found.choice, *found.alternatives):
        click.echo(f"\n{_TITLES[choice.goal]}: {_line(choice)}")
        for reason in choice.reasons:
            click.echo(f"  {reason}")
        if choice.companions:
            moved = ", ".join(f"{_COMPANIONS.get(name, name)} {value:.4g}" for name, value in choice.companions.items())
            click.echo(f"  Published rules would also set {moved}. Not tried here: search the lr again then.")
    if found.caveats:
        click.echo("\nTo know:")
        for caveat in found.caveats:
            click.echo(f"  {caveat}")
    click.echo("\nTo paste (--yaml for LightningCLI, --json for programs):\n")
    click.echo(found.to_lightning(), nl=False)


def _line(choice: Choice) -> str:
    return f"batch size {choice.batch_size}, lr {choice.lr.value:.4g}, as {choice.plan}"
