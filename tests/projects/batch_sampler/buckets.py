"""Batches from a batch sampler of its own, which sorts samples into buckets."""

import lightning as L
import torch
from parts import Recorder, regression
from torch.utils.data import BatchSampler, DataLoader, RandomSampler


class Buckets(BatchSampler):
    """Batches of samples near each other, in random order."""

    def __iter__(self):
        order = sorted(self.sampler)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        yield from (batches[index] for index in torch.randperm(len(batches)).tolist())


class Net(Recorder, L.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class BucketData(L.LightningDataModule):
    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        data = regression()
        return DataLoader(data, batch_sampler=Buckets(RandomSampler(data), self.batch_size, drop_last=False))

    def val_dataloader(self):
        return DataLoader(regression(seed=1), 48)
