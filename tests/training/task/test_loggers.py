"""Each trial has a run of its own in the loggers that a project has, named and grouped by study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, WandbLogger

from bsopt.training.task.loggers import trial_loggers
from bsopt.trial.spec import TrialSpec


def given(monkeypatch: pytest.MonkeyPatch, spec: TrialSpec, kind: Any, **settings: Any) -> dict[str, Any]:
    """Return what a logger's constructor is called with; the logger's own package isn't needed."""
    seen: dict[str, Any] = {}
    if kind is WandbLogger:

        def init(self: Any, name: Any = None, save_dir: Any = ".", project: Any = None, **kwargs: Any) -> None:
            seen.update(name=name, save_dir=save_dir, project=project, **kwargs)
    else:

        def init(self: Any, experiment_name: str = "lightning_logs", run_name: Any = None, tags: Any = None) -> None:
            seen.update(experiment_name=experiment_name, run_name=run_name, tags=tags)

    monkeypatch.setattr(kind, "__init__", init)
    with trial_loggers(replace(spec, study="mine", number=3)):
        kind(**settings)
    return seen


def test_wandb_has_a_run_a_trial_grouped_by_study(monkeypatch: pytest.MonkeyPatch, spec: TrialSpec) -> None:
    seen = given(monkeypatch, spec, WandbLogger, name="always the same", project="theirs", notes="kept")
    assert (seen["name"], seen["group"], seen["project"], seen["notes"]) == ("mine-0003", "mine", "theirs", "kept")
    assert seen["save_dir"].startswith(spec.folder)


def test_mlflow_has_a_run_a_trial_in_the_study_s_experiment(monkeypatch: pytest.MonkeyPatch, spec: TrialSpec) -> None:
    seen = given(monkeypatch, spec, MLFlowLogger, tags={"team": "us"})
    assert seen == {"experiment_name": "mine", "run_name": "mine-0003", "tags": {"team": "us", "study": "mine"}}


def test_files_are_in_the_trial_s_folder_with_what_trial_it_is(train: Any, spec: TrialSpec) -> None:
    logger = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "elsewhere"}}
    train(trainer={**spec.trainer, "logger": logger, "log_every_n_steps": 1}, study="mine")
    folder = f"{spec.folder}/logs/version_0"
    with open(f"{folder}/metrics.csv") as file:
        assert "val_loss" in file.readline()
    with open(f"{folder}/hparams.yaml") as file:
        text = file.read()
    assert "study: mine" in text
    assert "global_batch_size: 8" in text
    before = CSVLogger.__init__
    with trial_loggers(spec):
        pass
    assert CSVLogger.__init__ is before
