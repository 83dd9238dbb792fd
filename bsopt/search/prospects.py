"""What finishing a trial could still bring: how likely it catches up with the best, or improves on itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from scipy.special import stdtr

from bsopt.laws.learning_curves import PredictedFinal
from bsopt.search.learning_curves import Curves
from bsopt.search.model import Prediction
from bsopt.search.stopping_rules import Reports

__all__ = ["Prospects"]

_Floats: TypeAlias = NDArray[np.float64]

LEAST_FLAT = 3
"""Finished curves that must have been flat at a progress and stayed so before a plateau there counts as the end."""

_BELIEF_WIDENING = 1.5  # the sampler's belief at a point is this much wider when a curve contradicts it
_LONGER = 1.05  # times the finished trials' last step: whole epochs of other batch sizes end a little apart
_HALVINGS = 12  # of the interval that holds the value with which a trial would have gone on


@dataclass(frozen=True, slots=True, eq=False)
class Prospects:
    """A running trial beside the finished ones; build it with `Prospects.of`. Values are such that smaller is better.

    Attributes:
        trial: The running trial.
        reports: Its reports as numbers.
        curves: What the finished curves teach; None where they teach nothing.
        predicted: Where they say that the trial ends; None where they don't.
        belief: What the study's sampler expects at the trial's parameters; None where it has no opinion.
        num_finished: Finished trials with a value.
        best: The best value of those; infinite before there is one.
        best_number: Its trial's number; None before there is one.
        spread: Distance from the best to the median of those; before there is one, the range of the trial's own.
    """

    trial: FrozenTrial
    reports: Reports
    curves: Curves | None
    predicted: PredictedFinal | None
    belief: Prediction | None
    num_finished: int
    best: float
    best_number: int | None
    spread: float

    @classmethod
    def of(
        cls,
        study: optuna.Study | None,
        trial: FrozenTrial,
        reports: Reports,
        *,
        complete: Sequence[FrozenTrial],
        curves: Curves | None,
    ) -> Prospects:
        """Return the prospects of a trial with at least one finite report.

        Args:
            study: Whose sampler is asked what it expects; None to go by curves alone, for a trial that the sampler has
                already learned from.
            trial: The trial.
            reports: Its reports as numbers.
            complete: The study's finished trials.
            curves: What their curves teach.
        """
        finals = {t.number: reports.sign * t.values[0] for t in complete if t.values and math.isfinite(t.values[0])}
        best = min(finals.values(), default=math.inf)
        predicted = curves.predict(trial) if curves is not None else None
        return cls(
            trial=trial,
            reports=reports,
            curves=curves,
            predicted=predicted,
            belief=_belief(study, trial) if study is not None and predicted is not None else None,
            num_finished=len(finals),
            best=best,
            best_number=min(finals, key=lambda number: finals[number], default=None),
            spread=float(np.median(list(finals.values()))) - best if finals else float(np.ptp(reports.values)),
        )

    @property
    def own_best(self) -> float:
        """The trial's best report so far."""
        return self.reports.sign * self.reports.best

    @property
    def progress(self) -> float:
        """How far the trial came, as a share of the finished trials' last step, at most 1; 0 where that isn't known."""
        return self.predicted.progress if self.predicted is not None else 0.0

    @property
    def is_longer(self) -> bool:
        """Whether the trial goes on well past where the finished ones ended, as after some that converged early."""
        if self.curves is None or not len(self.reports.steps):
            return False
        return float(self.reports.steps[-1]) > _LONGER * self.curves.last_step(self.trial)

    @property
    def num_curves(self) -> int:
        """Finished curves that the chances rest on."""
        return len(self.curves.model.finished) if self.curves is not None else 0

    @property
    def seed_deviation(self) -> float:
        """How far two runs of one configuration end apart near the best, as far as the study tells; 0 if it doesn't."""
        if self.predicted is None or not math.isfinite(self.best):
            return 0.0
        return max(self._reach(self.predicted) - self.best, 0.0)

    def catching_up(self) -> float:
        """Return the chance to end as good as the best, or no further behind than two seeds differ; NaN if unknown."""
        if self.predicted is None:
            return 1.0 if self.own_best < self.best else math.nan
        return self._catching_up(self.predicted, self.own_best)

    def improving(self, margin: float, *, is_flat: Callable[[_Floats, _Floats], bool]) -> float:
        """Return the chance that a trial on a plateau still betters the best and its own best; NaN if unknown.

        Known is it only where at least three finished curves were flat at this progress and all of them stayed so: a
        schedule of the learning rate may end any plateau. Then it is what the curves' model says or, where that is
        less, how often n flat curves that all stayed so would be followed by one that doesn't, 0.5/(n + 1).

        Args:
            margin: The least improvement that counts, as a share of `spread`.
            is_flat: Whether a curve, given as progress in [0, 1] and values of shape (r,), is on a plateau at its end.
        """
        if self.curves is None or self.predicted is None:
            return math.nan
        gains = self.curves.gains_after_plateau(self.trial, is_flat)
        if len(gains) < LEAST_FLAT or max(gains) > margin * self.spread:
            return math.nan
        by_curves = self._chance_below(self.predicted, min(self.best, self.own_best) - margin * self.spread)
        return min(by_curves, 0.5 / (len(gains) + 1))

    def saving_value(self, threshold: float) -> float | None:
        """Return the value, in the study's units, with which the chance to catch up would now be the threshold.

        None where no value is known to be good enough.
        """
        if self.curves is None or not math.isfinite(self.best):
            return None
        worse, better = self.own_best, self.best
        if not self._catches_up_with(better, threshold):
            return None
        for _ in range(_HALVINGS):
            middle = 0.5 * (worse + better)
            worse, better = (worse, middle) if self._catches_up_with(middle, threshold) else (middle, better)
        return self.reports.sign * better

    def _catches_up_with(self, value: float, threshold: float) -> bool:
        assert self.curves is not None
        predicted = self.curves.predict(self.trial, latest=self.reports.sign * value)
        return predicted is not None and self._catching_up(predicted, value) >= threshold

    def _catching_up(self, predicted: PredictedFinal, own_best: float) -> float:
        reach = self._reach(predicted)
        return 1.0 if own_best < reach else self._chance_below(predicted, reach)

    def _reach(self, predicted: PredictedFinal) -> float:
        if not math.isfinite(self.best):
            return self.best
        by_curves = self.reports.sign * predicted.within_noise_of(self.reports.sign * self.best)
        return by_curves if self.belief is None else max(by_curves, self.best + self.belief.noise_sd)

    def _chance_below(self, predicted: PredictedFinal, goal: float) -> float:
        """Probability that the final value is better than a goal, by the curves and what the sampler believes."""
        if self.belief is None or not math.isfinite(goal):
            return predicted.chance_of_beating(self.reports.sign * goal)
        return _combined_chance(predicted, self.belief, self.reports.sign * goal)


@runtime_checkable
class _Predictor(Protocol):
    def predict(self, study: optuna.Study, params: dict[str, Any]) -> Prediction | None: ...


def _belief(study: optuna.Study, trial: FrozenTrial) -> Prediction | None:
    sampler = study.sampler
    return sampler.predict(study, trial.params) if isinstance(sampler, _Predictor) else None


def _combined_chance(predicted: PredictedFinal, belief: Prediction, goal: float) -> float:
    """Chance of beating a value, from the product of the curve's and the sampler's belief.

    Its tails are a t distribution's, with the freedom of the curve's prediction, which may rest on few trials.
    """
    low, median, high, wanted = belief.transform(
        [predicted.quantile(-1.0), predicted.median, predicted.quantile(1.0), goal]
    )
    curve_sd = max(0.5 * abs(float(high - low)), 1e-6)
    belief_sd = max(math.hypot(_BELIEF_WIDENING * belief.sd, belief.noise), 1e-6)
    weights = np.array([curve_sd**-2, belief_sd**-2])
    centre = float(weights @ np.array([float(median), belief.mean]) / weights.sum())
    return float(stdtr(predicted.freedom, (float(wanted) - centre) * math.sqrt(weights.sum())))
