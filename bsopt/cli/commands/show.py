"""`bsopt study show`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import NamedStudy, Opened, as_typed
from bsopt.cli.options import json_option, named_study, names_options
from bsopt.cli.terminal.formatting import flowing, json_text, sparkline
from bsopt.units import count_of, format_duration, format_number, in_words, printable

if TYPE_CHECKING:
    import optuna

    from bsopt.trial.record import StudyInfo, TrialRecord

__all__ = ["show"]


@click.command(cls=Command, short_help="Show the best trial and all others.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the N best complete trials, best first.")
@click.option("--trial", type=click.IntRange(min=0), metavar="NUMBER", help="All about one trial.")
@names_options
@named_study
@json_option
def show(
    named: NamedStudy,
    top: int | None,
    trial: int | None,
    batch_size_name: str | None,
    lr_name: str | None,
    as_json: bool,
) -> None:
    """Show a study: what was searched, the best trial, what is recommended, every trial, and why trials failed.

    STUDY is its name or its study file; it may be left out where the storage holds one study.
    """
    from bsopt.recommendation.recommender import recommend
    from bsopt.storage.attributes import read_info, read_records
    from bsopt.storage.parameter_names import find_names, unknown_names
    from bsopt.storage.queue import num_left
    from bsopt.study.command_line import typed_study
    from bsopt.trial.record import ranked

    opened = named.open()
    study = opened.optuna
    names = find_names(study, batch_size=batch_size_name, lr=lr_name)
    records = read_records(study, names=names)
    opened = replace(opened, info=read_info(study, names=names))
    if trial is not None:
        _show_one(opened, _numbered(records, trial), as_json=as_json)
        return
    has_one_objective = len(study.directions) == 1
    best_first = ranked(records, opened.info.objective)
    shown = records if top is None else best_first[:top]
    best = best_first[0].number if best_first and has_one_objective else None
    if as_json:
        click.echo(json_text({"study": opened.info, "best_trial": best, "trials": shown}))
        return
    _show_study(opened.info, records, aims=_aims(study, opened.info))
    unknown = unknown_names(study, names)
    if unknown:
        click.echo(flowing(unknown))
    else:
        if has_one_objective:
            _show_best(best_first, records)
        if records:
            found = recommend(study, batch_size=batch_size_name, lr=lr_name)
            click.echo(flowing(f"recommended: {found.sentence}"))
    if shown:
        click.echo()
        _show_trials(opened.info, shown, best=best)
        _show_failures(records, is_ours=bool(opened.info.config))
        where = as_typed(study.study_name, opened.storage) + _options(batch_size_name, lr_name)
        steps = [f"bsopt study {'recommend' if best_first else 'report'} {where}"]
        asked, going_on = opened.info.num_trials, f"bsopt study run {typed_study(opened.info)}"
        if left := num_left(study, asked):
            steps.insert(0, f"{going_on}   (goes on: {left} of its {asked} trials are left)")
        worth_a_look = best if best is not None else shown[0].number
        steps.append(f"bsopt study show {where} --trial {worth_a_look}   (all about one trial)")
        click.echo("\nNext: " + "\n      ".join(steps))


def _aims(study: optuna.Study, info: StudyInfo) -> str:
    """Return what is minimised or maximised: "minimize val_loss", "minimize val_loss, maximize val_acc"."""
    if len(study.directions) == 1:
        return f"{info.objective.value_direction} {info.objective.value_name}"
    names = study.metric_names or [f"objective {number}" for number in range(1, len(study.directions) + 1)]
    return ", ".join(
        f"{direction.name.lower()} {name}" for direction, name in zip(study.directions, names, strict=True)
    )


def _options(batch_size_name: str | None, lr_name: str | None) -> str:
    """Return what was typed of the parameters' names, for the next command."""
    typed = {"--batch-size-name": batch_size_name, "--lr-name": lr_name}
    return "".join(f" {option} {shlex.quote(name)}" for option, name in typed.items() if name is not None)


def _numbered(records: Sequence[TrialRecord], number: int) -> TrialRecord:
    from bsopt.errors import StudyError

    found = next((record for record in records if record.number == number), None)
    if found is None:
        there = f"its trials are 0 to {records[-1].number}" if records else "it has no trials yet"
        raise StudyError(f"there is no trial {number} in this study: {there}.")
    return found


def _show_one(opened: Opened, record: TrialRecord, *, as_json: bool) -> None:
    from bsopt.cli.terminal.one_trial import facts_of
    from bsopt.trial.spec import trial_folder

    if as_json:
        click.echo(json_text(record))
        return
    log = trial_folder(opened.folder, record.number) / "log.txt"
    facts = facts_of(record, opened.info, log=str(log) if log.is_file() else None)
    click.secho(f"trial {record.number} of {printable(opened.info.name)}", bold=True)
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        lines = flowing(printable(value), indent=" " * (width + 2))
        click.echo(f"{name:<{width}}{lines[width:]}")
    where = as_typed(opened.optuna.study_name, opened.storage)
    if record.outcome == "complete" and opened.info.config:
        click.echo(f"\nNext: bsopt study train {where} --trial {record.number}   (train it again, keep its weights)")


def _show_failures(records: Sequence[TrialRecord], *, is_ours: bool) -> None:
    """List why trials failed, diverged or ran out of memory: each reason once, with its trials."""
    from bsopt.cli.terminal.one_trial import failures

    found = failures(records)
    if found:
        click.echo("\nWhy trials failed:")
    for reason, numbers in found:
        if reason == "fail" and not is_ours:
            reason = "Optuna stored no reason; the log of the program that ran them has the exception"
        trials = f"{'trial' if len(numbers) == 1 else 'trials'} {in_words(numbers)}"
        click.echo(f"  {click.style(trials, fg='red')}: {printable(reason)}")


def _show_study(info: StudyInfo, records: Sequence[TrialRecord], *, aims: str) -> None:
    from bsopt.cli.terminal.summaries import summary_of

    summary = summary_of(info, records)
    running = sum(record.outcome == "running" for record in records)
    has_asked = info.num_trials is not None
    trials = f"{summary.num_trials} of {info.num_trials} trials" if has_asked else count_of(summary.num_trials, "trial")
    parts = [trials, f"{summary.num_complete} complete", f"{summary.num_pruned} pruned"]
    parts += [f"{summary.num_failed} failed"] if summary.num_failed else []
    parts += [f"{running} running"] if running else []
    click.echo(click.style(printable(info.name), bold=True) + "  " + ", ".join(parts))
    click.echo(aims)
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


def _show_best(best_first: Sequence[TrialRecord], records: Sequence[TrialRecord]) -> None:
    if not best_first:
        num_complete = sum(record.outcome == "complete" for record in records)
        none = (
            f"None of {count_of(num_complete, 'complete trial')} has a batch size, a learning rate and a finite value."
        )
        click.echo(none if num_complete else "No trial is complete yet.")
        return
    best = best_first[0]
    others = ", ".join(f"{k} {_cell(v)}" for k, v in best.further.items())
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

    further = sorted({name for record in records for name in record.further})
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
    left = {len(header) - 2 - is_planned, len(header) - 1 - is_planned, len(header) - 1}  # curve, ended, realised as
    last = len(header) - 1
    spare = [last - 1 - is_planned, *([last] if is_planned else []), last - 2 - is_planned]  # curve, plan, time
    show_table(header, rows, left=left, spare=spare)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return format_number(value) if isinstance(value, float) else str(value)
