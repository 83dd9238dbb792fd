"""What the response surface says in a study's own values, over batch size and learning rate.

Notation, beside that of `surface_prior` (k batch sizes, r learning rates, S sampled surfaces):

    b, l     log2 B [samples] and log2 lr
    z        (S, k, r)  squashed, standardised values of sampled surfaces
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr

from bsopt.laws.direction import Direction
from bsopt.laws.response_surface import FAILED_SD, Observations, ResponseSurface, fit, thinned_rows
from bsopt.laws.surface_prior import ANSWER_NOISE, NEAR_BEST, Coordinates, Domain, Prior, RidgePrior
from bsopt.laws.value_transform import ValueTransform, rarity

__all__ = ["RidgePoint", "SampledRidges", "ValueSurface", "fit_values", "noise_at", "noise_near_best"]

Array = NDArray[np.float64]

NUM_SAMPLES, NUM_RATES = 288, 25
"""Sampled surfaces, and learning rates of each over the range that was tried."""

EDGE = 0.25
"""Octaves from an end of the learning rates that were tried within which the best one counts as at it."""

BEYOND = 1.0
"""Octaves beyond the learning rates that were tried, within those searched, where the best one is looked for, too.

Further out a surface says what its prior does."""

CHANCE = 0.05
"""Chance of foretelling values that nothing explains."""

SPREAD_STEPS = 16
"""Batch sizes and learning rates over which the median value is taken."""

STABLE_GAP = 1.0
"""Distance from the best, in units of (median − best), within which a learning rate counts as stable."""


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
class SampledRidges:
    """What equally likely surfaces say at each batch size, each (S, k).

    Attributes:
        lr: (k,) log2 of the learning rate with the least value to expect, among those that were tried. Where there may
            be two valleys the middle of the best rates would lie on the hill between them.
        best: log2 of the best learning rate, which may lie beyond those that were tried.
        low, high: log2 of the stable range around it.
        value: The study's value at `lr`: what training there would give. The lowest value of each surface would be too
            good, since every surface has its own lucky rates.
        lr_anywhere: (k,) as `lr`, but among all rates that were searched, however far from those that were tried.
        value_anywhere: The study's value there.
    """

    lr: Array
    best: Array
    low: Array
    high: Array
    value: Array
    lr_anywhere: Array
    value_anywhere: Array


@dataclass(frozen=True, slots=True)
class ValueSurface:
    """The belief about a study's values over batch size and learning rate, further parameters held.

    Attributes:
        belief: In squashed, standardised units.
        transform: From the study's values to those units.
        place: From (n,) log2 batch sizes and (n,) log2 learning rates to the belief's coordinates.
        b, l: (n,) log2 of the batch sizes and learning rates of the trials that it knows of.
        num_finished: Trials with a finite value.
    """

    belief: ResponseSurface
    transform: ValueTransform
    place: Callable[[Array, Array], Coordinates]
    b: Array
    l: Array  # noqa: E741 - the notation of the module's docstring
    num_finished: int

    def believed(self, batch_sizes: Sequence[float], lrs: Sequence[float]) -> tuple[Array, Array]:
        """Return the values to expect and their standard deviations at k batch sizes and r learning rates.

        Both have shape (k, r), in the study's unit; the noise between seeds isn't part of the deviations.
        """
        b, l = (axis.ravel() for axis in np.meshgrid(np.log2(batch_sizes), np.log2(lrs), indexing="ij"))  # noqa: E741
        mean, sd = self.belief.moments(self.place(b, l))
        values, shape = self.transform.inverse(mean), (len(batch_sizes), len(lrs))
        return values.reshape(shape), (sd / self.transform.slope(values)).reshape(shape)

    @property
    def tried(self) -> tuple[float, float]:
        """The lowest and the highest log2 learning rate of a trial."""
        return float(self.l.min()), float(self.l.max())

    def ridges(self, b: Array) -> SampledRidges:
        """Return the best learning rate and the value there of sampled surfaces. Always the same.

        Args:
            b: log2 of the global batch sizes, (k,).
        """
        low, high = self.tried
        searched = self.belief.prior.domain.x or self.tried
        least, most = min(low, searched[0]), max(high, searched[1])
        rates, everywhere = (
            np.linspace(*ends, NUM_RATES)
            for ends in ((max(low - BEYOND, least), min(high + BEYOND, most)), (least, most))
        )
        lr = _lowest(self._expected(b, rates), rates, within=self.tried)
        anywhere = _lowest(self._expected(b, everywhere), everywhere)
        beyond = (anywhere < low - EDGE) | (anywhere > high + EDGE)
        anywhere = np.where(beyond, anywhere, lr)
        grid, size = len(b) * len(rates), np.append(np.repeat(b, len(rates)), b[beyond])
        at = self.place(size, np.append(np.tile(rates, len(b)), anywhere[beyond]))
        z = self.belief.sample(at, NUM_SAMPLES, np.random.default_rng(len(self.b)))
        told = _read(z[:, :grid].reshape(len(z), len(b), len(rates)), rates, lr, self.transform)
        value_anywhere = told.value.copy()
        value_anywhere[:, beyond] = self.transform.inverse(z[:, grid:])
        return replace(told, lr_anywhere=anywhere, value_anywhere=value_anywhere)

    def _expected(self, b: Array, rates: Array) -> Array:
        """Return the values to expect at each batch size and rate, both log2: (k, r), standardised."""
        at = self.place(np.repeat(b, len(rates)), np.tile(rates, len(b)))
        return self.belief.moments(at)[0].reshape(len(b), len(rates))

    @property
    def explains(self) -> bool:
        """Whether values are foretold by the other trials', better than chance would at 5 %.

        By the correlation of each value with what all others tell of it, tested as a straight line's is, one-sided.
        """
        seen = self.belief.data
        kept = seen.sd < FAILED_SD
        told, values = (self.belief.weights @ self.belief.left_out()[0])[kept], seen.y[kept]
        if len(values) < 3 or np.ptp(told) <= 0 or np.ptp(values) <= 0:
            return False
        return bool(pearsonr(told, values, alternative="greater").pvalue < CHANCE)

    @property
    def num_told(self) -> int:
        """Trials whose value was told, and neither predicted nor called a failed seed's; of thousands those kept."""
        return min(self.num_finished, int((self.belief.data.sd == 0.0).sum()))

    @property
    def noise(self) -> float:
        """Standard deviation of a repeated trial's value near the best, in standardised units; the median of draws."""
        return _middle(self.belief, self.belief.parameters.noise_at(np.array([NEAR_BEST]))[:, 0])

    @property
    def noise_sd(self) -> float:
        """The same in the study's unit, where the best value is expected: the best that was seen had luck."""
        return noise_near_best(self.belief, self.transform)

    @property
    def run_sd(self) -> float:
        """What noise adds to the value of one more run there, in the study's unit: the root mean square of draws.

        It is more than `noise_sd` where few trials tell the noise: what isn't known of it widens a prediction, too.
        """
        draws = _noises_near_best(self.belief, self.transform)
        return math.sqrt(float(self.belief.weights @ draws**2 / self.belief.weights.sum()))

    @property
    def spread(self) -> float:
        """Median − best of the values to expect over the ranges that were searched, in the study's unit.

        Of the trials themselves it would shrink as a search closes in on the best. No place counts as worse than the
        worst value that was seen: one that diverges has none.
        """
        domain, seen = self.belief.prior.domain, self.belief.data
        ends = (domain.b or (self.b.min(), self.b.max()), domain.x or (self.l.min(), self.l.max()))
        sizes, rates = (np.linspace(low, high, SPREAD_STEPS) for low, high in ends)
        b, l = (axis.ravel() for axis in np.meshgrid(sizes, rates))  # noqa: E741
        anywhere, there = (self.belief.moments(at)[0] for at in (self.place(b, l), seen.at))
        middle = min(float(np.median(anywhere)), float(seen.y.max()))
        return float(np.ptp(self.transform.inverse([middle, min(anywhere.min(), there.min())])))


