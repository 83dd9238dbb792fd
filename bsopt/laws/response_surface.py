"""The belief about the final value: a Gaussian process around a basin, over draws of all its parameters.

Notation, beside that of `surface_prior` (n trials, m points, S draws):

    u   (S, n)     octaves between a point and the ridge of each draw
    y   (n,)       final values, squashed and standardised, smaller is better
    K   (S, n, n)  4 + rough²·k(u, b)·k(further) + effect²·k(further) + noise²; k is Matérn-5/2
    log w (S,)     log importance weights of the draws under the posterior

A few trials don't determine the parameters, so nothing is point-estimated: draws from the prior are weighed by
their likelihood, further rounds are drawn around the heavy ones, and the heaviest are kept. A value that is worse
than all the others say counts as that of a failed seed where that explains the trials better.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bsopt.laws.gaussian_process import Conditioned, condition, log_evidence, matern_five_halves, root_of
from bsopt.laws.importance_sampling import even_shares, posterior_draws, spread_normals, tempered
from bsopt.laws.surface_prior import NEAR_BEST, Coordinates, Parameters, Prior

__all__ = ["FAILED_SD", "MOST_POINTS", "Observations", "ResponseSurface", "fit", "thinned_rows"]

Array: TypeAlias = NDArray[np.float64]

LENGTH_U, LENGTH_B = 1.0, 2.0  # octaves
CONSTANT_VARIANCE = 4.0
MISMATCH = 1.0
"""Distance between two choices of a categorical parameter, in length scales."""

HEIGHTS = (1.0, 2.5)
"""Bounds of the landscape's height: believed in part only, since the transform has a cap."""

DRAWS, ROUNDS, THOROUGH_ROUNDS, MANY_ROUNDS, KEPT = 192, 2, 16, 24, 48
STRUCTURES = {True: (1.0, 1.0), False: (0.3, 0.4)}
"""Whether there is a basin -> prior odds, and share of the draws: without one there are fewer parameters. Each
structure is weighed by its evidence."""

MOST_POINTS = 60
"""A surface reads at most this many trials: the best half, the latest, and others far from those."""

MANY = 40
"""Trials above which a proposal does with half the draws: the data have settled most of what they are about. What is
left is narrow, and an answer looks for it longer: else a structure that isn't there keeps some weight."""

FAILED_SEEDS, FAILED_SD, MOST_FAILED_SEEDS = 0.03, 3.0, 2
"""Share of trials whose seed fails, the error of their values in standardised units, and how many are looked for."""

LEAST_FOR_SUSPECT, SURPRISING = 8, 2.5
"""Trials before one may be taken for a failed seed, and the standard deviations by which it has to stand out."""

LEAST_KEPT = 8.0
"""Effective number of draws that are kept at least."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Points with their values.

    Attributes:
        at: The points.
        y: (n,) in this file's notation.
        sd: (n,) what is known of each value's own error beside the noise, in y's units.
        gap: (n,) how far each value is above the best, in units of median − best: where y is steep noise counts more.
    """

    at: Coordinates
    y: Array
    sd: Array
    gap: Array


