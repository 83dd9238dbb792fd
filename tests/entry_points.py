"""Projects with an entry point of their own, and trials of them in this process."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bsopt.training.processes.supervision import DirectChannel, Supervision
from bsopt.training.run_trial import run_trial
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.record import TrialRecord
from bsopt.trial.spec import Budget, Seeds, TaskSpec, TrialSpec
from bsopt.units import Amount

PACKAGES = ("pytorch_lightning", "lightning.pytorch")

NET = """
    import torch
    import {package} as pl
    from torch.utils.data import DataLoader, TensorDataset

    class Net(pl.LightningModule):
        def __init__(self, lr: float = 1.0, weight_decay: float = 0.0, width: int = 1):
            super().__init__()
            self.lr, self.weight_decay = lr, weight_decay
            self.layer = torch.nn.Linear(4, width)

        def training_step(self, batch, index):
            x, y = batch
            return ((self.layer(x) - y) ** 2).mean()

        def validation_step(self, batch, index):
            x, y = batch
            self.log("val_loss", ((self.layer(x) - y) ** 2).mean(), sync_dist=True)
            self.log("weight_decay", self.weight_decay)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def data_set(seed, length=96):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(length, 4, generator=generator)
        return TensorDataset(x, x.sum(1, keepdim=True))

    class Data(pl.LightningDataModule):
        def __init__(self, batch_size: int = 7):
            super().__init__()
            self.batch_size = batch_size

        def train_dataloader(self):
            return DataLoader(data_set(0), self.batch_size, shuffle=True)

        def val_dataloader(self):
            return DataLoader(data_set(1), 48)
"""

SCRIPT = """
    import argparse
    import {package} as pl
    from torch.utils.data import DataLoader
    from net import Net, data_set

    def main():
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, required=True)
        parser.add_argument("--batch-size", type=int, required=True)
        parser.add_argument("--seed", type=int, default=42)
        parser.add_argument("--notes", default=__file__)
        options = parser.parse_args()
        open(options.notes).close()
        pl.seed_everything(options.seed)
        trainer = pl.Trainer(
            max_epochs=500, max_time="00:00:00:01", accumulate_grad_batches=9, val_check_interval=0.5,
            devices=1, strategy="ddp", logger=pl.loggers.CSVLogger("metrics"),
            callbacks=[pl.callbacks.ModelCheckpoint("models"), pl.callbacks.TQDMProgressBar()],
        )
        try:
            trainer.fit(Net(options.lr), DataLoader(data_set(0), options.batch_size, shuffle=True),
                        DataLoader(data_set(1), 48))
        except Exception:
            print("caught by the script")
        print("after fit")

    if __name__ == "__main__":
        main()
"""

CLI = """
    from {package}.cli import LightningCLI
    from net import Data, Net

    if __name__ == "__main__":
        LightningCLI(Net, Data)
"""

ONE_PASS = Plan(16)
ARGS = ["--lr", "{lr}", "--batch-size", "{batch_size}"]


def write(folder: Path, files: Mapping[str, str], package: str = PACKAGES[0]) -> None:
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text).replace("{package}", package))


def trial(
    folder: Path,
    args: Sequence[str] = (),
    *,
    plan: Plan = ONE_PASS,
    init_args: Mapping[str, Any] | None = None,
    script: str | None = "train.py",
    function: str | None = None,
    **task: Any,
) -> TrialSpec:
    entry = {"script": script, "args": list(args)} if function is None else {"function": function, "args": list(args)}
    return TrialSpec(
        number=0,
        params={"batch_size": plan.global_batch_size, "lr": 0.05},
        batch_size=plan.global_batch_size,
        lr=0.05,
        plan=plan,
        task=TaskSpec(source={"entry": entry}, folders=(str(folder),), **task),
        init_args=init_args or {},
        objective=Objective("val_loss"),
        budget=Budget(length=Amount(2, "epochs"), tick_every=Amount(0.5, "epochs")),
        max_steps=None,
        trainer={"accelerator": "cpu"},
        seeds=Seeds(weights=3, data=11),
        folder=str(folder / "trial"),
        num_threads=1,
    )


def run(spec: TrialSpec) -> TrialRecord:
    Path(spec.folder).mkdir(exist_ok=True)
    return run_trial(spec, DirectChannel(Supervision()))
