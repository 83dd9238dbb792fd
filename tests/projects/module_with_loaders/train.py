"""A module that has its own loaders and takes everything from saved hyperparameters; callbacks average its weights."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from parts import Recorder, regression
from torch.utils.data import DataLoader


class EMA(Callback):
    """Keeps an exponential average of the weights and validates it."""

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay

    def on_fit_start(self, trainer, pl_module) -> None:
        self.average = {name: value.clone() for name, value in pl_module.state_dict().items()}

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        for name, value in pl_module.state_dict().items():
            self.average[name].lerp_(value, 1 - self.decay)


class AllInOne(Recorder, pl.LightningModule):
    def __init__(self, lr: float = 0.1, batch_size: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)}

    def train_dataloader(self):
        return DataLoader(regression(), self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(regression(seed=1), self.hparams.batch_size)


if __name__ == "__main__":
    pl.seed_everything(3, workers=True)
    callbacks = [EMA(), EarlyStopping("val_loss", patience=99), LearningRateMonitor(), ModelCheckpoint(save_last=True)]
    trainer = pl.Trainer(max_epochs=200, callbacks=callbacks, deterministic=True, gradient_clip_val=0.5)
    trainer.fit(AllInOne())
    trainer.test(ckpt_path="best")
