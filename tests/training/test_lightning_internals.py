"""Pins what bsopt touches in a Trainer that Lightning doesn't document."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.distributed import DistributedSamplerWrapper
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, TensorDataset, WeightedRandomSampler

from bsopt.training.lightning_internals import (
    NEVER,
    batches_done,
    combination_of,
    end_at_sigterm,
    lift_step_limit,
    quiet_lightning,
    validate_after_this_batch,
    validate_never,
)
from bsopt.training.task.sizes import num_batches_of, num_samples_of


class Net(pl.LightningModule):
    def __init__(self, *, on_start: Callable[[Any], None], on_batch: Callable[[Any, int], None]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.on_start, self.on_batch = on_start, on_batch
        self.validated_at: list[int] = []
        self.last = -1

    def on_train_start(self) -> None:
        self.on_start(self.trainer)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.last = batch_idx
        return (self.weight * batch[0]).sum()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.on_batch(self.trainer, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated_at.append(self.last)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def _fit(net: Net, *, ckpt_path: Path | None = None, **arguments: Any) -> pl.Trainer:
    quiet_lightning()
    trainer = pl.Trainer(
        accelerator="cpu",
        check_val_every_n_epoch=None,
        val_check_interval=NEVER,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    data = DataLoader(TensorDataset(torch.ones(8, 1)))
    trainer.fit(net, data, DataLoader(TensorDataset(torch.ones(1, 1))), ckpt_path=ckpt_path)
    return trainer


def nothing(*_: Any) -> None:
    """Do nothing."""


def test_lightning_validates_after_the_batches_that_are_asked_for() -> None:
    def ask(trainer: Any, batch_idx: int) -> None:
        (validate_after_this_batch if batch_idx in (2, 5) else validate_never)(trainer)

    net = Net(on_start=nothing, on_batch=ask)
    _fit(net, max_epochs=1)
    assert net.validated_at == [2, 5]


def test_batches_are_counted_on_where_a_run_goes_on(tmp_path: Path) -> None:
    seen: list[int] = []
    net = Net(on_start=lambda trainer: seen.append(batches_done(trainer)), on_batch=nothing)
    _fit(net, max_epochs=1).save_checkpoint(tmp_path / "run.ckpt")
    _fit(net, max_epochs=2, ckpt_path=tmp_path / "run.ckpt")
    assert seen == [0, 8]


def test_sigterm_ends_the_process_although_lightning_has_a_handler() -> None:
    handlers: list[Any] = []

    def ask(trainer: Any, batch_idx: int) -> None:
        handlers.append(signal.getsignal(signal.SIGTERM))

    _fit(Net(on_start=nothing, on_batch=ask), max_epochs=1)
    _fit(Net(on_start=lambda _: end_at_sigterm(), on_batch=ask), max_epochs=1)
    assert signal.SIG_DFL not in handlers[:8]
    assert set(handlers[8:]) == {signal.SIG_DFL}


@pytest.mark.parametrize(("start", "steps"), [(lift_step_limit, 16), (nothing, 5)])
def test_a_lifted_step_limit_no_longer_ends_training(start: Callable[[Any], None], steps: int) -> None:
    assert _fit(Net(on_start=start, on_batch=nothing), max_epochs=2, max_steps=5).global_step == steps


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_how_a_combined_loader_goes_through_its_loaders_is_known() -> None:
    short, long = DataLoader(TensorDataset(torch.ones(8, 1)), 2), DataLoader(TensorDataset(torch.ones(12, 1)), 2)
    for mode, samples, batches in (("min_size", 8, 4), ("max_size_cycle", 12, 6), ("sequential", 20, 10)):
        combined = CombinedLoader({"short": short, "long": long}, mode)
        assert combination_of(combined) == mode
        assert (num_samples_of(combined), num_batches_of(combined)) == (samples, batches)
    assert (num_samples_of([short, long]), num_batches_of({"a": short})) == (12, 4)
    assert combination_of(short) is None


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epoch_has_the_samples_that_its_sampler_draws(ranks: int) -> None:
    data = TensorDataset(torch.ones(100, 1))
    drawn = WeightedRandomSampler([1.0] * 100, 20)
    wrapped = DistributedSamplerWrapper(drawn, num_replicas=ranks, rank=0) if ranks > 1 else drawn
    assert num_samples_of(DataLoader(data, 5, sampler=wrapped)) == 20
    assert num_samples_of(DataLoader(data, batch_sampler=BatchSampler(drawn, 5, drop_last=False))) == 20
    assert num_samples_of(DataLoader(data, 5, sampler=DistributedSampler(data, num_replicas=ranks, rank=0))) == 100
    assert num_samples_of(DataLoader(data, 5, shuffle=True)) == 100
