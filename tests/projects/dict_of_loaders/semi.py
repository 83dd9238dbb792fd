"""Labelled and unlabelled batches side by side: a dict of loaders."""

import pytorch_lightning as pl
import torch
from parts import Recorder, regression
from torch.utils.data import DataLoader


class Semi(Recorder, pl.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch["labelled"]
        unlabelled, _ = batch["unlabelled"]
        return torch.nn.functional.mse_loss(self.layer(x), y) + 0.01 * self.layer(unlabelled).pow(2).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class SemiData(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return {
            "labelled": DataLoader(regression(48), self.batch_size, shuffle=True),
            "unlabelled": DataLoader(regression(96, seed=2), self.batch_size, shuffle=True),
        }

    def val_dataloader(self):
        return DataLoader(regression(seed=1), 48)
