"""Fine-tuning in the style of transformers: dict batches, training arguments, undecayed biases, warm-up."""

import argparse

import pytorch_lightning as pl
import torch
from parts import Recorder, regression
from torch.utils.data import DataLoader


def collate(samples):
    x, y = zip(*samples, strict=True)
    return {"input_ids": torch.stack(x), "labels": torch.stack(y)}


def linear_schedule_with_warmup(optimizer, num_warmup_steps, num_training_steps):
    def factor(step):
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class FineTuning(Recorder, pl.LightningModule):
    def __init__(self, learning_rate: float, weight_decay: float, warmup_steps: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 1))

    def loss(self, batch):
        return torch.nn.functional.mse_loss(self.model(batch["input_ids"]), batch["labels"])

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return {"loss": loss}

    def validation_step(self, batch, batch_idx):
        self.log("eval/loss", self.loss(batch), sync_dist=True)

    def configure_optimizers(self):
        decayed = [p for p in self.parameters() if p.ndim > 1]
        rest = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.hparams.weight_decay}, {"params": rest, "weight_decay": 0}]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.learning_rate)
        self.planned = int(self.trainer.estimated_stepping_batches)
        scheduler = linear_schedule_with_warmup(optimizer, self.hparams.warmup_steps, self.planned)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--per_device_train_batch_size", type=int, default=8)
    parser.add_argument("--num_train_epochs", type=int, default=3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--warmup_steps", type=int, default=2)
    args = parser.parse_args()
    trainer = pl.Trainer(max_epochs=args.num_train_epochs, gradient_clip_val=1.0, accelerator="auto", devices="auto")
    trainer.fit(
        FineTuning(args.learning_rate, args.weight_decay, args.warmup_steps),
        DataLoader(regression(), args.per_device_train_batch_size, shuffle=True, collate_fn=collate),
        DataLoader(regression(seed=1), 48, collate_fn=collate),
    )
