"""The contributors' page names files and rooms that exist, and every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bsopt"
PAGE = (PACKAGE / "README.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`([\w/]+(?:/|\.py|\.md))`", PAGE)))


@pytest.mark.parametrize("path", PATHS)
def test_every_file_it_names_exists(path: str) -> None:
    assert (PACKAGE / path).exists() or (PACKAGE.parent / path).exists()


def test_it_names_every_room() -> None:
    rooms = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= set(PATHS)
