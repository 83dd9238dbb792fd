r"""The model of lr*(B): what is assumed of a study's values, and draws of it given the trials.

Notation, as in the code below:

    b, l        log2 B [samples], log2 lr of a trial
    r(b)        log2 lr*(b), the ridge:  c + a·log2[(1 + 2^(n − b̄))/(1 + 2^(n − b))], b̄ a pivot among the trials
    a, n        exponent of lr* ∝ B^a well below the knee, and the knee log2 B_n, where the ridge bends flat
    u = l − r(b)    octaves above the ridge
    z           squashed value: log1p(3·d), d = (value − best)/(median − best), so that a diverged run informs
                without stretching the scale
    z(b, u)     m₀ + m₁·b + m₂·b² + k·log1p((u/w±)²) + f(b, l) + noise: a basin with its own width on the slow (−)
                and the diverging (+) side, and a Matérn-5/2 residual f

m₀…m₂ are marginalised exactly; the other parameters are sampled (an affine-invariant ensemble, Goodman & Weare
2010). The saturating law is McCandlish et al. 2018 (arXiv 1812.06162), with an exponent for adaptive methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from bsopt.laws.gaussian_process import log_evidence, matern_five_halves, root_of, squared_distances
from bsopt.laws.scaling import default_rule, log2_scaling

__all__ = [
    "ModelPrior",
    "RidgeData",
    "RidgeParameters",
    "RidgePoint",
    "Surfaces",
    "prepare",
    "prior_of",
    "sample_parameters",
    "sample_surfaces",
]

Array = NDArray[np.float64]

MAX_POINTS = 64
"""Trials that enter the fit; of more, one per cell of a fine grid and then those nearest the optimum."""
STRONG_SPREAD = 1.0
"""Distance from the best, in units of (median − best), within which a learning rate counts as stable."""

_WALKERS, _SWEEPS, _DRAWS = 48, 144, 48
_SAMPLES_PER_DRAW = 6
_GRID = 31  # learning rates per batch size of a sampled surface, over the searched range
_DEFAULT_EXPONENT = {"sgd": 0.7, "adam": 0.4}  # the linear rule holds far for SGD in vision, the square root for Adam


@dataclass(frozen=True, slots=True)
class RidgePoint:
    """One trial: a global batch size in samples, a learning rate, and a value (NaN or inf: it diverged).

    `value_sd` is what is known of the value's own uncertainty, as for an extrapolated curve.
    """

    batch_size: float
    lr: float
    value: float
    value_sd: float = 0.0


@dataclass(frozen=True, slots=True)
class RidgeData:
    """The trials as the model sees them: squashed, and thinned where there are very many."""

    b: Array  # [n] log2 batch size
    l: Array  # [n] log2 lr  # noqa: E741 - the notation of the module's docstring
    z: Array  # [n] squashed value
    extra: Array  # [n] variance of z that is known beforehand
    sign: float
    best: float
    spread: float  # median − best, in the objective's unit


def prepare(points: Sequence[RidgePoint], *, sign: float) -> RidgeData:
    """Return the trials squashed; at least one value is finite. A spread of 0 says that all of them are equal.

    Args:
        points: Trials with positive batch sizes and learning rates.
        sign: 1 where smaller values are better, −1 where larger ones are.
    """
    table = np.array([(p.batch_size, p.lr, p.value, p.value_sd) for p in points], dtype=float)
    b, l, v, sd = np.log2(table[:, 0]), np.log2(table[:, 1]), sign * table[:, 2], table[:, 3]  # noqa: E741
    finite = np.isfinite(v)
    best = float(v[finite].min())
    spread = _median_over_cells(b[finite], l[finite], v[finite]) - best
    if spread <= 0:  # over half of them share the best value
        spread = float(v[finite].mean()) - best
    if spread <= 0:
        return RidgeData(b, l, v * 0, v * 0, sign, best, 0.0)
    d = np.clip(np.where(finite, (v - best) / spread, 50.0), 0.0, 50.0)
    z = np.log1p(3.0 * d)
    extra = (3.0 / (1.0 + 3.0 * d) * np.where(np.isfinite(sd), sd, 0.0) / spread) ** 2
    keep = _thin(b, l, z)
    return RidgeData(b[keep], l[keep], z[keep], extra[keep], sign, best, spread)


def _median_over_cells(b: Array, l: Array, v: Array) -> float:  # noqa: E741
    """The median value, where trials within half an octave of each other count once: a search crowds its optimum."""
    cells: dict[tuple[int, int], float] = {}
    for key, value in zip(
        zip(np.round(2.0 * b).astype(int), np.round(2.0 * l).astype(int), strict=True), v, strict=True
    ):
        cells[key] = min(float(value), cells.get(key, np.inf))
    return float(np.median(list(cells.values())))


def _thin(b: Array, l: Array, z: Array) -> NDArray[np.int64]:  # noqa: E741
    """Indices of at most MAX_POINTS trials: those nearest the best at each batch size, and a spread of the rest."""
    if len(b) <= MAX_POINTS:
        return np.arange(len(b))
    cell: dict[tuple[int, int], list[int]] = {}
    for i in np.argsort(z, kind="stable"):
        cell.setdefault((round(float(b[i])), round(4.0 * float(l[i]))), []).append(int(i))
    chosen: list[int] = []
    depth = 0
    while len(chosen) < MAX_POINTS:
        layer = [items[depth] for items in cell.values() if len(items) > depth]
        layer.sort(key=lambda i: z[i])
        if len(layer) > MAX_POINTS - len(chosen):
            room = MAX_POINTS - len(chosen)
            near, far = layer[: room - room // 3], layer[room - room // 3 :]
            layer = near + far[:: max(1, len(far) // max(1, room // 3))][: room // 3]
        chosen += layer
        depth += 1
    return np.array(sorted(chosen))


@dataclass(frozen=True, slots=True)
class RidgeParameters:
    """Draws of the model's parameters, each of shape [s]; scales and standard deviations as natural logarithms.

    Attributes:
        centre: c, log2 lr.
        exponent: a.
        knee: n, log2 samples.
        log_width_low, log_width_high: w− and w+, octaves.
        log_depth: k.
        log_smooth, log_rough: Of the residual's slow part and of its roughness.
        log_noise: Of the noise.
    """

    centre: Array
    exponent: Array
    knee: Array
    log_width_low: Array
    log_width_high: Array
    log_depth: Array
    log_smooth: Array
    log_rough: Array
    log_noise: Array

    def __len__(self) -> int:
        return len(self.centre)

    def __getitem__(self, draws: slice) -> RidgeParameters:
        return RidgeParameters(*(getattr(self, name)[draws] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class ModelPrior:
    """What is assumed before the first trial: normal in every parameter, wide-tailed in the ridge's height.

    Attributes:
        mean, sd: [9] in the order of `RidgeParameters`.
        pivot: b̄, log2 samples.
        lr_low, lr_high: log2 of the searched range.
    """

    mean: Array
    sd: Array
    pivot: float
    lr_low: float
    lr_high: float


def prior_of(data: RidgeData, optimizer: str | None, lr_range: tuple[float, float] | None) -> ModelPrior:
    """Return the prior over the searched range; the optimizer's name tells the exponent to expect."""
    low, high = (float(np.log2(v)) for v in lr_range) if lr_range else (float(data.l.min()), float(data.l.max()))
    weight = np.exp(-2.0 * data.z)
    exponent = 0.55 if optimizer is None else _DEFAULT_EXPONENT["adam" if default_rule(optimizer) == "sqrt" else "sgd"]
    normals = {  # parameter -> (mean, sd)
        "centre": (0.5 * (low + high), max(1.0, 2.0 * (high - low) / np.sqrt(12.0))),
        "exponent": (exponent, 0.25),
        "knee": (9.0, 2.0),
        "log_width_low": (np.log(2.5), 0.5),
        "log_width_high": (np.log(2.5), 0.5),
        "log_depth": (0.0, 0.7),
        "log_smooth": (np.log(0.4), 0.6),
        "log_rough": (np.log(0.1), 0.8),
        "log_noise": (np.log(0.05), 1.0),
    }
    mean, sd = np.array([normals[name] for name in RidgeParameters.__slots__]).T
    return ModelPrior(mean, sd, float(np.average(data.b, weights=weight)), low, high)


