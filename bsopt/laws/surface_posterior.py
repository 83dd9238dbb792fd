"""The belief about the final value: a Gaussian process around a basin, over draws of all its parameters.

Notation, beside that of `surface_prior` (n trials, m points, S draws):

    u   (S, n)     octaves between a point and the ridge of each draw
    y   (n,)       final values, squashed and standardised, smaller is better
    K   (S, n, n)  4 + rough²·k(u, b)·k(further) + effect²·k(further) + noise²; k is Matérn-5/2
    log w (S,)     log importance weights of the draws under the posterior

A few trials don't determine the parameters, so nothing is point-estimated: draws from the prior are weighed by
their likelihood, further rounds are drawn around the heavy ones, and the heaviest are kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import gammaln, ndtri

from bsopt.laws.gaussian_process import Conditioned, condition, log_evidence, matern_five_halves, root_of
from bsopt.laws.surface_prior import Coordinates, Parameters, Prior

__all__ = ["Observations", "Posterior", "fit"]

Array: TypeAlias = NDArray[np.float64]

LENGTH_U, LENGTH_B = 1.0, 2.0  # octaves
CONSTANT_VARIANCE = 4.0
MISMATCH = 1.0
"""Distance between two choices of a categorical parameter, in length scales."""

HEIGHTS = (1.0, 2.5)
"""Bounds of the landscape's height: believed in part only, since the transform has a cap."""

DRAWS, ADAPTIVE_ROUNDS, KEPT = 192, 2, 48
STRUCTURES = {True: 1.0, False: 0.3}
"""Whether there is a basin -> prior odds; each structure is weighed by its evidence."""

MANY = 40
"""Trials above which half the draws suffice: the data have settled most of what they are about."""

LEAST_EFFECTIVE, LEAST_KEPT, PROPOSAL_TAIL, JITTER = 24.0, 8.0, 6.0, 0.15


@dataclass(frozen=True, slots=True)
class Observations:
    """Points with their values; `sd` (n,) is what is known of each value's own error beside the noise."""

    at: Coordinates
    y: Array
    sd: Array


