"""`bsopt study list`."""

from __future__ import annotations

import click

from bsopt.cli.group import Command
from bsopt.cli.opening import DEFAULT_STORAGE
from bsopt.cli.options import json_option, storage_option
from bsopt.cli.terminal.formatting import json_text
from bsopt.units import format_number

__all__ = ["list_"]


@click.command("list", cls=Command)
@storage_option
@json_option
def list_(storage: str | None, as_json: bool) -> None:
    """List the studies of a storage."""
    from bsopt.cli.opening import existing_storage, quiet_hosts
    from bsopt.cli.terminal.summaries import summarise
    from bsopt.cli.terminal.tables import show_table

    quiet_hosts()
    studies = summarise(existing_storage(storage or DEFAULT_STORAGE))
    if as_json:
        click.echo(json_text(studies))
    elif not studies:
        click.echo("There are no studies in this storage yet.")
    else:
        show_table(
            ("study", "trials", "complete", "pruned", "failed", "value", "best", "batch size", "lr"),
            [
                (
                    study.name,
                    str(study.num_trials),
                    str(study.num_complete),
                    str(study.num_pruned),
                    str(study.num_failed),
                    study.value_name,
                    format_number(study.best_value),
                    str(study.best_batch_size or "–"),
                    format_number(study.best_lr),
                )
                for study in studies
            ],
            left=(0, 5),
            spare=(5, 3, 2),
        )
