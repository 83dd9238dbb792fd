from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bsopt.analysis import AdaptiveSharpness, LossSurface, Sharpness, adaptive_sharpness, keskar_sharpness
from bsopt.analysis.stored_results import from_stored, to_stored
from bsopt.errors import ConfigError

ONE_SAMPLE = [torch.zeros(1, 1)]


class Quadratic(nn.Module):
    """f(x) = offset + ½ Σ h_i (x_i − c_i)²."""

    def __init__(self, curvature: list[float], center: list[float], x: list[float]) -> None:
        super().__init__()
        self.curvature, self.center = (torch.tensor(v, dtype=torch.float64) for v in (curvature, center))
        self.x = nn.Parameter(torch.tensor(x, dtype=torch.float64))


def quadratic_loss(module: Quadratic, batch: Tensor) -> Tensor:
    return 0.25 + 0.5 * (module.curvature * (module.x - module.center).square()).sum()


def box_maximum(module: Quadratic, bounds: np.ndarray) -> float:
    """The maximum of a separable convex function over a box: the farther end of each coordinate."""
    offset = (module.x - module.center).detach().numpy()
    return 0.25 + 0.5 * float((module.curvature.numpy() * (np.abs(offset) + bounds) ** 2).sum())


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4, 0.1])
@pytest.mark.parametrize("at_minimum", [True, False])
def test_keskar_sharpness_of_a_quadratic_is_the_known_box_maximum(epsilon: float, at_minimum: bool) -> None:
    center = [1.0, -2.0, 0.0, 5.0]
    module = Quadratic([1.0, 10.0, 3.0, 0.5], center, center if at_minimum else [1.5, -2.5, 0.1, 4.0])
    bounds = epsilon * (np.abs(module.x.detach().numpy()) + 1)
    base = float(quadratic_loss(module, ONE_SAMPLE[0]).detach())
    sharpness = keskar_sharpness(module, ONE_SAMPLE, loss=quadratic_loss, epsilon=epsilon, num_starts=4)
    assert sharpness.max_loss == pytest.approx(box_maximum(module, bounds), rel=1e-9)
    assert sharpness.value == pytest.approx(100 * (box_maximum(module, bounds) - base) / (1 + base), rel=1e-6)
    assert sharpness.num_parameters == 4
    if at_minimum:
        assert sharpness.per_start[0] == 0.0, "a start at the minimum stalls: that is what the other starts are for"


def test_a_very_flat_minimum_is_measured_too() -> None:
    center = [1.0, -2.0, 0.0, 5.0]
    module = Quadratic([1e-6, 1e-5, 3e-6, 5e-7], center, center)
    bounds = 1e-3 * (np.abs(module.x.detach().numpy()) + 1)
    sharpness = keskar_sharpness(module, ONE_SAMPLE, loss=quadratic_loss)
    rise = box_maximum(module, bounds) - 0.25
    assert sharpness.max_loss - sharpness.loss == pytest.approx(rise, rel=1e-3)


