"""The tick clock: real training at every awkward size."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bsopt.training.tick_clock import missing_metric
from bsopt.trial.plan import Plan
from bsopt.trial.spec import Budget
from bsopt.units import Amount


def test_missing_metric_lists_what_is_logged_and_suggests_the_nearest() -> None:
    assert "logged are: val_acc, val_loss" in missing_metric("val_los", {"val_loss": 1.0, "val_acc": 0.5})
    assert "Did you mean 'val_loss'" in missing_metric("val_los", {"val_loss": 1.0})
    assert "self.log" in missing_metric("val_loss", {})


@pytest.mark.parametrize("n", [pytest.param(96, marks=pytest.mark.slow), 97, pytest.param(101, marks=pytest.mark.slow)])
@pytest.mark.parametrize("plan", [Plan(8), Plan(7), Plan(8, 3), Plan(32), Plan(5, 4)])
def test_every_trial_is_validated_at_the_same_nominal_samples(train: Any, n: int, plan: Plan) -> None:
    budget = Budget(Amount(3, "epochs"), Amount(0.5, "epochs"))
    record = train(plan, data={"n": n}, budget=budget)
    assert [t.samples for t in record.ticks] == [n * k / 2 for k in range(1, 7)]
    assert [t.index for t in record.ticks] == [1, 2, 3, 4, 5, 6]
    steps = [t.step for t in record.ticks]
    batches = math.ceil(n / plan.micro_batch_size)
    per_epoch = math.ceil(batches / plan.accumulate_grad_batches)
    assert steps[1::2] == [per_epoch, 2 * per_epoch, 3 * per_epoch]
    assert all(t.epoch >= t.samples / n - 1e-9 for t in record.ticks)


def test_drop_last_keeps_the_nominal_axis_counts_exact_samples_and_warns(train: Any) -> None:
    record = train(Plan(32), data={"n": 95, "drop_last": True})
    assert [t.samples for t in record.ticks] == [95, 190, 285]
    assert record.samples_exact == 3 * 64
    assert "leaves out 33%" in record.warnings[0]


def test_data_of_unknown_length_counts_batches(train: Any) -> None:
    budget = Budget(Amount(200, "samples"), Amount(80, "samples"))
    record = train(Plan(8), data={"sized": False}, budget=budget)
    assert [t.samples for t in record.ticks] == [80, 160, 200]
    assert [t.step for t in record.ticks] == [10, 20, 25]


@pytest.mark.distributed
@pytest.mark.parametrize("sized", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_two_ranks_tick_at_the_same_samples(train: Any, sized: bool) -> None:
    budget = Budget(Amount(384, "samples"), Amount(192, "samples"))
    record = train(Plan(8, 1, 2), data={"n": 97 if sized else 96, "sized": sized}, budget=budget)
    assert [t.samples for t in record.ticks] == [192, 384]


def test_schedulers_that_ask_for_the_number_of_steps_follow_the_budget(train: Any) -> None:
    whole = train(Plan(8), model={"schedule": "onecycle"})
    assert whole.ticks[-1].lr < 0.02 * whole.ticks[0].lr
    assert whole.ticks[0].is_decaying
    part = train(
        Plan(8),
        model={"schedule": "onecycle"},
        budget=Budget(Amount(192, "samples"), Amount(96, "samples")),
        max_steps=24,
    )
    assert part.ticks[-1].lr < 0.02 * part.ticks[0].lr


def test_decay_is_over_after_the_last_milestone(train: Any) -> None:
    record = train(Plan(8), model={"schedule": "multistep"}, budget=Budget(Amount(4, "epochs"), Amount(1, "epochs")))
    assert [t.is_decaying for t in record.ticks] == [True, False, False, False]
    assert not train(Plan(8), model={"schedule": "plateau"}).ticks[0].is_decaying
