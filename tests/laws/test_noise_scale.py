import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsopt.errors import ConfigError
from bsopt.laws.noise_scale import (
    NoiseMeasurement,
    NoiseMoments,
    NoiseScale,
    describe_noise_scale,
    estimate_noise_scale,
    estimate_trend,
    measure_noise,
    sample_ratio,
    step_ratio,
)
from bsopt.serialization import from_plain, to_json, to_plain

G = np.array([1.0, -0.5, 0.25])
STD = np.array([2.0, 1.0, 3.0])
SQ_NORM = float(G @ G)
TRACE = float(STD @ STD)


def _moments(rng: np.random.Generator, *, steps: int, sizes: list[int], decay: float = 1.0) -> NoiseMoments:
    """Measure normal gradients in parts of the given sizes."""
    moments = NoiseMoments()
    spread = STD / np.sqrt(np.array(sizes, dtype=float))[:, None]
    b = len(sizes) / sum(1 / size for size in sizes)
    for _ in range(steps):
        parts = G + spread * rng.standard_normal((len(sizes), 3))
        small, big = float((parts**2).sum(1).mean()), float((parts.mean(0) ** 2).sum())
        measured = measure_noise(small, big, small_batch_size=b, big_batch_size=b * len(sizes))
        moments = moments.add(measured, decay=decay)
    return moments


@given(gradient=st.floats(1e-3, 1e3), trace=st.floats(1e-3, 1e3), b=st.floats(1, 1e3), factor=st.floats(1.5, 1e3))
def test_expected_norms_give_back_gradient_and_covariance(
    gradient: float, trace: float, b: float, factor: float
) -> None:
    big = b * factor
    measured = measure_noise(gradient + trace / b, gradient + trace / big, small_batch_size=b, big_batch_size=big)
    assert measured.gradient_sq_norm == pytest.approx(gradient, rel=1e-6, abs=1e-6 * trace)
    assert measured.covariance_trace == pytest.approx(trace, rel=1e-6, abs=1e-9 * gradient * big)


@pytest.mark.parametrize("sizes", [[8, 8], [8, 8, 8, 3]])
def test_measurements_are_unbiased_for_equal_and_ragged_parts(sizes: list[int]) -> None:
    moments = _moments(np.random.default_rng(0), steps=20_000, sizes=sizes)
    assert moments.gradient_sq_norm == pytest.approx(SQ_NORM, rel=0.03)
    assert moments.covariance_trace == pytest.approx(TRACE, rel=0.03)


@pytest.mark.parametrize("decay", [1.0, 0.95])
def test_interval_covers_the_true_noise_scale(decay: float) -> None:
    hits = 0
    for seed in range(200):
        noise = estimate_noise_scale(_moments(np.random.default_rng(seed), steps=80, sizes=[8, 8], decay=decay))
        assert noise is not None
        hits += noise.low <= TRACE / SQ_NORM <= noise.high
    assert 180 <= hits <= 198


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), min_size=2, max_size=20), st.integers(1, 19))
def test_merging_blocks_equals_adding_one_by_one(pairs: list[tuple[float, float]], cut: int) -> None:
    def moments_of(some: list[tuple[float, float]]) -> NoiseMoments:
        moments = NoiseMoments()
        for pair in some:
            moments = moments.add(NoiseMeasurement(*pair))
        return moments

    merged = moments_of(pairs[:cut]).merge(moments_of(pairs[cut:]))
    assert to_plain(merged) == pytest.approx(to_plain(moments_of(pairs)), rel=1e-6, abs=1e-6)


def test_no_upper_end_where_the_gradient_is_lost_in_noise() -> None:
    moments = NoiseMoments()
    for gradient in (1.0, -1.0, 0.9, -0.95, 0.1):
        moments = moments.add(NoiseMeasurement(gradient, 100.0 + gradient))
    noise = estimate_noise_scale(moments)
    assert noise is not None
    assert noise.high == math.inf
    assert 0 < noise.low < noise.value
    assert to_json(noise)["high"] is None


def test_nothing_is_estimated_before_the_first_measurement() -> None:
    assert estimate_noise_scale(NoiseMoments()) is None
    assert estimate_trend([NoiseMoments()]) is None


def test_trend_sees_a_fourfold_growth() -> None:
    rng = np.random.default_rng(1)
    blocks = []
    for level in (1.0, 1.0, 4.0, 4.0):
        block = NoiseMoments()
        for _ in range(20):
            block = block.add(NoiseMeasurement(1.0 + 0.1 * rng.standard_normal(), level + 0.1 * rng.standard_normal()))
        blocks.append(block)
    trend = estimate_trend(blocks)
    assert trend is not None
    assert trend.growth == pytest.approx(4.0, rel=0.1)
    assert trend.low < 4.0 < trend.high
    assert trend.is_growing


def test_moments_survive_a_round_trip_through_plain_numbers() -> None:
    moments = _moments(np.random.default_rng(2), steps=5, sizes=[4, 4])
    assert from_plain(NoiseMoments, to_plain(moments)) == moments


@given(B=st.floats(1, 1e5), factor=st.floats(1.01, 100), noise=st.floats(1, 1e6))
def test_a_larger_batch_saves_steps_and_costs_samples(B: float, factor: float, noise: float) -> None:
    assert 1 / factor - 1e-9 <= step_ratio(B, B * factor, noise_scale=noise) <= 1
    assert 1 - 1e-9 <= sample_ratio(B, B * factor, noise_scale=noise) <= factor + 1e-9


def test_equal_batch_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 < small < big"):
        measure_noise(1.0, 1.0, small_batch_size=4, big_batch_size=4)


@pytest.mark.parametrize(("B", "words"), [(1, "well below"), (10, "same order"), (1000, "well above")])
def test_words_place_the_batch_size(B: int, words: str) -> None:
    noise = estimate_noise_scale(_moments(np.random.default_rng(3), steps=2000, sizes=[8, 8]))
    assert noise is not None
    assert words in describe_noise_scale(noise, global_batch_size=B)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (
            NoiseScale(0.0, 0.0, math.inf, 4.6, -4.6, 1),
            "The gradient's noise can't be told from zero yet (1 measurement). Measure for longer.",
        ),
        (
            NoiseScale(0.0, 0.0, 12.0, 4.6, -4.6, 8),
            "The gradient's noise can't be told from zero yet (8 measurements): the noise scale is probably below 12 "
            "samples. Measure for longer.",
        ),
        (
            NoiseScale(math.inf, 0.0, math.inf, -0.1, 1.8, 1),
            "The gradient's mean can't be told from its noise yet (1 measurement). Measure for longer.",
        ),
    ],
)
def test_nothing_is_said_of_a_batch_where_the_noise_can_not_be_told(noise: NoiseScale, words: str) -> None:
    assert describe_noise_scale(noise, global_batch_size=64) == words
