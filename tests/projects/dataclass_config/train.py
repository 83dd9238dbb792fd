"""One frozen-at-heart dataclass holds every setting, and module and data read from it; no command line at all."""

from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from parts import Recorder, regression
from torch.utils.data import DataLoader


@dataclass
class OptimSettings:
    learning_rate: float = 0.3
    decay_at: tuple[int, ...] = (1,)


@dataclass
class Settings:
    optim: OptimSettings = field(default_factory=OptimSettings)
    bs: int = 8
    epochs: int = 90


class Net(Recorder, pl.LightningModule):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.settings.optim.learning_rate)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, list(self.settings.optim.decay_at))]


class Data(pl.LightningDataModule):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def train_dataloader(self):
        return DataLoader(regression(), self.settings.bs, shuffle=True)

    def val_dataloader(self):
        return DataLoader(regression(seed=1), 48)


settings = Settings()
pl.Trainer(max_epochs=settings.epochs).fit(Net(settings), Data(settings))
