"""The loss around a minimizer along random, filter-normalised directions, in one and two dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bsopt.analysis.batches import Batch
from bsopt.analysis.losses import LossFunction
from bsopt.analysis.surface import LossSurface, Mode, Progress
from bsopt.errors import ConfigError

__all__ = ["Landscape1D", "Landscape2D", "filter_normalized_direction", "landscape_1d", "landscape_2d"]


@dataclass(frozen=True, slots=True)
class Landscape1D:
    """f(x + α·d).

    Attributes:
        alphas: Steps along the direction; 1 moves each filter by its own norm.
        losses: One per α; infinite where the loss overflows.
        center_loss: f(x).
        num_samples: The fixed subset's size.
        seed: Of subset and direction.
    """

    alphas: tuple[float, ...]
    losses: tuple[float, ...]
    center_loss: float
    num_samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Landscape2D:
    """f(x + α·d₁ + β·d₂).

    Attributes:
        alphas: Steps along the first direction, length A.
        betas: Steps along the second, length B.
        losses: B rows of A values: `losses[j][i]` at (alphas[i], betas[j]), as contour plots take z; infinite where the
            loss overflows, None where it wasn't asked for.
        center_loss: f(x).
        num_samples: The fixed subset's size.
        seed: Of subset and directions.
    """

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    losses: tuple[tuple[float | None, ...], ...]
    center_loss: float
    num_samples: int
    seed: int


def filter_normalized_direction(weights: dict[str, Tensor], *, seed: int = 0) -> dict[str, Tensor]:
    """Return a random direction in which each filter is as long as the weights' own (Li et al. 2018, section 4).

    Gaussian, then d_j ← d_j·‖w_j‖/(‖d_j‖ + 1e-10) for each filter j: the slices along the first dimension, an
    output channel of a convolution or a row of a linear layer. Tensors of one dimension (biases, normalisation
    layers) are zero, as in the authors' code. Drawn on the CPU, so that a seed gives the same direction on
    every device, and the same one for equal shapes, so that minimizers are compared along one draw.

    Args:
        weights: Name -> tensor, in order.
        seed: Of the draw.

    >>> d = filter_normalized_direction({"w": torch.tensor([[3.0, 4.0], [0.0, 0.0]]), "b": torch.ones(2)})
    >>> [round(float(row.norm()), 4) for row in d["w"]], d["b"].tolist()
    ([5.0, 0.0], [0.0, 0.0])
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, weight in weights.items():
        draw = torch.randn(weight.shape, generator=generator, dtype=torch.float32).to(weight)
        if weight.ndim <= 1:
            direction[name] = torch.zeros_like(weight)
            continue
        dims = tuple(range(1, weight.ndim))
        norm, length = (torch.linalg.vector_norm(t, dim=dims, keepdim=True) for t in (weight.detach(), draw))
        direction[name] = draw * norm / (length + 1e-10)
    return direction


def landscape_1d(
    module: nn.Module,
    data: Iterable[Batch],
    *,
    loss: LossFunction | None = None,
    num_points: int = 51,
    span: float = 1.0,
    mode: Mode = "eval",
    max_samples: int | None = 2000,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Landscape1D:
    """Return the loss at `num_points` steps in [−span, span] along one filter-normalised direction.

    Args:
        module: The minimizer. Untouched.
        data: Loader or batches; a fixed subset is used (`batches.fixed_batches`).
        loss: A function of (module, batch) that returns the batch's mean loss; a LightningModule has its own.
        num_points: An odd number has the minimizer itself in the middle.
        span: Largest step, in units of each filter's norm.
        mode: "eval" (running statistics as they are, no dropout) or "train".
        max_samples: Of the fixed subset; None takes all.
        batch_size: Samples per forward pass.
        seed: Of subset and direction.
        progress: Called with (points done, points).

    Raises:
        ConfigError: An argument out of range, or no loss is known for the module.
    """
    steps = _steps(num_points, span)
    surface = LossSurface(module, data, loss=loss, mode=mode, max_samples=max_samples, batch_size=batch_size, seed=seed)
    direction = _direction(surface, seed)
    losses = []
    for done, alpha in enumerate(steps, start=1):
        losses.append(_finite(surface.loss(surface.origin + alpha * direction)))
        if progress is not None:
            progress(done, num_points)
    return Landscape1D(
        alphas=steps,
        losses=tuple(losses),
        center_loss=surface.loss(),
        num_samples=surface.num_samples,
        seed=seed,
    )


def landscape_2d(
    module: nn.Module,
    data: Iterable[Batch],
    *,
    loss: LossFunction | None = None,
    num_points: int = 25,
    span: float = 1.0,
    reach: float | None = None,
    mode: Mode = "eval",
    max_samples: int | None = 2000,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Landscape2D:
    """Return the loss on a grid of num_points × num_points along two filter-normalised directions.

    The directions are two independent draws, as in the paper: nearly orthogonal in many dimensions.

    Args:
        num_points: Per axis; 51 in the paper.
        reach: Largest distance from the minimizer, in steps of both directions together, at which the grid's points
            are evaluated; None evaluates all of them.
        progress: Called with (points done, points to be done).
        module, data, loss, span, mode, max_samples, batch_size, seed: As in `landscape_1d`.

    Raises:
        ConfigError: An argument out of range, or no loss is known for the module.
    """
    steps = _steps(num_points, span)
    surface = LossSurface(module, data, loss=loss, mode=mode, max_samples=max_samples, batch_size=batch_size, seed=seed)
    first, second = _direction(surface, seed), _direction(surface, seed + 1)
    is_asked = [[reach is None or np.hypot(alpha, beta) <= reach + 1e-9 for alpha in steps] for beta in steps]
    done, total = 0, sum(map(sum, is_asked))
    rows: list[tuple[float | None, ...]] = []
    for asked, beta in zip(is_asked, steps, strict=True):
        row_origin = surface.origin + beta * second
        row: list[float | None] = [None] * num_points
        for i in np.flatnonzero(asked):
            row[i] = _finite(surface.loss(row_origin + steps[i] * first))
            done += 1
            if progress is not None:
                progress(done, total)
        rows.append(tuple(row))
    return Landscape2D(
        alphas=steps,
        betas=steps,
        losses=tuple(rows),
        center_loss=surface.loss(),
        num_samples=surface.num_samples,
        seed=seed,
    )


def _steps(num_points: int, span: float) -> tuple[float, ...]:
    if num_points < 2:
        raise ConfigError(f"num_points must be at least 2, got {num_points}.")
    if not (np.isfinite(span) and span > 0):
        raise ConfigError(f"span must be a positive number, got {span}.")
    half = np.arange(num_points) - (num_points - 1) / 2  # symmetric, with an exact zero in the middle
    return tuple(float(step) for step in half * (2 * span / (num_points - 1)))


def _direction(surface: LossSurface, seed: int) -> Tensor:
    return surface.flatten(filter_normalized_direction(surface.split(surface.origin), seed=seed))


def _finite(loss: float) -> float:
    return loss if np.isfinite(loss) else float("inf")