def _ridge(b: Array, parameters: RidgeParameters, pivot: float) -> Array:
    """r(b) of draws [s] at batch sizes [m] -> [s, m]."""
    bend = log2_scaling(
        b[None, :] - pivot, knee=parameters.knee[:, None] - pivot, exponent=parameters.exponent[:, None]
    )
    return np.asarray(parameters.centre[:, None] + bend)


def _basin(u: Array, parameters: RidgeParameters) -> Array:
    """k·log1p((u/w)²) for u [s, m]."""
    w = np.exp(np.where(u < 0, parameters.log_width_low[:, None], parameters.log_width_high[:, None]))
    return np.asarray(np.exp(parameters.log_depth[:, None]) * np.log1p((u / w) ** 2))


_SMOOTH, _ROUGH = np.array([5.0, 3.0]), np.array([1.5, 1.0])  # length scales of the residual along b and l, octaves


def _matern(b: Array, l: Array, lengths: Array) -> Array:  # noqa: E741
    points = np.column_stack([b, l])
    return matern_five_halves(squared_distances(points, points, lengths))


def _features(b: Array, pivot: float) -> Array:
    """Scaled m₀, m₁·b, m₂·b² [m, 3]: their prior standard deviations are the columns' scales."""
    x = (b - pivot) / 4.0
    return np.column_stack([2.0 * np.ones_like(x), x, 0.7 * x * x])


