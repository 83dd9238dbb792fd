"""What the command line says of studies that bsopt didn't make can be followed there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from click.testing import Result
from recommended_studies import foreign

Invoke = Callable[..., Result]


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bsopt.db"


def test_next_runs_of_a_plain_study_are_lines_of_its_own_python(invoke: Invoke, storage: str) -> None:
    optuna.copy_study(
        from_study_name=(source := foreign(30)).study_name,
        from_storage=source._storage,
        to_storage=storage,
        to_study_name="plain",
    )
    output = invoke("study", "recommend", "plain").output
    assert "--settle" not in output
    assert "What to run next:\n" in output
    code = re.search(r"^study\.enqueue_trial\(.*^study\.optimize\(objective, n_trials=\d\)$", output, re.M | re.S)
    assert code is not None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    exec(code.group(), {"study": study, "objective": lambda trial: trial.suggest_float("lr", 1e-4, 1.0, log=True)})
    assert all(trial.params["lr"] == trial.system_attrs["fixed_params"]["lr"] for trial in study.trials)
