"""A project whose trials can be held, so that a test decides what happens while they train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bsopt.config import LoadedConfig, load_config

HELD = '''
import os, time
import toy


class Held(toy.Toy):
    """Waits after its first epoch until it can take a file out of the folder `passes`."""

    def __init__(self, passes, lr=0.1):
        super().__init__(lr=lr)
        self.passes, self.may_pass = passes, False

    def training_step(self, batch, batch_idx):
        while self.current_epoch and not self.may_pass:
            time.sleep(0.05)
            for name in os.listdir(self.passes):
                try:
                    os.remove(os.path.join(self.passes, name))
                    self.may_pass = True
                    break
                except FileNotFoundError:  # another trial was faster
                    pass
        return super().training_step(batch, batch_idx)
'''


@pytest.fixture
def passes(project: Path) -> Path:
    """A folder; every file in it lets one held trial go on."""
    (project / "passes").mkdir()
    return project / "passes"


@pytest.fixture
def held(project: Path, passes: Path) -> Callable[..., LoadedConfig]:
    """Return a function that loads the project's study with held trials."""
    (project / "held.py").write_text(HELD)
    model = f"task.model={{class_path: held.Held, init_args: {{passes: {passes}}}}}"

    def load(*overrides: str) -> LoadedConfig:
        return load_config(project / "study.yaml", [model, *overrides])

    return load
