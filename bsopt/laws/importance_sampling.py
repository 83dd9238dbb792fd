"""Draws from a posterior whose parameters are standard normal a priori, by adaptive importance sampling.

Notation:

    z      (S, d)  draws of the parameters
    log w  (S,)    their log weights; equal where draws come from the posterior itself

The first round is spread evenly over the prior. Its weights are tempered until enough draws count; each further round
is drawn from a Student t with the mean and covariance of those before, and all are weighed against the mixture that
they come from (Cappé et al. 2004, "Population Monte Carlo").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import gammaln, ndtri

__all__ = ["even_shares", "posterior_draws", "spread_normals", "tempered"]

Array: TypeAlias = NDArray[np.float64]

LEAST_EFFECTIVE = 24.0
"""Effective number of draws that a round's proposal is made from."""

TAIL = 6.0
"""Degrees of freedom of the proposals."""

JITTER = 0.15
"""Standard deviations added to a proposal's spread, so that it never collapses."""

FARTHEST = 4.0
"""Standard deviations of the prior beyond which nothing is proposed."""


def posterior_draws(
    log_likelihood: Callable[[Array], Array], first: Array, rng: np.random.Generator, *, rounds: int
) -> tuple[Array, Array]:
    """Return the draws of all rounds, (S, d), and their log weights, (S,); the mean weight is the evidence.

    Args:
        log_likelihood: From draws (r, d) to the log density of the data, (r,).
        first: Draws from the prior, (r, d); every round has as many.
        rng: For the rounds after the first.
        rounds: How many those are; more of them find a narrow posterior better.
    """
    z, d = first, first.shape[1]
    log_prior, log_like = _log_normal(z), log_likelihood(z)
    log_w, log_sum, proposals = log_like, log_prior, []  # log_sum: of the densities that the draws may come from
    for _ in range(rounds):
        weights = tempered(log_w, LEAST_EFFECTIVE)
        mean = weights @ z
        centred = z - mean
        half = np.asarray(np.linalg.cholesky((centred * weights[:, None]).T @ centred + JITTER**2 * np.eye(d)))
        proposals.append((mean, half))
        stretch = np.sqrt(TAIL / rng.chisquare(TAIL, size=len(first)))
        more = mean + (spread_normals(rng, len(first), d) @ half.T) * stretch[:, None]
        more = np.clip(more, -FARTHEST, FARTHEST)
        new_prior = _log_normal(more)
        new_sum = np.logaddexp.reduce([new_prior, *(_log_t(more, *proposal) for proposal in proposals)], axis=0)
        log_sum = np.concatenate([np.logaddexp(log_sum, _log_t(z, mean, half)), new_sum])
        log_prior = np.concatenate([log_prior, new_prior])
        log_like = np.concatenate([log_like, log_likelihood(more)])
        z = np.concatenate([z, more])
        log_w = log_like + log_prior - (log_sum - np.log(len(proposals) + 1))
    return z, log_w


def spread_normals(rng: np.random.Generator, num_draws: int, num_dimensions: int) -> Array:
    """Return standard normals, (num_draws, num_dimensions), evenly spread in each column (a Latin hypercube)."""
    ranks = rng.permuted(np.tile(np.arange(num_draws), (num_dimensions, 1)), axis=1).T
    return np.asarray(ndtri((ranks + rng.random((num_draws, num_dimensions))) / num_draws))


def tempered(log_weights: Array, least: float) -> Array:
    """Return weights, (S,), that sum to 1, flattened by a power until their effective number is at least `least`.

    Args:
        log_weights: (S,), less any constant.
        least: Effective number of draws, at most S.
    """
    relative = log_weights - log_weights.max()
    while True:
        weights = np.exp(relative)
        weights /= weights.sum()
        if 1.0 / (weights @ weights) >= min(least, len(weights)):
            return np.asarray(weights)
        relative *= 0.8


def even_shares(weights: Array, total: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return how many of `total` samples each draw gives, (S,): its share, rounded so that all add up.

    Args:
        weights: Of the draws, (S,), not negative.
        total: Samples altogether.
        rng: For the one random offset (systematic resampling).
    """
    ends = np.cumsum(weights) / np.sum(weights) * total
    ends[-1] = total
    upto = np.floor(ends + rng.random()).astype(np.intp)
    return np.asarray(upto - np.concatenate([[0], upto[:-1]]))


def _log_normal(z: Array) -> Array:
    return np.asarray(-0.5 * np.sum(z**2, axis=1) - z.shape[1] / 2 * np.log(2 * np.pi))


def _log_t(z: Array, mean: Array, half: Array) -> Array:
    """Return the log density of a proposal, a Student t with scale matrix half·halfᵀ."""
    d = z.shape[1]
    away = solve_triangular(half, (z - mean).T, lower=True)
    constant = gammaln((TAIL + d) / 2) - gammaln(TAIL / 2) - d / 2 * np.log(TAIL * np.pi) - np.log(np.diag(half)).sum()
    return np.asarray(constant - (TAIL + d) / 2 * np.log1p(np.sum(away**2, axis=0) / TAIL))
