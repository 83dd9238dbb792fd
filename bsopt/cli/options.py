"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from bsopt.cli.opening import DEFAULT_STORAGE, NamedStudy

__all__ = [
    "json_option",
    "named_study",
    "names_options",
    "open_option",
    "output_option",
    "set_option",
    "storage_option",
    "studies_argument",
    "study_file_argument",
    "study_name_option",
    "workers_option",
]

study_file_argument = click.argument("file", metavar="FILE", type=click.Path())

studies_argument = click.argument("studies", metavar="[STUDY]...", nargs=-1)

storage_option = click.option(
    "--storage",
    metavar="URL",
    envvar="BSOPT_STORAGE",
    help="Any Optuna storage: sqlite:///file.db, postgresql+psycopg://…, journal:///file.log, grpc://host:port; with a "
    "password better as @FILE, a file that holds it, or in BSOPT_STORAGE: what is typed, other users can see. "
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

open_option = click.option("--open", "is_opened", is_flag=True, help="Open it in the browser.")


def names_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --batch-size-name and --lr-name; the command gets them as `batch_size_name` and `lr_name`."""
    size = click.option("--batch-size-name", metavar="NAME", help="The batch size's name, if the study doesn't tell.")
    rate = click.option("--lr-name", metavar="NAME", help="The learning rate's name, if the study doesn't tell.")
    return size(rate(command))


def output_option(help_text: str, *, metavar: str = "FILE") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that says where to write; the command gets it as `output`."""
    is_file = metavar == "FILE"
    kind = click.Path(dir_okay=False) if is_file else click.Path()
    return click.option("-o", "--output", "--out", "output", metavar=metavar, type=kind, help=help_text)


def named_study(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument STUDY with --storage and --study-name; the command gets them as one, `named`."""

    @functools.wraps(command)
    def with_one(*, study: str | None, storage: str | None, study_name: str | None, **others: Any) -> Any:
        return command(named=NamedStudy(study, storage, study_name), **others)

    argument = click.argument("study", metavar="[STUDY]", required=False)
    return argument(storage_option(study_name_option(with_one)))
