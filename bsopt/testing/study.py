"""A made-up study with known laws, for the gallery, for tests, and to try a figure before there is data.

The best learning rate follows the saturating rule (McCandlish et al. 2018) and progress per sample falls with the
batch size as 1 / (1 + B/B_c); nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import optuna

from bsopt.laws.scaling import Reference, scaled_learning_rate
from bsopt.storage.attributes import write_info
from bsopt.testing.trials import DEVICE, MadeTrial, store_trials, weight_measurements
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Limits, Plan, realise
from bsopt.trial.record import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.visualization.study_data import StudyData

__all__ = ["example_data", "example_study"]

NUM_TRAIN_SAMPLES = 8192
EPOCHS = 20
CRITICAL_BATCH_SIZE = 300.0
NOISE = 0.004
MEMORY_LIMIT = 512  # samples in one pass
SECONDS_PER_PASS, SECONDS_PER_SAMPLE, SECONDS_PER_REDUCTION = 4e-3, 6e-5, 3e-3
DIVERGING_OCTAVES = 2.3  # above the best learning rate
REFERENCE = Reference(32, 0.01)


def example_study(
    num_trials: int = 30,
    *,
    name: str = "example",
    seed: int = 0,
    batch_sizes: Sequence[int] = (8, 16, 32, 64, 128, 256, 512, 1024),
    ticks: int = EPOCHS,
    devices: Sequence[int] = (1,),
    storage: optuna.storages.BaseStorage | None = None,
) -> optuna.Study:
    """Return a finished study over batch size and learning rate whose trials were computed, not trained.

    Args:
        num_trials: Trials; about one in eight diverges, a few run out of memory, a fifth is pruned.
        name: Study name.
        seed: Seed of everything.
        batch_sizes: Global batch sizes, in samples.
        ticks: Validations of a full trial.
        devices: Devices of the trials, in turn.
        storage: Where to put it; by default in memory.
    """
    data = example_data(num_trials, name=name, seed=seed, batch_sizes=batch_sizes, ticks=ticks, devices=devices)
    study = optuna.create_study(
        study_name=name, storage=storage, direction="minimize", sampler=optuna.samplers.RandomSampler(seed)
    )
    write_info(study, data.info)
    store_trials(study, data.records, batch_size=(min(batch_sizes), max(batch_sizes)), lr=(1e-4, 1.0))
    return study


def example_data(
    num_trials: int = 30,
    *,
    name: str = "example",
    seed: int = 0,
    batch_sizes: Sequence[int] = (8, 16, 32, 64, 128, 256, 512, 1024),
    ticks: int = EPOCHS,
    devices: Sequence[int] = (1,),
) -> StudyData:
    """Return what `example_study` stores, without a storage: for thousands of trials."""
    rng = np.random.default_rng(seed)
    best = math.inf
    records = []
    for number in range(num_trials):
        size = int(rng.choice(batch_sizes))
        centre = scaled_learning_rate(size, reference=REFERENCE, rule="saturating", noise_batch_size=256.0)
        offset = float(rng.normal(0.0, 2.2 if number < num_trials / 3 else 0.6))
        lr = float(np.clip(centre * 2.0**offset, 1e-4, 1.0))
        plan = realise(size, Limits(num_devices=devices[number % len(devices)], max_micro_batch_size=MEMORY_LIMIT))
        trial = MadeTrial(number, lr, plan, NUM_TRAIN_SAMPLES, _seconds_per_step(plan))
        record = _record(trial, math.log2(lr / centre), best, ticks, rng)
        if record.outcome == "complete" and record.value is not None:
            best = min(best, record.value)
        records.append(record)
    return StudyData(_info(name, num_trials, batch_sizes, ticks, seed), tuple(records))


def _info(name: str, num_trials: int, sizes: Sequence[int], ticks: int, seed: int) -> StudyInfo:
    return StudyInfo(
        name=name,
        objective=Objective("val_loss"),
        batch_size_range=(min(sizes), max(sizes)),
        lr_range=(1e-4, 1.0),
        batch_sizes=tuple(sizes),
        rule="linear",
        reference=REFERENCE,
        optimizer="sgd",
        num_train_samples=NUM_TRAIN_SAMPLES,
        budget_samples=float(EPOCHS * NUM_TRAIN_SAMPLES),
        tick_samples=EPOCHS * NUM_TRAIN_SAMPLES / ticks,
        seed=seed,
        num_trials=num_trials,
        max_micro_batch_size=MEMORY_LIMIT,
        config={
            "name": name,
            "search": {"batch_size": {"low": min(sizes), "high": max(sizes)}, "lr": {"rule": "linear"}},
            "seed": seed,
        },
        environment={"bsopt": "example", "device": DEVICE},
    )


def _record(trial: MadeTrial, octaves: float, best: float, ticks: int, rng: np.random.Generator) -> TrialRecord:
    curve: list[Tick] = []
    stop = StopReason.OUT_OF_MEMORY
    if trial.batch_size < 1024 or rng.random() >= 0.3:
        curve, stop = _curve(trial, octaves, best, ticks, rng)
    record = replace(trial.record(curve, stop), precision="32-true", started=1.7e9 + 60.0 * trial.number)
    if not curve:
        return record
    return replace(
        record,
        samples_exact=curve[-1].step * trial.batch_size,
        peak_memory_bytes=int(400e6 + 3.2e6 * trial.plan.micro_batch_size),
        measurements=_measured(trial, curve),
    )


def _seconds_per_step(plan: Plan) -> float:
    """Compute, and a ring all-reduce that doesn't overlap with it."""
    compute = plan.accumulate_grad_batches * (SECONDS_PER_PASS + SECONDS_PER_SAMPLE * plan.micro_batch_size)
    return compute + SECONDS_PER_REDUCTION * (plan.world_size - 1) / plan.world_size


