"""A linear regression whose gradient and gradient covariance are known in closed form.

With x ~ N(0, I_d), y = x·w* + ε, ε ~ N(0, s²), and loss ½(x·w − y)², δ = w − w*:

    G = δ,  tr Σ = (d + 1)|δ|² + d·s²
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bsopt.callbacks import GradientNoiseScale
from bsopt.callbacks._base import Callback
from bsopt.laws.noise_scale import NoiseScale

DIMENSION = 20
NOISE = 1.0
DELTA = torch.full((DIMENSION,), 0.5)
SQ_NORM = float(DELTA @ DELTA)
TRACE = (DIMENSION + 1) * SQ_NORM + DIMENSION * NOISE**2


class LinearRegression(pl.LightningModule):
    """Weights are off by DELTA; with lr 0 they stay there."""

    def __init__(self, lr: float = 0.0) -> None:
        super().__init__()
        self.lr = lr
        self.weight = torch.nn.Parameter(DELTA.clone())
        self.num_steps = 0

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        self.num_steps += 1
        loss = 0.5 * (x @ self.weight - y).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", 0.5 * (x @ self.weight - y).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loader(*, num_samples: int, batch_size: int, seed: int = 0, rank: int = 0, num_ranks: int = 1) -> DataLoader[Any]:
    """Return fresh samples in order, in whole batches; rank r of n gets every n-th batch from the r-th on."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_samples, DIMENSION, generator=generator)
    y = NOISE * torch.randn(num_samples, generator=generator)
    batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    return DataLoader(batches[rank::num_ranks], batch_size=None)  # type: ignore[arg-type]


def quiet_trainer(**settings: object) -> pl.Trainer:
    """Return a Trainer on the CPU without anything that isn't asked for."""
    defaults: dict[str, object] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**{**defaults, **settings})  # type: ignore[arg-type]


class Collector(Callback):
    """Takes an estimate after so many measurements and lets the callback begin anew: one more independent run."""

    def __init__(self, callback: GradientNoiseScale, *, measurements: int) -> None:
        self.callback = callback
        self.measurements = measurements
        self.estimates: list[NoiseScale] = []

    def on_train_batch_end(self, *_: object) -> None:
        estimate = self.callback.estimate
        if estimate is not None and estimate.num_measurements == self.measurements:
            self.estimates.append(estimate)
            self.callback.load_state_dict(GradientNoiseScale().state_dict())


def check_unbiased_and_covered(estimates: list[NoiseScale]) -> None:
    """Check 200 independent estimates against the known gradient."""
    assert len(estimates) == 200
    assert abs(sum(e.gradient_sq_norm for e in estimates) / 200 / SQ_NORM - 1) < 0.03
    assert abs(sum(e.covariance_trace for e in estimates) / 200 / TRACE - 1) < 0.03
    assert 180 <= sum(e.low <= TRACE / SQ_NORM <= e.high for e in estimates) <= 198
