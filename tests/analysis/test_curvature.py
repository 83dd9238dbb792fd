"""The largest curvature, where it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bsopt.analysis import Curvature, LossSurface, from_stored, to_stored, top_curvature
from bsopt.errors import ConfigError

ONE_SAMPLE = [torch.zeros(1, 1)]


class Quadratic(nn.Module):
    """f(x) = ½ Σ h_i x_i²."""

    def __init__(self, curvature: list[float]) -> None:
        super().__init__()
        self.curvature = torch.tensor(curvature, dtype=torch.float64)
        self.x = nn.Parameter(torch.ones(len(curvature), dtype=torch.float64))


def quadratic_loss(module: Quadratic, batch: Tensor) -> Tensor:
    return 0.5 * (module.curvature * module.x.square()).sum()


@pytest.mark.parametrize("curvature", [[3.0], [2.0, 7.0], [1.0, -20.0, 5.0], list(np.linspace(0.1, 40.0, 60))])
def test_the_largest_eigenvalue_of_a_quadratic_is_found(curvature: list[float]) -> None:
    found = top_curvature(Quadratic(curvature), ONE_SAMPLE, loss=quadratic_loss)
    assert found.value == pytest.approx(max(curvature), rel=0.02)
    assert found.num_parameters == len(curvature)


def test_products_with_the_hessian_are_those_of_the_dense_one() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(10, 3, dtype=torch.float64), torch.randn(10, 2, dtype=torch.float64)
    batches = [(x[:6], y[:6]), (x[6:], y[6:])]

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(module(batch[0]), batch[1])

    surface = LossSurface(module, batches, loss=loss)
    num = surface.origin.numel()
    dense = torch.stack([surface.hessian_product(unit) for unit in torch.eye(num, dtype=torch.float64)])
    names = dict(module.named_parameters())

    def whole(flat: Tensor) -> Tensor:
        pieces = surface.split(flat)
        output = torch.func.functional_call(module, {name: pieces[name] for name in names}, (x,))
        return nn.functional.mse_loss(output, y)

    exact = torch.autograd.functional.hessian(whole, surface.origin)
    torch.testing.assert_close(dense, exact, rtol=1e-8, atol=1e-10)
    found = top_curvature(module, batches, loss=loss, tolerance=1e-4)
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(exact).max()), rel=1e-3)


def test_too_few_products_give_a_lower_bound() -> None:
    curvature = list(np.linspace(0.1, 40.0, 200))
    steps: list[tuple[int, int]] = []
    found = top_curvature(
        Quadratic(curvature), ONE_SAMPLE, loss=quadratic_loss, max_products=3, progress=lambda *s: steps.append(s)
    )
    assert 0 < found.value < 40.0
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_it_is_stored_and_read_again() -> None:
    found = top_curvature(Quadratic([2.0, 1.0, 3.0]), ONE_SAMPLE, loss=quadratic_loss)
    assert from_stored(Curvature, to_stored(found)) == found


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ConfigError, match="tolerance"):
        top_curvature(Quadratic([1.0]), ONE_SAMPLE, loss=quadratic_loss, tolerance=0.0)
