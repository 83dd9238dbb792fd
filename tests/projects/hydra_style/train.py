"""Nested settings from YAML files with `group.key=value` overrides, as Hydra projects have."""

import sys
from pathlib import Path

import lightning as L
import torch
import yaml
from parts import Recorder, regression
from torch.utils.data import DataLoader


class LitModel(Recorder, L.LightningModule):
    def __init__(self, net, optim) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, net["width"]), torch.nn.GELU(), torch.nn.LazyLinear(1))
        self.net(torch.zeros(2, 4))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/mse", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optim = self.hparams.optim
        optimizer = getattr(torch.optim, optim["name"])(self.parameters(), lr=optim["lr"])
        self.planned = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.planned)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class LitData(L.LightningDataModule):
    def __init__(self, loader) -> None:
        super().__init__()
        self.loader = loader

    def train_dataloader(self):
        return DataLoader(regression(), shuffle=True, **self.loader)

    def val_dataloader(self):
        return DataLoader(regression(seed=1), **self.loader)


def configured() -> dict:
    """Return the settings with the command line's overrides."""
    config = yaml.safe_load((Path(__file__).parent / "conf.yaml").read_text())
    for override in sys.argv[1:]:
        path, _, value = override.partition("=")
        *groups, last = path.split(".")
        place = config
        for group in groups:
            place = place[group]
        place[last] = type(place[last])(value)
    return config


if __name__ == "__main__":
    cfg = configured()
    L.seed_everything(cfg["seed"])
    trainer = L.Trainer(**cfg["trainer"], callbacks=[L.pytorch.callbacks.ModelCheckpoint(monitor="val/mse")])
    trainer.fit(LitModel(cfg["model"], cfg["optim"]), datamodule=LitData(cfg["data"]))
