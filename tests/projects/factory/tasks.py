"""A function that builds module and data, for notebooks and tests."""

import lightning as L
import torch
from parts import Recorder, regression
from torch.utils.data import DataLoader, random_split


class Regressor(Recorder, L.LightningModule):
    def __init__(self, net, make_optimizer) -> None:
        super().__init__()
        self.net, self.make_optimizer = net, make_optimizer

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self.parameters())
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=10)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class Split(L.LightningDataModule):
    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        parts = random_split(regression(128), [96, 32], generator=torch.Generator().manual_seed(0))
        self.train, self.val = parts

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 32)


def build(learning_rate: float, batch_size: int, dropout: float = 0.1):
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1))
    return Regressor(net, lambda weights: torch.optim.RMSprop(weights, lr=learning_rate)), Split(batch_size)
