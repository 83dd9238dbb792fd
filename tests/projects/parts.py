"""What the projects share: toy data, and a recorder that a module mixes in to write down what each step really used."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

NUM_SAMPLES = 96


def regression(num_samples: int = NUM_SAMPLES, seed: int = 0) -> TensorDataset:
    """Return samples of a linear function of four numbers."""
    x = torch.randn(num_samples, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.sum(1, keepdim=True))


class Recorder:
    """Mixed in before LightningModule; writes `seen-RANK.json` into the Trainer's folder when training ends.

    Its keys: `rates`, for each optimizer step the learning rates of its groups; `sizes`, the samples of each batch;
    `totals`, how many steps each scheduler was planned for; `planned`, what the module says that it planned for.
    """

    planned: int | None = None

    def on_train_start(self) -> None:
        """Begin a record."""
        schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        totals = [getattr(s, "total_steps", getattr(s, "T_max", None)) for s in schedulers]
        self.seen = {"rates": [], "sizes": [], "totals": totals}

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Note the batch's size."""
        self.seen["sizes"].append(_sizes(batch))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the rates that this step uses."""
        self.seen["rates"].append([group["lr"] for group in optimizer.param_groups])

    def on_train_end(self) -> None:
        """Write the record."""
        file = Path(self.trainer.default_root_dir) / f"seen-{self.trainer.global_rank}.json"
        file.write_text(json.dumps({**self.seen, "planned": self.planned}))


def _sizes(batch: object) -> int | dict[str, int]:
    if isinstance(batch, dict) and not all(isinstance(value, torch.Tensor) for value in batch.values()):
        return {name: _sizes(value) for name, value in batch.items()}
    first = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(first)
