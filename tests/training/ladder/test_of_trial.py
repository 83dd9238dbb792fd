"""A study's ladder on the toy project: when it is climbed, and what it then says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bsopt.errors import InjectionError
from bsopt.laws.lr_ladder import MeasuredStart
from bsopt.training.ladder.of_trial import LadderRequest, measure_start
from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.trial.plan import Plan
from bsopt.trial.spec import TrialSpec


def measure(spec: TrialSpec, *, model: dict[str, Any] | None = None, **changes: Any) -> tuple[MeasuredStart, list[int]]:
    told: list[int] = []
    source = {**spec.task.source, "model": {"class_path": "toy.Toy", "init_args": model or {}}}
    usual = LadderRequest("sgd", 0.02, training_steps=300, decays_to_end=None, is_asked_for=False)
    channel = DirectChannel(Supervision(on_progress=lambda done, total: told.append(done)))
    spec = replace(spec, task=replace(spec.task, source=source))
    return measure_start(spec, channel, replace(usual, **changes)), told


def test_a_ladder_that_is_asked_for_is_climbed(spec: TrialSpec) -> None:
    start, told = measure(spec, is_asked_for=True)
    assert start.lr is not None
    assert 0.01 < start.lr.lr < 1.0
    assert start.lr.num_steps == 20
    assert len(told) == len(start.lr.rates)
    assert str(start).startswith("measured: ")
    assert "at batch size 8, within a factor of 4" in str(start)


def test_a_long_training_measures_without_a_sign(spec: TrialSpec) -> None:
    start, _ = measure(spec, training_steps=10_000)
    assert start.lr is not None
    assert start.lr.num_steps == 60
    assert "twentieth" in start.message


def test_a_short_one_measures_only_with_a_sign(spec: TrialSpec) -> None:
    spec = replace(spec, batch_size=32, plan=Plan(32))
    usual, told = measure(spec)
    assert (usual.lr, told) == (None, [1])
    assert "nothing says" in str(usual)
    far, told = measure(spec, usual_lr=30.0)
    assert far.lr is not None
    assert "diverges" in far.message
    assert len(told) > 6


def test_the_modules_schedule_is_held_at_its_peak_and_counts_as_decaying(spec: TrialSpec) -> None:
    constant, _ = measure(spec, is_asked_for=True)
    decaying, _ = measure(spec, is_asked_for=True, model={"schedule": "onecycle"})
    assert constant.lr is not None
    assert decaying.lr is not None
    assert decaying.lr.rates[:5] == constant.lr.rates[:5]
    assert decaying.lr.losses[0] < constant.lr.losses[0]  # the schedule's momentum is 0.95
    again, _ = measure(spec, is_asked_for=True, decays_to_end=True)
    assert again.lr is not None
    assert np.log2(again.lr.lr / constant.lr.lr) == pytest.approx(0.27 * np.log2(300 / 60))


def test_a_module_that_ignores_its_rate_is_told_as_in_a_trial(spec: TrialSpec) -> None:
    with pytest.raises(InjectionError, match="asked for learning rate"):
        measure(spec, model={"trouble": "deaf"}, is_asked_for=True)
