"""Conditioning and evidence against the textbook's formulas, written out with plain inverses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import gamma, kv

from bsopt.laws.gaussian_process import (
    condition,
    log_evidence,
    matern_five_halves,
    matern_three_halves,
    root_of,
    squared_distances,
)

RNG = np.random.default_rng(0)
DATA, POINTS, Y = RNG.uniform(0, 3, (7, 2)), RNG.uniform(0, 3, (4, 2)), RNG.standard_normal(7)
NOISE = RNG.uniform(0.01, 0.1, 7)
LENGTHS = np.array([[1.0, 2.0], [0.5, 0.5], [3.0, 1.0]])


def covariance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Three processes of different length scales."""
    return np.stack([matern_five_halves(squared_distances(left, right, lengths)) for lengths in LENGTHS])


@pytest.mark.parametrize(("correlation", "nu"), [(matern_three_halves, 1.5), (matern_five_halves, 2.5)])
def test_correlations_are_materns(correlation, nu) -> None:
    distance = np.linspace(0.05, 4.0, 30)
    s = np.sqrt(2 * nu) * distance
    assert correlation(distance**2) == pytest.approx(2 ** (1 - nu) / gamma(nu) * s**nu * kv(nu, s), rel=1e-9)


def test_distances_are_in_units_of_the_length_scales() -> None:
    assert squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 8.0]]), np.array([1.0, 2.0])).tolist() == [[25.0]]


def test_predictions_are_those_of_the_textbook_for_every_process() -> None:
    K, cross = covariance(DATA, DATA), covariance(DATA, POINTS)
    process = condition(K, Y, noise_variance=NOISE)
    shift, variance = process.predict(process.project(cross), np.ones((3, 1)))
    for s in range(3):
        inverse = np.linalg.inv(K[s] + np.diag(NOISE))
        assert shift[s] == pytest.approx(cross[s].T @ inverse @ Y)
        assert variance[s] == pytest.approx(1.0 - np.diag(cross[s].T @ inverse @ cross[s]))


def test_some_processes_predict_as_they_do_among_all() -> None:
    process, cross = condition(covariance(DATA, DATA), Y, noise_variance=NOISE), covariance(DATA, POINTS)
    kept = np.array([2, 0])
    some = process[kept]
    all_shifts = process.predict(process.project(cross), np.ones((3, 1)))[0]
    assert some.predict(some.project(cross[kept]), np.ones((2, 1)))[0] == pytest.approx(all_shifts[kept])


def test_evidence_is_the_normal_density_up_to_a_constant() -> None:
    K = covariance(DATA, DATA)
    found = log_evidence(K, Y, noise_variance=NOISE)
    density = [stats.multivariate_normal(np.zeros(7), k + np.diag(NOISE)).logpdf(Y) for k in K]
    assert found - found[0] == pytest.approx(np.array(density) - density[0])
    assert condition(K, Y, noise_variance=NOISE).log_evidence == pytest.approx(found)


def test_processes_without_data_keep_their_prior() -> None:
    process = condition(np.zeros((2, 0, 0)), np.zeros((2, 0)), noise_variance=np.zeros((2, 1)))
    shift, variance = process.predict(process.project(np.zeros((2, 0, 3))), np.array([[1.0], [2.0]]))
    assert shift.tolist() == [[0.0] * 3] * 2
    assert variance.tolist() == [[1.0] * 3, [2.0] * 3]


def test_root_reproduces_even_a_singular_covariance() -> None:
    twice = np.ones((2, 2))
    assert root_of(twice) @ root_of(twice).T == pytest.approx(twice, abs=1e-5)
