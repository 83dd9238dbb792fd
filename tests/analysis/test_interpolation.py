from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from bsopt.analysis import Interpolation, LossSurface, interpolate
from bsopt.analysis.stored_results import from_stored, to_stored
from bsopt.errors import ConfigError

Loss = Callable[[nn.Module, tuple[Tensor, ...]], Tensor]
Loader = DataLoader[tuple[Tensor, ...]]


@pytest.fixture
def other(network: nn.Module, dataset: TensorDataset, loss: Loss) -> nn.Module:
    module = copy.deepcopy(network)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        loss(module, dataset.tensors).backward()
        optimizer.step()
    return module


def test_the_ends_equal_the_two_minimizers_losses(
    network: nn.Module, other: nn.Module, loader: Loader, loss: Loss
) -> None:
    bystander = copy.deepcopy(network)
    nn.init.zeros_(bystander.head[1].weight)
    line = interpolate(
        bystander, network, other.state_dict(), train_data=loader, validation_data=loader, loss=loss, alphas=(0, 0.5, 1)
    )
    ends = [LossSurface(module, loader, loss=loss).loss() for module in (network, other)]
    assert [line.train_losses[0], line.train_losses[2]] == ends
    assert line.validation_losses == line.train_losses
    assert line.num_train_samples == line.num_validation_samples == 90


def test_the_middle_equals_a_hand_made_average_statistics_included(
    network: nn.Module, other: nn.Module, loader: Loader, loss: Loss
) -> None:
    middle = copy.deepcopy(network)
    states = network.state_dict(), other.state_dict()
    middle.load_state_dict({n: (t + states[1][n]) / 2 if t.is_floating_point() else t for n, t in states[0].items()})
    expected = LossSurface(middle, loader, loss=loss).loss()
    line = interpolate(network, network, other, train_data=loader, loss=loss, alphas=(0.5,))
    assert line.train_losses[0] == pytest.approx(expected, rel=1e-6)
    assert line.validation_losses is None


def test_re_estimated_statistics_agree_with_torchs_own(
    network: nn.Module, other: nn.Module, loader: Loader, dataset: TensorDataset, loss: Loss
) -> None:
    reference = copy.deepcopy(other)
    update_bn([dataset.tensors[0]], reference)
    expected = LossSurface(reference, loader, loss=loss).loss()
    line = interpolate(network, network, other, train_data=loader, loss=loss, alphas=(1,), statistics="re-estimate")
    assert line.train_losses[0] == pytest.approx(expected, rel=1e-5)
    assert line.train_losses[0] != LossSurface(other, loader, loss=loss).loss()


def test_variances_stay_positive_outside_the_ends(
    network: nn.Module, other: nn.Module, loader: Loader, loss: Loss
) -> None:
    small, large = network.state_dict(), other.state_dict()
    large["features.1.running_var"] = small["features.1.running_var"] * 5
    line = interpolate(network, small, large, train_data=loader, loss=loss)
    assert line.alphas[0] == -1.0
    assert line.alphas[-1] == 2.0
    assert all(0 < value < 1e3 for value in line.train_losses)


def test_progress_json_and_mistakes(network: nn.Module, loader: Loader, loss: Loss) -> None:
    calls: list[tuple[int, int]] = []
    line = interpolate(
        network, network, network, train_data=loader, loss=loss, alphas=(0, 1), progress=lambda *c: calls.append(c)
    )
    assert calls == [(1, 2), (2, 2)]
    assert from_stored(Interpolation, json.loads(json.dumps(to_stored(line)))) == line
    with pytest.raises(ConfigError, match="same tensors"):
        interpolate(network, network, nn.Linear(1, 1), train_data=loader, loss=loss)
    with pytest.raises(ConfigError, match="alphas"):
        interpolate(network, network, network, train_data=loader, loss=loss, alphas=())
    with pytest.raises(ConfigError, match="statistics"):
        interpolate(network, network, network, train_data=loader, loss=loss, statistics="guess")
