from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from bsopt.analysis import Distance, EpochDistances, epoch_distances, weight_distance
from bsopt.analysis.stored_results import from_stored, to_stored
from bsopt.errors import ConfigError


def test_distance_by_hand_in_total_and_per_layer() -> None:
    start = {"a.weight": torch.zeros(2, 2), "a.bias": torch.zeros(1), "b.weight": torch.ones(2)}
    end = {"a.weight": torch.tensor([[1.0, 2.0], [2.0, 4.0]]), "a.bias": torch.zeros(1), "b.weight": torch.ones(2) + 6}
    distance = weight_distance(start, end)
    assert distance.per_layer == {"a": 5.0, "b": pytest.approx(72**0.5)}
    assert distance.total == pytest.approx((25 + 72) ** 0.5)
    assert distance.start_norm == pytest.approx(2**0.5)
    assert distance.relative == pytest.approx((97 / 2) ** 0.5)
    assert distance.num_parameters == 7


def test_modules_are_compared_over_parameters_and_state_dicts_without_running_statistics() -> None:
    first = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    second = copy.deepcopy(first)
    with torch.no_grad():
        second[0].weight.add_(1.0)
        second[1].running_mean.add_(100.0)
        second[1].running_var.add_(100.0)
    assert weight_distance(first, second).total == pytest.approx(12**0.5)
    assert weight_distance(first.state_dict(), second.state_dict()).per_layer == {"0": pytest.approx(12**0.5), "1": 0.0}
    assert weight_distance(first, second.state_dict()).num_parameters == 12 + 4 + 8


def test_tied_weights_count_once_in_a_module() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    assert weight_distance(module, module).num_parameters == 4


def test_small_steps_of_half_precision_weights_do_not_underflow() -> None:
    start, end = {"w": torch.zeros(4, dtype=torch.float16)}, {"w": torch.full((4,), 1e-4, dtype=torch.float16)}
    assert weight_distance(start, end).total == pytest.approx(2e-4, rel=1e-2)


def test_chosen_parameters_alone_count() -> None:
    start, end = {"a.w": torch.zeros(1), "b.w": torch.zeros(1)}, {"a.w": torch.ones(1), "b.w": torch.ones(1)}
    assert weight_distance(start, end, parameters=["b.w"]).per_layer == {"b": 1.0}


@pytest.mark.parametrize(
    ("end", "words"),
    [({"b": torch.zeros(2)}, "same tensors"), ({"a": torch.zeros(3)}, "shape")],
)
def test_different_networks_are_refused(end: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        weight_distance({"a": torch.zeros(2)}, end)
    with pytest.raises(ConfigError, match="'c'"):
        weight_distance({"a": torch.zeros(2)}, end, parameters=["c"])


def test_epoch_distances_tell_displacement_per_epoch_from_distance_to_the_start() -> None:
    path = [{"w": torch.tensor(point)} for point in ([0.0, 0.0], [3.0, 4.0], [3.0, 0.0])]
    distances = epoch_distances(path)
    assert distances == EpochDistances(per_epoch=(5.0, 4.0), from_start=(5.0, 3.0))
    with pytest.raises(ConfigError, match="at least one epoch"):
        epoch_distances(path[:1])


def test_values_survive_json() -> None:
    distance = weight_distance({"a.w": torch.zeros(2)}, {"a.w": torch.ones(2)})
    path = EpochDistances(per_epoch=(1.0,), from_start=(1.0,))
    assert from_stored(Distance, json.loads(json.dumps(to_stored(distance)))) == distance
    assert from_stored(EpochDistances, json.loads(json.dumps(to_stored(path)))) == path
    with pytest.raises(ConfigError, match="EpochDistances"):
        from_stored(EpochDistances, to_stored(distance))
    with pytest.raises(ConfigError, match="fields"):
        from_stored(Distance, {**to_stored(distance), "surprise": 1})
