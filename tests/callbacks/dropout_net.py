"""A network with all that depends on random numbers and on state: dropout, batch norm, AdamW, clipping."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from linear_regression import DIMENSION, loader, quiet_trainer
from torch import Tensor, nn

from bsopt import callbacks
from bsopt.callbacks._base import Callback

OBSERVING = {
    "GradientNoiseScale": lambda: callbacks.GradientNoiseScale(every=1),
    "UpdateNorms": lambda: callbacks.UpdateNorms(every=1),
    "WeightDistance": callbacks.WeightDistance,
    "ThroughputMonitor": callbacks.ThroughputMonitor,
    "BatchSizeAdvisor": lambda: callbacks.BatchSizeAdvisor(every=1),
    "PlateauStopping": lambda: callbacks.PlateauStopping("val_loss", patience=10**9),
}


class DropoutNet(pl.LightningModule):
    """Its weights after training tell whether anything touched gradients, random numbers or running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(DIMENSION, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0])[:, 0], batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0])[:, 0], batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def state_after(observers: Sequence[Callback], *, rank: int = 0, num_ranks: int = 1, **settings: Any) -> str:
    """Return a digest of every weight, running statistic and optimizer state after a fit with some callbacks."""
    torch.manual_seed(3)
    net = DropoutNet()
    trainer = quiet_trainer(callbacks=list(observers), max_epochs=2, gradient_clip_val=0.5, **settings)
    data = loader(num_samples=160, batch_size=16, rank=rank, num_ranks=num_ranks)
    trainer.fit(net, data, loader(num_samples=32, batch_size=16))
    digest = hashlib.sha256()
    states = [*net.state_dict().values(), *trainer.optimizers[0].state_dict()["state"].values()]
    for state in states:
        for tensor in state.values() if isinstance(state, dict) else [state]:
            digest.update(torch.as_tensor(tensor).detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
