r"""Where an unfinished curve will end, learned from finished curves of the same study.

Curves that are annealed bend late and cross, so neither the current value nor a curve's own shape says where
it ends; the curves of the trials that ran on do. At the progress of the trial in question,

    z_end = z·exp(−a·q),  q = ln(1/f)

defines the exponent a that remains, and a Gaussian process learns it over the trials. Notation:

    f       progress, step / horizon; the horizon is the last step of the finished trials
    z       best value so far, lower is better, measured from a floor that makes it positive
    a       exponent that remains: a power law c·t^−a keeps it constant, a plateau has a = 0
    e       exponent of late: ln(z(f/4)/z(f)) / ln 4
    l       level, ln z, standardised over the finished trials at the same progress
    b, x    log2 of batch size and of learning rate
    n       finished trials, at most `MOST_CURVES`
    k       pairs of amplitude and noise
    s       standard deviation of ln z_end between two runs of one configuration, as far as the curves tell

Coordinates are (b, x, e, l). The prior is broad for validation losses: mean .15 with sd .1, a tilt along the
learning rate per sample, a slope in l, and a Matérn-5/2 whose length scales (12 octaves in b, 9 in x, .6 in e,
2 in l) let one finished curve speak for much of the space. Amplitude and noise are averaged over, weighted by their
marginal likelihood. The noises to choose from are wide apart: seeds of one configuration end 0 to 30 % apart in real
studies, and a narrow choice makes three lucky curves certain of the fourth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from bsopt.laws.direction import best_possible
from bsopt.laws.gaussian_process import Conditioned, condition, matern_five_halves, squared_distances

__all__ = ["MOST_CURVES", "Curve", "CurveModel", "PredictedFinal", "fit_curves"]

_Floats: TypeAlias = NDArray[np.float64]

MOST_CURVES = 48
"""Finished curves to fit, the latest: this bounds a prediction's time."""

_PRIOR_MEAN, _PRIOR_SD = 0.15, 0.10
_TILT_SD = 0.03  # of a per octave of lr/B
_SLOPE_SD = 0.05  # of a per standard deviation of l
_B, _X, _RECENT, _LEVEL = range(4)  # columns of the coordinates (b, x, e, l)
_LENGTHS = np.array([12.0, 9.0, 0.6, 2.0])
_AMPLITUDES, _NOISES = (grid.ravel() for grid in np.meshgrid([0.025, 0.1, 0.4], [0.01, 0.03, 0.1, 0.3, 1.0]))
_LEVEL_VARIANCE = 0.1  # of ln z before any trial has finished, worth one trial
_TINY = 1e-12
_WHOLE = 0.98  # of the horizon: a curve that came so far has run to its end
_LEAST_PRODUCTS = 6