@dataclass(frozen=True, slots=True)
class Posterior:
    """Draws that the data left over, each with its Gaussian process."""

    prior: Prior
    data: Observations
    parameters: Parameters
    weights: Array
    process: Conditioned

    def predict(self, at: Coordinates) -> tuple[Array, Array]:
        """Return mean and variance of the noiseless value, each of shape (S, m)."""
        mean, variance, _ = self._predict(at)
        return mean, variance

    def improvement(self, at: Coordinates, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return mean and variance of f(best) − f(point), each (S, m), best being each draw's lowest mean.

        They are correlated: at the best point itself the difference is zero, however noisy its value was.

        Args:
            at: The points.
            rows: Which of the data may be best; at least one.
        """
        mean, variance, projected = self._predict(at)
        known = self.data.at[rows]
        known_mean, known_variance, known_projected = self._predict(known)
        u, u_known = _mean(self.prior, self.parameters, at)[0], _mean(self.prior, self.parameters, known)[0]
        chosen = known_mean.argmin(axis=1)
        for best in np.unique(chosen):
            s = np.flatnonzero(chosen == best)
            one = slice(best, best + 1)
            shared = _covariance(self.parameters[s], u_known[s, one], known[one], u[s], at)[:, 0]
            shared -= np.einsum("sn,snm->sm", known_projected[s, :, best], projected[s])
            variance[s] += known_variance[s, best][:, None] - 2.0 * shared
            mean[s] = known_mean[s, best][:, None] - mean[s]
        return mean, np.maximum(variance, 1e-12)

    def _predict(self, at: Coordinates) -> tuple[Array, Array, Array]:
        """Return mean and variance (S, m), and the points' projections on the data (S, n, m)."""
        u, mean = _mean(self.prior, self.parameters, at)
        u_data, _ = _mean(self.prior, self.parameters, self.data.at)
        projected = self.process.project(_covariance(self.parameters, u_data, self.data.at, u, at))
        shift, variance = self.process.predict(projected, _variance(self.parameters, at)[:, None])
        return mean + shift, np.maximum(variance, 1e-10), projected

    def moments(self, at: Coordinates) -> tuple[Array, Array]:
        """Return mean and standard deviation over all draws, each of shape (m,)."""
        mean, variance = self.predict(at)
        middle = self.weights @ mean
        return middle, np.sqrt(self.weights @ (variance + (mean - middle) ** 2))

    def sample(self, at: Coordinates, num_samples: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return whole surfaces over the points, shape (S·num_samples, m), and their weights."""
        mean, _, projected = self._predict(at)
        u, _ = _mean(self.prior, self.parameters, at)
        surfaces = np.empty((len(self.weights), num_samples, len(at)))
        for s in range(len(self.weights)):
            one = slice(s, s + 1)
            shared = _covariance(self.parameters[one], u[one], at, u[one], at)[0] - projected[s].T @ projected[s]
            surfaces[s] = mean[s] + rng.standard_normal((num_samples, len(at))) @ root_of(shared).T
        return surfaces.reshape(-1, len(at)), np.repeat(self.weights / num_samples, num_samples)

    def with_fantasies(self, pending: Coordinates) -> Posterior:
        """Return the belief as if each pending point had its own predicted mean in every draw."""
        if not len(pending):
            return self
        at = self.data.at.joined(pending)
        sd = np.concatenate([self.data.sd, np.zeros(len(pending))])
        believed, _ = self.predict(pending)
        y = np.concatenate([np.broadcast_to(self.data.y, (len(self.weights), len(self.data.y))), believed], axis=1)
        data = Observations(at, np.concatenate([self.data.y, self.weights @ believed]), sd)
        process = _process(self.prior, self.parameters, at, y, sd)
        return Posterior(self.prior, data, self.parameters, self.weights, process)

    def thinned(self, num_draws: int) -> Posterior:
        """Return the belief with its `num_draws` heaviest draws only."""
        if num_draws >= len(self.weights):
            return self
        kept = np.sort(np.argsort(-self.weights, kind="stable")[:num_draws])
        weights = self.weights[kept] / self.weights[kept].sum()
        return Posterior(self.prior, self.data, self.parameters[kept], weights, self.process[kept])


def fit(
    prior: Prior, data: Observations, *, seed: tuple[int, ...], num_draws: int = DRAWS, keep: int = 64
) -> Posterior:
    """Return the posterior by adaptive importance sampling.

    The first round is spread evenly over the prior. Its weights are tempered until the effective sample size is
    at least 24; each further round is drawn from a Student t with the mean and covariance of those before, and
    all are weighed against the mixture that they come from. Deterministic in the data and the seed.
    """
    num_draws = num_draws if len(data.y) <= MANY else num_draws // 2
    if not len(data.y):
        first = _spread_normals(np.random.default_rng(seed), num_draws, prior.num_dimensions)
        z, weights = first[:keep], np.full(min(keep, num_draws), 1.0 / min(keep, num_draws))
        return _posterior(prior, data, prior.parameters(z), weights)
    drawn = [
        _draws(prior, data, np.random.default_rng([*seed, i]), num_draws=num_draws, keep=keep, has_basin=has_basin)
        for i, has_basin in enumerate(STRUCTURES)
    ]
    evidence = np.array([log_evidence for _, _, log_evidence in drawn]) + np.log(list(STRUCTURES.values()))
    shares = np.exp(evidence - np.logaddexp.reduce(evidence))
    weights = np.concatenate([share * weights for share, (_, weights, _) in zip(shares, drawn, strict=True)])
    kept = np.sort(np.argsort(-weights, kind="stable")[:keep])
    parameters = drawn[0][0].joined(drawn[1][0])[kept]
    return _posterior(prior, data, parameters, weights[kept] / weights[kept].sum())


def _draws(
    prior: Prior, data: Observations, rng: np.random.Generator, *, num_draws: int, keep: int, has_basin: bool
) -> tuple[Parameters, Array, float]:
    """Return the heaviest draws of one structure, their weights, and the log of its evidence."""
    first = _spread_normals(rng, num_draws, prior.num_dimensions)
    make = functools.partial(prior.parameters, scale=_height(prior, data.at, first), has_basin=has_basin)
    z, log_w = _rounds(prior, data, first, rng, make=make)
    evidence = float(np.logaddexp.reduce(log_w)) - math.log(len(first))
    weights = _tempered(log_w, LEAST_KEPT)
    kept = np.argsort(-weights, kind="stable")[:keep]
    return make(z[kept]), weights[kept] / weights[kept].sum(), evidence


def _posterior(prior: Prior, data: Observations, parameters: Parameters, weights: Array) -> Posterior:
    return Posterior(prior, data, parameters, weights, _process(prior, parameters, data.at, data.y, data.sd))


def _rounds(
    prior: Prior,
    data: Observations,
    first: Array,
    rng: np.random.Generator,
    *,
    make: Callable[[Array], Parameters],
) -> tuple[Array, Array]:
    """Return the draws of all rounds and their log weights.

    Each draw is weighed against the mixture of all the distributions that draws have come from so far.
    """
    z, nu, d = first, PROPOSAL_TAIL, first.shape[1]
    log_like = _log_likelihood(prior, data, make(z))
    log_w, proposals = log_like, []
    for _ in range(ADAPTIVE_ROUNDS):
        weights = _tempered(log_w, LEAST_EFFECTIVE)
        mean = weights @ z
        centred = z - mean
        half = np.asarray(np.linalg.cholesky((centred * weights[:, None]).T @ centred + JITTER**2 * np.eye(d)))
        proposals.append((mean, half))
        normals = _spread_normals(rng, len(first), d)
        stretch = np.sqrt(nu / rng.chisquare(nu, size=len(first)))
        more = np.clip(mean + (normals @ half.T) * stretch[:, None], -4.0, 4.0)
        z = np.concatenate([z, more])
        log_like = np.concatenate([log_like, _log_likelihood(prior, data, make(more))])
        log_prior = -0.5 * np.sum(z**2, axis=1) - d / 2 * np.log(2 * np.pi)
        mixture = np.logaddexp.reduce([log_prior, *(_log_t(z, mean, half) for mean, half in proposals)], axis=0)
        log_w = log_like + log_prior - mixture
    return z, log_w


def _height(prior: Prior, at: Coordinates, first: Array) -> float:
    """Return how high the landscape is in units of the spread of the values told so far.

    Values are standardised, whether their points lie all over the basin or in one corner of it. In the corner the
    same basin would spread them less, and one standard deviation is a small part of its height: without this a
    search that starts on a slope takes it for the whole valley and creeps.
    """
    _, mean = _mean(prior, prior.parameters(first), at)
    typical = float(np.median(mean.std(axis=1)))
    return float(np.clip(1.0 / max(typical, 1e-9), *HEIGHTS))


def _log_t(z: Array, mean: Array, half: Array) -> Array:
    """Return the log density of the proposal, a Student t with scale matrix half·halfᵀ."""
    nu, d = PROPOSAL_TAIL, z.shape[1]
    away = solve_triangular(half, (z - mean).T, lower=True)
    constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * np.log(nu * np.pi) - np.log(np.diag(half)).sum()
    return np.asarray(constant - (nu + d) / 2 * np.log1p(np.sum(away**2, axis=0) / nu))


def _log_likelihood(prior: Prior, data: Observations, parameters: Parameters) -> Array:
    covariance, mean, noise = _prior_at(prior, parameters, data.at, data.sd)
    return log_evidence(covariance, data.y - mean, noise_variance=noise)


def _process(prior: Prior, parameters: Parameters, at: Coordinates, y: Array, sd: Array) -> Conditioned:
    """Return the process of each draw given values y, (n,) or (S, n), with their own errors sd (n,)."""
    covariance, mean, noise = _prior_at(prior, parameters, at, sd)
    return condition(covariance, y - mean, noise_variance=noise)


def _prior_at(prior: Prior, parameters: Parameters, at: Coordinates, sd: Array) -> tuple[Array, Array, Array]:
    """Return covariance (S, n, n), mean (S, n) and noise variance (S, n) of values told at points."""
    u, mean = _mean(prior, parameters, at)
    return _covariance(parameters, u, at, u, at), mean, parameters.noise[:, None] ** 2 + sd**2 + 1e-8


def _mean(prior: Prior, parameters: Parameters, at: Coordinates) -> tuple[Array, Array]:
    u = at.x[None, :] - prior.ridge_at(parameters, at.b) if prior.has_lr else np.zeros((len(parameters), len(at)))
    return u, prior.mean(parameters, u, at.b)


def _covariance(parameters: Parameters, u: Array, at: Coordinates, u2: Array, at2: Coordinates) -> Array:
    """Return the covariance of the noiseless value, shape (S, n, m)."""
    near = (u[:, :, None] - u2[:, None, :]) / LENGTH_U
    near *= near
    near += ((at.b[:, None] - at2.b[None, :]) / LENGTH_B)[None] ** 2
    near /= parameters.reach[:, None, None] ** 2
    K = matern_five_halves(near)
    K *= parameters.rough[:, None, None] ** 2
    if at.numbers.shape[1] or at.choices.shape[1]:
        away = np.zeros((1, len(at), len(at2)))
        if at.choices.shape[1]:
            differ = (at.choices[:, None, :] != at2.choices[None, :, :]).sum(axis=2)
            away = away + MISMATCH**2 * differ[None]
        for j in range(at.numbers.shape[1]):
            step = at.numbers[:, None, j] - at2.numbers[None, :, j]
            away = away + (step[None] / parameters.scales[:, j, None, None]) ** 2
        further = matern_five_halves(away)
        K = further * (K + parameters.effect[:, None, None] ** 2)
    K += CONSTANT_VARIANCE
    return K


def _variance(parameters: Parameters, at: Coordinates) -> Array:
    """Return the prior variance of the noiseless value, shape (S,)."""
    has_further = at.numbers.shape[1] or at.choices.shape[1]
    return (
        CONSTANT_VARIANCE + parameters.rough**2 + (parameters.effect**2 if has_further else np.zeros(len(parameters)))
    )


def _spread_normals(rng: np.random.Generator, num_draws: int, num_dimensions: int) -> Array:
    """Return standard normals, evenly spread in each coordinate (a Latin hypercube)."""
    ranks = rng.permuted(np.tile(np.arange(num_draws), (num_dimensions, 1)), axis=1).T
    return np.asarray(ndtri((ranks + rng.random((num_draws, num_dimensions))) / num_draws))


def _tempered(log_weights: Array, least: float) -> Array:
    """Return weights that sum to 1, flattened by a power until their effective number is at least `least`."""
    relative = log_weights - log_weights.max()
    while True:
        weights = np.exp(relative)
        weights /= weights.sum()
        if 1.0 / (weights @ weights) >= min(least, len(weights)):
            return np.asarray(weights)
        relative *= 0.8