@dataclass(frozen=True, slots=True)
class _Kernels:
    smooth: Array  # [n, n]
    rough: Array  # [n, n]
    linear: Array  # [n, n]


def _kernels(b: Array, l: Array, pivot: float) -> _Kernels:  # noqa: E741
    features = _features(b, pivot)
    return _Kernels(_matern(b, l, _SMOOTH), _matern(b, l, _ROUGH), features @ features.T)


def _log_posterior(theta: Array, data: RidgeData, prior: ModelPrior, kernels: _Kernels) -> Array:
    """Log density [s] of parameters [s, 9], in the order of `RidgeParameters`."""
    parameters = RidgeParameters(*theta.T)
    residual = data.z[None] - _basin(data.l[None] - _ridge(data.b, parameters, prior.pivot), parameters)
    smooth, rough, noise = (
        np.exp(2.0 * log_sd)[:, None] for log_sd in (parameters.log_smooth, parameters.log_rough, parameters.log_noise)
    )
    likelihood = log_evidence(
        smooth[..., None] * kernels.smooth + rough[..., None] * kernels.rough + kernels.linear,
        residual,
        noise_variance=noise + data.extra[None] + 1e-6,
    )
    t = (theta - prior.mean) / prior.sd
    log_prior = -0.5 * (t[:, 1:] ** 2).sum(1) - 2.5 * np.log1p(t[:, 0] ** 2 / 4.0)
    return np.asarray(np.where(np.abs(parameters.exponent - 0.6) < 0.9, likelihood + log_prior, -np.inf))


def sample_parameters(data: RidgeData, prior: ModelPrior) -> RidgeParameters:
    """Return posterior draws by a stretch-move ensemble started from the best of a Sobol prior sample."""
    kernels = _kernels(data.b, data.l, prior.pivot)
    rng = np.random.default_rng(0)
    unit = qmc.MultivariateNormalQMC(np.zeros(len(prior.mean)), seed=0).random(512)
    start = prior.mean + prior.sd * unit
    score = np.concatenate([_log_posterior(part, data, prior, kernels) for part in np.array_split(start, 8)])
    weight = np.exp(0.25 * (score - score.max()))
    walkers = start[rng.choice(len(start), _WALKERS, replace=True, p=weight / weight.sum())]
    walkers = walkers + 0.02 * prior.sd * rng.standard_normal(walkers.shape)
    value = _log_posterior(walkers, data, prior, kernels)
    half, dim = _WALKERS // 2, walkers.shape[1]
    kept: list[Array] = []
    for sweep in range(_SWEEPS):
        for own, other in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            stretch = (1.0 + rng.random(half)) ** 2 / 2.0  # g(s) ∝ 1/√s on [1/2, 2]
            mates = walkers[other][rng.integers(half, size=half)]
            proposal = mates + stretch[:, None] * (walkers[own] - mates)
            new = _log_posterior(proposal, data, prior, kernels)
            accept = np.log(rng.random(half)) < (dim - 1) * np.log(stretch) + new - value[own]
            walkers[own] = np.where(accept[:, None], proposal, walkers[own])
            value[own] = np.where(accept, new, value[own])
        if sweep >= _SWEEPS // 2 and sweep % 9 == 0:
            kept.append(walkers.copy())
    pool = np.concatenate(kept)
    return RidgeParameters(*pool[np.linspace(0, len(pool) - 1, _DRAWS).astype(int)].T)


