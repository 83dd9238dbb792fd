r"""The best learning rate at each batch size, lr*(B), fitted over all trials of a study.

Notation, as in the code below:

    b, l        log2 B [samples], log2 lr of a trial
    r(b)        log2 lr*(b), the ridge:  c + g(b) − g(b̄),  g(b) = −a·log2(1 + 2^(n − b))
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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from bsopt.laws.fitting import Estimate, FitStatus, estimate_from_samples, from_plain, to_plain

__all__ = ["LrPrediction", "LrRidgeFit", "RidgePoint", "RuleVerdict", "fit_lr_ridge"]

Array = NDArray[np.float64]

MIN_POINTS = 5
"""Finite trials below which no ridge is fitted: fewer than the ridge and its two widths have parameters."""
MAX_POINTS = 64
"""Trials that enter the fit; of more, one per cell of a fine grid and then those nearest the optimum."""
UNCERTAIN_OCTAVES = 4.0
"""Interval width at the studied batch sizes from which lr* counts as not identified."""
STRONG_SPREAD = 1.0
"""Distance from the best, in units of (median − best), within which a learning rate counts as stable."""

_WALKERS, _SWEEPS, _DRAWS = 48, 144, 48
_SAMPLES_PER_DRAW = 6
_GRID = 31  # learning rates per batch size of a sampled surface, over the searched range
_DEFAULT_EXPONENT = {"sgd": 0.7, "adam": 0.4}  # FACTS: linear far for SGD vision, square root for Adam


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
class LrPrediction:
    """What the fit says at one batch size.

    Attributes:
        lr: The best learning rate.
        stable_low: Learning rates from here
        stable_high: to here are predicted no further from the best than the study's median trial.
        value: The objective's value at `lr`.
        is_extrapolated: No trial ran within half an octave of, or beyond, this batch size.
        at_edge: The best learning rate lies at or beyond the edge of the range that was searched.
    """

    batch_size: float
    lr: Estimate
    stable_low: float
    stable_high: float
    value: Estimate
    is_extrapolated: bool
    at_edge: bool


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """A published scaling rule against the study's own exponent."""

    rule: str
    exponent: float
    is_compatible: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class LrRidgeFit:
    """lr*(B) with intervals; below the data that it needs, a status and a sentence.

    Attributes:
        exponent: d log lr* / d log B over the batch sizes that were tried, whatever the law.
        law_exponent: The saturating law's exponent below its knee.
        knee_batch_size: The law's B_n in samples.
        noise_sd: Standard deviation of repeated values near the best, in the objective's unit.
        quality: For each batch size of `table`, the chance that its value is within the noise of the best one's.
        table: Predictions on a lattice of batch sizes.
        law_draws: (log2 lr at the pivot, exponent, log2 B_n) of posterior draws, for batch sizes beyond the table.
    """

    status: FitStatus
    message: str
    num_points: int
    exponent: Estimate | None = None
    law_exponent: Estimate | None = None
    knee_batch_size: Estimate | None = None
    noise_sd: float | None = None
    best_batch_size: float | None = None
    tried_low: float | None = None
    tried_high: float | None = None
    pivot_batch_size: float | None = None
    table: tuple[LrPrediction, ...] = ()
    quality: tuple[float, ...] = ()
    law_draws: tuple[tuple[float, float, float], ...] = ()

    def predict(self, batch_size: float) -> LrPrediction | None:
        """Return what is known at a global batch size, run or never run; None where nothing is fitted."""
        if not self.table or self.status in (FitStatus.TOO_FEW, FitStatus.CONTRADICTORY):
            return None
        at = np.log2([p.batch_size for p in self.table])
        b = float(np.log2(batch_size))
        inside = float(np.clip(b, at[0], at[-1]))

        def between(values: Sequence[float], *, log: bool) -> float:
            y = np.log2(values) if log else np.asarray(values, dtype=float)
            found = float(np.interp(inside, at, y))
            return float(2.0**found) if log else found

        def estimate(items: Sequence[Estimate], *, log: bool) -> Estimate:
            return Estimate(
                between([e.value for e in items], log=log),
                between([e.low for e in items], log=log),
                between([e.high for e in items], log=log),
            )

        lr = estimate([p.lr for p in self.table], log=True)
        stable = [between([getattr(p, side) for p in self.table], log=True) for side in ("stable_low", "stable_high")]
        if b != inside:
            step = self._law_step(inside, b)
            lr = Estimate(lr.value * step.value, lr.low * step.low, lr.high * step.high)
            stable = [stable[0] * step.value, stable[1] * step.value]
        nearest = self.table[int(np.argmin(np.abs(at - b)))]
        return LrPrediction(
            batch_size=float(batch_size),
            lr=lr,
            stable_low=stable[0],
            stable_high=stable[1],
            value=estimate([p.value for p in self.table], log=False),
            is_extrapolated=nearest.is_extrapolated or b != inside,
            at_edge=nearest.at_edge,
        )

    def rules(self) -> tuple[RuleVerdict, ...]:
        """Return the linear, square-root and constant rules, each against the fitted exponent."""
        if self.exponent is None:
            return ()
        return tuple(
            _verdict(name, power, self.exponent) for name, power in (("linear", 1.0), ("sqrt", 0.5), ("none", 0.0))
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for storage; `from_dict` is the inverse."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> LrRidgeFit:
        """Rebuild a fit from `as_dict`."""
        return from_plain(cls, plain)

    def _law_step(self, start: float, end: float) -> Estimate:
        draws = np.array(self.law_draws)
        change = _law(np.array([end]), draws[:, 1], draws[:, 2]) - _law(np.array([start]), draws[:, 1], draws[:, 2])
        return estimate_from_samples(2.0 ** change[:, 0])


def fit_lr_ridge(
    points: Iterable[RidgePoint],
    *,
    direction: Literal["minimize", "maximize"] = "minimize",
    optimizer: str | None = None,
    lr_range: tuple[float, float] | None = None,
) -> LrRidgeFit:
    """Fit lr*(B) over all trials, diverged ones too. The result is deterministic.

    Args:
        points: The trials.
        direction: Which values are better.
        optimizer: Its name, for the exponent's prior: about 0.7 ± 0.25 for SGD, 0.4 ± 0.25 for adaptive methods.
        lr_range: The range that was searched; by default that of the trials.

    Returns:
        The fit; `status` is `too_few` under five finite trials or two learning rates, `not_identified` where lr*
        stays uncertain by over four octaves, `contradictory` where batch size and learning rate explain nothing.
    """
    kept = [p for p in points if p.batch_size > 0 and p.lr > 0]
    finite = [p for p in kept if np.isfinite(p.value)]
    rates = {round(float(np.log2(p.lr)), 3) for p in finite}
    if len(finite) < MIN_POINTS or len(rates) < 3:
        return LrRidgeFit(
            FitStatus.TOO_FEW,
            f"{len(finite)} finished trials with {len(rates)} different learning rates are too few for a fit of the "
            f"best learning rate: it needs at least {MIN_POINTS} trials and 3 learning rates.",
            len(finite),
        )
    data = _prepare(kept, sign=1.0 if direction == "minimize" else -1.0)
    if data.spread <= 0:
        return LrRidgeFit(
            FitStatus.CONTRADICTORY,
            f"All {len(finite)} finished trials have the same value: neither batch size nor learning rate matters.",
            len(finite),
        )
    prior = _prior(data, optimizer, lr_range)
    draws = _sample(data, prior)
    return _summarise(data, prior, draws, num_points=len(finite))


# --- data ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Data:
    b: Array  # [n] log2 batch size
    l: Array  # [n] log2 lr  # noqa: E741 - the notation of the module's docstring
    z: Array  # [n] squashed value
    extra: Array  # [n] variance of z that is known beforehand
    sign: float
    best: float
    spread: float  # median − best, in the objective's unit


def _prepare(points: Sequence[RidgePoint], *, sign: float) -> _Data:
    table = np.array([(p.batch_size, p.lr, p.value, p.value_sd) for p in points], dtype=float)
    b, l, v, sd = np.log2(table[:, 0]), np.log2(table[:, 1]), sign * table[:, 2], table[:, 3]  # noqa: E741
    finite = np.isfinite(v)
    best = float(v[finite].min())
    spread = _median_over_cells(b[finite], l[finite], v[finite]) - best
    if spread <= 0:  # over half of them share the best value
        spread = float(v[finite].mean()) - best
    if spread <= 0:
        return _Data(b, l, v * 0, v * 0, sign, best, 0.0)
    d = np.clip(np.where(finite, (v - best) / spread, 50.0), 0.0, 50.0)
    z = np.log1p(3.0 * d)
    extra = (3.0 / (1.0 + 3.0 * d) * np.where(np.isfinite(sd), sd, 0.0) / spread) ** 2
    keep = _thin(b, l, z)
    return _Data(b[keep], l[keep], z[keep], extra[keep], sign, best, spread)


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


# --- model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Prior:
    mean: Array  # [9] of c, a, n, log w−, log w+, log k, and log sd of the residual, the roughness and the noise
    sd: Array  # [9]
    pivot: float  # b̄, log2 samples
    lr_low: float  # log2
    lr_high: float  # log2


def _prior(data: _Data, optimizer: str | None, lr_range: tuple[float, float] | None) -> _Prior:
    low, high = (float(np.log2(v)) for v in lr_range) if lr_range else (float(data.l.min()), float(data.l.max()))
    weight = np.exp(-2.0 * data.z)
    exponent = 0.55 if optimizer is None else _DEFAULT_EXPONENT["adam" if _adaptive(optimizer) else "sgd"]
    mean = [0.5 * (low + high), exponent, 9.0, np.log(2.5), np.log(2.5), 0.0, np.log(0.4), np.log(0.1), np.log(0.05)]
    sd = [max(1.0, 2.0 * (high - low) / np.sqrt(12.0)), 0.25, 2.0, 0.5, 0.5, 0.7, 0.6, 0.8, 1.0]
    return _Prior(np.array(mean), np.array(sd), float(np.average(data.b, weights=weight)), low, high)


def _adaptive(optimizer: str) -> bool:
    from bsopt.laws.scaling import default_rule

    return default_rule(optimizer) == "sqrt"


def _law(b: Array, a: Array, n: Array) -> Array:
    """g(b) for draws [s] at batch sizes [m] -> [s, m]."""
    return np.asarray(-a[:, None] * np.logaddexp2(0.0, n[:, None] - b[None, :]))


def _ridge(b: Array, theta: Array, pivot: float) -> Array:
    return np.asarray(
        theta[:, :1] + _law(b, theta[:, 1], theta[:, 2]) - _law(np.array([pivot]), theta[:, 1], theta[:, 2])
    )


def _basin(u: Array, theta: Array) -> Array:
    """k·log1p((u/w)²) for u [s, m]."""
    w = np.where(u < 0, np.exp(theta[:, 3:4]), np.exp(theta[:, 4:5]))
    return np.asarray(np.exp(theta[:, 5:6]) * np.log1p((u / w) ** 2))


_SMOOTH, _ROUGH = (5.0, 3.0), (1.5, 1.0)  # length scales of the residual along b and l, octaves


def _matern(b: Array, l: Array, lengths: tuple[float, float]) -> Array:  # noqa: E741
    s = np.sqrt(5.0) * np.hypot((b[:, None] - b[None]) / lengths[0], (l[:, None] - l[None]) / lengths[1])
    return np.asarray((1.0 + s + s * s / 3.0) * np.exp(-s))


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


def _log_posterior(theta: Array, data: _Data, prior: _Prior, kernels: _Kernels) -> Array:
    residual = data.z[None] - _basin(data.l[None] - _ridge(data.b, theta, prior.pivot), theta)
    variance = np.exp(2.0 * theta[:, 6:9])[:, :, None, None]
    num = len(data.b)
    index = np.arange(num)
    # One row more than the covariance: the last row of its factor is then the whitened residual (no second solve).
    cov = np.empty((len(theta), num + 1, num + 1))
    cov[:, :num, :num] = variance[:, 0] * kernels.smooth + variance[:, 1] * kernels.rough + kernels.linear
    cov[:, index, index] += variance[:, 2, :, 0] + data.extra[None] + 1e-6
    cov[:, num, :num] = cov[:, :num, num] = residual
    cov[:, num, num] = 1e12
    chol = np.linalg.cholesky(cov)
    log_det = np.log(chol[:, index, index]).sum(1)
    likelihood = -0.5 * (chol[:, num, :num] ** 2).sum(1) - log_det
    t = (theta - prior.mean) / prior.sd
    log_prior = -0.5 * (t[:, 1:] ** 2).sum(1) - 2.5 * np.log1p(t[:, 0] ** 2 / 4.0)
    return np.asarray(np.where(np.abs(theta[:, 1] - 0.6) < 0.9, likelihood + log_prior, -np.inf))


def _sample(data: _Data, prior: _Prior) -> Array:
    """Posterior draws [_DRAWS, 9] by a stretch-move ensemble started from the best of a Sobol prior sample."""
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
    return np.asarray(pool[np.linspace(0, len(pool) - 1, _DRAWS).astype(int)])


# --- what the draws say ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Surface:
    """Sampled surfaces on a lattice: best learning rate, stable range and best squashed value, each [samples, B]."""

    best: Array
    low: Array
    high: Array
    z: Array


def _sample_surfaces(sizes: Array, data: _Data, prior: _Prior, draws: Array) -> _Surface:
    """Sample z over (sizes × the searched learning rates) given the trials, by Matheron's rule.

    A joint prior sample at grid and trials is moved by what the trials say of its error there, so that one
    factorisation of the grid serves all draws.
    """
    rng = np.random.default_rng(1)
    rates = np.linspace(prior.lr_low, prior.lr_high, _GRID)
    b = np.concatenate([np.repeat(sizes, _GRID), data.b])
    l = np.concatenate([np.tile(rates, len(sizes)), data.l])  # noqa: E741
    num, cells = len(data.b), len(sizes) * _GRID
    kernels, features = _kernels(b, l, prior.pivot), _features(b, prior.pivot)
    jitter = 1e-6 * np.eye(len(b))
    smooth, rough = np.linalg.cholesky(kernels.smooth + jitter), np.linalg.cholesky(kernels.rough + jitter)
    found: list[tuple[Array, Array, Array, Array]] = []
    for theta in draws:
        basin = _basin(l[None] - _ridge(b, theta[None], prior.pivot), theta[None])[0]
        noise = np.exp(2.0 * theta[8]) + data.extra
        cov = np.exp(2.0 * theta[6]) * kernels.smooth + np.exp(2.0 * theta[7]) * kernels.rough + kernels.linear
        sample = np.exp(theta[6]) * smooth @ rng.standard_normal((len(b), _SAMPLES_PER_DRAW))
        sample += np.exp(theta[7]) * rough @ rng.standard_normal((len(b), _SAMPLES_PER_DRAW))
        sample += features @ rng.standard_normal((features.shape[1], _SAMPLES_PER_DRAW))
        error = (data.z - basin[cells:])[:, None] - sample[cells:]
        error -= np.sqrt(noise)[:, None] * rng.standard_normal((num, _SAMPLES_PER_DRAW))
        moved = cov[:cells, cells:] @ np.linalg.solve(cov[cells:, cells:] + np.diag(noise + 1e-6), error)
        z = basin[:cells, None] + sample[:cells] + moved
        found.append(_read(z.T.reshape(_SAMPLES_PER_DRAW, len(sizes), _GRID), rates))
    return _Surface(*(np.concatenate(part) for part in zip(*found, strict=True)))


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


def _summarise(data: _Data, prior: _Prior, draws: Array, *, num_points: int) -> LrRidgeFit:
    tried = np.unique(data.b)
    low, high = float(tried[0]), float(tried[-1])
    step = max(1.0, (high - low + 4.0) / 14.0)
    sizes = np.arange(max(0.0, np.floor(low) - 2.0), np.ceil(high) + 2.0 + 1e-9, step)
    surface = _sample_surfaces(sizes, data, prior, draws)
    table = tuple(_row(i, b, surface, data, prior, tried) for i, b in enumerate(sizes))
    inner = (sizes >= low - 0.5 * step) & (sizes <= high + 0.5 * step)
    noise = np.exp(np.logaddexp(2.0 * draws[:, 7], 2.0 * draws[:, 8]) / 2.0)  # roughness is noise to who trains once
    quality = _chance_as_good(surface.z, inner, float(np.median(noise)))
    at_best = int(np.argmin(np.where(inner, np.quantile(surface.z, 0.75, axis=0), np.inf)))
    widths = [float(np.log2(row.lr.high / row.lr.low)) for row, ok in zip(table, inner, strict=True) if ok]
    status, message = _judge(data, table[at_best], min(widths), float(np.exp(np.median(draws[:, 8]))), num_points)
    return LrRidgeFit(
        status,
        message,
        num_points,
        exponent=_exponent(sizes, surface, prior, low, high) if len(tried) > 1 and high - low >= 1.0 else None,
        law_exponent=estimate_from_samples(draws[:, 1]) if len(tried) > 2 else None,
        knee_batch_size=estimate_from_samples(2.0 ** draws[:, 2]) if len(tried) > 2 else None,
        noise_sd=float(np.median(noise)) * data.spread / 3.0,
        best_batch_size=table[at_best].batch_size,
        tried_low=float(2.0**low),
        tried_high=float(2.0**high),
        pivot_batch_size=float(2.0**prior.pivot),
        table=table,
        quality=quality,
        law_draws=tuple((float(t[0]), float(t[1]), float(t[2])) for t in draws),
    )


def _row(i: int, b: float, surface: _Surface, data: _Data, prior: _Prior, tried: Array) -> LrPrediction:
    lr = estimate_from_samples(surface.best[:, i])
    z = np.clip(surface.z[:, i], -5.0, 5.0)
    value = estimate_from_samples(data.sign * (data.best + data.spread * np.expm1(z) / 3.0))
    edge = 0.25
    return LrPrediction(
        batch_size=float(2.0**b),
        lr=Estimate(float(2.0**lr.value), float(2.0**lr.low), float(2.0**lr.high)),
        stable_low=float(2.0 ** np.median(surface.low[:, i])),
        stable_high=float(2.0 ** np.median(surface.high[:, i])),
        value=value,
        is_extrapolated=bool(np.abs(tried - b).min() > 0.5 and not tried[0] < b < tried[-1]),
        at_edge=bool(lr.value <= prior.lr_low + edge or lr.value >= prior.lr_high - edge),
    )


def _chance_as_good(z: Array, inner: NDArray[np.bool_], noise: float) -> tuple[float, ...]:
    best = np.where(inner[None], z, np.inf).min(1, keepdims=True)
    return tuple(float(v) for v in (z <= best + 2.0 * noise).mean(0))


def _exponent(sizes: Array, surface: _Surface, prior: _Prior, low: float, high: float) -> Estimate:
    inside = (sizes >= low - 1e-9) & (sizes <= high + 1e-9)
    if inside.sum() < 2:
        inside = (sizes >= low - 1.0) & (sizes <= high + 1.0)
    x = sizes[inside] - sizes[inside].mean()
    return estimate_from_samples((surface.best[:, inside] * x).sum(1) / (x * x).sum())


def _judge(data: _Data, best: LrPrediction, width: float, noise: float, num: int) -> tuple[FitStatus, str]:
    if noise > 0.8 * float(np.std(data.z)) and num >= 2 * MIN_POINTS:
        return (
            FitStatus.CONTRADICTORY,
            f"Batch size and learning rate explain almost nothing of the values of {num} trials: trials at like "
            "settings differ as much as all do, so no learning rate is better than another.",
        )
    where = f"at batch size {best.batch_size:.0f}"
    if width > UNCERTAIN_OCTAVES:
        return (
            FitStatus.NOT_IDENTIFIED,
            f"{num} trials leave the best learning rate {where} uncertain between {best.lr.low:.2g} and "
            f"{best.lr.high:.2g}; more trials near {best.lr.value:.2g} would settle it.",
        )
    edge = ", at the edge of the range that was searched" if best.at_edge else ""
    return (
        FitStatus.OK,
        f"The best learning rate {where} is {best.lr.value:.2g} (90 %: {best.lr.low:.2g} to {best.lr.high:.2g}){edge}, "
        f"from {num} trials.",
    )


def _verdict(name: str, power: float, fitted: Estimate) -> RuleVerdict:
    compatible = power in fitted
    label = {"linear": "linear rule", "sqrt": "square-root rule", "none": "constant learning rate"}[name]
    found = f"the study's exponent is {fitted.value:.2f} (90 %: {fitted.low:.2f} to {fitted.high:.2f})"
    verb = "agrees with" if compatible else "is ruled out by"
    return RuleVerdict(name, power, compatible, f"The {label} (exponent {power:g}) {verb} the data: {found}.")