def noise_near_best(belief: ResponseSurface, transform: ValueTransform) -> float:
    """Return the standard deviation of a repeated trial's value where the best is expected, in the study's unit.

    Args:
        belief: In squashed, standardised units.
        transform: From the study's values to those units.
    """
    return _middle(belief, _noises_near_best(belief, transform))


def noise_at(belief: ResponseSurface, transform: ValueTransform, mean: float) -> float:
    """Return the standard deviation of a repeated trial's value where `mean` is expected, in standardised units.

    Args:
        belief: In squashed, standardised units.
        transform: From the study's values to those units.
        mean: In those units.
    """
    gap = transform.gap(transform.inverse(np.array([mean])))
    return _middle(belief, belief.parameters.noise_at(gap)[:, 0])


def _noises_near_best(belief: ResponseSurface, transform: ValueTransform) -> Array:
    """Return the noise where the best is expected, in the study's unit, of each draw."""
    expected, _ = belief.moments(belief.data.at)
    gap = float(transform.gap(transform.inverse(expected.min())))
    return belief.parameters.noise_of_gap(gap) * transform.scale * transform.sd


def _middle(belief: ResponseSurface, values: Array) -> float:
    """Return the median of one noise per draw, weighted as an answer's prior of the noise would.

    It is told to people and decides verdicts, also where a proposal's belief tells it.
    """
    weights = belief.weights * belief.parameters.as_if_noise(ANSWER_NOISE, was=belief.prior.noise)
    order = np.argsort(values)
    upto = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(upto, 0.5 * upto[-1])])