def _curve(
    trial: MadeTrial, octaves: float, best: float, ticks: int, rng: np.random.Generator
) -> tuple[list[Tick], StopReason]:
    """Return the ticks, and how the trial ended."""
    size = trial.batch_size
    basin = 0.10 * math.log1p((octaves / (1.8 if octaves < 0 else 1.1)) ** 2)
    floor = 0.30 + 0.012 * max(0.0, math.log2(size / 64.0)) + basin + float(rng.normal(0.0, NOISE))
    pace = 2.0 ** min(0.0, 0.7 * octaves) / (1.0 + size / CRITICAL_BATCH_SIZE)
    curve: list[Tick] = []
    for index in range(1, ticks + 1):
        samples = index * EPOCHS * NUM_TRAIN_SAMPLES / ticks
        value = floor + (2.3 - floor) * (1.0 + 6.0 * pace * samples / NUM_TRAIN_SAMPLES) ** -1.1
        value += float(rng.normal(0.0, NOISE))
        if octaves > DIVERGING_OCTAVES:
            value = 2.3 + 0.4 * index**2 if index < 4 else math.nan
        noise = _noise_at(samples / NUM_TRAIN_SAMPLES, size)
        curve.append(trial.tick(index, samples, val_loss=value, train_loss=0.9 * value, **noise))
        if math.isnan(value):
            return curve, StopReason.DIVERGED
        if index == max(2, ticks // 4) and floor > best + 0.08 and rng.random() < 0.7:
            return curve, StopReason.PRUNED_PLATEAU
    return curve, StopReason.COMPLETED


def _measured(trial: MadeTrial, curve: Sequence[Tick]) -> dict[str, object]:
    """Steps of length lr·√(1 + B_c/B) in mostly random directions."""
    length = 0.1 * trial.lr * math.sqrt(1.0 + CRITICAL_BATCH_SIZE / trial.batch_size)
    steps = [tick.step for tick in curve]
    return weight_measurements(
        length,
        curve,
        from_start=[length * math.sqrt(step) for step in steps],
        epochs=[length * math.sqrt(step - before) for before, step in zip([0, *steps], steps, strict=False)],
        shares={"features": 0.9, "classifier": 0.44},
    )


def _noise_at(epoch: float, size: int) -> dict[str, float]:
    """What the callback GradientNoiseScale logs: it grows during training."""
    value = 40.0 * epoch**0.8 * (size / 64.0) ** 0.1
    return {"bsopt/noise_scale": value, "bsopt/noise_scale_low": 0.7 * value, "bsopt/noise_scale_high": 1.5 * value}
