"""OmegaConf: a default, a file-like structure and the command line merged; the module keeps the whole configuration."""

import lightning.pytorch as pl
import torch
from omegaconf import OmegaConf
from parts import Recorder, regression
from torch.utils.data import DataLoader

DEFAULTS = """
optim: {base_lr: 0.1, momentum: 0.0}
data: {train_batch_size: 4}
trainer: {max_epochs: 40}
"""


class Regressor(Recorder, pl.LightningModule):
    def __init__(self, cfg) -> None:
        super().__init__()
        self.cfg = cfg
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.cfg.optim.base_lr, momentum=self.cfg.optim.momentum)


class RegressionData(pl.LightningDataModule):
    def __init__(self, cfg) -> None:
        super().__init__()
        self.cfg = cfg

    def train_dataloader(self):
        return DataLoader(regression(), batch_size=self.cfg.data.train_batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(regression(seed=1), batch_size=48)


def main() -> None:
    cfg = OmegaConf.merge(OmegaConf.create(DEFAULTS), OmegaConf.from_cli())
    OmegaConf.resolve(cfg)
    pl.Trainer(**cfg.trainer).fit(Regressor(cfg), RegressionData(cfg))
