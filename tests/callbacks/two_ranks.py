"""One rank of two-rank fits, started from outside as torchrun does; writes what its callbacks measured as JSON.

Arguments: the file to write, and what to run, one after another: "measure", "seeds", "uneven", "prune", "unequal" and
"identity".
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import optuna
import torch
from dropout_net import OBSERVING, state_after
from linear_regression import Collector, LinearRegression, check_unbiased_and_covered, loader, quiet_trainer
from torch.utils.data import DataLoader

from bsopt.callbacks import (
    GradientNoiseScale,
    LearningRateScaling,
    OptunaPruning,
    PlateauStopping,
    ThroughputMonitor,
    UpdateNorms,
    WeightDistance,
)
from bsopt.serialization import to_plain

RANK = int(os.environ["RANK"])
DDP = {"strategy": "ddp", "devices": 2, "num_sanity_val_steps": 0}


def measure() -> dict[str, Any]:
    noise, norms, distance = GradientNoiseScale(every=1), UpdateNorms(every=1), WeightDistance()
    throughput, scaling = ThroughputMonitor(), LearningRateScaling(16, rule="linear")
    trainer = quiet_trainer(callbacks=[noise, norms, distance, throughput, scaling], **DDP)
    trainer.fit(LinearRegression(lr=0.01), loader(num_samples=640, batch_size=16, rank=RANK, num_ranks=2))
    assert noise.estimate is not None
    assert throughput.summary is not None
    return {
        "noise": to_plain(noise.estimate),
        "norms": to_plain(norms.summary),
        "distance": to_plain(distance.summary),
        "num_samples": throughput.summary.num_samples,
        "peak_memory_bytes": throughput.summary.peak_memory_bytes,
        "global_batch_size": [noise.global_batch_size, scaling.global_batch_size],
    }


def seeds() -> dict[str, Any]:
    noise = GradientNoiseScale("ranks", every=1, decay=1.0)
    collector = Collector(noise, measurements=20)
    data = loader(num_samples=200 * 20 * 32, batch_size=16, rank=RANK, num_ranks=2)
    quiet_trainer(callbacks=[noise, collector], **DDP).fit(LinearRegression(), data)
    check_unbiased_and_covered(collector.estimates)
    return {"num_seeds": len(collector.estimates)}


def uneven() -> dict[str, Any]:
    noise = GradientNoiseScale(every=1)
    data = loader(num_samples=320, batch_size=(16, 8)[RANK], rank=0, num_ranks=2 - RANK)
    quiet_trainer(callbacks=[noise], limit_train_batches=10, **DDP).fit(LinearRegression(), data)
    return {"global_batch_size": noise.global_batch_size, "samples_seen": noise.history[-1].samples_seen}


def prune() -> dict[str, Any]:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1e-3)) if RANK == 0 else None
    trial = study.ask() if study is not None else None
    pruning = OptunaPruning(trial, "val_loss")
    stopping = PlateauStopping("val_loss", patience=10_000)
    trainer = quiet_trainer(callbacks=[pruning, stopping], max_epochs=3, **DDP)
    data = loader(num_samples=64, batch_size=16, rank=RANK, num_ranks=2)
    try:
        trainer.fit(LinearRegression(), data, data)
    except optuna.TrialPruned as pruned:
        return {"pruned": str(pruned), "epoch": trainer.current_epoch, "best": pruning.best_value}
    return {"pruned": None}


def unequal() -> dict[str, Any]:
    data = loader(num_samples=80, batch_size=16 if RANK == 0 else 8, seed=RANK)
    data = DataLoader(list(data)[:5], batch_size=None)  # type: ignore[arg-type]  # 5 × 16 samples here, 5 × 8 there
    validation = loader(num_samples=16, batch_size=16)
    scaling, throughput = LearningRateScaling(12, rule="linear", warmup_samples=96), ThroughputMonitor()
    model = LinearRegression(lr=0.01)
    quiet_trainer(callbacks=[scaling, throughput], **DDP).fit(model, data)
    stopping = PlateauStopping("val_loss", patience=300)
    trainer = quiet_trainer(callbacks=[stopping], max_epochs=15, **DDP)
    trainer.fit(LinearRegression(), data, validation)
    assert throughput.summary is not None
    return {
        "weight": model.weight.tolist(),
        "global_batch_size": scaling.global_batch_size,
        "epochs": trainer.current_epoch,
        "reason": stopping.reason,
        "num_samples": throughput.summary.num_samples,
    }


def identity() -> dict[str, Any]:
    ranks = {"rank": RANK, "num_ranks": 2, **DDP}
    found = {}
    for accumulate in (1, 3):
        plain = state_after([], accumulate_grad_batches=accumulate, **ranks)
        observed = state_after([make() for make in OBSERVING.values()], accumulate_grad_batches=accumulate, **ranks)
        found[str(accumulate)] = [plain, observed]
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    runs = {f.__name__: f for f in (measure, seeds, uneven, prune, unequal, identity)}
    Path(sys.argv[1]).write_text(json.dumps({name: runs[name]() for name in sys.argv[2:]}))
