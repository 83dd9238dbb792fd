"""A small convolutional network on MNIST, read from a file that you bring: plain Lightning, nothing of bsopt in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]
SOURCE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"


class MnistCNN(pl.LightningModule):
    """Two strided convolutions with batch normalisation and a linear layer, 13k parameters.

    Args:
        lr: Learning rate.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty.
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
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
        return torch.optim.SGD(
            self.parameters(),
            lr=self.hparams.lr,
            momentum=self.hparams.momentum,
            weight_decay=self.hparams.weight_decay,
        )


class MnistData(pl.LightningDataModule):
    """MNIST from a NumPy archive with x_train, y_train, x_test and y_test.

    Args:
        path: The archive.
        batch_size: Samples in a batch of the training loader.
        num_train: Training samples to use, drawn at random, always the same; all 60,000 where it is None.
        num_val: Test samples to validate on, drawn likewise; all 10,000 where it is None.
    """

    def __init__(
        self,
        path: str = "mnist.npz",
        batch_size: int = 32,
        num_train: int | None = None,
        num_val: int | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path).expanduser()
        self.batch_size = batch_size
        self.num_train = num_train
        self.num_val = num_val

    def prepare_data(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"There is no MNIST file at {self.path.resolve()}. Get it (11 MB) with "
                f"`curl -o {self.path} {SOURCE}`, or pass the path of yours."
            )

    def setup(self, stage: str | None = None) -> None:
        self.prepare_data()
        with np.load(self.path) as arrays:
            self.train_set = _dataset(arrays["x_train"], arrays["y_train"], self.num_train)
            self.val_set = _dataset(arrays["x_test"], arrays["y_test"], self.num_val)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=1000)


def _dataset(images: np.ndarray, labels: np.ndarray, num_samples: int | None) -> TensorDataset:
    """Return pixels of 0–255, shape (samples, 28, 28), as images of mean 0 and variance 1 with their labels.

    A subset is drawn, not cut off: some copies of MNIST are sorted by digit.
    """
    chosen = np.random.default_rng(0).permutation(len(labels))[:num_samples]
    pixels = torch.as_tensor(images[chosen], dtype=torch.float32).unsqueeze(1) / 255
    return TensorDataset((pixels - 0.1307) / 0.3081, torch.as_tensor(labels[chosen], dtype=torch.long))
