from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bsopt.analysis import (
    Landscape1D,
    Landscape2D,
    LossSurface,
    filter_normalized_direction,
    landscape_1d,
    landscape_2d,
)
from bsopt.analysis.stored_results import from_stored, to_stored
from bsopt.errors import ConfigError

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
Loader = DataLoader[tuple[Tensor, ...]]


def test_each_filter_of_the_direction_is_as_long_as_the_weights_own(network: nn.Module) -> None:
    weights = {name: p.detach() for name, p in network.named_parameters()}
    direction = filter_normalized_direction(weights, seed=3)
    for name in ("features.0.weight", "head.1.weight"):
        for drawn, own in zip(direction[name], weights[name], strict=True):
            assert float(drawn.norm()) == pytest.approx(float(own.norm()), rel=1e-5)
    for name in ("features.0.bias", "features.1.weight", "features.1.bias"):
        assert not direction[name].any()
    assert not torch.equal(direction["head.1.weight"], filter_normalized_direction(weights, seed=4)["head.1.weight"])


def test_the_centre_equals_the_loss(network: nn.Module, loader: Loader, loss: Loss) -> None:
    expected = LossSurface(network, loader, loss=loss).loss()
    line = landscape_1d(network, loader, loss=loss, num_points=7)
    plane = landscape_2d(network, loader, loss=loss, num_points=5)
    assert line.alphas[3] == plane.alphas[2] == 0.0
    assert line.center_loss == line.losses[3] == expected
    assert plane.center_loss == plane.losses[2][2] == expected


def test_a_point_off_the_centre_equals_a_hand_moved_network(network: nn.Module, loader: Loader, loss: Loss) -> None:
    plane = landscape_2d(network, loader, loss=loss, num_points=3, span=0.5)
    weights = {name: p.detach() for name, p in network.named_parameters()}
    first, second = (filter_normalized_direction(weights, seed=seed) for seed in (0, 1))
    moved = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter.add_(0.5 * first[name] - 0.5 * second[name])
    assert plane.losses[0][2] == pytest.approx(LossSurface(moved, loader, loss=loss).loss(), rel=1e-5)
    assert (plane.alphas[2], plane.betas[0]) == (0.5, -0.5)


def test_the_middle_row_is_the_one_dimensional_landscape(network: nn.Module, loader: Loader, loss: Loss) -> None:
    line = landscape_1d(network, loader, loss=loss, num_points=5)
    assert landscape_2d(network, loader, loss=loss, num_points=5).losses[2] == line.losses


def test_only_points_within_reach_are_evaluated(network: nn.Module, loader: Loader, loss: Loss) -> None:
    calls: list[tuple[int, int]] = []
    whole = landscape_2d(network, loader, loss=loss, num_points=5)
    disc = landscape_2d(network, loader, loss=loss, num_points=5, reach=0.5, progress=lambda *c: calls.append(c))
    cross = [(1, 2), (2, 1), (2, 2), (2, 3), (3, 2)]
    assert [(j, i) for j in range(5) for i in range(5) if disc.losses[j][i] is not None] == cross
    assert all(disc.losses[j][i] == whole.losses[j][i] for j, i in cross)
    assert calls[-1] == (5, 5)
    assert from_stored(Landscape2D, json.loads(json.dumps(to_stored(disc)))) == disc


def test_a_loss_that_overflows_is_infinite_not_nan() -> None:
    module = nn.Linear(1, 1, bias=False)
    line = landscape_1d(
        module, [torch.zeros(1, 1)], loss=lambda m, b: ((m.weight - m.weight.detach()) / 0).sum(), num_points=3
    )
    assert line.losses == (float("inf"),) * 3


def test_progress_json_and_mistakes(network: nn.Module, loader: Loader, loss: Loss) -> None:
    calls: list[tuple[int, int]] = []
    plane = landscape_2d(network, loader, loss=loss, num_points=3, progress=lambda *c: calls.append(c))
    line = landscape_1d(network, loader, loss=loss, num_points=2)
    assert calls == [(done, 9) for done in range(1, 10)]
    assert from_stored(Landscape2D, json.loads(json.dumps(to_stored(plane)))) == plane
    assert from_stored(Landscape1D, json.loads(json.dumps(to_stored(line)))) == line
    with pytest.raises(ConfigError, match="num_points"):
        landscape_1d(network, loader, loss=loss, num_points=1)
    with pytest.raises(ConfigError, match="span"):
        landscape_2d(network, loader, loss=loss, span=0.0)
