"""A made-up study with known laws, for the gallery, for tests, and to try a figure before there is data.

The best learning rate follows the saturating rule (McCandlish et al. 2018) and progress per sample falls with the
batch size as 1 / (1 + B/B_c); nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from bsopt.laws.scaling import Reference, scaled_learning_rate
from bsopt.plan import Plan
from bsopt.records import StopReason, StudyInfo, Tick, TrialRecord
from bsopt.search.storage import write_info, write_record
from bsopt.visualization.source import StudyData

__all__ = ["example_data", "example_study"]

NUM_TRAIN_SAMPLES = 8192
EPOCHS = 20
CRITICAL_BATCH_SIZE = 300.0
NOISE = 0.004
MEMORY_LIMIT = 512  # samples in one pass
SECONDS_PER_STEP, SECONDS_PER_SAMPLE = 4e-3, 6e-5
REFERENCE = Reference(32, 0.01)


def example_study(
    num_trials: int = 30,
    *,
    name: str = "example",
    seed: int = 0,
    batch_sizes: Sequence[int] = (8, 16, 32, 64, 128, 256, 512, 1024),
    ticks: int = EPOCHS,
    storage: optuna.storages.BaseStorage | None = None,
) -> optuna.Study:
    """Return a finished study over batch size and learning rate whose trials were computed, not trained.

    Args:
        num_trials: Trials; about one in eight diverges, a few run out of memory, a fifth is pruned.
        name: Study name.
        seed: Seed of everything.
        batch_sizes: Global batch sizes, in samples.
        ticks: Validations of a full trial.
        storage: Where to put it; by default in memory.
    """
    data = example_data(num_trials, name=name, seed=seed, batch_sizes=batch_sizes, ticks=ticks)
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
) -> StudyData:
    """Return what `example_study` stores, without a storage: for thousands of trials."""
    rng = np.random.default_rng(seed)
    best = math.inf
    records = []
    for number in range(num_trials):
        size = int(rng.choice(batch_sizes))
        centre = scaled_learning_rate(size, reference=REFERENCE, rule="saturating", noise_batch_size=256.0)
        offset = float(rng.normal(0.0, 2.2 if number < num_trials / 3 else 1.2))
        lr = float(np.clip(centre * 2.0**offset, 1e-4, 1.0))
        record = _record(number, size, lr, math.log2(lr / centre), best, ticks, rng)
        if record.outcome == "complete" and record.value is not None:
            best = min(best, record.value)
        records.append(record)
    return StudyData(_info(name, num_trials, batch_sizes, ticks, seed), tuple(records))


def _info(name: str, num_trials: int, sizes: Sequence[int], ticks: int, seed: int) -> StudyInfo:
    return StudyInfo(
        name=name,
        monitor="val_loss",
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
        config={"name": name, "search": {"batch_size": {"low": min(sizes), "high": max(sizes)}}, "seed": seed},
        environment={"bsopt": "example", "device": "made up"},
    )


def _record(
    number: int, size: int, lr: float, octaves: float, best: float, ticks: int, rng: np.random.Generator
) -> TrialRecord:
    micro = min(size, MEMORY_LIMIT)
    plan = Plan(micro, size // micro, reason="memory allows 512 samples in one pass" if size > micro else "")
    seconds_per_step = SECONDS_PER_STEP + SECONDS_PER_SAMPLE * size
    seconds_per_epoch = NUM_TRAIN_SAMPLES / size * seconds_per_step
    common = {
        "number": number,
        "batch_size": size,
        "lr": lr,
        "params": {"batch_size": size, "lr": lr},
        "plan": plan,
        "seed": number,
        "num_train_samples": NUM_TRAIN_SAMPLES,
        "device": "made up",
        "precision": "32-true",
        "started": 1.7e9 + 60.0 * number,
    }
    if size >= 1024 and rng.random() < 0.3:
        return TrialRecord(
            **common,  # type: ignore[arg-type]
            outcome="pruned",
            stop_reason=StopReason.OUT_OF_MEMORY,
            message="Out of memory in the first step at 1024 samples in one pass.",
        )
    diverges = octaves > 2.3
    basin = 0.10 * math.log1p((octaves / (1.8 if octaves < 0 else 1.1)) ** 2)
    floor = 0.30 + 0.012 * max(0.0, math.log2(size / 64.0)) + basin + float(rng.normal(0.0, NOISE))
    curve: list[Tick] = []
    pace = 2.0 ** min(0.0, 0.7 * octaves) / (1.0 + size / CRITICAL_BATCH_SIZE)
    stop = StopReason.COMPLETED
    for index in range(1, ticks + 1):
        samples = index * EPOCHS * NUM_TRAIN_SAMPLES / ticks
        value = floor + (2.3 - floor) * (1.0 + 6.0 * pace * samples / NUM_TRAIN_SAMPLES) ** -1.1
        value += float(rng.normal(0.0, NOISE))
        if diverges:
            value = 2.3 + 0.4 * index**2 if index < 4 else math.nan
        curve.append(_tick(index, samples, size, value, lr, seconds_per_epoch))
        if math.isnan(value):
            stop = StopReason.DIVERGED
            break
        if index == max(2, ticks // 4) and floor > best + 0.08 and rng.random() < 0.7:
            stop = StopReason.PRUNED_PLATEAU
            break
    finite = [tick for tick in curve if math.isfinite(tick.value)]
    top = min(finite, key=lambda tick: tick.value)
    last = curve[-1]
    return TrialRecord(
        **common,  # type: ignore[arg-type]
        outcome=stop.outcome,
        stop_reason=stop,
        message=_MESSAGES[stop],
        value=top.value,
        best_tick=top.index,
        ticks=tuple(curve),
        num_steps=last.step,
        samples_exact=last.step * size,
        seconds=last.seconds,
        seconds_per_epoch=seconds_per_epoch,
        seconds_per_step=seconds_per_step,
        samples_per_second=size / seconds_per_step,
        peak_memory_bytes=int(400e6 + 3.2e6 * micro),
    )


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
