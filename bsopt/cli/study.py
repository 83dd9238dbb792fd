"""`bsopt study`: everything about one study or several."""

from __future__ import annotations

import click

from bsopt.cli.group import LazyGroup

__all__ = ["study"]


@click.group(
    cls=LazyGroup,
    homes={
        "run": "bsopt.cli.run:run",
        "check": "bsopt.cli.check:check",
        "schema": "bsopt.cli.schema:schema",
        "list": "bsopt.cli.listing:list_",
        "show": "bsopt.cli.show:show",
        "recommend": "bsopt.cli.recommend:recommend",
        "train": "bsopt.cli.train:train",
        "report": "bsopt.cli.report:report",
        "plot": "bsopt.cli.plot:plot",
        "analyze": "bsopt.cli.analyze:analyze",
        "export": "bsopt.cli.export:export",
        "import": "bsopt.cli.importing:import_",
        "delete": "bsopt.cli.delete:delete",
    },
)
def study() -> None:
    """Run studies, look at them, and act on what they found."""
