"""`bsopt study recommend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import json_option, named_study
from bsopt.cli.terminal.formatting import json_text
from bsopt.units import format_number, parse_bytes

if TYPE_CHECKING:
    from bsopt.recommendation.result import Recommendation

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
    from bsopt.storage.attributes import read_records

    opened = named.open()
    evidence = Evidence.of(
        opened.info,
        read_records(opened.optuna),
        study=opened.optuna,
        num_devices=devices,
        num_nodes=nodes,
        budget=budget,
        bandwidth=float(parse_bytes(bandwidth.strip().removesuffix("/s"))) if bandwidth else None,
    )
    found = recommend_from(evidence, goal=goal, at_batch_size=batch_size)
    asked = answers(evidence) if questions else []
    if as_json:
        document = to_json(found)
        if questions:
            document["answers"] = to_json(asked)
        click.echo(json_text(document))
    elif as_yaml:
        click.echo(found.to_yaml(), nl=False)
    elif as_python:
        click.echo(found.to_lightning(), nl=False)
    else:
        _show(found)
        for answer in asked:
            click.echo("\n" + click.style(answer.question, bold=True))
            click.echo(f"{answer.answer}\n({answer.basis})")
    if found.choice is None:
        click.get_current_context().exit(1)


def _show(found: Recommendation) -> None:
    click.secho(found.sentence, bold=True)
    if found.choice is None:
        return
    for choice in (found.choice, *found.alternatives):
        point = f"batch size {choice.batch_size}, lr {format_number(choice.lr.value)}, as {choice.plan}"
        click.echo(f"\n{_TITLES[choice.goal]}: {point}")
        for reason in choice.reasons:
            click.echo(f"  {reason}")
        if choice.companions:
            moved = ", ".join(
                f"{_COMPANIONS.get(name, name)} {format_number(value)}" for name, value in choice.companions.items()
            )
            click.echo(f"  Published rules would also set {moved}. Not tried here: search the lr again then.")
    if found.caveats:
        click.echo("\nTo know:")
        for caveat in found.caveats:
            click.echo(f"  {caveat}")
    click.echo("\nTo paste (--yaml for LightningCLI, --json for programs):\n")
    click.echo(found.to_lightning(), nl=False)
