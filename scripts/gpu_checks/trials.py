"""Trials for the rows: residual networks on made images, as a study would hand them to their processes."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bsopt.training.processes.launcher import Launcher
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.objective import Objective
from bsopt.trial.plan import Plan
from bsopt.trial.spec import Budget, Seeds, TaskSpec, TrialSpec
from bsopt.units import Amount
from gpu_checks.driver import ROOT, Place

__all__ = ["WATCHED", "CompiledNet", "MadeImages", "Net", "launcher", "make_spec", "sized", "take_only"]

WATCHED = Supervision(stall_seconds=120.0)
FRACTION, FAKE = "BSOPT_CHECK_FRACTION", "BSOPT_CHECK_FAKE_UNITS"
Batch = tuple[Tensor, Tensor]


def study_module(study: str, name: str) -> ModuleType:
    """Import a file of an example study under a name of its own."""
    full = f"{study}_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, ROOT / "studies" / study / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


Net: Any = study_module("resnet_cifar", "model").ResNet


class CompiledNet(Net):
    """The network with a compiled forward pass, of any batch size."""

    _compiled: Any = None

    def forward(self, images: Tensor) -> Tensor:
        if self._compiled is None:
            object.__setattr__(self, "_compiled", torch.compile(super().forward, dynamic=True))
        return self._compiled(images)


class _Whole(Dataset[Batch]):
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        return self.images[chosen], self.labels[chosen]


class MadeImages(pl.LightningDataModule):
    """Images of ten classes, each a pattern of its own under noise, as bytes in memory; a skew favours the first."""

    def __init__(
        self,
        batch_size: int = 64,
        num_train: int = 4096,
        side: int = 32,
        skew: float = 1.0,
        pin_memory: bool = True,
    ) -> None:
        super().__init__()
        _take_the_share()
        self.batch_size, self.num_train, self.side = batch_size, num_train, side
        self.skew = skew
        self.pin_memory = pin_memory and torch.cuda.is_available()

    def setup(self, stage: str | None = None) -> None:
        self.train_set, self.val_set = self._made(self.num_train, 0), self._made(256, 1)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(
            self.train_set, self.batch_size, shuffle=True, pin_memory=self.pin_memory, collate_fn=tuple, drop_last=True
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.val_set, min(256, self.batch_size), collate_fn=tuple)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = batch
        return images.float().div_(255).sub_(0.5), labels

    def _made(self, count: int, seed: int) -> _Whole:
        shape = (3, self.side, self.side)
        patterns = torch.randint(0, 64, (10, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
        generator = torch.Generator().manual_seed(seed)
        labels = (10 * torch.rand(count, generator=generator) ** self.skew).long()
        noise = torch.randint(0, 192, (count, *shape), dtype=torch.uint8, generator=generator)
        return _Whole(noise + patterns[labels], labels)


@functools.cache
def launcher() -> Launcher:
    """Return what starts processes for trials; one for each row."""
    return Launcher()


def make_spec(
    place: Place,
    plan: Plan,
    *,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    compiled: bool = False,
    trainer: Mapping[str, Any] | None = None,
    length: Amount | None = None,
    number: int = 0,
    lr: float = 0.05,
) -> TrialSpec:
    """Return a trial of the network on a place's device.

    Args:
        place: Where.
        plan: Its batch size.
        model: The network's arguments.
        data: The images' arguments.
        compiled: Whether the forward pass is compiled.
        trainer: The Trainer's arguments.
        length: One epoch by default.
        number: The trial's.
        lr: Learning rate.
    """
    network = {"network": "resnet8" if place.small or place.device != "cuda" else "resnet18", **(model or {})}
    images = {"side": 32 if place.device == "cuda" else 8, **(data or {})}
    source = {
        "model": {"class_path": f"gpu_checks.trials.{'CompiledNet' if compiled else 'Net'}", "init_args": network},
        "data": {"class_path": "gpu_checks.trials.MadeImages", "init_args": images},
    }
    length = length or Amount(1.0, "epochs")
    return TrialSpec(
        number=number,
        params={"batch_size": plan.global_batch_size, "lr": lr},
        batch_size=plan.global_batch_size,
        lr=lr,
        plan=plan,
        task=TaskSpec(source, (str(ROOT / "scripts"),)),
        init_args={},
        objective=Objective("val_loss"),
        budget=Budget(length, Amount(1.0, "epochs")),
        max_steps=int(length.value) if length.unit == "steps" else None,
        trainer={"accelerator": "gpu" if place.device == "cuda" else "cpu", **(trainer or {})},
        seeds=Seeds(0, number + 1),
        folder=str(Path(place.folder) / "trials" / f"{number:04d}"),
        num_threads=1 if place.device != "cuda" else None,
    )


def sized(spec: TrialSpec, micro_batch_size: int) -> TrialSpec:
    """Return the trial at another micro-batch."""
    plan = replace(spec.plan, micro_batch_size=micro_batch_size)
    return replace(spec, plan=plan, batch_size=plan.global_batch_size)


def take_only(*, fraction: float | None = None, fake_units: int | None = None) -> None:
    """Have the trials that this process starts use only a share of the GPU, or a fake one of so many units."""
    for name, value in ((FRACTION, fraction), (FAKE, fake_units)):
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = str(value)


_taken: list[str] = []


def _take_the_share() -> None:
    if _taken:
        return
    if os.environ.get(FAKE):
        import fake_gpu

        _taken.append(FAKE)
        fake_gpu.install(int(os.environ[FAKE]) * fake_gpu.UNIT)
    elif os.environ.get(FRACTION) and torch.cuda.is_available():
        _taken.append(FRACTION)
        torch.cuda.set_per_process_memory_fraction(float(os.environ[FRACTION]))
