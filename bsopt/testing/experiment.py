"""A made-up batch-size experiment with known effects, for tests, and to see the figures before there are data.

Nothing is trained: curves follow a power law whose pace and floor depend on the learning rate per sample,
lr/B; distances are those of a random walk with a drift; the losses around a minimizer are a quadratic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import optuna

from bsopt.config import ExperimentConfig
from bsopt.experiment.design import Design
from bsopt.experiment.measurements import landscape_key, line_key, sharpness_key
from bsopt.storage.attributes import write_analysis, write_info
from bsopt.storage.queue import queue_design
from bsopt.testing.trials import MadeTrial, store_trials, weight_measurements
from bsopt.trial.designed import DesignedRun
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord

__all__ = ["example_experiment"]

NUM_TRAIN_SAMPLES = 16384
REFERENCE_LR = 0.01
SECONDS_PER_STEP, SECONDS_PER_SAMPLE = 4e-3, 2e-4
NOISE = 0.004
LAYERS = {"features.0": 0.25, "features.3": 0.45, "features.6": 0.5, "classifier.0": 0.6, "classifier.3": 0.35}
"""Share of each in the distance from the start."""


def example_experiment(
    *,
    batch_sizes: Sequence[int] = (32, 64, 128, 256),
    seeds: int = 5,
    arms: Sequence[str] = ("fixed_lr", "scaled_lr", "higher_lr", "grid"),
    epochs: int = 60,
    diverged: Sequence[tuple[int, float, int]] = (),
    devices: int = 1,
    has_analyses: bool = True,
    variants: Mapping[str, float] | None = None,
    name: str = "batch size effect",
    storage: optuna.storages.BaseStorage | None = None,
) -> optuna.Study:
    """Return a finished experiment whose runs were computed, not trained.

    Args:
        batch_sizes: Of the design.
        seeds: Runs of each configuration.
        arms: Of the design; the grid has the article's five learning rates.
        epochs: Of the slowest runs.
        diverged: (batch size, learning rate, seed) of runs whose loss becomes NaN.
        devices: Of every run.
        has_analyses: Whether sharpness, lines and landscapes are stored.
        variants: Name -> times which the largest batch's loss is, that of the others by the way between in its
            logarithm; its runs take 0.8 times as long and as much memory. A name with a number, "bf16", is a precision.
        name: Study name.
        storage: Where to put it; by default in memory.
    """
    grid = [REFERENCE_LR * 2.0**k for k in range(5)] if "grid" in arms else []
    config = {
        "batch_sizes": list(batch_sizes),
        "reference_lr": REFERENCE_LR,
        "arms": list(arms),
        "grid": grid,
        "seeds": seeds,
        "patience": "10 epochs",
        "variants": {name: _variant(name, arms) for name in variants or {}},
    }
    design = Design.of(ExperimentConfig.model_validate(config))
    study = optuna.create_study(
        study_name=name, storage=storage, direction="minimize", sampler=optuna.samplers.RandomSampler(0)
    )
    write_info(study, _info(name, design, config, epochs))
    lost = {DesignedRun(size, lr, seed).key for size, lr, seed in diverged}
    queue_design(study, design.runs)
    rng = np.random.default_rng(0)
    records = []
    for number, run in enumerate(design.runs):
        is_lost = replace(run, variant=None).key in lost
        record = _record(number, run, design, epochs, devices, rng, is_lost=is_lost)
        records.append(_varied(record, design, (variants or {})[run.variant]) if run.variant else record)
    store_trials(study, records, batch_size=(1, 65536), lr=(1e-6, 100.0))
    if has_analyses:
        _analyse(study, design)
    return study


def _info(name: str, design: Design, config: dict[str, object], epochs: int) -> StudyInfo:
    return StudyInfo(
        name=name,
        objective=Objective("val_loss"),
        batch_size_range=(design.batch_sizes[0], design.batch_sizes[-1]),
        lr_range=(1e-4, 1.0),
        optimizer="sgd",
        num_train_samples=NUM_TRAIN_SAMPLES,
        budget_samples=float(2 * epochs * NUM_TRAIN_SAMPLES),
        tick_samples=float(NUM_TRAIN_SAMPLES),
        seed=0,
        num_trials=len(design.runs),
        config={"name": name, "experiment": config},
        environment={"bsopt": "example"},
    )


def _octaves(run: DesignedRun, design: Design) -> float:
    """How far lr/B lies from the reference's, in octaves; below it training is slow, sharp and close to its start."""
    return math.log2(run.lr / REFERENCE_LR * design.batch_sizes[0] / run.batch_size)


