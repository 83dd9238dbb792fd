"""A place for each trial in the loggers that a project already has: one run per trial, named and grouped by study.

Loggers are configured as always, in the script or under `trainer: {logger: …}`. What bsopt fills in at construction:

    TensorBoardLogger, CSVLogger   the trial's own folder: `tensorboard --logdir runs/STUDY/trials` shows a run a trial
    WandbLogger                    name "STUDY-0003", group and, where none is given, project "STUDY"
    MLFlowLogger                   run name "STUDY-0003", a tag "study", and where none is given experiment "STUDY"
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bsopt.callbacks._base import installed_packages
from bsopt.training.task.patches import edited
from bsopt.trial.spec import TrialSpec

__all__ = ["trial_loggers"]


@contextlib.contextmanager
def trial_loggers(spec: TrialSpec) -> Iterator[None]:
    """While this lasts, give every logger of either Lightning package that is constructed the trial's own run."""
    folder, run = str(Path(spec.folder) / "logs"), f"{spec.study}-{spec.number:04d}"

    def to_files(given: dict[str, Any]) -> None:
        given.update(save_dir=folder, name="", version=None)  # an interrupted trial that goes on gets one more version

    def to_wandb(given: dict[str, Any]) -> None:
        given.update(save_dir=folder, name=run)
        given.setdefault("kwargs", {}).setdefault("group", spec.study)
        if given.get("project") is None:
            given["project"] = spec.study

    def to_mlflow(given: dict[str, Any]) -> None:
        given.update(run_name=run, tags={**(given.get("tags") or {}), "study": spec.study})
        given.setdefault("experiment_name", spec.study)

    edits = {"TensorBoardLogger": to_files, "CSVLogger": to_files, "WandbLogger": to_wandb, "MLFlowLogger": to_mlflow}
    with contextlib.ExitStack() as stack:
        for package in installed_packages():
            loggers = importlib.import_module(f"{package.__name__}.loggers")
            for name, edit in edits.items():
                stack.enter_context(edited(getattr(loggers, name), "__init__", edit))
        yield
