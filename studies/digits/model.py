"""A small convolutional network on scikit-learn's 8×8 digits: plain Lightning, nothing of bsopt in it."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]


class DigitsCNN(pl.LightningModule):
    """Two convolutions and a linear layer, 10k parameters.

    Args:
        lr: Learning rate.
        optimizer: "sgd" or "adam".
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
        channels: Channels of the first convolution; the second has twice as many.
    """

    def __init__(
        self,
        lr: float = 0.01,
        optimizer: str = "sgd",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        channels: int = 16,
    ) -> None:
        super().__init__()
        if optimizer not in ("sgd", "adam"):
            raise ValueError(f"optimizer must be 'sgd' or 'adam', got {optimizer!r}")
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * 4 * 4, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = {"lr": self.hparams.lr, "weight_decay": self.hparams.weight_decay}
        if self.hparams.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), **settings)
        return torch.optim.SGD(self.parameters(), momentum=self.hparams.momentum, **settings)


class DigitsData(pl.LightningDataModule):
    """1,797 handwritten digits that come with scikit-learn: 1,437 to train on, 360 to validate.

    Args:
        batch_size: Samples in a batch of the training loader.
        split_seed: Which samples go where.
    """

    def __init__(self, batch_size: int = 32, split_seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.split_seed = split_seed

    def setup(self, stage: str | None = None) -> None:
        images, labels = load_digits(return_X_y=True)
        parts = train_test_split(images, labels, test_size=360, random_state=self.split_seed, stratify=labels)
        train_x, val_x, train_y, val_y = parts
        self.train_set = TensorDataset(_as_images(train_x), torch.as_tensor(train_y))
        self.val_set = TensorDataset(_as_images(val_x), torch.as_tensor(val_y))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=360)


def _as_images(pixels: object) -> Tensor:
    """Return pixels of 0–16, shape (samples, 64), as images of 0–1, shape (samples, 1, 8, 8)."""
    return torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
