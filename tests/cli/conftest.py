"""Studies to look at: one that was run, without the minutes that running takes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner, Result
from optuna.distributions import FloatDistribution, IntDistribution

from bsopt.cli.main import main
from bsopt.laws.scaling import Reference
from bsopt.storage.attributes import write_info, write_record
from bsopt.storage.databases import open_storage
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a bsopt command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BSOPT_STORAGE", raising=False)

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, list(arguments), input=stdin)

    return run


@pytest.fixture
def finished(tmp_path: Path, _template: Path) -> str:
    """Put a finished study `done` of six trials into `bsopt.db` and return its storage."""
    shutil.copyfile(_template, tmp_path / "bsopt.db")
    return f"sqlite:///{tmp_path}/bsopt.db"


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "bsopt.db"
    study = optuna.create_study(study_name="done", storage=open_storage(f"sqlite:///{path}"))
    info = StudyInfo(
        name="done",
        objective=Objective("val_loss"),
        batch_size_range=(8, 256),
        lr_range=(1e-3, 1.0),
        batch_sizes=(8, 16, 32, 64, 128, 256),
        rule="linear",
        reference=Reference(32, 0.01),
        num_train_samples=1000,
        budget_samples=3000.0,
        tick_samples=1000.0,
        num_trials=6,
        config={"name": "done", "output": "out"},
    )
    write_info(study, info)
    endings = [
        StopReason.COMPLETED,
        StopReason.CONVERGED,
        StopReason.PRUNED_HOPELESS,
        StopReason.FAILED,
        StopReason.INTERRUPTED,
        StopReason.COMPLETED,
    ]
    for number, reason in enumerate(endings):
        size, lr = 2 ** (3 + number), 0.01 * 2**number
        ranges = {"batch_size": IntDistribution(8, 256, log=True), "lr": FloatDistribution(1e-3, 1.0, log=True)}
        study.enqueue_trial({"batch_size": size, "lr": lr})
        trial = study.ask(ranges)
        values = [2.0 / (tick + number) for tick in (1, 2, 3)] if reason.outcome != "fail" else [math.nan]
        ticks = tuple(
            Tick(
                index=i,
                samples=1000.0 * i,
                step=math.ceil(1000 / size) * i,
                epoch=float(i),
                seconds=0.5 * i,
                value=value,
                lr=lr,
                metrics={"val_loss": value, "val_acc": 0.1 * i},
            )
            for i, value in enumerate(values, start=1)
        )
        is_good = reason.outcome != "fail"
        plan = Plan(size) if size < 256 else Plan(64, 4, reason="memory allows 64")
        record = TrialRecord(
            number=number,
            outcome=reason.outcome,
            batch_size=size,
            lr=lr,
            params={"batch_size": size, "lr": lr},
            stop_reason=reason,
            message="the loss exploded" if reason is StopReason.FAILED else "",
            value=values[-1] if is_good else None,
            best_tick=3 if is_good else None,
            ticks=ticks,
            plan=plan,
            num_train_samples=1000,
            num_steps=ticks[-1].step,
            seconds=1.5,
            seconds_per_epoch=0.5,
            samples_per_second=2000.0,
        )
        write_record(trial, record)
        if reason.outcome == "complete":
            study.tell(trial, record.value)
        else:
            state = optuna.trial.TrialState.PRUNED if reason.outcome == "pruned" else optuna.trial.TrialState.FAIL
            study.tell(trial, state=state)
    return path