@dataclass(frozen=True, slots=True)
class Surfaces:
    """Sampled surfaces on a lattice: best learning rate, stable range and best squashed value, each [samples, B]."""

    best: Array
    low: Array
    high: Array
    z: Array


def sample_surfaces(sizes: Array, data: RidgeData, prior: ModelPrior, draws: RidgeParameters) -> Surfaces:
    """Sample z over (sizes × the searched learning rates) given the trials, by Matheron's rule.

    A joint prior sample at grid and trials is moved by what the trials say of its error there, so that one
    factorisation of the grid serves all draws.

    Args:
        sizes: log2 of the global batch sizes, shape (k,).
        data: The trials.
        prior: What is assumed of them.
        draws: Parameters given the trials.
    """
    rng = np.random.default_rng(1)
    rates = np.linspace(prior.lr_low, prior.lr_high, _GRID)
    b = np.concatenate([np.repeat(sizes, _GRID), data.b])
    l = np.concatenate([np.tile(rates, len(sizes)), data.l])  # noqa: E741
    num, cells = len(data.b), len(sizes) * _GRID
    kernels, features = _kernels(b, l, prior.pivot), _features(b, prior.pivot)
    smooth, rough = root_of(kernels.smooth), root_of(kernels.rough)
    found: list[tuple[Array, Array, Array, Array]] = []
    for i in range(len(draws)):
        one = draws[i : i + 1]
        basin = _basin(l[None] - _ridge(b, one, prior.pivot), one)[0]
        smooth_sd, rough_sd = np.exp(one.log_smooth), np.exp(one.log_rough)
        noise = np.exp(2.0 * one.log_noise) + data.extra
        cov = smooth_sd**2 * kernels.smooth + rough_sd**2 * kernels.rough + kernels.linear
        sample = smooth_sd * smooth @ rng.standard_normal((len(b), _SAMPLES_PER_DRAW))
        sample += rough_sd * rough @ rng.standard_normal((len(b), _SAMPLES_PER_DRAW))
        sample += features @ rng.standard_normal((features.shape[1], _SAMPLES_PER_DRAW))
        error = (data.z - basin[cells:])[:, None] - sample[cells:]
        error -= np.sqrt(noise)[:, None] * rng.standard_normal((num, _SAMPLES_PER_DRAW))
        moved = cov[:cells, cells:] @ np.linalg.solve(cov[cells:, cells:] + np.diag(noise + 1e-6), error)
        z = basin[:cells, None] + sample[:cells] + moved
        found.append(_read(z.T.reshape(_SAMPLES_PER_DRAW, len(sizes), _GRID), rates))
    return Surfaces(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _read(z: Array, rates: Array) -> tuple[Array, Array, Array, Array]:
    """Argmin over learning rates (refined by a parabola), stable range and minimum of surfaces [s, B, rates]."""
    at = z.argmin(-1)
    middle = np.clip(at, 1, len(rates) - 2)
    below, here, above = (np.take_along_axis(z, (middle + k)[..., None], -1)[..., 0] for k in (-1, 0, 1))
    curvature = np.maximum(above - 2.0 * here + below, 1e-12)
    shift = np.where(at == middle, np.clip(0.5 * (below - above) / curvature, -0.5, 0.5), 0.0)
    best = rates[at] + shift * (rates[1] - rates[0])
    lowest = z.min(-1)
    within = z <= np.log1p(3.0 * STRONG_SPREAD) + np.maximum(0.0, lowest)[..., None]
    low = np.where(within, rates, np.inf).min(-1)
    high = np.where(within, rates, -np.inf).max(-1)
    return best, np.minimum(low, best), np.maximum(high, best), lowest
