"""A user's project in miniature: a linear regression that trains in milliseconds, and can be made to misbehave."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsing import browser, chrome  # noqa: F401 - fixtures
from hypothesis import HealthCheck, settings

os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"  # Lightning's CLI uses what jsonargparse has deprecated

# The same examples on every machine, however slow: a test that fails must fail again.
settings.register_profile(
    "bsopt", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("bsopt")


@pytest.fixture(autouse=True)
def heeded_signals() -> Iterator[None]:
    """Let no signal be ignored, as it is under `nohup`, or once a test imported the fork server's preload."""
    numbers = [getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


MODEL = '''
import errno, os, signal, sys, time
import torch
import {package} as pl
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


def samples(n):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 4, generator=generator)
    return TensorDataset(x, x @ torch.tensor([1.0, -2.0, 3.0, 0.5]).unsqueeze(1))


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Stream(IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter([self.data[i] for i in range(len(self.data))])


class Toy(pl.LightningModule):
    """trouble: what goes wrong, and when: "what" or "what@epoch"; "manual@n" steps every n batches."""

    def __init__(self, lr=0.1, momentum=0.0, trouble="", schedule="", width=0, monitor="val_loss"):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(4, 1)
        self.keep = lambda x: x  # makes the module unpicklable
        self.ballast = torch.nn.Linear(4, width) if width else None
        self.trouble, _, when = trouble.partition("@")
        self.when = int(when or 0)
        if self.trouble == "manual":
            self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.misbehave()
        if self.trouble == "small" and len(x) > 4:
            raise RuntimeError("at most 4 samples fit into the cache")
        loss = torch.nn.functional.mse_loss(self.net(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        if self.trouble == "manual":
            optimizer = self.optimizers()
            self.manual_backward(loss)
            if (batch_idx + 1) % max(1, self.when) == 0:
                optimizer.step()
                optimizer.zero_grad()
        return loss

    def misbehave(self):
        if not self.trouble or self.current_epoch < self.when:
            return
        rank = self.global_rank
        if self.trouble == "hang":
            time.sleep(1000)
        elif self.trouble == "stuck":
            import ctypes
            ctypes.PyDLL(None).sleep(1000)  # in C, and no other thread of the interpreter runs
        elif self.trouble == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.trouble == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.trouble == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        elif self.trouble == "rank1" and rank == 1:
            os._exit(3)
        elif self.trouble == "raise":
            raise RuntimeError("the user's code is broken")
        elif self.trouble == "exit":
            raise SystemExit(4)
        elif self.trouble == "full" and not os.path.exists("space"):
            raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
        elif self.trouble == "mute":
            raise Mute
        elif self.trouble == "closed":
            sys.stdout.close()
            sys.stderr.close()

    def validation_step(self, batch, batch_idx):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.net(x), y)
        if self.trouble == "nan" and self.current_epoch >= self.when:
            loss = loss * float("nan")
        if self.trouble == "no_sync":
            loss = torch.tensor(float(1 + self.global_rank))
        if self.trouble != "unlogged":
            self.log("val_loss", loss)
        self.log("val_mae", (self.net(x) - y).abs().mean())

    def on_fit_end(self):
        if self.trouble == "late":
            raise ConnectionError("the server of the project's logger is gone")

    def configure_optimizers(self):
        rate = 0.123 if self.trouble == "deaf" else self.hparams.lr
        optimizer = torch.optim.SGD(self.parameters(), lr=rate, momentum=self.hparams.momentum)
        if self.hparams.schedule == "onecycle":
            steps = self.trainer.estimated_stepping_batches
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=int(steps))
            return [optimizer], [dict(scheduler=scheduler, interval="step")]
        if self.hparams.schedule == "multistep":
            return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2])]
        if self.hparams.schedule == "plateau":
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return dict(optimizer=optimizer, lr_scheduler=dict(scheduler=scheduler, monitor="val_loss"))
        return optimizer


class ToyData(pl.LightningDataModule):
    def __init__(self, batch_size=8, n=96, drop_last=False, sized=True, num_workers=0, deaf=False, shuffle=True):
        super().__init__()
        self.batch_size, self.n, self.drop_last, self.sized = batch_size, n, drop_last, sized
        self.num_workers, self.deaf, self.shuffle = num_workers, deaf, shuffle
        self.transform = lambda x: x

    def train_dataloader(self):
        data = samples(self.n)
        size = 5 if self.deaf else self.batch_size
        if not self.sized:
            return DataLoader(Stream(data), batch_size=size)
        if not self.shuffle and torch.distributed.is_initialized():  # Lightning's own sampler shuffles always
            sampler = torch.utils.data.DistributedSampler(data, shuffle=False)
            return DataLoader(data, size, sampler=sampler)
        return DataLoader(data, size, shuffle=self.shuffle, drop_last=self.drop_last, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(samples(32), batch_size=16)


class NoLr(Toy):
    def __init__(self, momentum=0.0):
        super().__init__(momentum=momentum)


def build(lr, batch_size):
    return Toy(lr=lr), ToyData(batch_size=batch_size)


def build_without_arguments():
    return Toy(), ToyData()
'''

STUDY = """
name: toy
task:
  model: {class_path: toy.Toy}
  data: {class_path: toy.ToyData}
search:
  batch_size: {low: 4, high: 32}
  lr: {low: 0.001, high: 0.3, reference: {batch_size: 8, lr: 0.05}}
budget: {trials: 4, epochs: 3}
pruning: none
trainer: {accelerator: cpu}
"""


@pytest.fixture(params=["pytorch_lightning"])
def package(request: pytest.FixtureRequest) -> str:
    """The Lightning package that the project uses; tests of both parametrize it indirectly."""
    return str(request.param)


@pytest.fixture(scope="session")
def write_project() -> Callable[[Path, str], None]:
    """Return a function that writes `toy.py` and `study.yaml` into a folder."""

    def write(folder: Path, package: str) -> None:
        (folder / "toy.py").write_text(MODEL.replace("{package}", package))
        (folder / "study.yaml").write_text(STUDY)

    return write


@pytest.fixture
def project(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch, write_project: Callable[[Path, str], None]
) -> Path:
    """Return a folder with `toy.py` and `study.yaml`, which is the working folder, too."""
    write_project(tmp_path, package)
    monkeypatch.chdir(tmp_path)
    return tmp_path