@dataclass(frozen=True, slots=True)
class ResponseSurface:
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

    def sample(self, at: Coordinates, num_samples: int, rng: np.random.Generator) -> Array:
        """Return equally likely surfaces over the points, shape (num_samples, m); draws by their weight, evenly."""
        counts = even_shares(self.weights, num_samples, rng)
        held = self._kept(np.flatnonzero(counts))
        mean, _, projected = held._predict(at)
        u, _ = _mean(self.prior, held.parameters, at)
        surfaces = []
        for s, count in enumerate(counts[counts > 0]):
            one = slice(s, s + 1)
            shared = _own_covariance(held.parameters[one], u[one], at)[0] - projected[s].T @ projected[s]
            surfaces.append(mean[s] + rng.standard_normal((count, len(at))) @ root_of(shared).T)
        return np.concatenate(surfaces)

    def with_fantasies(self, pending: Coordinates) -> ResponseSurface:
        """Return the belief as if each pending point had its own predicted mean in every draw."""
        if not len(pending):
            return self
        at = self.data.at.joined(pending)
        believed, _ = self.predict(pending)
        y = np.concatenate([np.broadcast_to(self.data.y, (len(self.weights), len(self.data.y))), believed], axis=1)
        data = Observations(
            at,
            np.concatenate([self.data.y, self.weights @ believed]),
            np.concatenate([self.data.sd, np.zeros(len(pending))]),
            np.concatenate([self.data.gap, np.full(len(pending), NEAR_BEST)]),
        )
        process = _process(self.prior, self.parameters, data, y)
        return ResponseSurface(self.prior, data, self.parameters, self.weights, process)

    def left_out(self) -> tuple[Array, Array]:
        """Return mean and standard deviation of each trial's value as all others tell it, each of shape (S, n).

        By the precision matrix, its diagonal 1/variance (Rasmussen & Williams 2006, equations 5.10 to 5.12); the
        parameters are those of all trials. Every draw's value, with its noise.
        """
        process = self.process
        precision = np.einsum("sij,sij->sj", process.whiten, process.whiten)
        pulled = np.einsum("sij,si->sj", process.whiten, process.residual)
        return self.data.y - pulled / precision, 1.0 / np.sqrt(precision)

    def thinned(self, num_draws: int) -> ResponseSurface:
        """Return the belief with its `num_draws` heaviest draws only."""
        if num_draws >= len(self.weights):
            return self
        return self._kept(np.sort(np.argsort(-self.weights, kind="stable")[:num_draws]))

    def _kept(self, draws: NDArray[np.intp]) -> ResponseSurface:
        weights = self.weights[draws] / self.weights[draws].sum()
        return ResponseSurface(self.prior, self.data, self.parameters[draws], weights, self.process[draws])


def fit(prior: Prior, data: Observations, *, seed: tuple[int, ...], is_thorough: bool = False) -> ResponseSurface:
    """Return the belief that the data leave: each structure's heaviest draws, weighed by its evidence.

    Deterministic in the data and the seed.

    Args:
        prior: What is believed without them.
        data: The trials.
        seed: Of the draws.
        is_thorough: Whether to look longer, as for an answer; a proposal has to be quick.
    """
    has_many = len(data.y) > MANY
    if is_thorough:
        num_draws, rounds = DRAWS, MANY_ROUNDS if has_many else THOROUGH_ROUNDS
    else:
        num_draws, rounds = DRAWS // 2 if has_many else DRAWS, ROUNDS
    belief, evidence = _fit(prior, data, seed=seed, num_draws=num_draws, rounds=rounds)
    for _ in range(MOST_FAILED_SEEDS):
        suspect = _suspect(belief)
        if suspect is None:
            break
        sd = data.sd.copy()
        sd[suspect] = FAILED_SD
        data = replace(data, sd=sd)
        other, other_evidence = _fit(prior, data, seed=seed, num_draws=num_draws, rounds=rounds)
        if other_evidence + math.log(FAILED_SEEDS) <= evidence:
            break
        belief, evidence = other, other_evidence + math.log(FAILED_SEEDS)
    return belief


