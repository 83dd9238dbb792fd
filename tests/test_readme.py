"""The README's commands exist, its links lead somewhere, and its code runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from bsopt.cli import main
from bsopt.config import validate_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", TEXT, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in found]


def test_every_command_exists() -> None:
    lines = [line for block in _blocks("bash") for line in block.splitlines()]
    lines += re.findall(r"`(bsopt [^`]+|scripts/[^`]+)`", TEXT)
    assert any(line.startswith("scripts/quickstart") for line in lines)
    for line in lines:
        words = shlex.split(line, comments=True)
        if not words or words[0] == "pip":
            continue
        if words[0].startswith("scripts/"):
            assert (ROOT / words[0]).exists(), line
            continue
        assert words[0] == "bsopt", line
        command: click.Command = main
        for word in words[1:]:
            if not isinstance(command, click.Group):
                break
            found = command.get_command(click.Context(command), word)
            assert found is not None, line
            command = found


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_study_file_is_valid() -> None:
    (study,) = _blocks("yaml")
    assert validate_config(yaml.safe_load(study)).name == "mine"


def test_the_python_code_runs() -> None:
    blocks = _blocks("python")
    assert len(blocks) == 2
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["batch_size"] == 32
    assert scope["lr"] == pytest.approx(0.01)
