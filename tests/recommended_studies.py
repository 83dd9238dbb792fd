"""Studies and records with a known optimum, for tests of what is recommended."""

from __future__ import annotations

import math

import numpy as np
import optuna

from bsopt.recommendation import Evidence, Recommendation, recommend_from
from bsopt.storage.attributes import read_info, read_records, write_info, write_record
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, TrialRecord


def best_log_lr(b: float) -> float:
    return -7.0 - 0.8 * (np.logaddexp2(0.0, 8.0 - b) - np.logaddexp2(0.0, 3.0))


def loss(B: int, lr: float, noise: float) -> float:
    b = math.log2(B)
    return 0.3 + 0.03 * (math.log2(lr) - best_log_lr(b)) ** 2 + 0.01 * max(0.0, b - 7.0) ** 2 + noise


def foreign(num: int, *, direction: str = "minimize", lr_high: float = 1.0) -> optuna.Study:
    """A plain Optuna study: batch sizes up to 128 are equally good, larger ones worse."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction=direction)
    rng, sign = np.random.default_rng(0), -1.0 if direction == "maximize" else 1.0

    def objective(trial: optuna.Trial) -> float:
        B = trial.suggest_int("batch_size", 8, 1024, log=True)
        return sign * loss(B, trial.suggest_float("lr", 1e-4, lr_high, log=True), 0.002 * rng.standard_normal())

    study.optimize(objective, n_trials=num)
    return study


def ours(*, max_micro: int | None = None, batch_norm: bool = False, num_devices: int = 1) -> optuna.Study:
    study = optuna.create_study()
    info = StudyInfo(
        "ours",
        objective=Objective("val_loss"),
        batch_size_range=(8, 1024),
        lr_range=(1e-4, 1.0),
        batch_sizes=(8, 16, 32, 64, 128, 256, 512, 1024),
        optimizer="adam",
        num_train_samples=5000,
        budget_samples=50_000,
        has_batch_norm=batch_norm,
        max_micro_batch_size=max_micro,
        num_devices=num_devices,
    )
    write_info(study, info)
    rng = np.random.default_rng(0)
    for number in range(40):
        trial = study.ask()
        B = 2 ** int(rng.integers(3, 11))
        lr = 2.0 ** float(best_log_lr(math.log2(B)) + rng.uniform(-3, 3))
        trial.suggest_int("batch_size", B, B)
        trial.suggest_float("lr", lr, lr)
        devices = 1 + number % 2
        value = loss(B, lr, 0.002 * rng.standard_normal())
        seconds = float(np.hypot(0.01, 1e-4 * B / devices)) + (0.001 if devices > 1 else 0.0)
        write_record(
            trial,
            TrialRecord(
                number, "complete", B, lr, trial.params, value=value, plan=Plan(B // devices, 1, devices), seconds=10.0,
                seconds_per_step=seconds, peak_memory_bytes=int(1e8 + 1e6 * B / devices), precision="32-true",
            ),
        )  # fmt: skip
        study.tell(trial, value)
    return study


def of_records(*records: TrialRecord) -> Recommendation:
    """What is recommended from records alone, without a study."""
    info = StudyInfo("made", objective=Objective("loss"), batch_size_range=(8, 64), lr_range=(1e-4, 1.0))
    return recommend_from(Evidence.of(info, records))


def trial(number: int, size: int, lr: float, value: float, reason: StopReason = StopReason.COMPLETED) -> TrialRecord:
    return TrialRecord(number, reason.outcome, size, lr, value=value, stop_reason=reason)


def evidence_of(study: optuna.Study) -> Evidence:
    return Evidence.of(read_info(study), read_records(study), study=study)
