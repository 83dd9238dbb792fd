"""A small network that predicts the progress of diabetes: plain Lightning, nothing of bsopt in it."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]


class DiabetesMLP(pl.LightningModule):
    """Two hidden layers, trained with Adam on the mean squared error.

    Args:
        lr: Learning rate.
        weight_decay: Decoupled weight decay (AdamW).
        width: Units of each hidden layer.
        dropout: Share of the hidden units dropped in training.
    """

    def __init__(self, lr: float = 1e-3, weight_decay: float = 0.01, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(10, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.net(features).squeeze(-1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features, targets = batch
        loss = functional.mse_loss(self(features), targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        features, targets = batch
        predicted = self(features)
        metrics = {
            "val_loss": functional.mse_loss(predicted, targets),
            "val_mae": functional.l1_loss(predicted, targets),
        }
        self.log_dict(metrics, on_epoch=True, batch_size=len(targets), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)


class DiabetesData(pl.LightningDataModule):
    """442 patients that come with scikit-learn: 353 to train on, 89 to validate.

    The targets are scaled to mean 0 and variance 1 over the training set, so that a mean squared error of 1
    means "no better than guessing the mean".

    Args:
        batch_size: Samples in a batch of the training loader.
        split_seed: Which patients go where.
    """

    def __init__(self, batch_size: int = 32, split_seed: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.split_seed = split_seed

    def setup(self, stage: str | None = None) -> None:
        features, targets = load_diabetes(return_X_y=True)
        parts = train_test_split(features, targets, test_size=0.2, random_state=self.split_seed)
        train_x, val_x, train_y, val_y = (torch.as_tensor(part, dtype=torch.float32) for part in parts)
        x_mean, x_std = train_x.mean(dim=0), train_x.std(dim=0)
        y_mean, y_std = train_y.mean(), train_y.std()
        self.train_set = TensorDataset((train_x - x_mean) / x_std, (train_y - y_mean) / y_std)
        self.val_set = TensorDataset((val_x - x_mean) / x_std, (val_y - y_mean) / y_std)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=89)
