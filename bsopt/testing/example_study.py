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
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from bsopt.laws.scaling import Reference, scaled_learning_rate
from bsopt.storage.attributes import write_info, write_record
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
    for record in data.records:
        _store(study, record, batch_sizes)
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
        record = _record(number, size, lr, math.log2(lr / centre), best, ticks, devices[number % len(devices)], rng)
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
        environment={"bsopt": "example", "device": "made up"},
    )


def _record(
    number: int, size: int, lr: float, octaves: float, best: float, ticks: int, devices: int, rng: np.random.Generator
) -> TrialRecord:
    plan = realise(size, Limits(num_devices=devices, max_micro_batch_size=MEMORY_LIMIT))
    record = TrialRecord(
        number=number,
        outcome="pruned",
        batch_size=size,
        lr=lr,
        params={"batch_size": size, "lr": lr},
        plan=plan,
        seed=number,
        num_train_samples=NUM_TRAIN_SAMPLES,
        device="made up",
        precision="32-true",
        started=1.7e9 + 60.0 * number,
        stop_reason=StopReason.OUT_OF_MEMORY,
        message="Out of memory in the first step.",
    )
    if size >= 1024 and rng.random() < 0.3:
        return record
    seconds_per_step = _seconds_per_step(plan)
    curve, stop = _curve(size, lr, octaves, best, ticks, NUM_TRAIN_SAMPLES / size * seconds_per_step, rng)
    top = min((tick for tick in curve if math.isfinite(tick.value)), key=lambda tick: tick.value)
    return replace(
        record,
        outcome=stop.outcome,
        stop_reason=stop,
        message=_MESSAGES[stop],
        value=top.value,
        best_tick=top.index,
        ticks=tuple(curve),
        num_steps=curve[-1].step,
        samples_exact=curve[-1].step * size,
        seconds=curve[-1].seconds,
        seconds_per_epoch=NUM_TRAIN_SAMPLES / size * seconds_per_step,
        seconds_per_step=seconds_per_step,
        samples_per_second=size / seconds_per_step,
        peak_memory_bytes=int(400e6 + 3.2e6 * plan.micro_batch_size),
        measurements=_measured(size, lr, curve),
    )


def _seconds_per_step(plan: Plan) -> float:
    """Compute, and a ring all-reduce that doesn't overlap with it."""
    compute = plan.accumulate_grad_batches * (SECONDS_PER_PASS + SECONDS_PER_SAMPLE * plan.micro_batch_size)
    return compute + SECONDS_PER_REDUCTION * (plan.world_size - 1) / plan.world_size


def _curve(
    size: int, lr: float, octaves: float, best: float, ticks: int, seconds_per_epoch: float, rng: np.random.Generator
) -> tuple[list[Tick], StopReason]:
    """Return the ticks, and how the trial ended."""
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
        curve.append(_tick(index, samples, size, value, lr, seconds_per_epoch))
        if math.isnan(value):
            return curve, StopReason.DIVERGED
        if index == max(2, ticks // 4) and floor > best + 0.08 and rng.random() < 0.7:
            return curve, StopReason.PRUNED_PLATEAU
    return curve, StopReason.COMPLETED


_MESSAGES = {
    StopReason.COMPLETED: "Trained to the end of its budget.",
    StopReason.DIVERGED: "The loss became NaN.",
    StopReason.PRUNED_PLATEAU: "Stopped improving out of reach of the best trial.",
}


def _tick(index: int, samples: float, size: int, value: float, lr: float, seconds_per_epoch: float) -> Tick:
    epoch = samples / NUM_TRAIN_SAMPLES
    return Tick(
        index=index,
        samples=samples,
        step=math.ceil(samples / size),
        epoch=epoch,
        seconds=epoch * seconds_per_epoch,
        value=value,
        lr=lr,
        metrics={"val_loss": value, "train_loss": 0.9 * value, **_noise_at(epoch, size)},
    )


def _measured(size: int, lr: float, curve: Sequence[Tick]) -> dict[str, object]:
    """What WeightDistance and UpdateNorms leave: steps of length lr·√(1 + B_c/B) in mostly random directions."""
    length = 0.1 * lr * math.sqrt(1.0 + CRITICAL_BATCH_SIZE / size)
    steps = [tick.step for tick in curve]
    from_start = [length * math.sqrt(step) for step in steps]
    edges = [length * 2.0 ** (k / 4.0) for k in range(-8, 9)]
    counts = [round(1000.0 * math.exp(-0.5 * ((k + 0.5) / 2.5) ** 2)) for k in range(-8, 8)]
    epochs = [length * math.sqrt(step - before) for before, step in zip([0, *steps], steps, strict=False)]
    return {
        "WeightDistance": {
            "total": from_start[-1],
            "per_layer": {"features": 0.9 * from_start[-1], "classifier": 0.44 * from_start[-1]},
            "steps": steps,
            "from_start": from_start,
            "epochs": epochs,
        },
        "UpdateNorms": {
            "num_measured": sum(counts),
            "num_updates": steps[-1],
            "mean": length,
            "minimum": edges[0],
            "maximum": edges[-1],
            "quantiles": {"0.5": length},
            "bin_edges": edges,
            "bin_counts": counts,
        },
    }


def _noise_at(epoch: float, size: int) -> dict[str, float]:
    """What the callback GradientNoiseScale logs: it grows during training."""
    value = 40.0 * epoch**0.8 * (size / 64.0) ** 0.1
    return {"bsopt/noise_scale": value, "bsopt/noise_scale_low": 0.7 * value, "bsopt/noise_scale_high": 1.5 * value}


def _store(study: optuna.Study, record: TrialRecord, sizes: Sequence[int]) -> None:
    study.enqueue_trial(dict(record.params))
    trial = study.ask(
        {
            "batch_size": IntDistribution(min(sizes), max(sizes), log=True),
            "lr": FloatDistribution(1e-4, 1.0, log=True),
        }
    )
    for tick in record.ticks:
        if math.isfinite(tick.value):
            trial.report(tick.value, int(tick.samples))
    write_record(trial, record)
    if record.outcome == "complete":
        study.tell(trial, record.value)
    else:
        study.tell(trial, state=TrialState.PRUNED)
