"""`bsopt.measure_lr`: where the learning rate of any Lightning module lives, in its user's own process."""

from __future__ import annotations

import copy
import functools
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from bsopt.analysis.isolation import untouched_random_state
from bsopt.errors import ConfigError, TaskError
from bsopt.laws.lr_ladder import LONG, MeasuredLr, Rung, climb, first_rate, measured_lr
from bsopt.training.ladder.rung import HeldRate, trained_rung
from bsopt.training.lightning_internals import NEVER, quietly
from bsopt.training.task import injection
from bsopt.training.task.build import common_package, is_data_module
from bsopt.training.task.ready import keep_nothing
from bsopt.training.task.sizes import batch_sizes_of, leaves_of
from bsopt.units import format_number, in_words

__all__ = ["measure_lr"]


def measure_lr(
    module: Any,
    data: Any = None,
    *,
    batch_size: int | None = None,
    training_steps: int | None = None,
    decays_to_end: bool | None = None,
    num_steps: int = LONG,
    seed: int = 0,
    accelerator: str = "auto",
    precision: str | int = "32-true",
    clock: Callable[[], float] = time.monotonic,
) -> MeasuredLr:
    """Return where the best learning rate of a Lightning module is to be expected, from a few steps at each of some.

    From the weights that the module has, six or more rates a factor of 4 apart are each trained for `num_steps` steps
    on the same batches; schedules and warm-up are held off. The rate with the lowest loss, moved to the length of
    the whole training, is what comes back (`bsopt.laws.lr_ladder` has the formula and where it comes from).

    Copies of the module are trained, so that its weights, buffers and metrics stay as they are, bit for bit; so do
    the random numbers of Python, NumPy and PyTorch. Nothing is logged and no checkpoint is written. The first
    parameter group has the rate that is told, the others keep their ratio to it.

    Args:
        module: A LightningModule of pytorch_lightning or lightning.pytorch, with one optimizer.
        data: A LightningDataModule, a DataLoader or anything else that Trainer.fit trains on; None where the module
            has a `train_dataloader` of its own.
        batch_size: Samples of a step; None for what the data bring. A DataLoader is made anew with it; a data module
            (or the module, where it brings its own data) needs an attribute or hyperparameter `batch_size`.
        training_steps: Optimizer steps of the whole training at this batch size; None for as many as a rung has.
        decays_to_end: Whether that training's rate decays to the end; None to look at the module's schedulers.
        num_steps: Steps of a rung; below 60 the answer is less sure.
        seed: Of data order and dropout, the same for every rate.
        accelerator: The Trainer's argument of that name; one device is used.
        precision: The Trainer's.
        clock: Monotonic seconds.

    Raises:
        ConfigError: A number is out of range.
        TaskError: The module can't be copied or trained, has several optimizers or returns no loss, the batch size
            can't be set, or no rate lowers the loss.

    Example:
        measured = bsopt.measure_lr(Net(), Data(), batch_size=32, training_steps=2000)
        print(measured)  # 0.03 at batch size 32, within a factor of 3, in 4.0 s
        sampler = bsopt.ScalingSampler(optimizer="sgd", reference=measured.reference)
    """
    for name, number in (("batch_size", batch_size), ("training_steps", training_steps), ("num_steps", num_steps)):
        if number is not None and not number >= 1:
            raise ConfigError(f"{name} must be at least 1, got {number!r}.")
    package = common_package(module, data)
    began = clock()
    settings = {"accelerator": accelerator, "precision": precision}
    with quietly(), untouched_random_state(seed=seed, device=_device()), _resized(data, batch_size) as source:
        fits = _Fits(module, source, package, settings, batch_size)
        first = HeldRate(num_steps=0, seed=seed, at_start=fits.see)
        fits.fit(first)

        def try_rate(lr: float) -> Rung:
            held = HeldRate(num_steps=num_steps, seed=seed, lr=lr, at_start=fits.see)
            return trained_rung(lr, held, lambda: fits.fit(held))

        rungs = climb(try_rate, start=first_rate(first.optimizer))
    found = measured_lr(
        rungs,
        batch_size=batch_size or fits.batch_size,
        num_steps=num_steps,
        training_steps=training_steps or num_steps,
        decays_to_end=first.decays if decays_to_end is None else decays_to_end,
        seconds=clock() - began,
    )
    if found is None:
        tried = f"{format_number(rungs[0].lr, digits=2)} to {format_number(rungs[-1].lr, digits=2)}"
        raise TaskError(f"no learning rate from {tried} lowered the training loss in {num_steps} steps.")
    return found


