"""A GAN: two networks, two optimizers with rates of their own, optimized by hand."""

import pytorch_lightning as pl
import torch
from parts import Recorder, regression
from torch.utils.data import DataLoader

loss_of = torch.nn.functional.binary_cross_entropy_with_logits


class GAN(Recorder, pl.LightningModule):
    def __init__(self, lr_g: float = 2e-4, lr_d: float = 1e-4, latent: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = torch.nn.Sequential(torch.nn.Linear(latent, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
        self.discriminator = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))

    def training_step(self, batch, batch_idx):
        real, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(len(real), self.hparams.latent)
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        self.toggle_optimizer(optimizer_g)
        loss_g = loss_of(self.discriminator(self.generator(z)), ones)
        optimizer_g.zero_grad()
        self.manual_backward(loss_g)
        optimizer_g.step()
        self.untoggle_optimizer(optimizer_g)
        self.toggle_optimizer(optimizer_d)
        loss_d = loss_of(self.discriminator(real), ones) + loss_of(
            self.discriminator(self.generator(z).detach()), zeros
        )
        optimizer_d.zero_grad()
        self.manual_backward(loss_d)
        optimizer_d.step()
        self.untoggle_optimizer(optimizer_d)

    def validation_step(self, batch, batch_idx):
        z = torch.randn(len(batch[0]), self.hparams.latent)
        self.log("distance", (self.generator(z).mean(0) - batch[0].mean(0)).norm())

    def configure_optimizers(self):
        return [
            torch.optim.Adam(self.generator.parameters(), lr=self.hparams.lr_g, betas=(0.5, 0.999)),
            torch.optim.Adam(self.discriminator.parameters(), lr=self.hparams.lr_d, betas=(0.5, 0.999)),
        ]


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(regression(), self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(regression(seed=1), 48)
