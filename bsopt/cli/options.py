"""Options and arguments that several commands share."""

from __future__ import annotations

import click

__all__ = [
    "DEFAULT_STORAGE",
    "json_option",
    "set_option",
    "storage_option",
    "study_argument",
    "study_file_argument",
    "study_name_option",
    "workers_option",
]

DEFAULT_STORAGE = "sqlite:///bsopt.db"

study_file_argument = click.argument("file", metavar="FILE", type=click.Path())

study_argument = click.argument("study", metavar="[STUDY]", required=False)

storage_option = click.option(
    "--storage",
    metavar="URL",
    envvar="BSOPT_STORAGE",
    help="Any Optuna storage: sqlite:///file.db, postgresql+psycopg://…, journal:///file.log, grpc://host:port. "
    f"By default the study file's, or {DEFAULT_STORAGE}.",
)

study_name_option = click.option("--study-name", metavar="NAME", help="By default the study file's name.")

set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a value of the study file, e.g. --set budget.trials=10. Can be repeated.",
)

workers_option = click.option("--workers", type=click.IntRange(min=1), help="Trials at a time on this host.")

json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")
