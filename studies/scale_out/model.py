"""A network that learns another one's answers: plain Lightning, data that needs no file on any host."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]
NUM_FEATURES = 32


class Student(pl.LightningModule):
    """Two hidden layers that imitate the teacher, trained with SGD on the mean squared error.

    Args:
        lr: Learning rate.
        width: Units of each hidden layer.
    """

    def __init__(self, lr: float = 0.05, width: int = 128) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(NUM_FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.net(features)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features, answers = batch
        loss = functional.mse_loss(self(features), answers)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(answers))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        features, answers = batch
        loss = functional.mse_loss(self(features), answers)
        self.log("val_loss", loss, on_epoch=True, batch_size=len(answers), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class TeacherData(pl.LightningDataModule):
    """Random inputs and a fixed random network's answers to them, with noise; the same on every host.

    Args:
        batch_size: Samples in a batch of the training loader.
        num_train: Samples to train on.
        noise: Standard deviation of the noise in the training answers, in units of that of the answers.
        seed: Of the teacher, the inputs and the noise.
    """

    def __init__(self, batch_size: int = 32, num_train: int = 4096, noise: float = 0.3, seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_train = num_train
        self.noise = noise
        self.seed = seed

    def setup(self, stage: str | None = None) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        features = torch.randn(self.num_train + 1024, NUM_FEATURES, generator=generator)
        first = torch.randn(NUM_FEATURES, 16, generator=generator) / NUM_FEATURES**0.5
        second = torch.randn(16, 1, generator=generator)
        answers = torch.tanh(2 * features @ first) @ second
        answers = (answers - answers.mean()) / answers.std()
        noise = self.noise * torch.randn(self.num_train, 1, generator=generator)
        self.train_set = TensorDataset(features[: self.num_train], answers[: self.num_train] + noise)
        self.val_set = TensorDataset(features[self.num_train :], answers[self.num_train :])

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=1024)
