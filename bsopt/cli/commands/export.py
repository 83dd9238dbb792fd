"""`bsopt study export`."""

from __future__ import annotations

from pathlib import Path

import click

from bsopt.cli.group import Command, writing
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import named_study, output_option
from bsopt.cli.terminal.formatting import json_text

__all__ = ["export"]


@click.command(cls=Command)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json"]),
    help="By default what the output's name ends with, else csv.",
)
@output_option("By default standard output.")
@click.option("--curves", is_flag=True, help="A row for each validation instead of one for each trial.")
@named_study
def export(named: NamedStudy, form: str | None, output: str | None, curves: bool) -> None:
    """Write a study's trials as a flat table.

    STUDY is its name or its study file; it may be left out where the storage holds one study.
    """
    from bsopt.cli.terminal.trial_tables import curve_rows, trial_rows, write_csv
    from bsopt.storage.attributes import read_records

    records = read_records(named.open().optuna)
    rows = curve_rows(records) if curves else trial_rows(records)
    is_json = form == "json" or (form is None and Path(output or "").suffix == ".json")
    text = json_text(rows) + "\n" if is_json else write_csv(rows)
    if output is None:
        click.echo(text, nl=False)
        return
    with writing(output):
        Path(output).write_text(text, encoding="utf-8")
    click.echo(f"{len(rows)} rows in {output}")
