"""Step time, memory, power and many devices: recovered, predicted, and refused where nothing was measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.laws.communication import (
    CommunicationFit,
    PlacementPoint,
    fit_communication,
    given_communication,
    predict_update_seconds,
)
from bsopt.laws.estimate import FitStatus
from bsopt.laws.step_time import MemoryFit, StepTimeFit, fit_memory, fit_power, fit_step_time, step_time
from bsopt.serialization import from_plain, to_plain

# Zeus (Apache-2.0): ShuffleNet-v2, CIFAR-100, adadelta on an A40 at 300 W: batch size, seconds per epoch × batch size.
SHUFFLENET = {8: 232.05, 16: 115.49, 32: 57.37, 64: 33.165, 128: 17.95, 256: 10.705, 512: 9.14, 1024: 8.525, 2048: 8.66}


def true_time(b: float) -> float:
    return step_time(b, latency=0.02, seconds_per_sample=1e-3, gamma=2.0)


def probes(sizes: tuple[int, ...] = (4, 32, 256, 1024), noise: float = 0.01) -> list[tuple[float, float]]:
    rng = np.random.default_rng(0)
    return [(b, true_time(b) * float(np.exp(noise * rng.standard_normal()))) for b in sizes]


@given(st.floats(1, 1e4), st.floats(1, 10))
def test_step_time_lies_between_the_sharp_corner_and_the_straight_line(b: float, gamma: float) -> None:
    seconds = step_time(b, latency=0.02, seconds_per_sample=1e-3, gamma=gamma)
    assert max(0.02, 1e-3 * b) * 0.999 <= seconds <= (0.02 + 1e-3 * b) * 1.001


def test_step_time_is_predicted_between_four_probes() -> None:
    fit = fit_step_time(probes())
    assert fit.status is FitStatus.OK
    for b in (8, 20, 64, 512):
        found = fit.predict(b)
        assert found is not None
        assert found.value == pytest.approx(true_time(b), rel=0.06)
        assert true_time(b) in found


def test_published_step_times_are_predicted_within_fifteen_percent() -> None:
    fit = fit_step_time([(b, SHUFFLENET[b] * b) for b in (8, 64, 512, 2048)])
    for b in (16, 32, 128, 256, 1024):
        found = fit.predict(b)
        assert found is not None
        assert found.value == pytest.approx(SHUFFLENET[b] * b, rel=0.15)


def test_throughput_saturates_at_the_reciprocal_of_the_time_per_sample() -> None:
    fit = fit_step_time(probes())
    found = fit.samples_per_second(1024)
    assert found is not None
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(1000, rel=0.05)


def test_one_size_is_too_few_for_a_step_time() -> None:
    fit = fit_step_time([(32, 0.1), (32, 0.11)])
    assert fit.status is FitStatus.TOO_FEW
    assert fit.predict(64) is None


def test_flat_step_times_leave_the_time_per_sample_open() -> None:
    fit = fit_step_time([(1, 0.02), (2, 0.02), (4, 0.02)])
    assert fit.status is FitStatus.NOT_IDENTIFIED
    assert "time per sample" in fit.message


def test_falling_step_times_are_contradictory() -> None:
    fit = fit_step_time([(8, 1.0), (64, 0.4)])
    assert fit.status is FitStatus.CONTRADICTORY
    assert fit.predict(16) is None


def test_largest_micro_batch_fits_the_memory_with_its_margin() -> None:
    fit = fit_memory([(b, 1e9 + 5e6 * b) for b in (8, 16, 32, 64)])
    largest = fit.largest_micro_batch(8e9, margin=0.05)
    assert largest is not None
    peak, more = fit.predict(largest), fit.predict(largest + 1)
    assert peak is not None
    assert more is not None
    assert peak.high <= 7.6e9 < more.high
    assert 1000 < largest <= (7.6e9 - 1e9) / 5e6


def test_memory_too_small_for_one_sample_gives_zero() -> None:
    assert fit_memory([(8, 2e9), (16, 3e9), (32, 5e9)]).largest_micro_batch(1e9) == 0


@pytest.mark.parametrize("points", [[(8, 2e9), (16, 2e9), (32, 2e9)], [(b, 35e6 / 3) for b in (8, 24, 50)]])
def test_memory_that_does_not_grow_gives_no_largest_size(points: list[tuple[float, float]]) -> None:
    fit = fit_memory(points)  # of the second ones rounding leaves a slope of 1e-10 bytes
    assert fit.status is FitStatus.CONTRADICTORY
    assert fit.largest_micro_batch(8e9) is None


def test_power_rises_with_the_busy_share() -> None:
    times = fit_step_time(probes())
    points = [(b, 60.0 + 200.0 * 1e-3 * b / true_time(b)) for b in (4, 32, 256, 1024)]
    fit = fit_power(points, step_time=times)
    found = fit.predict(64, step_time=times)
    assert found is not None
    assert found.value == pytest.approx(60.0 + 200.0 * 0.064 / true_time(64), rel=0.1)


def test_power_never_measured_is_said() -> None:
    fit = fit_power([], step_time=fit_step_time(probes()))
    assert fit.status is FitStatus.TOO_FEW
    assert fit.predict(8, step_time=fit_step_time(probes())) is None


def placement(b: int, devices: int, nodes: int = 1) -> PlacementPoint:
    world = devices * nodes
    allreduce = 0.05 * 2 * (world - 1) / world
    return PlacementPoint(b, devices, nodes, float(np.hypot(true_time(b), allreduce)))


def test_eight_devices_are_predicted_from_two_and_four() -> None:
    times = fit_step_time(probes())
    fit = fit_communication([placement(b, k) for b in (8, 64, 256) for k in (2, 4)], step_time=times)
    assert fit.status is FitStatus.OK
    for b in (8, 64, 256):
        found = predict_update_seconds(times, fit, micro_batch_size=b, num_devices=8)
        truth = placement(b, 8).seconds
        assert found is not None
        assert found.value == pytest.approx(truth, rel=0.12)
        assert truth in found


def test_only_the_last_accumulated_micro_batch_waits_for_the_others() -> None:
    times = fit_step_time(probes(noise=0.0))
    fit = fit_communication([placement(b, k) for b in (8, 64) for k in (2, 4)], step_time=times)
    once, four, alone = (
        predict_update_seconds(times, fit, micro_batch_size=64, accumulate_grad_batches=a, num_devices=k)
        for a, k in ((1, 2), (4, 2), (3, 1))
    )
    assert once is not None
    assert four is not None
    assert alone is not None
    assert four.value == pytest.approx(once.value + alone.value, rel=0.05)


def test_other_nodes_are_not_predicted_from_one_node() -> None:
    times = fit_step_time(probes())
    fit = fit_communication([placement(64, 2), placement(64, 4)], step_time=times)
    assert predict_update_seconds(times, fit, micro_batch_size=64, num_devices=4, num_nodes=2) is None
    assert predict_update_seconds(times, None, micro_batch_size=64, num_devices=2) is None


def test_given_bandwidth_stands_in_for_a_measurement() -> None:
    times = fit_step_time(probes())
    fit = given_communication(1e9, bandwidth_bytes_per_second=1e10, many_nodes=True)
    found = predict_update_seconds(times, fit, micro_batch_size=64, num_devices=8, num_nodes=2)
    assert found is not None
    assert 0.175 < found.value < 0.3  # 2·15/16·0.1 s of all-reduce, 0.067 s of compute, some overlap
    assert found.high / found.low > 1.3


def test_no_measured_placement_is_said() -> None:
    assert fit_communication([placement(64, 1)], step_time=fit_step_time(probes())).status is FitStatus.TOO_FEW


def test_fits_survive_storage_as_json() -> None:
    times = fit_step_time(probes())
    assert from_plain(StepTimeFit, json.loads(json.dumps(to_plain(times)))) == times
    memory = fit_memory([(8, 2e9), (16, 3e9), (32, 5e9)])
    assert from_plain(MemoryFit, json.loads(json.dumps(to_plain(memory)))) == memory
    network = fit_communication([placement(64, 2), placement(64, 4)], step_time=times)
    assert from_plain(CommunicationFit, json.loads(json.dumps(to_plain(network)))) == network
