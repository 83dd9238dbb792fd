"""What to run next settles what is open, and nothing is named where nothing is."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import numpy as np

from bsopt.recommendation import Evidence, Recommendation, recommend_from
from bsopt.recommendation.next_runs import next_runs
from bsopt.recommendation.result import SizeFinding, SizeState
from bsopt.recommendation.views import next_run_text
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, StudyInfo, TrialRecord


def recommended(records: list[TrialRecord]) -> Recommendation:
    info = StudyInfo("made", objective=Objective("loss"), batch_size_range=(8, 64), lr_range=(1e-4, 1.0))
    return recommend_from(Evidence.of(info, records))


def trials(*, repeats: int, noise: float) -> list[TrialRecord]:
    """Two batch sizes of equal values, and one that is much worse; each setting so often."""
    rng, found = np.random.default_rng(0), []
    for size in (16, 32, 64):
        for lr in (0.0025, 0.005, 0.01, 0.02, 0.04):
            for _ in range(repeats):
                value = 0.3 + 0.05 * math.log2(lr / 0.01) ** 2 + (0.5 if size == 64 else 0.0)
                value += noise * float(rng.standard_normal())
                params = {"batch_size": size, "lr": lr, "model.dropout": 0.1}
                found.append(
                    TrialRecord(
                        len(found), "complete", size, lr, params, StopReason.COMPLETED, value=value, seconds=60.0
                    )
                )
    return found


def test_the_missing_noise_and_the_open_ties_are_named_with_what_they_take() -> None:
    found = recommended(trials(repeats=1, noise=0.02))
    assert 1 <= len(found.next_runs) <= 3
    first = found.next_runs[0]
    assert first.repeats is not None
    assert first.seconds == 60.0
    assert dict(first.further) == {"model.dropout": 0.1}
    assert "1 min 00 s" in next_run_text(first)
    assert "how much a seed matters" in next_run_text(first)
    assert all(run.batch_size != 64 for run in found.next_runs)


def test_nothing_is_named_where_nothing_is_open() -> None:
    assert recommended([]).next_runs == ()
    found = recommended(trials(repeats=3, noise=0.002))
    assert not any("how much a seed" in run.reason for run in found.next_runs)


def test_a_run_that_tells_two_things_is_named_once() -> None:
    best = TrialRecord(1, "complete", 33, 0.01, {"batch_size": 33, "lr": 0.01}, value=0.3, seconds=60.0)
    untold = SizeFinding(36, SizeState.OPEN, 1, 0.5, None, 1)  # 36 stands for sizes near it
    evidence = SimpleNamespace(
        best=best,
        is_fitted=True,
        fits=SimpleNamespace(noise_is_repeated=False, ridge=SimpleNamespace(predict=lambda size: None)),
        findings=(untold,),
        best_size=16,
        by_size={36: [best]},
        records=(best,),
        info=StudyInfo("made"),
    )
    (run,) = next_runs(cast(Evidence, evidence))
    assert run.reason.endswith("no repeated setting has told yet, and whether 36 is as good as 16")
