r"""Where an unfinished trial would have ended, learned from the finished curves of the same study.

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

Coordinates are (b, x, e, l). The prior is broad for validation losses: mean .15 with sd .1, a tilt along the
learning rate per sample, a slope in l, and a Matérn-5/2 whose length scales (12 octaves in b, 9 in x, .6 in e,
2 in l) let one finished curve speak for much of the space. Amplitude and noise of the last are averaged over,
weighted by their marginal likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr, stdtr

from bsopt.laws.gaussian_process import Conditioned, condition, matern_five_halves, squared_distances
from bsopt.storage.attributes import BATCH_SIZE, LR, is_ours, read_info

__all__ = ["Curves", "PredictedFinal", "predicted_finals", "running_best"]

_Floats: TypeAlias = NDArray[np.float64]

MOST_CURVES = 48
"""The latest finished curves that the model learns from, which bounds a prediction's time."""

_PRIOR_MEAN, _PRIOR_SD = 0.15, 0.10
_TILT_SD = 0.03  # of a per octave of lr/B
_SLOPE_SD = 0.05  # of a per standard deviation of l
_LENGTHS = np.array([12.0, 9.0, 0.6, 2.0])
_AMPLITUDES, _NOISES = (
    grid.ravel() for grid in np.meshgrid(0.1 * np.array([0.25, 0.5, 1.0, 2.0, 4.0]), [0.005, 0.015, 0.05])
)
_LEVEL_VARIANCE = 0.1  # of ln z before any trial has finished, worth one trial
_TINY = 1e-12
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
    """

    mean: float
    sd: float
    median: float
    log_sd: float
    floor: float
    best: float
    progress: float
    freedom: int

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
class _Curve:
    """One trial's reports: increasing steps, values with lower better, their running best, and its point."""

    steps: _Floats
    log_steps: _Floats
    values: _Floats
    best: _Floats
    b: float
    x: float
    final: float = math.nan


@dataclass(slots=True)
class _Memory:
    """What one study's finished trials have been turned into; finished trials never change."""

    curves: dict[int, _Curve] = field(default_factory=dict)
    model: Curves | None = None
    model_of: tuple[object, ...] = ()


_MEMORY: WeakKeyDictionary[optuna.Study, _Memory] = WeakKeyDictionary()


def predicted_finals(
    study: optuna.Study, trials: Sequence[FrozenTrial], *, batch_size: str = BATCH_SIZE, lr: str = LR
) -> dict[int, PredictedFinal]:
    """Return the predicted final value of each unfinished trial that has reported, by trial number.

    Args:
        study: Any single-objective study whose trials report the quantity that they return.
        trials: The study's trials, finished ones included; the predictions are for the pruned and running.
        batch_size: Name of the batch size parameter; a trial without it is taken for an average one.
        lr: Name of the learning rate parameter.

    Returns:
        Nothing for trials without a finite report, and nothing at all in a multi-objective study, before the
        first trial with reports has finished, or where values aren't what is reported (time to a target).
    """
    model = Curves.of(study, trials, batch_size=batch_size, lr=lr)
    if model is None:
        return {}
    unfinished = [t for t in trials if t.state in (TrialState.PRUNED, TrialState.RUNNING) and t.intermediate_values]
    return model.predict(unfinished)


