"""`bsopt study schema`."""

from __future__ import annotations

import click

from bsopt.cli.group import Command
from bsopt.cli.terminal.formatting import json_text

__all__ = ["schema"]


@click.command(cls=Command, short_help="Print the schema of a study file.")
def schema() -> None:
    """Print the JSON schema of a study file, for editors.

    \b
    bsopt study schema > study.schema.json
    and as the first line of study.yaml:
    # yaml-language-server: $schema=study.schema.json
    """
    from bsopt.config import json_schema

    click.echo(json_text(json_schema()))
