"""`bsopt study delete`."""

from __future__ import annotations

import click

from bsopt.cli.group import Command
from bsopt.cli.options import storage_option, study_argument, study_name_option

__all__ = ["delete"]


@click.command(cls=Command, short_help="Delete a study from its storage.")
@study_argument
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@storage_option
@study_name_option
def delete(study: str | None, yes: bool, storage: str | None, study_name: str | None) -> None:
    """Delete a study and its trials from its storage. Logs and checkpoints stay where they are.

    STUDY is its name or its study file.
    """
    if study is None and study_name is None:
        raise click.UsageError("name the study to delete.")
    from bsopt.cli.opening import open_study
    from bsopt.storage.databases import redacted
    from bsopt.study.study import delete_study

    opened = open_study(study, storage=storage, study_name=study_name)
    name, count = opened.optuna.study_name, len(opened.optuna.get_trials(deepcopy=False))
    if not yes:
        question = f"Delete the study {name} with {count} trials from {redacted(opened.storage)}?"
        if not click.confirm(question):
            click.echo("Nothing was deleted.")
            return
    delete_study(name, opened.storage)
    click.echo(f"Deleted the study {name} ({count} trials).")