def running_best(trial: FrozenTrial, direction: StudyDirection) -> tuple[_Floats, _Floats]:
    """Return the steps with a finite report, increasing, and the best value so far at each of them."""
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    steps, values = _finite_reports(trial)
    return steps, sign * np.minimum.accumulate(sign * values)


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The model of one set of finished trials; build it with `Curves.of`.

    Attributes:
        horizon: The last step of the finished trials, in the unit of progress.
        ends_at_best: Whether trials return their best value, so that none can end worse than it has been.
        fluctuation: Standard deviation of ln z from one report to the next, the trend left out.
        num_finished: How many finished curves it has learned from.
    """

    sign: float
    floor: float
    horizon: float
    per_batch: bool
    names: tuple[str, str]
    finished: tuple[_Curve, ...]
    ends_at_best: bool
    fluctuation: float
    processes: dict[float, _Process] = field(default_factory=dict)

    @property
    def num_finished(self) -> int:
        return len(self.finished)

    @classmethod
    def of(
        cls, study: optuna.Study, trials: Sequence[FrozenTrial], *, batch_size: str = BATCH_SIZE, lr: str = LR
    ) -> Curves | None:
        """Return the model of a study's finished trials, the same object until another one finishes."""
        if len(study.directions) != 1:
            return None
        memory = _MEMORY.setdefault(study, _Memory())
        sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
        complete = [t for t in trials if t.state == TrialState.COMPLETE and t.intermediate_values][-MOST_CURVES:]
        key = (batch_size, lr, *(t.number for t in complete))
        if memory.model_of != key:
            if memory.model_of[:2] != key[:2]:
                memory.curves.clear()
            for trial in complete:
                if trial.number not in memory.curves:
                    memory.curves[trial.number] = _curve(trial, sign, (batch_size, lr))
            curves = [memory.curves[trial.number] for trial in complete]
            usable = [curve for curve in curves if len(curve.steps) and math.isfinite(curve.final)]
            memory.model = None if _is_for_a_target(study) else _build(usable, sign, (batch_size, lr))
            memory.model_of = key
        return memory.model

    def last_step(self, batch_size: object) -> float:
        """Return the step at which a trial of this batch size would finish."""
        b = _log2(batch_size)
        return self.horizon * 2.0**-b if self.per_batch and math.isfinite(b) else self.horizon

    def predict(self, trials: Sequence[FrozenTrial]) -> dict[int, PredictedFinal]:
        """Return the predicted final value of each trial that has a finite report, by trial number."""
        found = {}
        for trial in trials:
            curve = _curve(trial, self.sign, self.names)
            if len(curve.steps):
                found[trial.number] = self._predict(curve)
        return found

    def _predict(self, curve: _Curve) -> PredictedFinal:
        step, best = self._progress(curve, -1), curve.best[-1]
        f = min(float(step) / self.horizon, 1.0)
        q = math.log(1.0 / f)
        z = max(best - self.floor, _TINY)
        mean, sd = self._exponent(curve, step, q) if q > 0.0 else (0.0, 0.0)
        if self.ends_at_best and sd > 0.0:
            mean, sd = _positive_part(mean, sd)
        # What is left to come fluctuates, too: without that a flat noisy curve would be certain of its end.
        log_median, log_sd = math.log(z) - mean * q, math.hypot(sd * q, self.fluctuation if q > 0.0 else 0.0)
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
        )

    def _exponent(self, curve: _Curve, step: float, q: float) -> tuple[float, float]:
        """Posterior mean and standard deviation of a for a trial whose last report is at `step`."""
        process = self.processes.get(step)
        if process is None:
            process = self.processes[step] = self._process_at(step, q)
        return process.predict(self._coordinates(curve, step))

    def _process_at(self, step: float, q: float) -> _Process:
        reached = [curve for curve in self.finished if step >= self._progress(curve, 0) * (1.0 - 1e-9)]
        rows = np.array([self._coordinates(curve, step) for curve in reached]).reshape(-1, 4)
        finals = np.log([max(curve.final - self.floor, _TINY) for curve in reached])
        return _Process.of(rows, np.clip((rows[:, 3] - finals) / q, -1.0, 3.0))

    def _coordinates(self, curve: _Curve, step: float) -> _Floats:
        return np.array([curve.b, curve.x, self._recent(curve, step), math.log(self._at(curve, step))])

    def _progress(self, curve: _Curve, report: int) -> float:
        """The step of a report, in samples where steps count updates."""
        return float(curve.steps[report]) * (2.0**curve.b if self.per_batch else 1.0)

    def _at(self, curve: _Curve, step: float) -> float:
        """z of a curve at a step, linear in log step between reports."""
        shift = curve.b * math.log(2.0) if self.per_batch else 0.0
        value = float(np.interp(math.log(step) - shift, curve.log_steps, curve.best))
        return max(value - self.floor, _TINY)

    def _recent(self, curve: _Curve, step: float) -> float:
        """e over the last factor of four in steps, or what there is of it; NaN with one report."""
        first = max(step / 4.0, self._progress(curve, 0))
        if first >= step * 0.999:
            return math.nan
        return math.log(self._at(curve, first) / self._at(curve, step)) / math.log(step / first)


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
        level_sd = math.sqrt((_LEVEL_VARIANCE + float(np.sum((raw[:, 3] - centre[3]) ** 2))) / (1 + n))
        rows = _standardised(raw, centre, level_sd)
        covariance, noise = _covariance(rows, rows), _NOISES[:, None] ** 2
        process = condition(covariance, exponents - _PRIOR_MEAN, noise_variance=noise)
        weights = np.exp(process.log_evidence - process.log_evidence.max())
        return cls(rows, centre, level_sd, process, weights / weights.sum())

    def predict(self, raw: _Floats) -> tuple[float, float]:
        """Return mean and standard deviation of a at one trial's coordinates, shape (4,)."""
        row = _standardised(raw[None], self.centre, self.level_sd)
        cross = self.process.project(_covariance(self.rows, row))
        shifts, variances = (part[:, 0] for part in self.process.predict(cross, _covariance(row, row)[:, 0]))
        means = _PRIOR_MEAN + shifts
        mean = float(self.weights @ means)
        variance = float(self.weights @ (variances + _NOISES**2 + (means - mean) ** 2))
        return mean, math.sqrt(variance)


