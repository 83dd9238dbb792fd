"""The rate is set by hand at every step: a warm-up, then a cosine over what the Trainer says that it will train."""

import argparse
import math

import pytorch_lightning as pl
import torch
from parts import Recorder, regression
from torch.utils.data import DataLoader


class Net(Recorder, pl.LightningModule):
    def __init__(self, args) -> None:
        super().__init__()
        self.save_hyperparameters(args)
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.base_lr, momentum=0.9)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        self.planned = int(self.trainer.estimated_stepping_batches)
        done = self.trainer.global_step / self.planned
        factor = 10 * done if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))
        for group in optimizer.param_groups:
            group["lr"] = self.hparams.base_lr * factor
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


def run(args) -> None:
    trainer = pl.Trainer(max_epochs=args.epochs)
    train = DataLoader(regression(), args.bs, shuffle=True)
    trainer.fit(Net(args), train, DataLoader(regression(seed=1), 48))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--base_lr", type=float, default=0.1)
    parser.add_argument("--bs", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=70)
    run(parser.parse_args())
