"""The guide to many machines: each of its commands is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from bsopt.cli.main import main

FOLDER = Path(__file__).parents[2] / "studies" / "scale_out"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)]
LINES = [line for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if re.match(r"(bsopt|srun bsopt|torchrun .*-m bsopt) ", line)]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_guide_parses(line: str) -> None:
    words = shlex.split(line, comments=True)
    command: click.Command = main
    words = words[words.index("bsopt") + 1 :]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(command.name, words)


def test_the_guide_covers_every_way() -> None:
    told = " ".join(COMMANDS)
    for way in ("BSOPT_STORAGE", "grpc://", "journal://", "--engine ray", "--engine slurm", "torchrun", "srun"):
        assert way in TEXT
    assert {"--dry-run", "--local", "--upload-code"} <= set(told.split())


def test_links_within_the_guide_lead_to_its_sections() -> None:
    sections = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= sections
