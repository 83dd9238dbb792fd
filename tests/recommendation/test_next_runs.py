"""What to run next settles what is open, and nothing is named where nothing is."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bsopt.recommendation import Evidence, Recommendation, recommend_from
from bsopt.recommendation.next_runs import next_runs
from bsopt.recommendation.result import SizeFinding, SizeState
from bsopt.recommendation.views import next_run_text
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, StudyInfo, TrialRecord


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def recommended(records: list[TrialRecord], *, lr_range: tuple[float, float] = (1e-4, 1.0)) -> Recommendation:
    info = StudyInfo("made", objective=Objective("loss"), batch_size_range=(8, 64), lr_range=lr_range)
    return recommend_from(Evidence.of(info, records))


def trials(*, repeats: int, noise: float, best_lr: float = 0.01) -> list[TrialRecord]:
    """Two batch sizes of equal values, and one that is much worse; each setting so often, at 0.0025 to 0.04."""
    rng, found = np.random.default_rng(0), []
    for size in (16, 32, 64):
        for lr in (0.0025, 0.005, 0.01, 0.02, 0.04):
            for _ in range(repeats):
                value = 0.3 + 0.05 * math.log2(lr / best_lr) ** 2 + (0.5 if size == 64 else 0.0)
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
        size_beyond=None,
        by_size={36: [best]},
        records=(best,),
        info=StudyInfo("made"),
    )
    (run,) = next_runs(cast(Evidence, evidence))
    assert run.reason.endswith("no repeated setting has told yet, and whether 36 is as good as 16")


@pytest.mark.parametrize(
    ("best_lr", "lr_range", "diverged_at", "expected"),
    [
        (0.06, (1e-4, 1.0), None, 0.08),
        slow(0.0018, (1e-4, 1.0), None, 0.00125),
        slow(0.06, (1e-4, 0.06), None, 0.06),  # as far as is searched
        (0.06, (1e-4, 0.04), None, None),
        (0.06, (1e-4, 1.0), 0.05, None),
        slow(0.06, (1e-4, 1.0), 0.0002, 0.08),  # lost for another reason
        slow(0.01, (1e-4, 1.0), None, None),
    ],
)
def test_a_rate_beyond_those_tried_is_named_where_the_best_one_lies_at_their_edge(
    best_lr: float, lr_range: tuple[float, float], diverged_at: float | None, expected: float | None
) -> None:
    records = trials(repeats=2, noise=0.002, best_lr=best_lr)
    if diverged_at is not None:
        params = {"batch_size": 32, "lr": diverged_at}
        records.append(TrialRecord(len(records), "pruned", 32, diverged_at, params, StopReason.DIVERGED))
    found = recommended(records, lr_range=lr_range)
    beyond = [run for run in found.next_runs if run.reason.startswith("whether a learning rate")]
    assert [run.lr for run in beyond] == ([] if expected is None else [pytest.approx(expected)])
    assert all(run.repeats is None and run.batch_size in (16, 32) for run in beyond)


@pytest.mark.parametrize(
    ("searched", "lattice", "lost_at", "expected"),
    [
        ((8, 1024), (), None, 64),
        ((8, 1024), (16, 24, 32, 48, 96), None, 48),
        ((8, 1024), (), 256, None),  # beyond it memory ends
        slow((8, 1024), (), 8, 64),
        slow((8, 32), (), None, None),
        slow((8, 48), (), None, None),
    ],
)
def test_a_size_beyond_those_tried_is_named_where_the_best_one_is_the_last_of_them(
    searched: tuple[int, int], lattice: tuple[int, ...], lost_at: int | None, expected: int | None
) -> None:
    records = [
        replace(record, batch_size=size, value=0.4 - 0.1 * math.log2(size / 8) + 0.05 * math.log2(lr / 0.01) ** 2)
        for record in trials(repeats=2, noise=0.0)
        if (size := cast(int, record.batch_size)) and (lr := cast(float, record.lr)) and size < 64
    ]
    if lost_at is not None:
        params = {"batch_size": lost_at, "lr": 0.01}
        records.append(TrialRecord(len(records), "failed", lost_at, 0.01, params, StopReason.OUT_OF_MEMORY))
    info = StudyInfo("made", batch_size_range=searched, batch_sizes=lattice, lr_range=(1e-4, 1.0))
    found = recommend_from(Evidence.of(info, records))
    assert found.choice is not None
    assert found.choice.batch_size == 32
    beyond = [run for run in found.next_runs if "the largest that was tried, 32" in run.reason]
    assert [run.batch_size for run in beyond] == ([] if expected is None else [expected])
    assert any("edge of those that were tried (16 to 32)" in said for said in found.caveats) == (expected is not None)


def test_one_batch_size_is_no_range_of_those_tried() -> None:
    records = [r for r in trials(repeats=2, noise=0.002) if r.batch_size == 32]
    info = StudyInfo("made", batch_size_range=(8, 1024), lr_range=(1e-4, 1.0))
    found = recommend_from(Evidence.of(info, records))
    assert "Only batch size 32 was tried: a better one may lie anywhere." in found.caveats


def test_a_size_between_those_tried_where_no_trial_ended_is_named() -> None:
    records = [r for r in trials(repeats=2, noise=0.002) if r.batch_size != 32]
    records = [replace(r, value=0.3 + 0.05 * math.log2(cast(float, r.lr) / 0.01) ** 2) for r in records]
    lattice = (16, 32, 64)
    info = StudyInfo("made", batch_size_range=(16, 64), batch_sizes=lattice, lr_range=(1e-4, 1.0))
    found = recommend_from(Evidence.of(info, records))
    states = {finding.batch_size: finding.state for finding in found.sizes}
    assert states[32] in (SizeState.NOT_TESTED, SizeState.SUPPORTED)
    named = [run.batch_size for run in found.next_runs if run.reason.startswith("whether 32")]
    assert named == ([32] if states[32] is SizeState.NOT_TESTED else [])
