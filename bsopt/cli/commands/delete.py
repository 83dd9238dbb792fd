"""`bsopt study delete`."""

from __future__ import annotations

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import NamedStudy
from bsopt.cli.options import named_study

__all__ = ["delete"]


@click.command(cls=Command, short_help="Delete a study from its storage.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@named_study
def delete(named: NamedStudy, yes: bool) -> None:
    """Delete a study and its trials from its storage. Logs and checkpoints stay where they are.

    STUDY is its name or its study file.
    """
    if named.study is None and named.study_name is None:
        raise click.UsageError("name the study to delete.")
    from bsopt.storage.databases import redacted
    from bsopt.study.study import delete_study

    opened = named.open()
    name, count = opened.optuna.study_name, len(opened.optuna.get_trials(deepcopy=False))
    if not yes:
        question = f"Delete the study {name} with {count} trials from {redacted(opened.storage)}?"
        if not click.confirm(question):
            click.echo("Nothing was deleted.")
            return
    delete_study(name, opened.storage)
    click.echo(f"Deleted the study {name} ({count} trials).")