def _fit(
    prior: Prior, data: Observations, *, seed: tuple[int, ...], num_draws: int, rounds: int
) -> tuple[ResponseSurface, float]:
    """Return the belief, every value taken as it is told, and the log of its evidence."""
    if not len(data.y):
        first = spread_normals(np.random.default_rng(seed), num_draws, prior.num_dimensions)[:KEPT]
        return _posterior(prior, data, prior.parameters(first), np.full(len(first), 1.0 / len(first))), 0.0
    drawn, each = [], []
    for i, (has_basin, (odds, share)) in enumerate(STRUCTURES.items()):
        first = spread_normals(np.random.default_rng([*seed, i]), int(share * num_draws), prior.num_dimensions)
        drawn.append(_draws(prior, data, first, seed=(*seed, i, 1), rounds=rounds, has_basin=has_basin))
        each.append(drawn[-1][2] + math.log(odds))
    evidence = float(np.logaddexp.reduce(each))
    shares = np.exp(np.array(each) - evidence)
    weights = np.concatenate([share * weights for share, (_, weights, _) in zip(shares, drawn, strict=True)])
    kept = np.sort(np.argsort(-weights, kind="stable")[:KEPT])
    parameters = drawn[0][0].joined(drawn[1][0])[kept]
    return _posterior(prior, data, parameters, weights[kept] / weights[kept].sum()), evidence


def _suspect(belief: ResponseSurface) -> int | None:
    """Return the trial whose value is worse than all others say by the most, None where none is by much."""
    if len(belief.data.y) < LEAST_FOR_SUSPECT:
        return None
    mean, sd = belief.left_out()
    surprise = belief.weights @ ((belief.data.y - mean) / sd)
    surprise[belief.data.sd >= FAILED_SD] = 0.0
    worst = int(surprise.argmax())
    return worst if surprise[worst] > SURPRISING else None


