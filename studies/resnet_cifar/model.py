"""Residual networks for 32×32 images with batch normalisation, a warm-up and annealing: plain Lightning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Batch = tuple[Tensor, Tensor]

NETWORKS: dict[str, tuple[tuple[int, ...], int]] = {
    "resnet8": ((1, 1, 1), 16),
    "resnet20": ((3, 3, 3), 16),
    "resnet56": ((9, 9, 9), 16),
    "resnet18": ((2, 2, 2, 2), 64),
    "resnet34": ((3, 4, 6, 3), 64),
}
"""Name -> blocks of each stage, and channels of the first; every stage has twice the channels of the one before."""


class ResNet(pl.LightningModule):
    """A residual network after He et al. 2016 (arXiv 1512.03385, section 4.2), trained by SGD with momentum.

    The learning rate rises linearly over `warmup_epochs` and falls to zero along a cosine. Weight decay leaves out
    biases and batch normalisation.

    Args:
        lr: Learning rate, which the warm-up reaches.
        network: A name in `NETWORKS`.
        num_classes: At least 2.
        momentum: Of SGD, Nesterov's.
        weight_decay: L2 penalty on convolutions and the last layer.
        warmup_epochs: Length of the warm-up; at most a fifth of the training.
        checkpointing: Whether blocks compute their activations again in the backward pass, to save memory.
    """

    def __init__(
        self,
        lr: float = 0.1,
        network: str = "resnet20",
        num_classes: int = 10,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        warmup_epochs: float = 5.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}")
        self.save_hyperparameters()
        blocks, width = NETWORKS[network]
        self.stem = nn.Sequential(_convolution(3, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList(_blocks(blocks, width))
        self.head = nn.Linear(width * 2 ** (len(blocks) - 1), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stem(images)
        for block in self.blocks:
            again = self.hparams.checkpointing and self.training
            hidden = checkpoint(block, hidden, use_reentrant=False) if again else block(hidden)
        return self.head(hidden.mean(dim=(2, 3)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = functional.cross_entropy(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        metrics = {
            "val_loss": functional.cross_entropy(logits, labels),
            "val_acc": (logits.argmax(dim=1) == labels).float().mean(),
        }
        self.log_dict(metrics, on_epoch=True, batch_size=len(labels), sync_dist=True)

    def configure_optimizers(self) -> dict[str, object]:
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": self.hparams.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.hparams.lr,
            momentum=self.hparams.momentum,
            nesterov=self.hparams.momentum > 0,
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        epochs = max(1, self.trainer.max_epochs or 1)
        warmup = min(0.2 * steps, self.hparams.warmup_epochs * steps / epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: annealed(step, steps=steps, warmup=warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Block(nn.Module):
    """Two 3×3 convolutions around which the input passes, projected where the shape changes."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_convolution(before, channels, stride), nn.BatchNorm2d(channels))
        self.second = nn.Sequential(_convolution(channels, channels), nn.BatchNorm2d(channels))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            projection = nn.Conv2d(before, channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.second(functional.relu(self.first(hidden), inplace=True))
        return functional.relu(inner + self.shortcut(hidden), inplace=True)


def annealed(step: int, *, steps: int, warmup: float) -> float:
    """Return the factor on the learning rate at an update: a linear rise, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1.0, steps - warmup))))


def _convolution(before: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, channels, kernel_size=3, stride=stride, padding=1, bias=False)


def _blocks(counts: Sequence[int], width: int) -> list[Block]:
    blocks, before = [], width
    for stage, count in enumerate(counts):
        channels = width * 2**stage
        for number in range(count):
            blocks.append(Block(before, channels, stride=2 if stage and number == 0 else 1))
            before = channels
    return blocks
