"""BatchNorm layers whose statistics in training are those of a fixed number of samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bsopt.errors import TaskError
from bsopt.training.task.ghost_batch_norm import use_ghost_batch_norm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3), nn.BatchNorm1d(3))


def test_a_large_batch_is_normalised_as_so_many_small_ones() -> None:
    whole, ghost = network(), network()
    assert use_ghost_batch_norm(ghost, 8) == 2
    images = torch.randn(32, 1, 4, 4)
    expected = torch.cat([whole(part) for part in images.split(8)])
    torch.testing.assert_close(ghost(images), expected)
    torch.testing.assert_close(ghost.state_dict(), whole.state_dict())  # running statistics, part by part
    assert not torch.allclose(ghost(images), network()(images))


def test_parts_are_as_equal_as_can_be_and_never_smaller() -> None:
    layer = nn.Sequential(nn.BatchNorm1d(1))
    use_ghost_batch_norm(layer, 8)
    found = layer(torch.arange(20.0)[:, None])  # two parts of 10, not 8, 8 and 4
    torch.testing.assert_close(found[:10].mean(), torch.tensor(0.0))
    torch.testing.assert_close(layer(torch.arange(5.0)[:, None]).mean(), torch.tensor(0.0))


def test_evaluation_names_and_optimizers_stay_as_they_were() -> None:
    plain, ghost = network(), network()
    weights = [id(weight) for weight in ghost.parameters()]
    use_ghost_batch_norm(ghost, 2)
    assert [id(weight) for weight in ghost.parameters()] == weights
    assert list(ghost.state_dict()) == list(plain.state_dict())
    images = torch.randn(6, 1, 4, 4)
    torch.testing.assert_close(ghost.eval()(images), plain.eval()(images))


def test_what_has_no_such_layer_is_told() -> None:
    with pytest.raises(TaskError, match="Linear has no BatchNorm layer"):
        use_ghost_batch_norm(nn.Linear(1, 1), 8)
    with pytest.raises(TaskError, match="layer 0 is a SyncBatchNorm"):
        use_ghost_batch_norm(nn.Sequential(nn.SyncBatchNorm(2)), 8)