def fit_values(
    points: Sequence[RidgePoint],
    *,
    ridge: RidgePrior,
    direction: Direction = "minimize",
    batch_size_range: tuple[float, float] | None = None,
    lr_range: tuple[float, float] | None = None,
) -> ValueSurface:
    """Fit the surface over batch size and learning rate alone. The result is deterministic.

    Args:
        points: Trials with positive batch sizes and learning rates; at least one value is finite.
        ridge: Where lr*(B) is expected.
        direction: Which values are better.
        batch_size_range: The range that was searched; by default that of the trials.
        lr_range: The same of the learning rate.
    """
    table = np.array([(p.batch_size, p.lr, p.value, p.value_sd) for p in points], dtype=float)
    rows, values, sd = np.log2(table[:, :2]), table[:, 2], np.where(np.isfinite(table[:, 3]), table[:, 3], 0.0)
    finite = np.isfinite(values)
    transform = ValueTransform.of(values, weights=rarity(rows, np.ones(2)), maximize=direction == "maximize")
    y, gap = transform(values), transform.gap(values)
    ranges = _span(batch_size_range, rows[:, 0]), _span(lr_range, rows[:, 1])
    spans = np.array([max(high - low, 1e-12) for low, high in ranges])
    kept = thinned_rows(rows, y, spans=spans)
    prior = Prior(ridge, Domain(*ranges), ANSWER_NOISE)
    error = sd * transform.slope(np.where(finite, values, transform.sign * transform.best))
    data = Observations(_place(rows[kept, 0], rows[kept, 1]), y[kept], error[kept], gap[kept])
    belief = fit(prior, data, seed=(0, len(rows)), is_thorough=True)
    return ValueSurface(belief, transform, _place, rows[:, 0], rows[:, 1], int(finite.sum()))


def _place(b: Array, l: Array) -> Coordinates:  # noqa: E741
    none = np.zeros((len(b), 0))
    return Coordinates(b, l, none, none)


def _span(asked: tuple[float, float] | None, found: Array) -> tuple[float, float]:
    """Return log2 of a range that was asked for, or the ends of what was found."""
    low, high = np.log2(asked) if asked is not None else (found.min(), found.max())
    return float(low), float(high)


def _read(z: Array, rates: Array, lr: Array, transform: ValueTransform) -> SampledRidges:
    """Return the lowest points along the rates, the values at `lr` (k,) and the stable ranges of surfaces (S, k, r)."""
    best = _lowest(z, rates)
    lowest = z.min(-1)
    values = transform.inverse(z)
    gaps = transform.sign * values - np.minimum(transform.best, (transform.sign * values).min((1, 2), keepdims=True))
    within = (gaps <= STABLE_GAP * transform.scale) | (z <= lowest[..., None])
    low = np.where(within, rates, np.inf).min(-1)
    high = np.where(within, rates, -np.inf).max(-1)
    value = transform.inverse(_along(z, (lr - rates[0]) / (rates[1] - rates[0])))
    return SampledRidges(lr, best, np.minimum(low, best), np.maximum(high, best), value, lr, value)


def _lowest(z: Array, rates: Array, *, within: tuple[float, float] = (-math.inf, math.inf)) -> Array:
    """Return where along the rates within some the surfaces (..., r) are lowest, by a parabola through three points."""
    step = rates[1] - rates[0]
    at = np.where((rates > within[0] - step) & (rates < within[1] + step), z, np.inf).argmin(-1)
    middle = np.clip(at, 1, len(rates) - 2)
    below, here, above = (np.take_along_axis(z, (middle + k)[..., None], -1)[..., 0] for k in (-1, 0, 1))
    curvature = np.maximum(above - 2.0 * here + below, 1e-12)
    shift = np.where(at == middle, np.clip(0.5 * (below - above) / curvature, -0.5, 0.5), 0.0)
    return np.asarray(np.clip(rates[at] + shift * step, *within))


def _along(z: Array, position: Array) -> Array:
    """Return the surfaces (S, k, r) at a position along the rates at each batch size, in steps (k,): (S, k)."""
    middle = np.clip(np.round(position), 1, z.shape[-1] - 2).astype(int)
    t = position - middle
    below, here, above = (np.take_along_axis(z, (middle + i)[None, :, None], -1)[..., 0] for i in (-1, 0, 1))
    return np.asarray(here + 0.5 * t * (above - below) + 0.5 * t**2 * (above - 2.0 * here + below))
