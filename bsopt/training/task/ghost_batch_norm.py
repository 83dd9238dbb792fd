"""Batch normalisation over a fixed number of samples, whatever the batch size (Hoffer et al. 2017, "ghost" batches)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bsopt.errors import TaskError

__all__ = ["use_ghost_batch_norm"]


def use_ghost_batch_norm(module: nn.Module, num_samples: int) -> int:
    """Make a module's BatchNorm layers take their statistics in training over so many samples; return how many layers.

    A batch is normalised in parts as equal as can be, none smaller than `num_samples` unless the batch is (Hoffer et
    al. 2017, arXiv 1705.08741, algorithm 1). Running statistics take in each part in turn. A layer keeps its weights,
    buffers and names, so optimizers and checkpoints don't notice; in evaluation it does what it did.

    Args:
        module: The module, changed in place.
        num_samples: Of a part, along the first dimension; at least 2.

    Raises:
        TaskError: There is no BatchNorm layer, or one of another class than torch's own.
    """
    kinds = {nn.BatchNorm1d: _Ghost1d, nn.BatchNorm2d: _Ghost2d, nn.BatchNorm3d: _Ghost3d}
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _PARENT)}
    if not layers:
        raise TaskError(f"{type(module).__name__} has no BatchNorm layer: ghost_batch_norm needs one.")
    for name, layer in layers.items():
        if type(layer) not in kinds:
            raise TaskError(
                f"the layer {name} is a {type(layer).__name__}: ghost_batch_norm takes the place of torch's "
                "BatchNorm1d, BatchNorm2d and BatchNorm3d alone."
            )
    for layer in layers.values():
        layer.__class__ = kinds[type(layer)]
        layer.num_ghost_samples = num_samples  # type: ignore[assignment]
    return len(layers)


_PARENT = nn.modules.batchnorm._BatchNorm


class _Ghost(_PARENT):
    num_ghost_samples: int

    def forward(self, input: Tensor) -> Tensor:
        num_parts = len(input) // self.num_ghost_samples if self.training else 1
        if num_parts < 2:
            return super().forward(input)
        return torch.cat([super(_Ghost, self).forward(part) for part in input.tensor_split(num_parts)])


class _Ghost1d(_Ghost, nn.BatchNorm1d):
    """BatchNorm1d in parts."""


class _Ghost2d(_Ghost, nn.BatchNorm2d):
    """BatchNorm2d in parts."""


class _Ghost3d(_Ghost, nn.BatchNorm3d):
    """BatchNorm3d in parts."""
