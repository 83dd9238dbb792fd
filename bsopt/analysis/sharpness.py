"""How much the loss can rise near a minimizer: Keskar's sharpness, and a scale-free one beside it.

Sharpness follows the learning rate more closely than it follows generalisation (Andriushchenko et al. 2023,
arXiv 2302.07011), and plain sharpness can be made anything by rescaling a ReLU network's layers without
changing its function (Dinh et al. 2017, arXiv 1703.04933): report it, never optimise it.

    x    [n]     the minimizer's weights
    z    [n]     a perturbation in full space; z = A·y in a subspace
    A    [n, p]  random directions, entries N(0, 1/p)
    y    [p]     coordinates in the subspace
    ε            relative size of the box
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from torch import Tensor, nn

from bsopt.analysis.batches import Batch
from bsopt.analysis.losses import LossFunction
from bsopt.analysis.surface import LossSurface, Mode, Progress
from bsopt.errors import ConfigError

__all__ = ["AdaptiveSharpness", "Sharpness", "adaptive_sharpness", "keskar_sharpness"]

_Vector: TypeAlias = NDArray[np.float64]
_ValueAndGradient: TypeAlias = Callable[[_Vector], tuple[float, _Vector]]


@dataclass(frozen=True, slots=True)
class Sharpness:
    """Keskar's sharpness at one minimizer.

    Attributes:
        value: φ = 100·(max f − f(x)) / (1 + f(x)), over the best of all starts; infinite where the loss
            overflows inside the box.
        per_start: φ reached from each start, the minimizer itself first, then random points of the box.
        loss: f(x).
        max_loss: The largest f met.
        epsilon: ε.
        subspace_dim: p, or None for the full space.
        max_iterations: Of L-BFGS-B, per start.
        num_samples: The fixed subset's size.
        num_parameters: n.
        seed: Of subset, directions and starts.
    """

    value: float
    per_start: tuple[float, ...]
    loss: float
    max_loss: float
    epsilon: float
    subspace_dim: int | None
    max_iterations: int
    num_samples: int
    num_parameters: int
    seed: int


@dataclass(frozen=True, slots=True)
class AdaptiveSharpness:
    """Scale-free sharpness at one minimizer.

    Attributes:
        value: max f − f(x), over the best of all starts, in units of the loss.
        per_start: The same from each start.
        loss: f(x).
        max_loss: The largest f met.
        rho: ρ, the relative size of the box.
        max_iterations: Of L-BFGS-B, per start.
        num_samples: The fixed subset's size.
        num_parameters: n.
        seed: Of subset and starts.
    """

    value: float
    per_start: tuple[float, ...]
    loss: float
    max_loss: float
    rho: float
    max_iterations: int
    num_samples: int
    num_parameters: int
    seed: int


def keskar_sharpness(
    module: nn.Module,
    data: Iterable[Batch],
    *,
    loss: LossFunction | None = None,
    epsilon: float = 1e-3,
    subspace_dim: int | None = None,
    num_starts: int = 4,
    max_iterations: int = 10,
    mode: Mode = "eval",
    max_samples: int | None = 2000,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sharpness:
    """Return φ = 100·(max_{z∈C} f(x+z) − f(x)) / (1 + f(x)) (Keskar et al. 2016, arXiv 1609.04836, metric 2.1).

    In full space C = {z : |z_i| ≤ ε(|x_i| + 1)}; in a random subspace z = A·y with |y_i| ≤ ε(|(A⁺x)_i| + 1), A⁺
    the pseudo-inverse. f is maximised by L-BFGS-B from z = 0, as in the paper, and from random points of the
    box: at a minimizer the gradient vanishes, so a start there stalls and biases φ low. What counts is the
    largest f met from any start. The paper leaves the distribution of A open; N(0, 1/p) moves each weight by
    about ε, as the full box does.

    Weights are those that require gradients. A takes 4·n·p bytes.

    Args:
        module: The minimizer. Untouched.
        data: Training data; a fixed subset is used, the same for every module (`batches.fixed_batches`).
        loss: A function of (module, batch) that returns the batch's mean loss; a LightningModule has its own.
        epsilon: 1e-3 or 5e-4 in the paper.
        subspace_dim: p, 100 in the paper; None for the full space.
        num_starts: How many starts, the minimizer among them.
        max_iterations: Of L-BFGS-B per start, 10 in the paper.
        mode: "eval" (running statistics, no dropout) or "train".
        max_samples: Of the fixed subset; None takes all.
        batch_size: Samples per forward and backward pass.
        seed: Of subset, directions and starts.
        progress: Called with (starts done, starts).

    Raises:
        ConfigError: An argument out of range, or no loss is known for the module.
    """
    _require_positive(epsilon=epsilon, num_starts=num_starts, max_iterations=max_iterations)
    if subspace_dim is not None:
        _require_positive(subspace_dim=subspace_dim)
    surface = LossSurface(module, data, loss=loss, mode=mode, max_samples=max_samples, batch_size=batch_size, seed=seed)
    if subspace_dim is None:
        bounds = epsilon * (np.abs(_numpy(surface.origin)) + 1.0)
        objective = _full_space(surface)
    else:
        directions = _random_directions(surface, subspace_dim, seed)
        coordinates = torch.linalg.lstsq(directions.cpu(), surface.origin.cpu()[:, None]).solution[:, 0]
        bounds = epsilon * (np.abs(_numpy(coordinates)) + 1.0)
        objective = _subspace(surface, directions)
    base = surface.loss()
    peaks = _maxima(
        objective, bounds, num_starts=num_starts, max_iterations=max_iterations, seed=seed, progress=progress
    )
    per_start = tuple(100.0 * (max(peak, base) - base) / (1.0 + base) for peak in peaks)
    return Sharpness(
        value=max(per_start),
        per_start=per_start,
        loss=base,
        max_loss=max(base, *peaks),
        epsilon=epsilon,
        subspace_dim=subspace_dim,
        max_iterations=max_iterations,
        num_samples=surface.num_samples,
        num_parameters=surface.origin.numel(),
        seed=seed,
    )


def adaptive_sharpness(
    module: nn.Module,
    data: Iterable[Batch],
    *,
    loss: LossFunction | None = None,
    rho: float = 1e-3,
    num_starts: int = 4,
    max_iterations: int = 10,
    mode: Mode = "eval",
    max_samples: int | None = 2000,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> AdaptiveSharpness:
    """Return max f(x + z) − f(x) over ‖T_x⁻¹ z‖_∞ ≤ ρ with T_x = diag|x| (Kwon et al. 2021, arXiv 2102.11600, eq. 2).

    Element-wise adaptive sharpness with p = ∞: each weight moves by at most the share ρ of its own size, so
    rescaling layers without changing the function leaves the value as it was (their theorem 1), and a weight
    at zero stays there. Maximised by L-BFGS-B in u = z/|x|, where the maximiser, too, is scale-free.

    Args:
        rho: ρ, a share of each weight.
        num_starts: How many starts: z = 0, then random points of the box.
        progress: Called with (starts done, starts).
        module, data, loss, max_iterations, mode, max_samples, batch_size, seed: As in `keskar_sharpness`.

    Raises:
        ConfigError: An argument out of range, or no loss is known for the module.
    """
    _require_positive(rho=rho, num_starts=num_starts, max_iterations=max_iterations)
    surface = LossSurface(module, data, loss=loss, mode=mode, max_samples=max_samples, batch_size=batch_size, seed=seed)
    base = surface.loss()
    peaks = _maxima(
        _full_space(surface, scale=surface.origin.abs()),
        np.full(surface.origin.numel(), rho),
        num_starts=num_starts,
        max_iterations=max_iterations,
        seed=seed,
        progress=progress,
    )
    per_start = tuple(max(peak, base) - base for peak in peaks)
    return AdaptiveSharpness(
        value=max(per_start),
        per_start=per_start,
        loss=base,
        max_loss=max(base, *peaks),
        rho=rho,
        max_iterations=max_iterations,
        num_samples=surface.num_samples,
        num_parameters=surface.origin.numel(),
        seed=seed,
    )


def _full_space(surface: LossSurface, *, scale: Tensor | None = None) -> _ValueAndGradient:
    def objective(z: _Vector) -> tuple[float, _Vector]:
        step = torch.from_numpy(z).to(surface.origin)
        loss, gradient = surface.loss_and_gradient(surface.origin + (step if scale is None else scale * step))
        return loss, _numpy(gradient if scale is None else scale * gradient)

    return objective


def _subspace(surface: LossSurface, directions: Tensor) -> _ValueAndGradient:
    def objective(y: _Vector) -> tuple[float, _Vector]:
        step = directions @ torch.from_numpy(y).to(directions)
        loss, gradient = surface.loss_and_gradient(surface.origin + step)
        return loss, _numpy(directions.T @ gradient)

    return objective


def _random_directions(surface: LossSurface, subspace_dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    origin = surface.origin
    directions = torch.randn(origin.numel(), subspace_dim, generator=generator, dtype=origin.dtype)
    return directions.to(origin.device) / math.sqrt(subspace_dim)


def _maxima(
    objective: _ValueAndGradient,
    bounds: _Vector,
    *,
    num_starts: int,
    max_iterations: int,
    seed: int,
    progress: Progress | None,
) -> tuple[float, ...]:
    """Return the largest value met from each start within ±bounds: zero first, then uniform random points."""
    rng = np.random.default_rng(seed)
    peaks = []
    for index in range(num_starts):
        start = np.zeros_like(bounds) if index == 0 else rng.uniform(-bounds, bounds)
        peaks.append(_climb(objective, start, bounds, max_iterations))
        if progress is not None:
            progress(index + 1, num_starts)
    return tuple(peaks)


def _climb(objective: _ValueAndGradient, start: _Vector, bounds: _Vector, max_iterations: int) -> float:
    """Return the largest value that L-BFGS-B meets within ±bounds.

    It works in u = z/bounds, on f scaled so that the mean |∂f/∂u| at the start is 1. Where f is convex, as
    around a minimizer, −f has no curvature that L-BFGS could use, and its step is the gradient: unscaled, that
    is thousands of times smaller than the box, and ten iterations get nowhere near the maximum (a digits network
    trained to a loss of 4e-5: φ = 0.0004 unscaled, 0.016 scaled).
    """
    peak, scale = -math.inf, 0.0

    def descend(u: _Vector) -> tuple[float, _Vector]:
        nonlocal peak, scale
        value, gradient = objective(bounds * u)
        if not math.isfinite(value) or not np.isfinite(gradient).all():
            raise _OverflowInBoxError
        peak = max(peak, value)
        gradient = bounds * gradient
        scale = scale or 1.0 / max(float(np.abs(gradient).mean()), np.finfo(float).tiny)
        return -scale * value, -scale * gradient

    box = Bounds(-np.ones_like(bounds), np.ones_like(bounds))
    try:
        minimize(
            descend,
            start / bounds,
            jac=True,
            method="L-BFGS-B",
            bounds=box,
            options={"maxiter": max_iterations, "ftol": 0.0, "gtol": 0.0},
        )
    except _OverflowInBoxError:
        return math.inf
    return peak


class _OverflowInBoxError(ArithmeticError):
    """The loss is infinite or not a number inside the box: nothing is higher."""


def _numpy(tensor: Tensor) -> _Vector:
    return tensor.detach().cpu().double().numpy()


def _require_positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not value > 0:
            raise ConfigError(f"{name} must be positive, got {value}.")
