"""Schedules that don't end where training ends are told, each by what it was planned for, and when a decay is over."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from bsopt.callbacks._schedules import is_decaying, misplanned


def found(make: Any, *, steps: int = 100, interval: str = "step", frequency: int = 1, epochs: float = 10) -> list[str]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    config = SimpleNamespace(scheduler=make(optimizer), interval=interval, frequency=frequency)
    trainer = SimpleNamespace(lr_scheduler_configs=[config])
    return [str(schedule) for schedule in misplanned(trainer, num_steps=steps, num_epochs=epochs)]


def linear(total: int, warm_up: int = 0) -> Any:
    def factor(step: int) -> float:
        return step / warm_up if step < warm_up else max(0.0, (total - step) / (total - warm_up))

    return lambda optimizer: lr_scheduler.LambdaLR(optimizer, factor)


def cosine(total: int) -> Any:
    return lambda optimizer: lr_scheduler.LambdaLR(
        optimizer, lambda step: max(0.0, 0.5 * (1 + math.cos(math.pi * step / total)))
    )


def warm_up_then_cosine(total: int) -> Any:
    def make(optimizer: Any) -> Any:
        warm_up = lr_scheduler.LinearLR(optimizer, total_iters=10)
        decay = lr_scheduler.CosineAnnealingLR(optimizer, total - 10)
        return lr_scheduler.SequentialLR(optimizer, [warm_up, decay], milestones=[10])

    return make


SIZED = [
    lambda total: lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total),
    lambda total: lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, total),
    lambda total: lambda optimizer: lr_scheduler.PolynomialLR(optimizer, total),
    linear,
    lambda total: linear(total, warm_up=20),
    cosine,
    warm_up_then_cosine,
]


@pytest.mark.parametrize("schedule", SIZED)
def test_a_schedule_that_ends_with_training_is_none_of_them(schedule: Any) -> None:
    assert found(schedule(100)) == []


@pytest.mark.parametrize("schedule", SIZED)
@pytest.mark.parametrize("total", [60, 400, 2000])
def test_a_schedule_planned_for_another_number_of_steps_is_told(schedule: Any, total: int) -> None:
    (words,) = found(schedule(total))
    told = int(words.split(" optimizer steps")[0].split()[-1].replace(",", ""))
    assert told == pytest.approx(total, rel=0.01)
    assert words.endswith("but training has 100")


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: lr_scheduler.StepLR(optimizer, 1000),
        lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
        lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 30),
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) ** -0.5),
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20)),
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 + math.cos(step / 5)),
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, [1.0, 0.5, 0.25].__getitem__),
        lambda optimizer: lr_scheduler.LinearLR(optimizer, total_iters=20),
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [50, 75]),
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer),
    ],
)
def test_schedules_without_an_end_or_with_a_short_warm_up_are_left_alone(make: Any) -> None:
    assert found(make) == []


def test_milestones_and_warm_ups_beyond_training_are_told() -> None:
    assert "150 optimizer steps" in found(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [50, 150]))[0]
    assert "500 optimizer steps" in found(lambda optimizer: lr_scheduler.LinearLR(optimizer, total_iters=500))[0]


def test_a_schedule_counts_epochs_or_every_few_steps_where_its_interval_says_so() -> None:
    assert found(SIZED[1](10), interval="epoch") == []
    assert found(SIZED[1](50), frequency=2) == []
    assert "100 epochs, but training has 10" in found(SIZED[1](100), interval="epoch")[0]


def test_nothing_is_told_where_the_length_of_training_is_not_known() -> None:
    assert found(SIZED[1](50), steps=math.inf) == []


@pytest.mark.parametrize(
    ("following", "decays_until"),
    [
        (lambda optimizer: lr_scheduler.ConstantLR(optimizer, 1.0, total_iters=0), 4),
        (lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [3]), 7),
        (lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 8), 12),
    ],
)
def test_a_warm_up_that_is_over_is_no_decay_to_come(following: Any, decays_until: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    warm_up = lr_scheduler.LinearLR(optimizer, total_iters=4)
    chain = lr_scheduler.SequentialLR(optimizer, [warm_up, following(optimizer)], milestones=[4])
    trainer, told = SimpleNamespace(lr_scheduler_configs=[SimpleNamespace(scheduler=chain)]), []
    for _ in range(12):
        told.append(is_decaying(trainer))
        optimizer.step()
        chain.step()
    assert told == [step < decays_until for step in range(12)]
