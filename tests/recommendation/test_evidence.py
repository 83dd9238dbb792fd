"""Batch sizes that are told apart are ones that the study can take, and never more than fit in a table."""

from __future__ import annotations

from typing import Any, cast

import optuna
import pytest

from bsopt.recommendation import Evidence
from bsopt.recommendation.fits import Fits
from bsopt.storage.attributes import read_info
from bsopt.trial.record import StudyInfo, TrialRecord


def told_apart(lattice: tuple[int, ...], run: list[int]) -> tuple[int, ...]:
    """Return the sizes of a study whose best trial ran at the first size."""
    records = tuple(
        TrialRecord(i, "complete", size, 0.01, {"batch_size": size, "lr": 0.01}, value=float(i))
        for i, size in enumerate(run)
    )
    info = StudyInfo("made", batch_sizes=lattice)
    return Evidence(info, records, cast(Fits, None), num_devices=1, num_nodes=1, budget_samples=None).sizes


@pytest.mark.parametrize(
    ("lattice", "run", "expected"),
    [
        ((), [64, 9, 33], (9, 33, 64)),
        ((8, 16, 32, 64, 128), [64, 16], (16, 32, 64)),
        ((), [80, *range(15, 34)], (16, 32, 80)),  # 64 would stand for what ran at 80
        (tuple(range(24, 1025, 24)), [120, 24, 960], (24, 72, 120, 264, 504)),  # multiples of 24
    ],
)
def test_the_lattice_or_what_ran_is_told_and_of_many_those_near_powers_of_two(
    lattice: tuple[int, ...], run: list[int], expected: tuple[int, ...]
) -> None:
    assert told_apart(lattice, run) == expected


@pytest.mark.parametrize(
    ("suggest", "expected"),
    [
        (lambda trial: trial.suggest_categorical("bs", ["64", "16", "32"]), (16, 32, 64)),
        (lambda trial: trial.suggest_int("log2_batch_size", 4, 6), (16, 32, 64)),
        (lambda trial: trial.suggest_int("batch_size", 16, 64, step=16), (16, 32, 48, 64)),
        (lambda trial: trial.suggest_int("batch_size", 16, 64), ()),
        (lambda trial: trial.suggest_int("batch_size", 16, 64, log=True), ()),
    ],
)
def test_anybodys_study_says_which_sizes_it_can_take(suggest: Any, expected: tuple[int, ...]) -> None:
    def objective(trial: optuna.Trial) -> float:
        suggest(trial)
        return trial.suggest_float("lr", 1e-3, 1.0, log=True)

    study = optuna.create_study()
    study.optimize(objective, n_trials=2)
    assert read_info(study).batch_sizes == expected