class _Fits:
    """Trains copies of a module."""

    def __init__(
        self, module: Any, source: Any, package: str, settings: Mapping[str, Any], batch_size: int | None
    ) -> None:
        self._module = module
        self._source = source
        self._trainer = importlib.import_module(package).Trainer
        self._settings = settings
        self._asked = batch_size
        self.batch_size = batch_size or 1

    def fit(self, held: HeldRate) -> None:
        """Train a fresh copy under a callback."""
        module = _copy_of(self._module)
        module.configure_callbacks = list  # checkpoints and early stops of the module's own
        if self._source is None and self._asked is not None:
            injection.set_attribute(module, _batch_size_path(module), self._asked)
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(
                callbacks=[held],
                max_epochs=-1,
                max_steps=max(held.num_steps, 1),
                limit_val_batches=1,
                num_sanity_val_steps=0,
                check_val_every_n_epoch=None,
                val_check_interval=NEVER,
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
                **self._settings,
            )
            keep_nothing(trainer)
            data = {"datamodule" if is_data_module(self._source) else "train_dataloaders": self._source}
            trainer.fit(module, **data)

    def see(self, trainer: Any) -> None:
        """Check that the batch size asked for is in use, or see which one is."""
        sizes = batch_sizes_of(trainer.train_dataloader)
        if self._asked is None and not sizes:
            raise TaskError("the batch size of the data can't be told: give it as batch_size=.")
        if self._asked is not None and sizes and self._asked not in sizes:
            raise TaskError(
                f"asked for batch size {self._asked}, but the training loader has {in_words(sizes)}: use the "
                "attribute batch_size in train_dataloader, or give a DataLoader as data."
            )
        self.batch_size = self._asked or max(sizes)


def _copy_of(module: Any) -> Any:
    try:
        return copy.deepcopy(module)
    except Exception as error:  # whatever the module holds: a lock, an open file, a tensor with a graph
        raise TaskError(
            f"the module can't be copied, and copies are what is trained here: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _resized(data: Any, batch_size: int | None) -> Iterator[Any]:
    """Yield data that come in batches of a size, and leave them as they were."""
    if is_data_module(data):
        before = {"trainer": data.trainer}
        if batch_size is not None:
            path = _batch_size_path(data)
            before[path] = functools.reduce(getattr, path.split("."), data)
            injection.set_attribute(data, path, batch_size)
        try:
            yield data
        finally:
            for path, value in before.items():
                injection.set_attribute(data, path, value)
        return
    generators = [g for leaf in leaves_of(data) if (g := getattr(leaf, "generator", None)) is not None]
    states = [generator.get_state() for generator in generators]
    try:
        yield data if batch_size is None or data is None else _made_anew(data, batch_size)
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _batch_size_path(owner: Any) -> str:
    for path in ("batch_size", "hparams.batch_size"):
        if injection.has_attribute(owner, path):
            return path
    raise TaskError(
        f"{type(owner).__name__} has no attribute batch_size to set: build it with the batch size that is wanted and "
        "leave batch_size= out, or give a DataLoader as data."
    )


def _made_anew(data: Any, batch_size: int) -> Any:
    """Return loaders like the given ones that have another batch size."""
    if isinstance(data, Mapping):
        return {name: _made_anew(part, batch_size) for name, part in data.items()}
    if isinstance(data, (list, tuple)):
        return [_made_anew(part, batch_size) for part in data]
    if batch_sizes_of(data) == [batch_size]:
        return data
    if type(data) is not DataLoader or data.batch_size is None:
        raise TaskError(
            f"the batch size of {type(data).__name__} can't be changed: build it with the batch size that is wanted "
            "and leave batch_size= out."
        )
    names = ["num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn", "generator"]
    names += ["multiprocessing_context", "persistent_workers"] + ["prefetch_factor"] * (data.num_workers > 0)
    same: dict[str, Any] = {name: getattr(data, name) for name in names}
    if not isinstance(data.dataset, IterableDataset):
        same["sampler"] = data.sampler
    return DataLoader(data.dataset, batch_size, **same)


def _device() -> torch.device | None:
    """Return the accelerator whose random numbers training may draw."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