@dataclass(frozen=True, slots=True)
class PredictedFinal:
    """What a trial's final value would be, in the study's own units.

    The logarithm of the distance from `floor` has a Student distribution: a wide prediction never promises the
    impossible, and one from few curves has heavy tails.

    Attributes:
        mean: Expected final value.
        sd: Its standard deviation.
        median: As likely missed as beaten.
        log_sd: Standard deviation of the logarithm of the distance from `floor`.
        floor: The value that none can beat: 0 for a positive loss, the perfect score for an accuracy.
        best: The best value the trial has reported.
        progress: How far it came, as a share of the finished trials' last step, at most 1.
        freedom: Degrees of freedom of the tails, one more than the curves learned from.
        noise: Standard deviation of that logarithm between two runs of one configuration; contained in `log_sd`.
    """

    mean: float
    sd: float
    median: float
    log_sd: float
    floor: float
    best: float
    progress: float
    freedom: int
    noise: float = 0.0

    def within_noise_of(self, value: float) -> float:
        """Return the value that is worse by what one run differs from another of the same configuration."""
        return self.floor + (value - self.floor) * math.exp(self.noise)

    def quantile(self, deviations: float) -> float:
        """Return the value so many standard deviations from the median, worse for positive ones."""
        return self.floor + (self.median - self.floor) * math.exp(min(deviations * self.log_sd, 700.0))

    def chance_of_beating(self, value: float) -> float:
        """Return the probability that the final value is better than `value`."""
        if math.isinf(value):
            return float((value > 0) == (self.median > self.floor))
        ratio = (value - self.floor) / (self.median - self.floor)
        if ratio <= 0.0:
            return 0.0
        return float(stdtr(self.freedom, math.log(ratio) / self.log_sd)) if self.log_sd > 0.0 else float(ratio > 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One trial's reports; build it with `Curve.of`.

    Attributes:
        steps: (r,) positions of its r finite reports, increasing, above 0.
        values: (r,) reported values, smaller is better.
        b, x: log2 of its batch size and learning rate; NaN where unknown.
        final: Its final value, smaller is better; NaN where it hasn't finished.
        log_steps, best: (r,) ln of the steps, and the best value so far at each.
    """

    steps: _Floats
    values: _Floats
    b: float
    x: float
    final: float
    log_steps: _Floats
    best: _Floats

    @classmethod
    def of(cls, steps: _Floats, values: _Floats, *, b: float, x: float, final: float = math.nan) -> Curve:
        """Return a curve; see the attributes."""
        return cls(steps, values, b, x, final, np.log(steps), np.minimum.accumulate(values))

    def with_latest(self, value: float) -> Curve:
        """Return the curve as if its last report were another and its best so far."""
        values = np.append(np.maximum(self.values[:-1], value), value)
        return Curve.of(self.steps, values, b=self.b, x=self.x, final=self.final)


def fit_curves(finished: Sequence[Curve], *, sign: float, per_batch: bool | None = None) -> CurveModel | None:
    """Return what finished curves teach, or None where there is none or their values aren't what was reported.

    Args:
        finished: Curves with at least one report and a finite final value.
        sign: 1 where smaller values are better in the study's own units, −1 where larger ones are: what the curves'
            values were multiplied with, and what predictions are turned back with.
        per_batch: Whether steps count updates; None to find out from where the curves end.
    """
    if not finished or not _values_are_reports(finished):
        return None
    seen = np.concatenate([*(c.best for c in finished), [c.final for c in finished]])
    if per_batch is None:
        per_batch = _steps_are_updates(finished)
    elif per_batch:
        per_batch = all(math.isfinite(curve.b) for curve in finished)
    floor = _floor(seen, finished, sign)
    return CurveModel(
        sign=sign,
        floor=floor,
        horizon=float(max(c.steps[-1] * (2.0**c.b if per_batch else 1.0) for c in finished)),
        per_batch=per_batch,
        finished=tuple(finished),
        ends_at_best=all(c.final <= c.best[-1] + 1e-9 * abs(c.best[-1]) for c in finished),
        fluctuation=_fluctuation(finished, floor),
    )


@dataclass(frozen=True, slots=True, eq=False)
class CurveModel:
    """What one set of finished curves teaches; build it with `fit_curves`.

    Attributes:
        sign: 1 where smaller values are better in the study's own units, else −1.
        floor: The value that none can beat, smaller is better.
        horizon: The last step of the finished curves, in the unit of progress.
        per_batch: Whether steps count updates, so that step · batch size is the unit of progress.
        finished: The curves.
        ends_at_best: Whether trials return their best value, so that none can end worse than it has been.
        fluctuation: Standard deviation of ln z from one report to the next, the trend left out.
        processes: The exponent's process at each progress that was asked for, kept for the next trial there.
    """

    sign: float
    floor: float
    horizon: float
    per_batch: bool
    finished: tuple[Curve, ...]
    ends_at_best: bool
    fluctuation: float
    processes: dict[float, _Process] = field(default_factory=dict)

    def last_step(self, b: float) -> float:
        """Return the step at which a trial would finish, from log2 of its batch size; NaN for an unknown one."""
        return self.horizon * 2.0**-b if self.per_batch and math.isfinite(b) else self.horizon

    def predict(self, curve: Curve) -> PredictedFinal:
        """Return where an unfinished curve with at least one report will end."""
        step, best = self._progress(curve, -1), curve.best[-1]
        f = min(float(step) / self.horizon, 1.0)
        q = math.log(1.0 / f)
        z = max(best - self.floor, _TINY)
        found = self._exponent(curve, step, q) if q > 0.0 else _CERTAIN
        mean, sd = found.mean, found.sd
        if self.ends_at_best and sd > 0.0:
            mean, sd = _positive_part(mean, sd)
        # What is left to come fluctuates, too: without that a flat noisy curve would be certain of its end.
        fluctuation = self.fluctuation if q > 0.0 else 0.0
        log_median, log_sd = math.log(z) - mean * q, math.hypot(sd * q, fluctuation)
        z_mean = math.exp(min(log_median + 0.5 * log_sd**2, 700.0))
        return PredictedFinal(
            mean=self.sign * (self.floor + z_mean),
            sd=z_mean * math.sqrt(math.expm1(min(log_sd**2, 50.0))),
            median=self.sign * (self.floor + math.exp(log_median)),
            log_sd=log_sd,
            floor=self.sign * self.floor,
            best=self.sign * float(best),
            progress=f,
            freedom=len(self.finished) + 1,
            noise=math.hypot(found.noise * q, fluctuation),
        )

    def gains_after_plateau(self, curve: Curve, is_flat: Callable[[_Floats, _Floats], bool]) -> list[float]:
        """Return by how much finished curves got better after a plateau at a curve's progress.

        Curves that ended before the horizon, because they were taken for converged, say nothing.

        Args:
            curve: An unfinished curve with at least one report.
            is_flat: Whether a curve, given as progress in [0, 1] and values of shape (r,), is on a plateau at its end.
        """
        step, gains = self._progress(curve, -1), []
        for one in self.finished:
            there = step / (2.0**one.b if self.per_batch else 1.0) * (1.0 + 1e-9)
            count = int(np.searchsorted(one.steps, there, side="right"))
            is_whole = self._progress(one, -1) >= _WHOLE * self.horizon
            if is_whole and count and is_flat(one.steps[:count] / self.last_step(one.b), one.values[:count]):
                gains.append(float(one.best[count - 1] - min(one.final, one.best[-1])))
        return gains

    def _exponent(self, curve: Curve, step: float, q: float) -> _Exponent:
        """What is believed of a for a trial whose last report is at `step`."""
        process = self.processes.get(step)
        if process is None:
            process = self.processes[step] = self._process_at(step, q)
        return process.predict(self._coordinates(curve, step))

    def _process_at(self, step: float, q: float) -> _Process:
        reached = [curve for curve in self.finished if step >= self._progress(curve, 0) * (1.0 - 1e-9)]
        rows = np.array([self._coordinates(curve, step) for curve in reached]).reshape(-1, 4)
        finals = np.log([max(curve.final - self.floor, _TINY) for curve in reached])
        return _Process.of(rows, np.clip((rows[:, _LEVEL] - finals) / q, -1.0, 3.0))

    def _coordinates(self, curve: Curve, step: float) -> _Floats:
        return np.array([curve.b, curve.x, self._recent(curve, step), math.log(self._at(curve, step))])

    def _progress(self, curve: Curve, report: int) -> float:
        """The step of a report, in samples where steps count updates."""
        return float(curve.steps[report]) * (2.0**curve.b if self.per_batch else 1.0)

    def _at(self, curve: Curve, step: float) -> float:
        """z of a curve at a step, linear in log step between reports."""
        shift = curve.b * math.log(2.0) if self.per_batch else 0.0
        value = float(np.interp(math.log(step) - shift, curve.log_steps, curve.best))
        return max(value - self.floor, _TINY)

    def _recent(self, curve: Curve, step: float) -> float:
        """e over the last factor of four in steps, or what there is of it; NaN with one report."""
        first = max(step / 4.0, self._progress(curve, 0))
        if first >= step * 0.999:
            return math.nan
        return math.log(self._at(curve, first) / self._at(curve, step)) / math.log(step / first)


@dataclass(frozen=True, slots=True)
class _Exponent:
    """Mean and standard deviation of a, and the part of the latter that no other trial can explain."""

    mean: float
    sd: float
    noise: float


_CERTAIN = _Exponent(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Process:
    """A Gaussian process for a at one progress, averaged over amplitudes and noises.

    Attributes:
        rows: (n, 4) standardised coordinates of the finished trials.
        centre: (4,) what stands in for a missing coordinate, and the origin.
        level_sd: Standard deviation of ln z that l is standardised with.
        process: k processes, given a − prior mean.
        weights: (k,) posterior weights.
    """

    rows: _Floats
    centre: _Floats
    level_sd: float
    process: Conditioned
    weights: _Floats

    @classmethod
    def of(cls, raw: _Floats, exponents: _Floats) -> _Process:
        n, known = len(raw), np.isfinite(raw)
        counts = known.sum(axis=0)
        centre = np.where(counts > 0, np.where(known, raw, 0.0).sum(axis=0) / np.maximum(counts, 1), 0.0)
        level_sd = math.sqrt((_LEVEL_VARIANCE + float(np.sum((raw[:, _LEVEL] - centre[_LEVEL]) ** 2))) / (1 + n))
        rows = _standardised(raw, centre, level_sd)
        covariance, noise = _covariance(rows, rows), _NOISES[:, None] ** 2
        process = condition(covariance, exponents - _PRIOR_MEAN, noise_variance=noise)
        weights = np.exp(process.log_evidence - process.log_evidence.max())
        return cls(rows, centre, level_sd, process, weights / weights.sum())

    def predict(self, raw: _Floats) -> _Exponent:
        """Return what is believed of a at one trial's coordinates, shape (4,)."""
        row = _standardised(raw[None], self.centre, self.level_sd)
        cross = self.process.project(_covariance(self.rows, row))
        shifts, variances = (part[:, 0] for part in self.process.predict(cross, _covariance(row, row)[:, 0]))
        means = _PRIOR_MEAN + shifts
        mean = float(self.weights @ means)
        variance = float(self.weights @ (variances + _NOISES**2 + (means - mean) ** 2))
        return _Exponent(mean, math.sqrt(variance), math.sqrt(float(self.weights @ _NOISES**2)))


def _standardised(raw: _Floats, centre: _Floats, level_sd: float) -> _Floats:
    """Coordinates (n, 4) from their centre, unknown ones at it, and the level in its standard deviations."""
    rows = np.where(np.isfinite(raw), raw, centre) - centre
    rows[:, _LEVEL] /= level_sd
    return np.asarray(rows)


def _covariance(left: _Floats, right: _Floats) -> _Floats:
    """Prior covariance of a, shape (k, left, right): constant, tilt in lr/B, slope in l, and Matérn-5/2."""
    matern = matern_five_halves(squared_distances(left, right, _LENGTHS))
    tilt = np.outer(left[:, _X] - left[:, _B], right[:, _X] - right[:, _B])
    linear = _PRIOR_SD**2 + _TILT_SD**2 * tilt + _SLOPE_SD**2 * np.outer(left[:, _LEVEL], right[:, _LEVEL])
    return np.asarray(linear + _AMPLITUDES[:, None, None] ** 2 * matern)


def _values_are_reports(curves: Sequence[Curve]) -> bool:
    """Whether most trials returned something within the range of their reports (not a time to a target)."""
    inside = [
        bool(c.best[-1] <= c.final <= c.best[0]) or math.isclose(c.final, c.best[-1], rel_tol=0.2) for c in curves
    ]
    return 2 * sum(inside) >= len(curves)


def _steps_are_updates(curves: Sequence[Curve]) -> bool:
    """Whether trials ended at equal step · batch size rather than at equal steps, as `global_step` does."""
    ends = np.log2([c.steps[-1] for c in curves])
    sizes = np.array([c.b for c in curves])
    if len(curves) < 3 or not np.all(np.isfinite(sizes)) or np.ptp(sizes) < 1.0:
        return False
    return bool(np.std(ends + sizes) < 0.25 * np.std(ends))


def _floor(seen: _Floats, curves: Sequence[Curve], sign: float) -> float:
    """Zero for positive losses, the perfect score for accuracies, else where a is as the prior expects it."""
    lowest, highest = float(seen.min()), float(seen.max())
    if (perfect := best_possible(lowest, highest, sign=sign)) is not None:
        return 1.001 * perfect
    quarters = np.array([np.interp(0.25 * c.steps[-1], c.steps, c.best) for c in curves])
    ends = np.array([c.best[-1] for c in curves])
    spread = float(np.ptp(seen)) or max(abs(lowest), 1.0)
    distances = spread * np.geomspace(1e-3, 1e3, 61)[:, None]
    exponents = np.log((quarters - lowest + distances) / (ends - lowest + distances)).mean(axis=1) / math.log(4.0)
    return lowest - float(distances[np.abs(exponents - _PRIOR_MEAN).argmin(), 0])


def _positive_part(mean: float, sd: float) -> tuple[float, float]:
    """Return mean and standard deviation of a normal variable given that it is positive."""
    below = mean / sd
    if below < -8.0:  # far out the tail is exponential
        return sd / -below, sd / -below
    ratio = math.exp(-0.5 * below**2) / math.sqrt(2.0 * math.pi) / float(ndtr(below))
    return mean + sd * ratio, sd * math.sqrt(max(1.0 - ratio * (ratio + below), 1e-6))


def _fluctuation(curves: Sequence[Curve], floor: float) -> float:
    """Standard deviation s of ln z around its trend, pooled over curves from a quarter of their length on.

    A report's distance r from the line through its neighbours, linear in log step, has Cov(r_i, r_i+1) = −s²
    for independent noise, while a bend of the trend gives neighbours the same sign: so s² = −mean(r_i · r_i+1),
    and smooth curves have none.
    """
    products: list[float] = []
    for curve in curves:
        late = curve.steps >= 0.25 * curve.steps[-1]  # early kinks would pass for noise
        y, t = np.log(np.maximum(curve.values[late] - floor, _TINY)), curve.log_steps[late]
        if len(y) < 5:
            continue
        share = (t[1:-1] - t[:-2]) / (t[2:] - t[:-2])
        r = y[1:-1] - (1.0 - share) * y[:-2] - share * y[2:]
        products += list(-r[:-1] * r[1:])
    return math.sqrt(max(0.0, float(np.mean(products)))) if len(products) >= _LEAST_PRODUCTS else 0.0
