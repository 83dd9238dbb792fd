"""`bsopt study`: everything about one study or several."""

from __future__ import annotations

import click

from bsopt.cli.group import LazyGroup

__all__ = ["study"]


@click.group(
    cls=LazyGroup,
    homes={
        "run": "bsopt.cli.commands.run:run",
        "check": "bsopt.cli.commands.check:check",
        "schema": "bsopt.cli.commands.schema:schema",
        "list": "bsopt.cli.commands.list_:list_",
        "show": "bsopt.cli.commands.show:show",
        "recommend": "bsopt.cli.commands.recommend:recommend",
        "train": "bsopt.cli.commands.train:train",
        "report": "bsopt.cli.commands.report:report",
        "plot": "bsopt.cli.commands.plot:plot",
        "analyze": "bsopt.cli.commands.analyze:analyze",
        "export": "bsopt.cli.commands.export:export",
        "import": "bsopt.cli.commands.import_:import_",
        "delete": "bsopt.cli.commands.delete:delete",
    },
)
def study() -> None:
    """Run studies, look at them, and act on what they found."""
