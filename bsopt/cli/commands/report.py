"""`bsopt study report`."""

from __future__ import annotations

from pathlib import Path

import click

from bsopt.cli.group import Command, writing
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import names_options, open_option, output_option, storage_option, studies_argument

__all__ = ["report"]


@click.command(cls=Command, short_help="Write the report, one HTML file.")
@studies_argument
@output_option("By default report.html in the study's folder; for several studies in the working folder.")
@open_option
@storage_option
@names_options
def report(
    studies: tuple[str, ...],
    output: str | None,
    is_opened: bool,
    storage: str | None,
    batch_size_name: str | None,
    lr_name: str | None,
) -> None:
    """Write the report of a study, or of several side by side, as one HTML file that opens offline.

    STUDY is its name or its study file; it may be left out where the storage holds one study.
    """
    from bsopt.report.page import write_report

    opened = [NamedStudy(study, storage).open() for study in studies or (None,)]
    path = Path(output) if output else (opened[0].folder if len(opened) == 1 else Path()) / "report.html"
    with writing(path):
        written = write_report([study.optuna for study in opened], path, batch_size=batch_size_name, lr=lr_name)
    click.echo(f"report: {written}")
    if is_opened:
        click.launch(written.path.resolve().as_uri())
