"""`bsopt study export`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bsopt.cli.group import Command
from bsopt.cli.options import storage_option, study_argument, study_name_option

__all__ = ["export"]


@click.command(cls=Command)
@study_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json"]),
    help="By default what the output's name ends with, else csv.",
)
@click.option(
    "-o",
    "--output",
    "--out",
    "output",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="By default standard output.",
)
@click.option("--curves", is_flag=True, help="A row for each validation instead of one for each trial.")
@storage_option
@study_name_option
def export(
    study: str | None,
    form: str | None,
    output: str | None,
    curves: bool,
    storage: str | None,
    study_name: str | None,
) -> None:
    """Write a study's trials as a flat table.

    STUDY is its name or its study file; it may be left out where the storage holds one study.
    """
    from bsopt.cli.opening import open_study
    from bsopt.cli.terminal.trial_tables import curve_rows, trial_rows, write_csv
    from bsopt.errors import ConfigError
    from bsopt.serialization import to_json
    from bsopt.storage.attributes import read_records

    opened = open_study(study, storage=storage, study_name=study_name)
    records = read_records(opened.optuna)
    rows = curve_rows(records) if curves else trial_rows(records)
    is_json = form == "json" or (form is None and Path(output or "").suffix == ".json")
    text = json.dumps(to_json(rows), indent=2, ensure_ascii=False) + "\n" if is_json else write_csv(rows)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't write {output}: {error.strerror or error}.") from error
    click.echo(f"{len(rows)} rows in {output}")
