"""argparse, loaders made in main(), and a schedule that the script computes itself."""

import argparse

import pytorch_lightning as pl
import torch
from parts import Recorder, regression
from torch.utils.data import DataLoader


class Net(Recorder, pl.LightningModule):
    def __init__(self, lr: float, total_steps: int) -> None:
        super().__init__()
        self.lr, self.planned = lr, total_steps
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / self.planned))
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    train = DataLoader(regression(), options.batch_size, shuffle=True)
    total = len(train) * options.epochs // options.accumulate // options.devices
    trainer = pl.Trainer(max_epochs=options.epochs, accumulate_grad_batches=options.accumulate, devices=options.devices)
    trainer.fit(Net(options.lr, total), train, DataLoader(regression(seed=1), 48))
    trainer.validate(ckpt_path="best")


if __name__ == "__main__":
    main()
