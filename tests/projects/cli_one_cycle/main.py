"""LightningCLI of `lightning` with OneCycle, two parameter groups, early stopping and clipping."""

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from parts import Recorder, regression
from torch.utils.data import DataLoader


class Net(Recorder, LightningModule):
    def __init__(self, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU())
        self.head = torch.nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.mse_loss(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self(x), y), sync_dist=True)

    def configure_optimizers(self):
        lr = self.hparams.lr
        groups = [{"params": self.body.parameters(), "lr": lr / 10}, {"params": self.head.parameters(), "lr": lr}]
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=self.hparams.momentum)
        self.planned = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [lr / 10, lr], total_steps=self.planned)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Data(LightningDataModule):
    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(regression(), self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(regression(seed=1), 48)


if __name__ == "__main__":
    LightningCLI(Net, Data, save_config_callback=None)
