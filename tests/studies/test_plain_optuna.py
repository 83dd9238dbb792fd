"""Optuna's side alone: a plain PyTorch loop and scikit-learn's trainer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import optuna
import pytest

FOLDER = Path(__file__).parents[2] / "studies/plain_optuna"


def load(name: str) -> ModuleType:
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_good"), [("pytorch_loop", lambda v: v < 0.5), ("sklearn_mlp", lambda v: v > 0.9)])
def test_example_finds_good_settings_and_writes_a_report(
    name: str, is_good: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = load(name).main(num_trials=8)
    assert callable(is_good)
    assert is_good(study.best_value)
    told = capsys.readouterr().out
    assert told.startswith("Batch size ")
    assert (tmp_path / "runs" / study.study_name / "report.html").exists()
