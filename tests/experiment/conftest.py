"""A study with a designed experiment on the toy project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bsopt.config import LoadedConfig, load_config
from bsopt.study.study import Study

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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, write_project: Callable[[Path, str], None]) -> Path:
    """Return the folder of a project with six designed runs, trained: two arms, two batch sizes, two seeds."""
    folder = tmp_path_factory.mktemp("trained")
    write_project(folder, "pytorch_lightning")
    two = ("experiment.arms=[fixed_lr, scaled_lr]", "experiment.batch_sizes=[8, 32]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Study.create(load_config(folder / "study.yaml", [*DESIGN, *two])).run()
    return folder
