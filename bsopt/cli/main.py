"""The command line. Commands live in one file each and import what they need when they run."""

from __future__ import annotations

import io
import sys

import click

from bsopt import __version__
from bsopt.cli.group import LazyGroup

__all__ = ["main"]


@click.group(
    cls=LazyGroup,
    homes={
        "init": "bsopt.cli.commands.init:init",
        "study": "bsopt.cli.commands.study:study",
        "probe": "bsopt.cli.commands.probe:probe",
        "dashboard": "bsopt.cli.commands.dashboard:dashboard",
        "doctor": "bsopt.cli.commands.doctor:doctor",
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="bsopt", message="%(prog)s %(version)s")
def main() -> None:
    """Find which batch size and learning rate to train a PyTorch Lightning model with.

    \b
    bsopt init digits                 a study to start from
    bsopt study run digits/study.yaml
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or pipe without Unicode shows ? for a sparkline
