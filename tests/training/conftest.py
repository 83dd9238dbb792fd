"""Trials of the toy project without a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsopt.training.processes.launcher import Launcher, run_here
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import Tick, TrialRecord
from bsopt.trial.spec import Budget, Seeds, StopDecision, TaskSpec, TrialSpec
from bsopt.units import Amount

Train = Callable[..., TrialRecord]


@pytest.fixture
def spec(project: Path) -> TrialSpec:
    """Return three epochs of the toy project at batch size 8."""
    (project / "trial").mkdir()
    source = {"model": {"class_path": "toy.Toy"}, "data": {"class_path": "toy.ToyData"}}
    return TrialSpec(
        number=0,
        params={"batch_size": 8, "lr": 0.05},
        batch_size=8,
        lr=0.05,
        plan=Plan(8),
        task=TaskSpec(source, (str(project),)),
        init_args={},
        objective=Objective("val_loss"),
        budget=Budget(Amount(3, "epochs"), Amount(1, "epochs")),
        max_steps=None,
        trainer={"accelerator": "cpu"},
        seeds=Seeds(0, 1),
        folder=str(project / "trial"),
        num_threads=1,
    )


@pytest.fixture
def train(spec: TrialSpec) -> Train:
    """Train a variation of the trial: in this process, or on its ranks where the plan has several."""

    def run(
        plan: Plan | None = None,
        *,
        model: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        on_tick: Callable[[Tick], StopDecision] = lambda tick: StopDecision(),
        **changes: Any,
    ) -> TrialRecord:
        chosen = plan or spec.plan
        source = {
            "model": {"class_path": "toy.Toy", "init_args": model or {}},
            "data": {"class_path": "toy.ToyData", "init_args": data or {}},
        }
        task = replace(spec.task, source=source)
        varied = replace(spec, plan=chosen, batch_size=chosen.global_batch_size, task=task, **changes)
        supervision = Supervision(on_tick)
        return run_here(varied, supervision) if chosen.world_size == 1 else Launcher().run(varied, supervision)

    return run
