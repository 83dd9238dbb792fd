"""The command line. Commands live in one file each and import what they need when they run."""

from __future__ import annotations

import io
import os
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
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or pipe without Unicode shows ? for a sparkline


def _replace_closed_streams() -> None:
    """Let standard streams that were closed (`>&-`, some schedulers) go nowhere, as `>/dev/null` does.

    Else Python has none, and the next file that is opened, a database for example, takes their number: whatever is
    printed in C would be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  (takes the lowest number that is free)
            os.set_inheritable(nowhere.fileno(), True)  # noqa: FBT003  (takes no keywords)
            setattr(sys, name, nowhere)
