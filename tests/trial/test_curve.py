"""What a curve of validations says of its trial."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from bsopt.trial.curve import best_tick, cost_at, end_by_patience, end_by_value
from bsopt.trial.objective import Objective
from bsopt.trial.record import StopReason, Tick

LOSS, ACCURACY = Objective("val_loss"), Objective("val_acc", "maximize")


def ticks(*values: float) -> list[Tick]:
    return [
        Tick(index=i, samples=100.0 * i, step=10 * i, epoch=float(i), seconds=0.5 * i, value=value)
        for i, value in enumerate(values, start=1)
    ]


def test_the_best_tick_is_the_first_of_the_best_finite_ones() -> None:
    curve = ticks(math.nan, 2.0, 1.0, 3.0, 1.0, -math.inf)
    assert best_tick(curve, LOSS) == curve[2]
    assert best_tick(curve, ACCURACY) == curve[3]
    assert best_tick(ticks(math.nan, math.inf), LOSS) is None
    assert best_tick([], LOSS) is None


@pytest.mark.parametrize(
    ("objective", "value", "reason"),
    [
        (LOSS, math.nan, None),
        (ACCURACY, math.inf, None),
        (LOSS, 1e9, None),
        (Objective("val_loss", target=0.3, cost="seconds"), 0.3, StopReason.TARGET_REACHED),
        (Objective("val_loss", target=0.3, cost="seconds"), 0.31, None),
        (Objective("val_acc", "maximize", 0.9, "seconds"), 0.95, StopReason.TARGET_REACHED),
        (Objective("val_acc", "maximize", 0.9, "seconds"), 0.85, None),
        (Objective("val_loss", target=0.3, cost="seconds"), -math.inf, None),
    ],
)
def test_a_single_value_ends_a_trial_at_the_target_alone(
    objective: Objective, value: float, reason: StopReason | None
) -> None:
    assert end_by_value(ticks(value), objective).stop_reason is reason


@pytest.mark.parametrize(
    ("values", "ends"),
    [((1.0, math.nan), False), ((math.nan, 1.0), False), ((1.0, math.nan, math.inf), True), ((math.nan,) * 2, True)],
)
def test_a_metric_that_is_not_finite_twice_in_a_row_ends_a_trial_as_diverged(
    values: tuple[float, ...], ends: bool
) -> None:
    decision = end_by_value(ticks(*values), LOSS)
    assert decision.stop_reason is (StopReason.DIVERGED if ends else None)


@pytest.mark.parametrize(
    "told", [{"is_training_finite": False}, {"metrics": {"train_loss": math.inf}, "is_training_finite": True}]
)
def test_a_training_that_is_not_finite_ends_a_trial_at_once(told: dict[str, Any]) -> None:
    (tick,) = ticks(math.nan)
    decision = end_by_value([replace(tick, **told)], LOSS)
    assert decision.stop_reason is StopReason.DIVERGED
    assert "look at the metric" not in decision.message


@pytest.mark.parametrize(
    ("objective", "values", "ends"),
    [
        (LOSS, (3.0, 2.0, 1.0), False),
        (LOSS, (1.0, 2.0, 2.0), True),
        (LOSS, (1.0, 2.0), False),
        (LOSS, (1.0, math.nan, 1.0), True),  # no better
        (ACCURACY, (1.0, 2.0, 3.0), False),
        (ACCURACY, (3.0, 1.0, 2.0), True),
        (LOSS, (math.nan, math.nan, math.nan), False),
    ],
)
def test_patience_ends_a_trial_that_has_not_improved_for_so_long(
    objective: Objective, values: tuple[float, ...], ends: bool
) -> None:
    decision = end_by_patience(ticks(*values), objective, 200.0)
    assert decision.stop_reason is (StopReason.CONVERGED if ends else None)


def test_a_ticks_cost_is_in_the_objectives_unit() -> None:
    (tick,) = ticks(1.0)
    assert [cost_at(tick, cost) for cost in ("seconds", "samples", "steps", "energy", None)] == [  # type: ignore[arg-type]
        0.5,
        100.0,
        10.0,
        None,
        None,
    ]
