"""Gradients of single samples, by running the user's `training_step` on a shadow of the module.

The shadow shares the trained parameters and copies what a step may change. Random state, loggers and the Trainer's
`should_stop` are put back, `log` does nothing, `.grad` isn't touched. So the training run is the same with and without
the measurement.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from bsopt.callbacks._batches import num_samples, select_samples, sizes_by_loader
from bsopt.callbacks._norms import sq_norm
from bsopt.callbacks._shadow import Shadows
from bsopt.errors import TaskError
from bsopt.units import in_words

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["gradient_sq_norms", "optimized_parameters"]

_INSTEAD = " Set accumulate_grad_batches to 2 or more instead: micro-batches give the noise scale without that."


def optimized_parameters(trainer: Trainer) -> list[Tensor]:
    """Return the parameters that get gradients and are zeroed before each update: those that an optimizer holds."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    found = {id(p): p for group in groups for p in group["params"] if p.requires_grad and not is_lazy(p)}
    return list(found.values())


def gradient_sq_norms(
    trainer: Trainer,
    module: LightningModule,
    *,
    batch: object,
    batch_idx: int,
    parts: Sequence[Tensor],
    loss_scale: float = 1.0,
) -> list[float]:
    """Return the squared gradient norm of the training loss on each part of a batch, without the loss scale.

    Costs a forward and a backward pass per part.

    Args:
        trainer: The running Trainer, for its precision.
        module: The user's module.
        batch: The whole batch.
        batch_idx: Passed to `training_step`.
        parts: The numbers of each part's samples.
        loss_scale: Multiplies the loss before the backward pass, so that half-precision gradients don't vanish.

    Raises:
        TaskError: A batch can't be taken apart, or `training_step` or its gradient fails on a part, whatever it raises.
    """
    if len(sizes := set(sizes_by_loader(trainer, batch))) > 1:
        raise TaskError(
            f"the loaders give {in_words(sorted(sizes))} samples side by side, and which of them belong together isn't "
            f"known.{_INSTEAD}"
        )
    parameters = optimized_parameters(trainer)
    norms = []
    try:
        shadows = Shadows(module, parameters, trainer)
        with _untouched(trainer, include_cuda=any(p.is_cuda for p in parameters)), torch.enable_grad():
            for indices in parts:
                part = select_samples(batch, indices)
                if num_samples(part) != len(indices):
                    raise TaskError(
                        f"single samples can't be taken out of a batch of type {type(batch).__name__}.{_INSTEAD}"
                    )
                with trainer.precision_plugin.train_step_context():
                    loss = _loss(cast("LightningModule", shadows.new()), part, batch_idx)
                gradients = torch.autograd.grad(loss * loss_scale, parameters, allow_unused=True)
                norms.append(sq_norm([g for g in gradients if g is not None]) / loss_scale**2)
    except TaskError:
        raise
    except Exception as error:  # a user's code on a batch it wasn't written for: it may raise anything
        raise TaskError(
            "training_step or its gradient failed on a part of a batch, which the per-sample noise scale needs "
            f"({type(error).__name__}: {error}).{_INSTEAD}"
        ) from error
    return norms


def _loss(module: LightningModule, batch: object, batch_idx: int) -> Tensor:
    takes_index = len(inspect.signature(module.training_step).parameters) > 1
    output = module.training_step(batch, batch_idx) if takes_index else module.training_step(batch)
    loss = output["loss"] if isinstance(output, dict) else output
    if not isinstance(loss, Tensor):
        raise TaskError(f"training_step returned {type(output).__name__} and no loss on a part of a batch.{_INSTEAD}")
    return loss


@contextmanager
def _untouched(trainer: Trainer, *, include_cuda: bool) -> Iterator[None]:
    """Put random numbers, loggers and `should_stop` back, after an error, too, unlike Lightning's isolate_rng."""
    from pytorch_lightning.loggers.logger import DummyLogger
    from pytorch_lightning.utilities.seed import isolate_rng

    loggers, should_stop = trainer.loggers, trainer.should_stop
    isolated = isolate_rng(include_cuda=include_cuda)
    isolated.__enter__()
    trainer.loggers = [DummyLogger() for _ in loggers]
    try:
        yield
    finally:
        trainer.loggers, trainer.should_stop = loggers, should_stop
        isolated.__exit__(None, None, None)
