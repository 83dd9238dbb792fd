"""A study with a designed experiment on the toy project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bsopt.config import LoadedConfig, load_config

Load = Callable[..., LoadedConfig]

DESIGN = (
    "search={batch_size: {low: 8, high: 32}, lr: {low: 0.001, high: 1.0}}",
    "budget={trials: 0, epochs: 4}",
    "experiment={batch_sizes: [8, 16, 32], reference_lr: 0.01, grid: [0.01, 0.02], seeds: 2, patience: 2 epochs}",
    "checkpoints={trials: all, keep: [best]}",
    "isolation=none",
)


@pytest.fixture
def load(project: Path) -> Load:
    return lambda *overrides: load_config(project / "study.yaml", [*DESIGN, *overrides])