def _standardised(raw: _Floats, centre: _Floats, level_sd: float) -> _Floats:
    return np.asarray((np.where(np.isfinite(raw), raw, centre) - centre) / np.array([1.0, 1.0, 1.0, level_sd]))


def _covariance(left: _Floats, right: _Floats) -> _Floats:
    """Prior covariance of a, shape (k, left, right): constant, tilt in lr/B, slope in l, and Matérn-5/2."""
    matern = matern_five_halves(squared_distances(left, right, _LENGTHS))
    tilt = np.outer(left[:, 1] - left[:, 0], right[:, 1] - right[:, 0])
    linear = _PRIOR_SD**2 + _TILT_SD**2 * tilt + _SLOPE_SD**2 * np.outer(left[:, 3], right[:, 3])
    return np.asarray(linear + _AMPLITUDES[:, None, None] ** 2 * matern)


def _is_for_a_target(study: optuna.Study) -> bool:
    """Whether values are what it took to reach a target rather than the metric reported."""
    return is_ours(study) and read_info(study).objective.cost is not None


def _build(curves: list[_Curve], sign: float, names: tuple[str, str]) -> Curves | None:
    if not curves or not _values_are_reports(curves):
        return None
    seen = np.concatenate([*(c.best for c in curves), [c.final for c in curves]])
    per_batch = _steps_are_updates(curves)
    ends = [c.steps[-1] * (2.0**c.b if per_batch else 1.0) for c in curves]
    floor = _floor(seen, curves, sign)
    ends_at_best = all(c.final <= c.best[-1] + 1e-9 * abs(c.best[-1]) for c in curves)
    fluctuation = _fluctuation(curves, floor)
    return Curves(sign, floor, float(max(ends)), per_batch, names, tuple(curves), ends_at_best, fluctuation)


def _values_are_reports(curves: list[_Curve]) -> bool:
    """Whether most trials returned something within the range of their reports (not a time to a target)."""
    inside = [
        bool(c.best[-1] <= c.final <= c.best[0]) or math.isclose(c.final, c.best[-1], rel_tol=0.2) for c in curves
    ]
    return 2 * sum(inside) >= len(curves)


def _steps_are_updates(curves: list[_Curve]) -> bool:
    """Whether trials ended at equal step · batch size rather than at equal steps, as `global_step` does."""
    ends = np.log2([c.steps[-1] for c in curves])
    sizes = np.array([c.b for c in curves])
    if len(curves) < 3 or not np.all(np.isfinite(sizes)) or np.ptp(sizes) < 1.0:
        return False
    return bool(np.std(ends + sizes) < 0.25 * np.std(ends))


def _floor(seen: _Floats, curves: list[_Curve], sign: float) -> float:
    """Zero for positive losses, the perfect score for accuracies, else where a is as the prior expects it."""
    lowest, highest = float(seen.min()), float(seen.max())
    if lowest > 0.0:
        return 0.0
    if sign < 0.0 and highest <= 0.0 and (lowest >= -1.0 or -100.0 <= lowest <= -20.0):
        perfect = 1.0 if lowest >= -1.0 else 100.0
        return -1.001 * perfect
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


def _fluctuation(curves: list[_Curve], floor: float) -> float:
    """Standard deviation s of ln z around its trend, pooled over curves.

    A report's distance r from the line through its neighbours, linear in log step, has Cov(r_i, r_i+1) = −s²
    for independent noise, while a bend of the trend gives neighbours the same sign: so s² = −mean(r_i · r_i+1),
    and smooth curves have none.
    """
    products: list[float] = []
    for curve in curves:
        y, t = np.log(np.maximum(curve.values - floor, _TINY)), curve.log_steps
        if len(y) < 5:
            continue
        share = (t[1:-1] - t[:-2]) / (t[2:] - t[:-2])
        r = y[1:-1] - (1.0 - share) * y[:-2] - share * y[2:]
        products += list(-r[:-1] * r[1:])
    return math.sqrt(max(0.0, float(np.mean(products)))) if len(products) >= _LEAST_PRODUCTS else 0.0


def _finite_reports(trial: FrozenTrial) -> tuple[_Floats, _Floats]:
    items = sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))
    pairs = np.array(items, dtype=float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _curve(trial: FrozenTrial, sign: float, names: tuple[str, str]) -> _Curve:
    steps, values = _finite_reports(trial)
    if len(steps) and min(trial.intermediate_values) <= 0:
        steps = steps + 1.0  # epochs counted from 0: after epoch 0 one epoch is done
    b, x = (_log2(trial.params.get(name)) for name in names)
    final = sign * trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else math.nan
    return _Curve(steps, np.log(steps), sign * values, np.minimum.accumulate(sign * values), b, x, final)


def _log2(value: object) -> float:
    return math.log2(value) if isinstance(value, (int, float)) and value > 0 else math.nan
