"""Gradients of single samples, by running the user's `training_step` on a shadow of the module.

The shadow shares the parameters and copies what a forward pass changes: buffers (running statistics), metric states,
tensors and containers in attributes. Random state is put back, `log` does nothing, `.grad` isn't touched. So the
training run is the same with and without the measurement.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bsopt.callbacks._batches import num_samples, select_samples
from bsopt.callbacks._norms import sq_norm
from bsopt.errors import TaskError

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["gradient_sq_norms", "optimized_parameters", "shadow_of"]

_INSTEAD = " Set accumulate_grad_batches to 2 or more instead: micro-batches give the noise scale without that."


def shadow_of(module: nn.Module) -> nn.Module:
    """Return a module that computes the same with the same parameters and leaves no trace in the original."""
    return _shadow(module, {})


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
    from pytorch_lightning.utilities.seed import isolate_rng

    parameters = optimized_parameters(trainer)
    norms = []
    with isolate_rng(include_cuda=parameters[0].is_cuda), torch.enable_grad():
        for indices in parts:
            part = select_samples(batch, indices)
            if num_samples(part) != len(indices):
                raise TaskError(
                    f"single samples can't be taken out of a batch of type {type(batch).__name__}.{_INSTEAD}"
                )
            try:
                with trainer.precision_plugin.train_step_context():
                    loss = _loss(cast("LightningModule", shadow_of(module)), part, batch_idx)
                gradients = torch.autograd.grad(loss * loss_scale, parameters, allow_unused=True)
            except TaskError:
                raise
            except Exception as error:  # a user's code on a batch it wasn't written for: it may raise anything
                raise TaskError(
                    "training_step or its gradient failed on a part of a batch, which the per-sample noise scale "
                    f"needs ({type(error).__name__}: {error}).{_INSTEAD}"
                ) from error
            norms.append(sq_norm([g for g in gradients if g is not None]) / loss_scale**2)
    return norms


def _loss(module: LightningModule, batch: object, batch_idx: int) -> Tensor:
    takes_index = len(inspect.signature(module.training_step).parameters) > 1
    output = module.training_step(batch, batch_idx) if takes_index else module.training_step(batch)
    loss = output["loss"] if isinstance(output, dict) else output
    if not isinstance(loss, Tensor):
        raise TaskError(f"training_step returned {type(output).__name__} and no loss on a part of a batch.{_INSTEAD}")
    return loss


def _shadow(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    if id(module) in known:
        return known[id(module)]
    shadow = object.__new__(type(module))
    known[id(module)] = shadow
    # torchmetrics keeps methods bound to the original in its attributes; only its own __setstate__ rebinds them
    pickles_itself = type(module).__setstate__ is not nn.Module.__setstate__
    state: dict[str, Any] = module.__getstate__() if pickles_itself else module.__dict__  # type: ignore[no-untyped-call]
    copied = {name: _copied(value) for name, value in state.items()}
    copied["_buffers"] = {n: None if b is None else b.detach().clone() for n, b in module._buffers.items()}
    copied["_modules"] = {n: None if m is None else _shadow(m, known) for n, m in module._modules.items()}
    if pickles_itself:
        shadow.__setstate__(copied)  # type: ignore[no-untyped-call]
    else:
        shadow.__dict__.update(copied)
    if hasattr(module, "training_step"):
        shadow.__dict__["log"] = shadow.__dict__["log_dict"] = _log_nothing
    return shadow


def _copied(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return copy.copy(value) if type(value) in (list, dict, set) else value


def _log_nothing(*args: object, **kwargs: object) -> None:
    """Stand in for LightningModule.log and log_dict."""
