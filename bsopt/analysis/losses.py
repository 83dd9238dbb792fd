"""The loss of a module on a batch: the user's own function, or what a LightningModule's step returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bsopt.analysis.batches import Batch
from bsopt.errors import ConfigError, TaskError

__all__ = ["LossFunction", "default_loss", "silence_logging", "step_loss"]

LossFunction: TypeAlias = Callable[[nn.Module, Batch], Tensor]
"""`loss(module, batch)`: a scalar tensor, the mean over the batch's samples."""


def step_loss(step: str = "training_step") -> LossFunction:
    """Return a loss that calls a LightningModule's step outside any Trainer.

    The batch passes through the module's `on_before_batch_transfer` and `on_after_batch_transfer` (modules
    normalise there), then through the step with 0 as the index of the batch and of the loader where it takes them. The
    step returns the loss itself or a mapping with a `loss`.

    Args:
        step: "training_step", "validation_step" or the name of another method with their signature.

    Raises:
        TaskError: When called: the step returned no loss, or needs a Trainer.
    """

    num_indices: dict[type[nn.Module], int] = {}  # reading a signature takes as long as a small network's batch

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        try:
            for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
                hook = getattr(module, name, None)
                batch = batch if hook is None else hook(batch, 0)
            method = getattr(module, step)
            if type(module) not in num_indices:
                num_indices[type(module)] = _num_indices(method)
            outcome = method(batch, *(0,) * num_indices[type(module)])
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, RuntimeError, TypeError) as error:
            raise TaskError(
                f"{type(module).__name__}.{step} can't be called outside a Trainer ({type(error).__name__}: {error}): "
                "move what needs one into a hook, on_train_batch_end say, or give loss=, a function of (module, batch) "
                "that returns the batch's mean loss."
            ) from error
        value = outcome.get("loss") if isinstance(outcome, Mapping) else outcome
        if not isinstance(value, Tensor):
            raise TaskError(
                f"{type(module).__name__}.{step} returned {type(outcome).__name__}, not a loss; "
                "give loss=, a function of (module, batch) that returns the batch's mean loss."
            )
        return value

    return loss


def default_loss(module: nn.Module) -> LossFunction:
    """Return the loss to use where the user gave none.

    A LightningModule's `training_step` must return its loss, its `validation_step` need not and mostly
    doesn't: so the first is taken for training and validation data alike (dropout and normalisation follow the
    module's mode, not the step's name). Under manual optimization, where `training_step` steps the optimizer,
    it is `validation_step`.

    Raises:
        ConfigError: A plain module: what its loss is can't be known.
    """
    if not hasattr(module, "training_step"):
        raise ConfigError(
            f"{type(module).__name__} has no training_step: give loss=, a function of (module, batch) "
            "that returns the batch's mean loss."
        )
    return step_loss("training_step" if getattr(module, "automatic_optimization", True) else "validation_step")


def silence_logging(module: nn.Module) -> None:
    """Make `self.log`, `self.log_dict` and `self.print` do nothing in every LightningModule inside a module."""
    for part in module.modules():
        if hasattr(part, "training_step") and hasattr(part, "log_dict"):
            for name in ("log", "log_dict", "print"):
                part.__dict__[name] = _ignore


def _ignore(*_: object, **__: object) -> None:
    return None


def _num_indices(step: Callable[..., object]) -> int:
    """Return how many indices Lightning gives a step after its batch: by position, whatever the step calls them."""
    parameters = list(inspect.signature(step).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_batch_idx = len(named) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    further = [p for p in named[2:] if p.name == "dataloader_idx" or p.default is p.empty]
    return takes_batch_idx + len(further)