def _record(
    number: int,
    run: DesignedRun,
    design: Design,
    epochs: int,
    devices: int,
    rng: np.random.Generator,
    *,
    is_lost: bool,
) -> TrialRecord:
    octaves = _octaves(run, design)
    num = max(4, round(epochs * 2.0 ** (-0.4 * max(-3.0, min(0.0, octaves)) - 1.2) * float(rng.uniform(0.85, 1.15))))
    plan = Plan(run.batch_size // devices, num_devices=devices)
    per_step = (SECONDS_PER_STEP + SECONDS_PER_SAMPLE * plan.micro_batch_size) * float(rng.uniform(0.97, 1.03))
    trial = MadeTrial(number, run.lr, plan, NUM_TRAIN_SAMPLES, per_step)
    ticks = _ticks(trial, octaves, num, rng, is_lost=is_lost)
    return replace(
        trial.record(ticks, StopReason.DIVERGED if is_lost else StopReason.CONVERGED),
        measurements=_measured(trial, octaves, ticks, rng),
        design_seed=run.seed,
        peak_memory_bytes=int(2e8 * (1.0 + plan.micro_batch_size / 100.0) * (1.0 + 0.01 * run.seed)),
    )


def _variant(name: str, arms: Sequence[str]) -> dict[str, object]:
    changed = {"trainer": {"precision": "bf16-mixed"}} if any(map(str.isdigit, name)) else {"params": {"model.x": 1}}
    return {**changed, "arms": [arm for arm in ("fixed_lr", "scaled_lr") if arm in arms]}


def _varied(record: TrialRecord, design: Design, factor: float) -> TrialRecord:
    """Return a run as a variant would have it: the loss of the largest batch times a factor, and cheaper."""
    sizes, size = design.batch_sizes, record.batch_size or 1
    times = factor ** (math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0]))
    ticks = tuple(replace(tick, value=tick.value * times) for tick in record.ticks)
    return replace(
        record,
        ticks=ticks,
        value=record.value * times if record.value is not None else None,
        seconds_per_epoch=0.8 * (record.seconds_per_epoch or 1.0),
        peak_memory_bytes=int(0.8 * (record.peak_memory_bytes or 1)),
    )


