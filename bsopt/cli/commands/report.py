"""`bsopt study report`."""

from __future__ import annotations

from pathlib import Path

import click

from bsopt.cli.group import Command
from bsopt.cli.options import storage_option

__all__ = ["report"]


@click.command(cls=Command, short_help="Write the report, one HTML file.")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    "--out",
    "output",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="By default report.html in the study's folder; for several studies in the working folder.",
)
@click.option("--open", "is_opened", is_flag=True, help="Open it in the browser.")
@storage_option
def report(studies: tuple[str, ...], output: str | None, is_opened: bool, storage: str | None) -> None:
    """Write the report of a study, or of several side by side, as one HTML file that opens offline.

    STUDY is its name or its study file; it may be left out where the storage holds one study.
    """
    from bsopt.cli.opening import open_study
    from bsopt.errors import ConfigError
    from bsopt.report.page import write_report

    opened = [open_study(study, storage=storage, study_name=None) for study in studies or (None,)]
    path = Path(output) if output else (opened[0].folder if len(opened) == 1 else Path()) / "report.html"
    try:
        written = write_report([study.optuna for study in opened], path)
    except OSError as error:
        raise ConfigError(f"can't write the report to {path}: {error.strerror or error}.") from error
    click.echo(f"report: {written}")
    if is_opened:
        click.launch(written.resolve().as_uri())
