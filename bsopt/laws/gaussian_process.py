r"""Gaussian processes, several side by side: covariance functions, conditioning on data, evidence.

Notation, as in the code below:

    S, n, m     processes (one per draw of their parameters), observations, points to predict
    K           (S, n, n)  covariance of the observed values, without their noise
    v           (n,), (S, 1) or (S, n)  variance of each observation's noise
    r           (n,) or (S, n)  observed values less the prior mean
    L           (S, n, n)  Cholesky factor of K + diag(v)

In the arguments `covariance` is K, `residual` r and `noise_variance` v; `squared_distance` is in units of the length
scale squared.

Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", algorithm 2.1 and equations 4.17 (Matérn).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Conditioned",
    "condition",
    "log_evidence",
    "matern_five_halves",
    "matern_three_halves",
    "root_of",
    "squared_distances",
]

Array: TypeAlias = NDArray[np.float64]

_HUGE = 1e30  # in place of the last row's variance: large enough for the factor to exist whatever the residuals are
_ROOT_JITTER = 1e-6  # covariances of many near points are singular to rounding


@dataclass(frozen=True, slots=True)
class Conditioned:
    """Processes that have seen their data.

    Attributes:
        whiten: (S, n, n) L⁻¹.
        residual: (S, n) L⁻¹·r.
        log_evidence: (S,) log density of the data, less a constant that only depends on n.
    """

    whiten: Array
    residual: Array
    log_evidence: Array

    def __getitem__(self, processes: NDArray[np.intp]) -> Conditioned:
        """Return some of the processes."""
        return Conditioned(self.whiten[processes], self.residual[processes], self.log_evidence[processes])

    def project(self, cross: Array) -> Array:
        """Return L⁻¹·`cross`, shape (S, n, m); `cross` is the covariance of data and points, of the same shape.

        The inner product of two points' projections is how much of their covariance the data explain.
        """
        return np.asarray(self.whiten @ cross)

    def predict(self, projected: Array, prior_variance: Array) -> tuple[Array, Array]:
        """Return what the data add to the prior mean, and the variance that they leave, both of shape (S, m).

        Args:
            projected: The points' covariance with the data, by `project`.
            prior_variance: Of the points, broadcast to (S, m).
        """
        shift = np.einsum("snm,sn->sm", projected, self.residual)
        return shift, np.maximum(prior_variance - np.einsum("snm,snm->sm", projected, projected), 0.0)


def condition(covariance: Array, residual: Array, *, noise_variance: Array) -> Conditioned:
    """Return processes given their data.

    Args:
        covariance: K, (S, n, n).
        residual: r, (S, n) or (n,).
        noise_variance: v, (S, n), (S, 1) or (n,); not below K's rounding errors where two points may coincide.

    Raises:
        numpy.linalg.LinAlgError: K + diag(v) isn't positive definite.
    """
    factor, whitened = _factor(covariance, residual, noise_variance)
    return Conditioned(np.asarray(np.linalg.inv(factor)), whitened, _evidence(factor, whitened))


def log_evidence(covariance: Array, residual: Array, *, noise_variance: Array) -> Array:
    """Return the log density of the data under each process, (S,), less a constant that only depends on n.

    As `condition`, which also returns it, at a fraction of the time.

    >>> K = np.array([[[1.0]], [[4.0]]])
    >>> log_evidence(K, np.array([2.0]), noise_variance=np.zeros(1)).round(4).tolist()
    [-2.0, -1.1931]
    """
    return _evidence(*_factor(covariance, residual, noise_variance))


def matern_five_halves(squared_distance: Array) -> Array:
    """Return the Matérn correlation with ν = 5/2, (1 + s + s²/3)·exp(−s) with s = √5·distance, of any shape.

    >>> matern_five_halves(np.array([0.0, 1.0])).round(4).tolist()
    [1.0, 0.524]
    """
    s = np.sqrt(5.0 * squared_distance)
    # In place: the surface's likelihood spends most of its time here.
    polynomial = s / 3.0
    polynomial += 1.0
    polynomial *= s
    polynomial += 1.0
    np.negative(s, out=s)
    np.exp(s, out=s)
    s *= polynomial
    return np.asarray(s)


def matern_three_halves(squared_distance: Array) -> Array:
    """Return the Matérn correlation with ν = 3/2, (1 + s)·exp(−s) with s = √3·distance, of any shape.

    >>> matern_three_halves(np.array([0.0, 1.0])).round(4).tolist()
    [1.0, 0.4834]
    """
    s = np.sqrt(3.0 * squared_distance)
    return np.asarray((1.0 + s) * np.exp(-s))


def squared_distances(left: Array, right: Array, lengths: Array) -> Array:
    """Return the squared distances of two sets of points, shape (n, m).

    Args:
        left: Points, (n, d).
        right: Points, (m, d).
        lengths: Length scales, (d,); the unit of each dimension.
    """
    away = (left[:, None, :] - right[None, :, :]) / lengths
    return np.asarray(np.einsum("nmd,nmd->nm", away, away))


def root_of(covariance: Array) -> Array:
    """Return a lower triangular root of `covariance`, both (..., n, n).

    The root times standard normals is a sample of the process.
    """
    return np.asarray(np.linalg.cholesky(covariance + _ROOT_JITTER * np.eye(covariance.shape[-1])))


def _factor(covariance: Array, residual: Array, noise_variance: Array) -> tuple[Array, Array]:
    """Return L and L⁻¹·r from one factorisation: the last row of the factor of [[K, r], [rᵀ, huge]] is L⁻¹·r."""
    n, index = covariance.shape[-1], np.arange(covariance.shape[-1])
    joint = np.empty((len(covariance), n + 1, n + 1))
    joint[:, :n, :n] = covariance
    joint[:, index, index] += noise_variance
    joint[:, n, :n] = joint[:, :n, n] = residual
    joint[:, n, n] = _HUGE
    both = np.linalg.cholesky(joint)
    return np.asarray(both[:, :n, :n]), np.asarray(both[:, n, :n])


def _evidence(factor: Array, whitened: Array) -> Array:
    log_root = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(-0.5 * np.sum(whitened**2, axis=1) - log_root)