def _ticks(trial: MadeTrial, octaves: float, num: int, rng: np.random.Generator, *, is_lost: bool) -> list[Tick]:
    floor = 0.344 + 0.017 * max(0.0, -octaves) + 0.012 * max(0.0, octaves) ** 1.5 + float(rng.normal(0.0, NOISE))
    pace = 2.0 ** (0.6 * min(1.0, octaves))
    found = []
    for index in range(1, num + 1):
        train = 0.05 + 0.62 * (1.0 + 0.35 * pace * index) ** -1.3 + float(rng.normal(0.0, NOISE / 4))
        value = floor + (0.69 - floor) * (1.0 + 0.5 * pace * index) ** -1.5 + float(rng.normal(0.0, NOISE / 2))
        value += 0.05 * max(0.0, index / num - 0.75)  # it overfits at the end
        if is_lost and index > num // 3:
            train = value = 0.8 * 2.0 ** (index - num // 3) if index < num // 3 + 3 else math.nan
        found.append(trial.tick(index, float(index * NUM_TRAIN_SAMPLES), val_loss=value, train_loss=train))
        if math.isnan(value):
            break
    return found


def _measured(trial: MadeTrial, octaves: float, ticks: Sequence[Tick], rng: np.random.Generator) -> dict[str, object]:
    """Updates of length 0.3·lr·√(1 + 300/B), half of each along one direction."""
    length = 0.3 * trial.lr * math.sqrt(1.0 + 300.0 / trial.batch_size) * float(rng.uniform(0.95, 1.05))
    epoch = length * math.sqrt(ticks[0].step)
    return weight_measurements(
        length,
        ticks,
        from_start=[length * math.sqrt(tick.step) * 2.0 ** (0.05 * octaves) for tick in ticks],
        epochs=[epoch * (1.0 + 0.6 * math.exp(-index / 8.0)) for index in range(len(ticks))],
        shares={layer: share * float(rng.uniform(0.95, 1.05)) for layer, share in LAYERS.items()},
    )


def _analyse(study: optuna.Study, design: Design) -> None:
    """Store sharpness of the fixed and the scaled arm, and their lines and landscapes between the ends."""
    rng = np.random.default_rng(1)
    numbers = {run.key: number for number, run in enumerate(design.runs)}
    smallest, largest = design.batch_sizes[0], design.batch_sizes[-1]

    def number_of(size: int, lr: float, seed: int) -> int:
        return numbers[DesignedRun(size, lr, seed).key]

    for arm in (name for name in ("fixed_lr", "scaled_lr") if name in design.arms):
        rates = {B: REFERENCE_LR * (B / smallest if arm == "scaled_lr" else 1.0) for B in design.batch_sizes}
        for seed in range(design.num_seeds):
            for size, lr in rates.items():
                steep = 1.14 * 2.0 ** (-1.2 * _octaves(DesignedRun(size, lr, seed), design) + 0.3 * (size > smallest))
                value = steep * float(rng.lognormal(0.0, 0.1))
                write_analysis(study, sharpness_key(number_of(size, lr, seed)), _sharpness(value))
            first, second = (number_of(B, rates[B], seed) for B in (smallest, largest))
            walls = 2.0 if arm == "scaled_lr" else 8.0
            write_analysis(study, line_key(first, second), _line(walls * float(rng.lognormal(0.0, 0.2))))
            for number, steepness in ((first, 1.0), (second, walls)):
                write_analysis(study, landscape_key(number), _landscape(steepness * float(rng.lognormal(0.0, 0.1))))


def _sharpness(value: float) -> dict[str, object]:
    return {
        "full": {"kind": "Sharpness", "format": 1, "value": value, "per_start": [value]},
        "subspace": {"kind": "Sharpness", "format": 1, "value": value / 3.0, "per_start": [value / 3.0]},
        "adaptive": {"kind": "AdaptiveSharpness", "format": 1, "value": value / 90.0, "per_start": [value / 90.0]},
        "curvature": {"kind": "Curvature", "format": 1, "value": 20.0 * value, "num_products": 30},
    }


def _line(walls: float) -> dict[str, object]:
    """A wide valley at 0 and a narrow one at 1."""
    alphas = [round(-1.0 + 0.1 * k, 10) for k in range(31)]
    train = [min(0.06 + 0.4 * a**2, 0.09 + 0.4 * walls * (a - 1.0) ** 2) for a in alphas]
    return {
        "kind": "Interpolation",
        "format": 1,
        "alphas": alphas,
        "train_losses": train,
        "validation_losses": [0.3 + 0.9 * loss for loss in train],
        "statistics": "interpolate",
        "num_train_samples": 2000,
        "num_validation_samples": 2000,
    }


def _landscape(steepness: float) -> dict[str, object]:
    axis = [round(-1.0 + k / 12.0, 10) for k in range(25)]
    losses = [[0.06 + steepness * (0.7 * a**2 + b**2 + 0.3 * a * b) for a in axis] for b in axis]
    return {
        "kind": "Landscape2D",
        "format": 1,
        "alphas": axis,
        "betas": axis,
        "losses": losses,
        "center_loss": 0.06,
        "num_samples": 2000,
        "seed": 0,
    }
