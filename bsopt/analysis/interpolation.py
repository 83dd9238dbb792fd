"""The loss on the straight line through two minimizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from bsopt.analysis.batches import Batch, fixed_batches
from bsopt.analysis.distance import Weights
from bsopt.analysis.losses import LossFunction
from bsopt.analysis.surface import LossSurface, Progress
from bsopt.errors import ConfigError

__all__ = ["DEFAULT_ALPHAS", "Interpolation", "Statistics", "interpolate"]

Statistics: TypeAlias = Literal["interpolate", "re-estimate"]

DEFAULT_ALPHAS = tuple(round(float(alpha), 6) for alpha in np.linspace(-1.0, 2.0, 31))
"""From -1 to 2 in steps of 0.1: the range of Keskar et al. 2016, figure 3."""


@dataclass(frozen=True, slots=True)
class Interpolation:
    """Losses at (1−α)·first + α·second.

    Attributes:
        alphas: 0 is the first minimizer, 1 the second.
        train_losses: One per α.
        validation_losses: One per α, or None where no validation data were given.
        statistics: How running statistics were handled.
        num_train_samples: The training subset's size.
        num_validation_samples: The validation subset's size, 0 for none.
    """

    alphas: tuple[float, ...]
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...] | None
    statistics: Statistics
    num_train_samples: int
    num_validation_samples: int


def interpolate(
    module: nn.Module,
    first: Weights,
    second: Weights,
    *,
    train_data: Iterable[Batch],
    validation_data: Iterable[Batch] | None = None,
    loss: LossFunction | None = None,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    statistics: Statistics = "interpolate",
    max_samples: int | None = 2000,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Interpolation:
    """Return f((1−α)·x_first + α·x_second) on training and validation data (Keskar et al. 2016, figure 3).

    Evaluated in eval mode. Running statistics of normalisation layers are either interpolated with the
    weights, variances floored at the smaller of the two ends (a straight line would leave them negative
    outside [0, 1]), or re-estimated at every α as a plain average over the training subset. Integer buffers are
    the nearer end's.

    Args:
        module: The network, whose own weights don't matter. Untouched.
        first: State dict or module at α = 0: the small-batch minimizer, say.
        second: The one at α = 1.
        train_data: Loader or batches.
        validation_data: Loader or batches.
        loss: A function of (module, batch) that returns the batch's mean loss; a LightningModule has its own.
        alphas: Any numbers, in any order.
        statistics: "interpolate" or "re-estimate".
        max_samples: Of each fixed subset; None takes all.
        batch_size: Samples per forward pass.
        seed: Of the subsets.
        progress: Called with (alphas done, alphas).

    Raises:
        ConfigError: The two states don't have the same tensors, no alphas, or no loss is known.
    """
    if statistics not in ("interpolate", "re-estimate"):
        raise ConfigError(f"statistics must be 'interpolate' or 're-estimate', got {statistics!r}.")
    if not alphas:
        raise ConfigError("alphas must hold at least one number.")
    ends = _state(first), _state(second)
    if {n: t.shape for n, t in ends[0].items()} != {n: t.shape for n, t in ends[1].items()}:
        raise ConfigError("the two minimizers don't have the same tensors: they must be of one network.")
    train_batches = fixed_batches(train_data, max_samples=max_samples, batch_size=batch_size, seed=seed)
    surfaces = [LossSurface(module, train_batches, loss=loss, max_samples=None, seed=seed)]
    if validation_data is not None:
        surfaces.append(
            LossSurface(module, validation_data, loss=loss, max_samples=max_samples, batch_size=batch_size, seed=seed)
        )
    losses: list[list[float]] = [[] for _ in surfaces]
    for index, alpha in enumerate(alphas):
        state = {name: _between(name, tensor, ends[1][name], alpha) for name, tensor in ends[0].items()}
        for surface, values in zip(surfaces, losses, strict=True):
            surface.adopt(state)
            if statistics == "re-estimate":
                surface.estimate_statistics(train_batches)
            values.append(surface.loss())
        if progress is not None:
            progress(index + 1, len(alphas))
    return Interpolation(
        alphas=tuple(float(alpha) for alpha in alphas),
        train_losses=tuple(losses[0]),
        validation_losses=tuple(losses[1]) if len(losses) > 1 else None,
        statistics=statistics,
        num_train_samples=surfaces[0].num_samples,
        num_validation_samples=surfaces[1].num_samples if len(surfaces) > 1 else 0,
    )


def _state(weights: Weights) -> Mapping[str, Tensor]:
    return weights.state_dict() if isinstance(weights, nn.Module) else weights


def _between(name: str, first: Tensor, second: Tensor, alpha: float) -> Tensor:
    first, second = first.detach().cpu(), second.detach().cpu()
    if not (first.is_floating_point() or first.is_complex()):
        return first if alpha < 0.5 else second
    if alpha in (0, 1):  # exactly the ends: (1−α)·a + α·b may differ from them by rounding
        return (first, second)[int(alpha)]
    value = (1.0 - alpha) * first + alpha * second
    if name.rpartition(".")[2] == "running_var":
        value = torch.maximum(value, torch.minimum(first, second))
    return value
