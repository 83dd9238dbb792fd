"""Projects in the styles that people really use; none of them knows bsopt, and each is trained as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the projects import what they share."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
