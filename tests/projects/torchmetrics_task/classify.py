"""A classifier that logs torchmetrics objects; accuracy is what counts."""

import lightning as L
import torch
import torchmetrics
from parts import Recorder
from torch.utils.data import DataLoader, TensorDataset


def points(num_samples: int, seed: int) -> TensorDataset:
    x = torch.randn(num_samples, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] + x[:, 1] > 0).long())


class Classifier(Recorder, L.LightningModule):
    def __init__(self, lr: float = 0.1, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        self.train_acc = torchmetrics.Accuracy("multiclass", num_classes=2)
        self.val_acc = torchmetrics.Accuracy("multiclass", num_classes=2)

    def step(self, batch, accuracy, name):
        logits = self.net(batch[0])
        accuracy(logits, batch[1])
        self.log(name, accuracy, on_epoch=True, on_step=False)
        return torch.nn.functional.cross_entropy(logits, batch[1])

    def training_step(self, batch, batch_idx):
        return self.step(batch, self.train_acc, "train/acc")

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.step(batch, self.val_acc, "val/acc"))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)


class Points(L.LightningDataModule):
    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()

    def prepare_data(self) -> None:
        self.prepared = True

    def setup(self, stage: str) -> None:
        self.train, self.val = points(96, 0), points(96, 1)

    def train_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val, 32)
