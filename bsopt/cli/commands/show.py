"""`bsopt study show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import json_option, named_study
from bsopt.cli.terminal.formatting import json_text, sparkline
from bsopt.units import format_duration, format_number, printable

if TYPE_CHECKING:
    from bsopt.trial.record import StudyInfo, TrialRecord

__all__ = ["show"]


@click.command(cls=Command, short_help="Show the best trial and all others.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the N best complete trials, best first.")
@named_study
@json_option
def show(named: NamedStudy, top: int | None, as_json: bool) -> None:
    """Show a study: what was searched, the best trial, what is recommended, and every trial.

    STUDY is its name or its study file; it may be left out where the storage holds one study.
    """
    from bsopt.recommendation.recommender import recommend
    from bsopt.storage.attributes import read_records
    from bsopt.trial.record import ranked

    opened = named.open()
    records = read_records(opened.optuna)
    best_first = ranked(records, opened.info.objective)
    shown = records if top is None else best_first[:top]
    best = best_first[0].number if best_first else None
    if as_json:
        click.echo(json_text({"study": opened.info, "best_trial": best, "trials": shown}))
        return
    _show_study(opened.info, records)
    _show_best(best_first)
    if records:
        click.echo(f"recommended: {recommend(opened.optuna).sentence}")
    if shown:
        click.echo()
        _show_trials(opened.info, shown, best=best)


def _show_study(info: StudyInfo, records: Sequence[TrialRecord]) -> None:
    from bsopt.cli.terminal.summaries import summary_of

    summary = summary_of(info, records)
    running = sum(record.outcome == "running" for record in records)
    asked = f" of {info.num_trials}" if info.num_trials else ""
    parts = [f"{summary.num_trials}{asked} trials", f"{summary.num_complete} complete", f"{summary.num_pruned} pruned"]
    parts += [f"{summary.num_failed} failed"] if summary.num_failed else []
    parts += [f"{running} running"] if running else []
    click.echo(click.style(printable(info.name), bold=True) + "  " + ", ".join(parts))
    click.echo(f"{info.objective.value_direction} {info.objective.value_name}")
    if info.batch_size_range and info.lr_range:
        low, high = info.lr_range
        click.echo(
            f"over batch size {info.batch_size_range[0]} to {info.batch_size_range[1]}, "
            f"lr {format_number(low)} to {format_number(high)}" + (f", {info.rule} rule" if info.rule else "")
        )
    if info.reference is not None:
        start = info.measured_start.lr if info.measured_start is not None else None
        measured = f", measured {start.certainty}" if start is not None else ""
        lr = format_number(info.reference.lr, digits=4 if start is None else 2)
        click.echo(f"reference: batch size {info.reference.batch_size}, lr {lr}{measured}")


def _show_best(best_first: Sequence[TrialRecord]) -> None:
    if not best_first:
        click.echo("No trial is complete yet.")
        return
    best = best_first[0]
    others = ", ".join(f"{k} {_cell(v)}" for k, v in best.params.items() if k not in ("batch_size", "lr"))
    text = f"batch size {best.batch_size}, lr {format_number(best.lr)}" + (f", {others}" if others else "")
    click.echo(
        "best trial: " + click.style(text, fg="green", bold=True) + f" with {format_number(best.value)}", nl=False
    )
    click.echo(f" (trial {best.number})")
    if best.plan is not None and best.plan.accumulate_grad_batches * best.plan.world_size > 1:
        click.echo(f"realised as {best.plan}" + (f": {best.plan.reason}" if best.plan.reason else ""))


def _show_trials(info: StudyInfo, records: Sequence[TrialRecord], *, best: int | None) -> None:
    from rich.text import Text

    from bsopt.cli.terminal.tables import show_table

    further = sorted({name for record in records for name in record.params} - {"batch_size", "lr"})
    is_planned = any(r.plan and r.plan.accumulate_grad_batches * r.plan.world_size > 1 for r in records)
    header = [
        "trial",
        "batch size",
        "lr",
        *further,
        info.objective.cost or info.objective.monitor,
    ]
    header += ["time", "curve", "ended"] + (["realised as"] if is_planned else [])
    rows = []
    for record in records:
        style = "bold green" if record.number == best else ""
        row = [
            Text(str(record.number), style=style),
            Text(str(record.batch_size if record.batch_size is not None else "–"), style=style),
            Text(format_number(record.lr), style=style),
            *(Text(_cell(record.params.get(name)), style=style) for name in further),
            Text(format_number(record.value), style=style),
            Text(format_duration(record.seconds), style="dim"),
            Text(sparkline([tick.value for tick in record.ticks], width=16), style="cyan"),
            Text(record.ending, style={"pruned": "yellow", "fail": "red"}.get(record.outcome, "")),
        ]
        rows.append([*row, Text(str(record.plan) if record.plan else "–")] if is_planned else row)
    left = {len(header) - 2 - is_planned, len(header) - 1 - is_planned, len(header) - 1}
    show_table(header, rows, left=left)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return format_number(value) if isinstance(value, float) else str(value)