def thinned_rows(rows: Array, y: Array, *, spans: Array) -> NDArray[np.intp]:
    """Return the indices of the points to fit, in order: all of up to `MOST_POINTS`.

    Args:
        rows: Points in the order in which they came, (n, d).
        y: Their values, (n,), smaller is better.
        spans: The widths of the searched ranges, (d,).
    """
    n = len(y)
    if n <= MOST_POINTS:
        return np.arange(n)
    order = np.argsort(y, kind="stable")
    kept = list(dict.fromkeys([*order[: MOST_POINTS // 2].tolist(), *range(n - MOST_POINTS // 6, n)]))
    scaled = rows / spans
    nearest = np.min([((scaled - scaled[i]) ** 2).sum(axis=1) for i in kept], axis=0)
    while len(kept) < MOST_POINTS:
        far = int(np.argmax(nearest))
        kept.append(far)
        nearest = np.minimum(nearest, ((scaled - scaled[far]) ** 2).sum(axis=1))
    return np.unique(kept)


def _draws(
    prior: Prior, data: Observations, first: Array, *, seed: tuple[int, ...], rounds: int, has_basin: bool
) -> tuple[Parameters, Array, float]:
    """Return the draws of one structure, their weights, and the log of its evidence."""
    rng = np.random.default_rng(seed)
    make = functools.partial(prior.parameters, scale=_height(prior, data.at, first), has_basin=has_basin)
    z, log_weights = posterior_draws(lambda z: _log_likelihood(prior, data, make(z)), first, rng, rounds=rounds)
    evidence = float(np.logaddexp.reduce(log_weights)) - math.log(len(z))
    weights = tempered(log_weights, LEAST_KEPT)
    heavy = np.argsort(-weights, kind="stable")[:KEPT]
    return make(z[heavy]), weights[heavy] / weights[heavy].sum(), evidence


def _posterior(prior: Prior, data: Observations, parameters: Parameters, weights: Array) -> ResponseSurface:
    return ResponseSurface(prior, data, parameters, weights, _process(prior, parameters, data, data.y))


def _height(prior: Prior, at: Coordinates, first: Array) -> float:
    """Return how high the landscape is in units of the spread of the values told so far.

    Values are standardised, whether their points lie all over the basin or in one corner of it. In the corner the
    same basin would spread them less, and one standard deviation is a small part of its height: without this a
    search that starts on a slope takes it for the whole valley and creeps.
    """
    _, mean = _mean(prior, prior.parameters(first), at)
    typical = float(np.median(mean.std(axis=1)))
    return float(np.clip(1.0 / max(typical, 1e-9), *HEIGHTS))


def _log_likelihood(prior: Prior, data: Observations, parameters: Parameters) -> Array:
    covariance, mean, noise = _prior_at(prior, parameters, data)
    return log_evidence(covariance, data.y - mean, noise_variance=noise)


def _process(prior: Prior, parameters: Parameters, data: Observations, y: Array) -> Conditioned:
    """Return the process of each draw given values y, (n,) or (S, n), in place of the data's own."""
    covariance, mean, noise = _prior_at(prior, parameters, data)
    return condition(covariance, y - mean, noise_variance=noise)


def _prior_at(prior: Prior, parameters: Parameters, data: Observations) -> tuple[Array, Array, Array]:
    """Return covariance (S, n, n), mean (S, n) and noise variance (S, n) of values told at points."""
    u, mean = _mean(prior, parameters, data.at)
    noise = parameters.noise_at(data.gap)
    return _own_covariance(parameters, u, data.at), mean, noise**2 + data.sd**2 + 1e-8


def _mean(prior: Prior, parameters: Parameters, at: Coordinates) -> tuple[Array, Array]:
    u = at.x[None, :] - prior.ridge_at(parameters, at.b) if prior.has_lr else np.zeros((len(parameters), len(at)))
    return u, prior.mean(parameters, u, at.b)


def _covariance(parameters: Parameters, u: Array, at: Coordinates, u2: Array, at2: Coordinates) -> Array:
    """Return the covariance of the noiseless value at points and others, shape (S, n, m)."""
    i, j = np.arange(len(at))[:, None], np.arange(len(at2))[None, :]
    return _between(parameters, u[:, :, None] - u2[:, None, :], at, i, at2, j)


def _own_covariance(parameters: Parameters, u: Array, at: Coordinates) -> Array:
    """Return the covariance of the noiseless value at points, shape (S, n, n), each pair worked out once."""
    i, j = np.triu_indices(len(at))
    pairs = _between(parameters, u[:, i] - u[:, j], at, i, at, j)
    K = np.empty((len(parameters), len(at), len(at)))
    K[:, i, j] = pairs
    K[:, j, i] = pairs
    return K


def _between(
    parameters: Parameters,
    away: Array,
    at: Coordinates,
    i: NDArray[np.intp],
    at2: Coordinates,
    j: NDArray[np.intp],
) -> Array:
    """Return the covariance of pairs of points, (S, …).

    Args:
        parameters: S draws.
        away: Octaves off the ridge between the two of each pair, (S, …).
        at: Where the first of each pair are.
        i: Their indices, broadcast to (…).
        at2: Where the second ones are.
        j: Their indices, likewise.
    """

    def each(values: Array) -> Array:  # one per draw, for any number of axes of pairs
        return values.reshape(-1, *[1] * (away.ndim - 1))

    near = away / LENGTH_U
    near *= near
    near += ((at.b[i] - at2.b[j]) / LENGTH_B) ** 2
    near /= each(parameters.reach**2)
    K = matern_five_halves(near)
    K *= each(parameters.rough**2)
    if at.numbers.shape[1] or at.choices.shape[1]:
        apart = np.zeros((1, *away.shape[1:]))
        if at.choices.shape[1]:
            apart = apart + MISMATCH**2 * (at.choices[i] != at2.choices[j]).sum(axis=-1)
        for k in range(at.numbers.shape[1]):
            step = at.numbers[i, k] - at2.numbers[j, k]
            apart = apart + (step / each(parameters.scales[:, k])) ** 2
        K = matern_five_halves(apart) * (K + each(parameters.effect**2))
    K += CONSTANT_VARIANCE
    return K


def _variance(parameters: Parameters, at: Coordinates) -> Array:
    """Return the prior variance of the noiseless value, shape (S,)."""
    has_further = at.numbers.shape[1] or at.choices.shape[1]
    return (
        CONSTANT_VARIANCE + parameters.rough**2 + (parameters.effect**2 if has_further else np.zeros(len(parameters)))
    )
