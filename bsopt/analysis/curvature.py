"""The largest curvature of the loss at a minimizer: λ_max of its Hessian.

Gradient descent with learning rate η is stable only where η·λ_max < 2, and networks trained with large batches often
end close to it (Cohen et al. 2021, "the edge of stability", arXiv 2103.00065): sharpness then follows the learning
rate, not the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import nn

from bsopt.analysis.batches import Batch
from bsopt.analysis.losses import LossFunction
from bsopt.analysis.surface import LossSurface, Mode, Progress
from bsopt.errors import ConfigError

__all__ = ["Curvature", "top_curvature"]

_Vector: TypeAlias = NDArray[np.float64]
_Product: TypeAlias = Callable[[_Vector], _Vector]

_NUM_VECTORS = 12
"""That Lanczos keeps, each as large as the weights in double precision."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """λ_max at one minimizer.

    Attributes:
        value: The largest eigenvalue of the Hessian of f, in units of the loss over squared weights.
        loss: f(x).
        num_products: Products with the Hessian that it took.
        tolerance: Relative accuracy asked of the eigenvalue.
        num_samples: The fixed subset's size.
        num_parameters: n.
        seed: Of the subset and of the first vector.
    """

    value: float
    loss: float
    num_products: int
    tolerance: float
    num_samples: int
    num_parameters: int
    seed: int


def top_curvature(
    module: nn.Module,
    data: Iterable[Batch],
    *,
    loss: LossFunction | None = None,
    tolerance: float = 0.01,
    max_products: int = 100,
    mode: Mode = "eval",
    max_samples: int | None = 2000,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curvature:
    """Return the largest eigenvalue of the Hessian of the loss, by Lanczos on products with it (ARPACK).

    Args:
        module: The minimizer. Untouched.
        data: Loader or batches; a fixed subset is used, the same for every module.
        loss: A function of (module, batch) that returns the batch's mean loss; a LightningModule has its own. It has to
            be twice differentiable where the weights are.
        tolerance: Relative accuracy of the eigenvalue.
        max_products: With the Hessian, each as costly as two training steps on all samples; the value found until then
            is a lower bound.
        mode: "eval" (running statistics, no dropout) or "train".
        max_samples: Of the fixed subset; None takes all.
        batch_size: Samples per forward and backward pass.
        seed: Of subset and first vector.
        progress: Called with (products done, `max_products`).

    Raises:
        ConfigError: An argument out of range, or no loss is known for the module.
    """
    if not tolerance > 0 or max_products < 1:
        raise ConfigError(f"tolerance and max_products must be positive, got {tolerance} and {max_products}.")
    surface = LossSurface(module, data, loss=loss, mode=mode, max_samples=max_samples, batch_size=batch_size, seed=seed)
    num, quotients = surface.origin.numel(), [0.0]

    def product(v: _Vector) -> _Vector:
        if len(quotients) > max_products:
            raise _EnoughError
        along = torch.from_numpy(np.asarray(v, dtype=np.float64).ravel()).to(surface.origin)
        found = surface.hessian_product(along).detach().cpu().double().numpy()
        norm = float(v.ravel() @ v.ravel())
        quotients.append(float(v.ravel() @ found) / norm if norm > 0 else 0.0)
        if progress is not None:
            progress(min(len(quotients) - 1, max_products), max_products)
        return np.asarray(found)

    first = np.random.default_rng(seed).standard_normal(num)
    return Curvature(
        value=_largest(product, first, tolerance, quotients),
        loss=surface.loss(),
        num_products=len(quotients) - 1,
        tolerance=tolerance,
        num_samples=surface.num_samples,
        num_parameters=num,
        seed=seed,
    )


def _largest(product: _Product, first: _Vector, tolerance: float, quotients: list[float]) -> float:
    """Return the largest eigenvalue; where that takes too long, the largest Rayleigh quotient met."""
    num = len(first)
    if num <= 2:  # too few for Lanczos
        columns = [product(unit) for unit in np.eye(num)]
        return float(np.linalg.eigvalsh(np.array(columns)).max())
    try:
        operator = LinearOperator((num, num), matvec=product, dtype=np.float64)
        values = eigsh(
            operator, k=1, which="LA", v0=first, tol=tolerance, ncv=min(num, _NUM_VECTORS), return_eigenvectors=False
        )
        return float(values[0])
    except (_EnoughError, ArpackNoConvergence):
        return max(quotients)


class _EnoughError(Exception):
    """So many products as were allowed have been taken."""