def test_subspace_sharpness_is_the_maximum_over_the_corners_of_its_box() -> None:
    center = list(np.linspace(-2, 2, 30))
    module = Quadratic(list(np.linspace(0.1, 5, 30)), center, center)
    epsilon, p = 0.05, 4
    sharpness = keskar_sharpness(
        module, ONE_SAMPLE, loss=quadratic_loss, epsilon=epsilon, subspace_dim=p, num_starts=16, max_iterations=50
    )
    directions = torch.randn(30, p, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy() / p**0.5
    bounds = epsilon * (np.abs(np.linalg.pinv(directions) @ module.x.detach().numpy()) + 1)
    corners = (np.array(signs) * bounds for signs in itertools.product((-1, 1), repeat=p))
    peak = max(0.25 + 0.5 * float((module.curvature.numpy() * (directions @ y) ** 2).sum()) for y in corners)
    assert sharpness.max_loss == pytest.approx(peak, rel=1e-6)
    assert sharpness.subspace_dim == p


def test_full_space_is_at_least_as_sharp_as_any_point_of_the_box(
    network: nn.Module, loader: DataLoader[object], loss: Callable[[nn.Module, object], Tensor]
) -> None:
    sharpness = keskar_sharpness(network, loader, loss=loss, epsilon=5e-3)
    surface = LossSurface(network, loader, loss=loss)
    bounds = 5e-3 * (surface.origin.abs() + 1)
    generator = torch.Generator().manual_seed(5)
    signs = torch.sign(torch.randn(200, len(bounds), generator=generator))
    brute = max(surface.loss(surface.origin + sign * bounds) for sign in signs)
    _, gradient = surface.loss_and_gradient(surface.origin)
    linear = sharpness.loss + float((gradient.abs() * bounds).sum())
    assert sharpness.max_loss > brute
    assert sharpness.max_loss == pytest.approx(linear, rel=0.2)
    assert sharpness.loss == surface.loss()


def test_equal_seeds_give_equal_results_and_progress_counts_starts(
    network: nn.Module, loader: DataLoader[object], loss: Callable[[nn.Module, object], Tensor]
) -> None:
    calls: list[tuple[int, int]] = []
    first = keskar_sharpness(
        network, loader, loss=loss, num_starts=2, subspace_dim=5, progress=lambda *c: calls.append(c)
    )
    second = keskar_sharpness(network, loader, loss=loss, num_starts=2, subspace_dim=5)
    assert first == second
    assert calls == [(1, 2), (2, 2)]
    assert first != keskar_sharpness(network, loader, loss=loss, num_starts=2, subspace_dim=5, seed=1)


def rescaled(module: nn.Sequential, factor: float) -> nn.Sequential:
    """The same function by other weights: the first layer times the factor, the second divided by it."""
    twin = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 1)).double()
    twin.load_state_dict(module.state_dict())
    with torch.no_grad():
        twin[0].weight.mul_(factor)
        twin[0].bias.mul_(factor)
        twin[2].weight.div_(factor)
    return twin


def test_dinh_rescaling_leaves_adaptive_sharpness_and_changes_keskars() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 1)).double()
    data = [(torch.randn(40, 6).double(), torch.randn(40, 1).double())]
    twin = rescaled(module, 16.0)

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(module(batch[0]), batch[1])

    torch.testing.assert_close(module(data[0][0]), twin(data[0][0]))
    adaptive = [adaptive_sharpness(m, data, loss=loss, rho=0.01).value for m in (module, twin)]
    keskar = [keskar_sharpness(m, data, loss=loss).value for m in (module, twin)]
    assert adaptive[0] > 0
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-9)
    assert keskar[1] > 2 * keskar[0]


def test_adaptive_sharpness_of_a_quadratic_is_the_known_box_maximum() -> None:
    center = [1.0, -2.0, 0.0, 5.0]
    module = Quadratic([1.0, 10.0, 3.0, 0.5], center, center)
    sharpness = adaptive_sharpness(module, ONE_SAMPLE, loss=quadratic_loss, rho=0.1)
    assert sharpness.value == pytest.approx(0.5 * (1 * 0.1**2 + 10 * 0.2**2 + 0.5 * 0.5**2), rel=1e-9)


def test_a_loss_that_overflows_in_the_box_is_infinitely_sharp() -> None:
    module = nn.Linear(1, 1)

    def loss(module: nn.Linear, batch: Tensor) -> Tensor:
        moved = module.weight.sum() != float(start)
        return module.weight.sum() * (math.inf if moved else 1.0)

    start = module.weight.detach().sum().clone()
    assert keskar_sharpness(module, ONE_SAMPLE, loss=loss).value == math.inf


def test_values_survive_json_and_wrong_arguments_are_refused() -> None:
    module = Quadratic([1.0], [0.0], [0.0])
    keskar = keskar_sharpness(module, ONE_SAMPLE, loss=quadratic_loss)
    adaptive = adaptive_sharpness(module, ONE_SAMPLE, loss=quadratic_loss)
    assert from_stored(Sharpness, json.loads(json.dumps(to_stored(keskar)))) == keskar
    assert from_stored(AdaptiveSharpness, json.loads(json.dumps(to_stored(adaptive)))) == adaptive
    for name in ("epsilon", "num_starts", "max_iterations", "subspace_dim"):
        with pytest.raises(ConfigError, match=name):
            keskar_sharpness(module, ONE_SAMPLE, loss=quadratic_loss, **{name: 0})
    with pytest.raises(ConfigError, match="rho"):
        adaptive_sharpness(module, ONE_SAMPLE, loss=quadratic_loss, rho=-1.0)
