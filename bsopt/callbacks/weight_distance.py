"""How far the weights have moved from where they started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bsopt.callbacks._base import Callback, refuse_sharded
from bsopt.laws.weight_distance import WeightDistances, total_distance

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["WeightDistance", "layer_distances"]


class WeightDistance(Callback):
    """Measures the distance from initialisation, in total and per layer, and the distance of each epoch.

    Measures in `on_train_epoch_end` and once more in `on_train_end`; an epoch costs two reads of the weights and a
    copy of them to the CPU, a step nothing. Two sets of weights are kept on the CPU, and the initial ones go into
    every checkpoint, so that a resumed run measures from the same place. Rank zero measures; under DDP the weights
    are the same everywhere. Logs `bsopt/weight_distance` and `bsopt/epoch_distance`. It works with manual optimization.

    The initial weights are those at the start of the first fit: a model that comes with pretrained weights is
    measured from there, and a lazy layer from the weights that its first batch gives it.

    Raises:
        ConfigError: At the start of a fit, with a strategy that shards the weights.
    """

    def __init__(self) -> None:
        self._initial: dict[str, Tensor] | None = None
        self._epoch_start: dict[str, Tensor] | None = None
        self._has_lazy = False
        self._layers: dict[str, float] = {}
        self._steps: list[int] = []
        self._from_start: list[float] = []
        self._epochs: list[float] = []

    @property
    def summary(self) -> WeightDistances | None:
        """The distances so far, or None before the end of the first epoch."""
        if not self._layers:
            return None
        return WeightDistances(
            total=total_distance(self._layers),
            per_layer=dict(self._layers),
            steps=tuple(self._steps),
            from_start=tuple(self._from_start),
            epochs=tuple(self._epochs),
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse sharded weights, before any training."""
        if stage == "fit":
            refuse_sharded(trainer, "WeightDistance")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the initial weights to the CPU, unless a checkpoint brought them."""
        if trainer.is_global_zero and self._initial is None:
            self._initial = _cpu_copy(pl_module)
            self._has_lazy = any(is_lazy(parameter) for parameter in pl_module.parameters())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the epoch's first weights to the CPU."""
        # a run that resumes inside an epoch has that epoch's start from its checkpoint
        if trainer.is_global_zero and self._epoch_start is None:
            self._epoch_start = _cpu_copy(pl_module)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Copy the weights that lazy layers took in the first batch, as soon as its `loss`, a scalar, is known."""
        if self._has_lazy:
            self._has_lazy, made = False, _cpu_copy(pl_module)
            for weights in (self._initial, self._epoch_start):
                if weights is not None:
                    weights.update({name: weight for name, weight in made.items() if name not in weights})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure how far the weights are from both copies, and log it."""
        if self._initial is not None and self._epoch_start is not None:
            self._layers = layer_distances(pl_module, self._initial)
            self._steps.append(trainer.global_step)
            self._from_start.append(total_distance(self._layers))
            self._epochs.append(total_distance(layer_distances(pl_module, self._epoch_start)))
            self._epoch_start = None
        if self._from_start:
            for name, value in (("weight", self._from_start[-1]), ("epoch", self._epochs[-1])):
                pl_module.log(f"bsopt/{name}_distance", value, on_step=False, on_epoch=True, rank_zero_only=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the distance from the initial weights once more."""
        if self._initial is not None:
            self._layers = layer_distances(pl_module, self._initial)

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights and the distances so far, for a checkpoint."""
        return {
            "initial": self._initial,
            "epoch_start": self._epoch_start,
            "layers": dict(self._layers),
            "steps": list(self._steps),
            "from_start": list(self._from_start),
            "epochs": list(self._epochs),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the initial weights and distances of a checkpoint."""
        self._initial = state_dict["initial"]
        self._epoch_start = state_dict["epoch_start"]
        self._layers = dict(state_dict["layers"])
        self._steps = list(state_dict["steps"])
        self._from_start = list(state_dict["from_start"])
        self._epochs = list(state_dict["epochs"])


@torch.no_grad()
def layer_distances(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the distance of each layer from earlier weights.

    A layer is a module that owns parameters; its weight and bias are measured together. Parameters that `weights`
    doesn't have are left out.

    Args:
        module: Whose parameters are measured, where they lie.
        weights: Parameter name -> earlier value, on any device.
    """
    squares: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        if name in weights:
            layer = name.rpartition(".")[0] or name
            dtype = _wide(parameter.dtype)
            moved = parameter.to(dtype) - weights[name].to(parameter.device).to(dtype)
            squares[layer] = squares.get(layer, 0.0) + float(torch.linalg.vector_norm(moved)) ** 2
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type to subtract in: double and complex numbers as they are, half precision widened."""
    if dtype.is_complex:
        return torch.promote_types(dtype, torch.complex64)
    return dtype if dtype == torch.float64 else torch.float32


def _cpu_copy(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters by name; a lazy layer's aren't there before its first batch."""
    return {name: p.detach().to("cpu", copy=True) for name, p in module.named_parameters() if not is_lazy(p)}
