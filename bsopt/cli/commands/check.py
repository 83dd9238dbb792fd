"""`bsopt study check`."""

from __future__ import annotations

import shlex

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import load_study_file, quiet_hosts, start_processes
from bsopt.cli.options import (
    json_option,
    set_option,
    storage_option,
    study_file_argument,
    study_name_option,
    workers_option,
)
from bsopt.cli.terminal.formatting import json_text

__all__ = ["check"]


@click.command(cls=Command, short_help="Check a study before it runs.")
@study_file_argument
@set_option
@storage_option
@study_name_option
@workers_option
@click.option("--no-step", is_flag=True, help="Train nothing, not even one step.")
@json_option
def check(
    file: str,
    overrides: tuple[str, ...],
    storage: str | None,
    study_name: str | None,
    workers: int | None,
    no_step: bool,
    as_json: bool,
) -> None:
    """Check the study of FILE, and print what would be run.

    Imports, arguments, search space, storage, devices, how each batch size is realised, and one optimizer step with
    a short validation, as a trial would make it. Ends with 2 when the study can't be run.
    """

    loaded = load_study_file(file, overrides, storage=storage, study_name=study_name, workers=workers)
    start_processes(loaded)
    quiet_hosts()
    from bsopt.study.study import Study

    report = Study.check(loaded, step=not no_step)
    if as_json:
        click.echo(json_text(report))
    else:
        width = max((len(label) for label, _ in report.rows), default=0)
        for label, text in report.rows:
            first, *rest = text.splitlines() or [""]
            click.echo(f"{label:<{width}}  {first}")
            for line in rest:
                click.echo(f"{'':<{width}}  {line}")
        if report.plans:
            click.echo("\nHow each batch size is realised:")
            for size, text in report.plans:
                click.echo(f"  {size:>6}  {'in one pass' if text == str(size) else text}")
        for text in report.warnings:
            click.secho(f"\nWarning: {text}", fg="yellow")
        for text in report.problems:
            click.secho(f"\nProblem: {text}", fg="red", err=True)
        if not report.problems:
            click.echo(f"\nNothing stands in the way. Next: bsopt study run {shlex.quote(file)}")
    if report.problems:
        click.get_current_context().exit(2)
