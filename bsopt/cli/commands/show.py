"""`bsopt study show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import json_option, named_study

if TYPE_CHECKING:
    from bsopt.trial.record import StudyInfo, TrialRecord

__all__ = ["show"]


@click.command(cls=Command, short_help="Show the best trial and all others.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the N best complete trials, best first.")
@named_study
@json_option
def show(named: NamedStudy, top: int | None, as_json: bool) -> None:
    """Show a study: what was searched, the best trial, and every trial.

    STUDY is its name or its study file; it may be left out where the storage holds one study.
    """
    from bsopt.cli.terminal.formatting import json_text
    from bsopt.storage.attributes import read_records

    opened = named.open()
    records = read_records(opened.optuna)
    ranked = _ranked(records, opened.info)
    shown = records if top is None else ranked[:top]
    if as_json:
        best = ranked[0].number if ranked else None
        click.echo(json_text({"study": opened.info, "best_trial": best, "trials": shown}))
        return
    _show_study(opened.info, records)
    _show_best(opened.info, ranked)
    if shown:
        click.echo()
        _show_trials(opened.info, shown, best=ranked[0].number if ranked else None)


def _ranked(records: Sequence[TrialRecord], info: StudyInfo) -> list[TrialRecord]:
    complete = [record for record in records if record.outcome == "complete" and record.value is not None]
    return sorted(complete, key=lambda record: info.objective.sign * (record.value or 0.0))


def _show_study(info: StudyInfo, records: Sequence[TrialRecord]) -> None:
    from bsopt.units import format_number

    counts = {state: sum(record.outcome == state for record in records) for state in ("complete", "pruned", "fail")}
    running = sum(record.outcome == "running" for record in records)
    asked = f" of {info.num_trials}" if info.num_trials else ""
    parts = [f"{len(records)}{asked} trials", f"{counts['complete']} complete", f"{counts['pruned']} pruned"]
    parts += [f"{counts['fail']} failed"] if counts["fail"] else []
    parts += [f"{running} running"] if running else []
    click.echo(click.style(info.name, bold=True) + "  " + ", ".join(parts))
    click.echo(f"{info.objective.value_direction} {info.objective.value_name}")
    if info.batch_size_range and info.lr_range:
        low, high = info.lr_range
        click.echo(
            f"over batch size {info.batch_size_range[0]} to {info.batch_size_range[1]}, "
            f"lr {format_number(low)} to {format_number(high)}" + (f", {info.rule} rule" if info.rule else "")
        )
    if info.reference is not None:
        click.echo(f"reference: batch size {info.reference.batch_size}, lr {format_number(info.reference.lr)}")


def _show_best(info: StudyInfo, ranked: Sequence[TrialRecord]) -> None:
    from bsopt.units import format_number

    if not ranked:
        click.echo("No trial is complete yet.")
        return
    best = ranked[0]
    others = ", ".join(f"{k} {_cell(v)}" for k, v in best.params.items() if k not in ("batch_size", "lr"))
    text = f"batch size {best.batch_size}, lr {format_number(best.lr)}" + (f", {others}" if others else "")
    click.echo("best: " + click.style(text, fg="green", bold=True) + f" with {format_number(best.value)}", nl=False)
    click.echo(f" (trial {best.number})")
    if best.plan is not None and best.plan.accumulate_grad_batches * best.plan.world_size > 1:
        click.echo(f"realised as {best.plan}" + (f": {best.plan.reason}" if best.plan.reason else ""))


def _show_trials(info: StudyInfo, records: Sequence[TrialRecord], *, best: int | None) -> None:
    from rich.text import Text

    from bsopt.cli.terminal.formatting import sparkline
    from bsopt.cli.terminal.tables import show_table
    from bsopt.units import format_duration, format_number

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
    from bsopt.units import format_number

    if value is None:
        return "–"
    return format_number(value) if isinstance(value, float) else str(value)
