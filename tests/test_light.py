"""Sampler, pruner, answers and figures without PyTorch and Lightning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIVE = ("click", "optuna", "plotly", "pydantic", "scipy")
"""What the README names, beside `pip install --no-deps`."""

BLOCKED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchmetrics", "lightning", "lightning_fabric", "lightning_utilities",
                                      "pytorch_lightning", "rich", "optuna_dashboard", "sklearn"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""

USE = """
import math, pathlib, sys
import optuna
import bsopt

optuna.logging.set_verbosity(optuna.logging.WARNING)

def objective(trial):
    size, lr = trial.suggest_int("batch_size", 8, 1024, log=True), trial.suggest_float("lr", 1e-4, 1, log=True)
    end = (math.log2(lr) + 4 - math.log2(size / 64) / 2) ** 2
    for epoch in range(5):
        trial.report(end + 1 / (1 + epoch), epoch)
        if (value := bsopt.conclude(trial)) is not None:
            return value
    return end

study = optuna.create_study(sampler=bsopt.ScalingSampler(seed=0), pruner=bsopt.PlateauPruner())
study.optimize(objective, n_trials=6)
assert bsopt.recommend(study).choice is not None
assert bsopt.write_report(study, pathlib.Path(sys.argv[1]) / "report.html").answers
assert sum(bool(figure(study).data) for figure in bsopt.visualization.FIGURES.values()) >= 5
assert study.sampler.explain(study).is_fitted
assert "torch" not in sys.modules
try:
    bsopt.measure_lr
except bsopt.BsoptError as error:
    assert "needs PyTorch and Lightning" in str(error), error
else:
    raise AssertionError
try:
    from bsopt.callbacks import GradientNoiseScale
except ImportError as error:
    assert "bsopt.callbacks.GradientNoiseScale needs PyTorch" in str(error), error
else:
    raise AssertionError
"""


@pytest.mark.slow
def test_optunas_side_works_where_torch_and_lightning_are_missing(tmp_path: Path) -> None:
    _run(sys.executable, BLOCKED + USE, tmp_path, PYTHONPATH=str(ROOT))


def test_the_readme_names_what_a_light_installation_needs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"pip install --no-deps . && pip install {' '.join(FIVE)}" in readme


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_light_installation_in_an_environment_of_its_own(tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    for packages in (["--no-deps", str(ROOT)], [*FIVE]):
        told = subprocess.run([*pip, *packages], capture_output=True, text=True, timeout=600)
        if told.returncode and "No matching distribution" in told.stderr:
            pytest.skip("no package index: " + told.stderr.strip().splitlines()[-1])
        assert told.returncode == 0, told.stderr
    _run(str(python), USE, tmp_path)
    helped = subprocess.run([python, "-m", "bsopt", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert helped.returncode == 0, helped.stderr


def _run(python: str, code: str, folder: Path, **variables: str) -> None:
    environment = {**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, **variables}
    told = subprocess.run(
        [python, "-c", code, str(folder)], cwd=folder, env=environment, capture_output=True, text=True, timeout=250
    )
    assert told.returncode == 0, told.stderr


def test_a_studys_own_process_does_without_torch() -> None:
    """It starts trials and trains none: `check` and `run` begin a second sooner, and it takes 200 MB less."""
    code = "import sys, bsopt.study.study, bsopt.cli.opening; print({'torch', 'pytorch_lightning'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
