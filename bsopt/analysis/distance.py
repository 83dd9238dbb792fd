"""How far weights have travelled: between two states of a network, and epoch by epoch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bsopt.errors import ConfigError

__all__ = ["Distance", "EpochDistances", "Weights", "epoch_distances", "weight_distance"]

Weights: TypeAlias = "nn.Module | Mapping[str, Tensor]"
"""A module, or its state dict (a checkpoint's `state_dict`)."""

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Distance:
    """Euclidean distance between two states of the same network.

    Attributes:
        total: ‖x − x₀‖ over all parameters.
        per_layer: The same over one layer's parameters (weight and bias together), by the layer's name. The
            squares add up to the total's.
        start_norm: ‖x₀‖.
        num_parameters: Numbers, not tensors.
    """

    total: float
    per_layer: dict[str, float]
    start_norm: float
    num_parameters: int

    @property
    def relative(self) -> float:
        """‖x − x₀‖ / ‖x₀‖; infinite for a start at zero."""
        return self.total / self.start_norm if self.start_norm else float("inf")


@dataclass(frozen=True, slots=True)
class EpochDistances:
    """A path of states, one at the start and one at each epoch's end.

    Attributes:
        per_epoch: ‖x_t − x_{t−1}‖, length T: the net displacement of each epoch.
        from_start: ‖x_t − x_0‖, length T; grows like log t early in training (Hoffer et al. 2017, section 3).
    """

    per_epoch: tuple[float, ...]
    from_start: tuple[float, ...]


def weight_distance(start: Weights, end: Weights, *, parameters: Collection[str] | None = None) -> Distance:
    """Return ‖end − start‖, in total and per layer (figures 10 and 11 of Chang & Pathak 2020).

    Args:
        start: A module or a state dict: the initial weights, say.
        end: The same network later.
        parameters: Names of the tensors that count. By default a module's parameters where a module is given;
            of two state dicts, which don't tell parameters from buffers, every floating-point tensor but
            normalisation layers' running statistics.

    Raises:
        ConfigError: The two don't have the same tensors, or `parameters` names one that isn't there.

    >>> weight_distance({"fc.weight": torch.tensor([0.0, 0.0])}, {"fc.weight": torch.tensor([3.0, 4.0])}).total
    5.0
    """
    names = _names(start, end, parameters)
    first, second = _state(start), _state(end)
    squares: dict[str, float] = {}
    start_square, count = 0.0, 0
    for name in names:
        before, after = _pair(first, second, name)
        layer = name.rpartition(".")[0] or name
        squares[layer] = squares.get(layer, 0.0) + float((after - before).square().sum())
        start_square += float(before.square().sum())
        count += before.numel()
    return Distance(
        total=sum(squares.values()) ** 0.5,
        per_layer={layer: square**0.5 for layer, square in squares.items()},
        start_norm=start_square**0.5,
        num_parameters=count,
    )


def epoch_distances(states: Sequence[Weights], *, parameters: Collection[str] | None = None) -> EpochDistances:
    """Return the displacement of every epoch (figure 12 of Chang & Pathak 2020).

    Args:
        states: T + 1 states of one network in order, the initial weights first.
        parameters: As in `weight_distance`.

    Raises:
        ConfigError: Fewer than two states, or they don't have the same tensors.
    """
    if len(states) < 2:
        raise ConfigError(f"states must hold the initial weights and at least one epoch's, got {len(states)}.")
    steps = pairwise(states)
    return EpochDistances(
        per_epoch=tuple(weight_distance(a, b, parameters=parameters).total for a, b in steps),
        from_start=tuple(weight_distance(states[0], state, parameters=parameters).total for state in states[1:]),
    )


def _names(start: Weights, end: Weights, parameters: Collection[str] | None) -> list[str]:
    if parameters is not None:
        return list(parameters)
    for weights in (start, end):
        if isinstance(weights, nn.Module):
            return [name for name, _ in weights.named_parameters()]
    first, second = (
        {n for n, t in _state(weights).items() if t.is_floating_point() and n.rpartition(".")[2] not in _STATISTICS}
        for weights in (start, end)
    )
    if first != second:
        raise ConfigError(f"the two states don't have the same tensors; in one only: {sorted(first ^ second)}.")
    return [name for name in _state(start) if name in first]


def _state(weights: Weights) -> Mapping[str, Tensor]:
    return dict(weights.named_parameters()) if isinstance(weights, nn.Module) else weights


def _pair(first: Mapping[str, Tensor], second: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    for state in (first, second):
        if name not in state:
            raise ConfigError(f"the parameter {name!r} is missing in one of the two states.")
    before, after = (state[name].detach().to("cpu", torch.float64) for state in (first, second))
    if before.shape != after.shape:
        raise ConfigError(f"the parameter {name!r} has shape {tuple(before.shape)} in one, {tuple(after.shape)} else.")
    return before, after
