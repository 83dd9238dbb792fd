"""The curves of a study's trials, and where those of unfinished ones will end (`bsopt.laws.learning_curves`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from bsopt.laws.learning_curves import MOST_CURVES, Curve, CurveModel, PredictedFinal, fit_curves
from bsopt.search.history import finite_reports, study_sign
from bsopt.storage.attributes import BATCH_SIZE, LR, continued_number, is_ours, read_info
from bsopt.storage.optuna_internals import wrapped_pruners
from bsopt.storage.parameter_names import natural_log2

__all__ = [
    "UNKNOWN_UNIT",
    "UPDATES",
    "Curves",
    "Reported",
    "finished_curves",
    "means_of_reports",
    "predicted_finals",
    "what_is_reported",
]

Reported: TypeAlias = Literal["curve", "parts", "other"]
"""What a trial's reports are: its value as it trains, parts that its value is the mean of, or neither."""

SAME_SHARE = 0.1
"""A value this near a report, as a share of what the trial's reports span, counts as the same: a test set's beside
the validation set's."""

UNKNOWN_UNIT = "steps"
"""What a pruner calls the steps of reports where nobody said what they count."""

SAME_LENGTH = 0.05
"""Share by which the last steps of two studies' trials may differ for their curves to be alike."""

UPDATES = "updates"
"""What it calls them where they count optimizer updates, which trials are not compared at."""


@dataclass(slots=True)
class _Memory:
    """What one study's finished trials have been turned into; finished trials never change."""

    curves: dict[int, Curve] = field(default_factory=dict)
    model: Curves | None = None
    model_of: tuple[object, ...] = ()


_MEMORY: WeakKeyDictionary[optuna.Study, _Memory] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The model of a study's finished trials; build it with `Curves.of`.

    Attributes:
        model: Of their curves.
        batch_size, lr: Names of the two parameters.
    """

    model: CurveModel
    batch_size: str
    lr: str

    @classmethod
    def of(
        cls, study: optuna.Study, trials: Sequence[FrozenTrial], *, batch_size: str = BATCH_SIZE, lr: str = LR
    ) -> Curves | None:
        """Return the model of a study's finished trials, the same object until another one finishes.

        Where the study's pruner was given an earlier study (`prior_from`), that one's curves count, too, as long as
        the trials of both end at the same step.

        None in a multi-objective study, before the first trial with reports has finished, and where values aren't
        what is reported (time to a target) or reports are no curve (`what_is_reported`).
        """
        if len(study.directions) != 1:
            return None
        memory = _MEMORY.setdefault(study, _Memory())
        complete = [t for t in trials if t.state == TrialState.COMPLETE and t.intermediate_values][-MOST_CURVES:]
        per_batch = _steps_are_updates(study)
        earlier: tuple[Curve, ...] = getattr(getattr(study, "pruner", None), "earlier_curves", ())
        key = (batch_size, lr, per_batch, len(earlier), *(t.number for t in complete))
        if memory.model_of != key:
            if memory.model_of[:2] != key[:2]:
                memory.curves.clear()
            sign = study_sign(study)
            for trial in complete:
                if trial.number not in memory.curves:
                    memory.curves[trial.number] = _curve(trial, sign, batch_size, lr)
            curves = [memory.curves[trial.number] for trial in complete]
            usable = _with_earlier([curve for curve in curves if _is_whole(curve)], earlier)
            is_curve = not _is_for_a_target(study) and what_is_reported(study, complete) == "curve"
            model = None if not is_curve else fit_curves(usable, sign=sign, per_batch=per_batch)
            memory.model = None if model is None else cls(model, batch_size, lr)
            memory.model_of = key
        return memory.model

    def last_step(self, trial: FrozenTrial) -> float:
        """Return the step at which a trial of this batch size would finish."""
        return self.model.last_step(natural_log2(trial, self.batch_size))

    def predict(self, trial: FrozenTrial, *, latest: float | None = None) -> PredictedFinal | None:
        """Return the predicted final value of a trial; None where it hasn't reported a finite value.

        Args:
            trial: The trial with its reports so far.
            latest: A best value that its last finite report might have been instead.
        """
        curve = _curve(trial, self.model.sign, self.batch_size, self.lr)
        if not len(curve.steps):
            return None
        return self.model.predict(curve if latest is None else curve.with_latest(self.model.sign * latest))

    def gains_after_plateau(
        self, trial: FrozenTrial, is_flat: Callable[[NDArray[np.float64], NDArray[np.float64]], bool]
    ) -> list[float]:
        """Return by how much each finished curve that was flat at the trial's progress got better until its end.

        Args:
            trial: A trial with its reports so far.
            is_flat: Whether a curve, given as progress in [0, 1] and values, both of shape (r,), is on a plateau at its
                last point.
        """
        curve = _curve(trial, self.model.sign, self.batch_size, self.lr)
        return self.model.gains_after_plateau(curve, is_flat) if len(curve.steps) else []


def predicted_finals(
    study: optuna.Study, trials: Sequence[FrozenTrial], *, batch_size: str = BATCH_SIZE, lr: str = LR
) -> dict[int, PredictedFinal]:
    """Return the predicted final value of each unfinished trial that has reported, by trial number.

    Args:
        study: Any study whose trials report the quantity that they return.
        trials: The study's trials, finished ones included; the predictions are for the pruned and running.
        batch_size: Name of the batch size parameter; a trial without it is taken for an average one.
        lr: Name of the learning rate parameter.

    Returns:
        Nothing for trials without a finite report, and nothing at all where `Curves.of` is None.
    """
    curves = Curves.of(study, trials, batch_size=batch_size, lr=lr)
    if curves is None:
        return {}
    unfinished = [t for t in trials if t.state in (TrialState.PRUNED, TrialState.RUNNING) and t.intermediate_values]
    longest = {t.number: t for t in trials}
    for trial in trials:  # a paused trial ends where its continuation does
        paused = continued_number(trial)
        if paused in longest and trial.state != TrialState.FAIL and trial.intermediate_values:
            longest[paused] = trial
    found = {trial.number: curves.predict(longest[trial.number]) for trial in unfinished}
    return {number: final for number, final in found.items() if final is not None}


def what_is_reported(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Reported:
    """Return what the reports of a study's trials are, as its pruner and its finished trials tell; else a curve.

    They are one in every study that bsopt runs. With Optuna's WilcoxonPruner a step names a problem instance, or a
    fold, and trials end at the mean of all.

    Args:
        study: The study.
        trials: Its trials; the finished ones with reports tell.
    """
    if is_ours(study):
        return "curve"
    sign = study_sign(study)
    ended = [t for t in trials if t.state == TrialState.COMPLETE and t.values and math.isfinite(t.values[0])]
    told = [(finite_reports(trial)[1], trial.values[0]) for trial in ended[-MOST_CURVES:]]
    kinds = [_kind_of(reports, value, sign) for reports, value in told if len(reports) > 1]
    are_parts = 2 * kinds.count("parts") >= max(len(kinds), 1)
    has_wilcoxon = any(isinstance(p, optuna.pruners.WilcoxonPruner) for p in wrapped_pruners(study.pruner))
    if not has_wilcoxon and 2 * kinds.count("curve") >= len(kinds):
        return "curve"
    return "parts" if are_parts else "other"


def means_of_reports(trials: Sequence[FrozenTrial]) -> dict[int, tuple[float, float]]:
    """Return the mean and its standard error of each trial's finite reports, by number; of two reports at least."""
    found = {}
    for trial in trials:
        _, values = finite_reports(trial)
        if len(values) > 1:
            found[trial.number] = (float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))
    return found


def finished_curves(study: optuna.Study, *, batch_size: str = BATCH_SIZE, lr: str = LR) -> tuple[Curve, ...]:
    """Return the curves of a study's latest finished trials, at most `MOST_CURVES`; none of times to a target."""
    if _is_for_a_target(study):
        return ()
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    curves = [_curve(trial, study_sign(study), batch_size, lr) for trial in complete]
    return tuple([curve for curve in curves if _is_whole(curve)][-MOST_CURVES:])


def _kind_of(values: NDArray[np.float64], final: float, sign: float) -> Reported:
    """Return what reports of shape (r,), two or more, are to a final value."""
    near = max(SAME_SHARE * float(np.ptp(values)), 1e-9 * abs(final))
    off = [abs(final - float(value)) for value in (values[-1], sign * (sign * values).min(), values.mean())]
    if off[2] < 1e-6 * max(float(np.ptp(values)), 1e-12 * abs(final)) and off[2] < min(off[:2]):
        return "parts"
    return "curve" if min(off[:2]) <= near else "other"


def _is_whole(curve: Curve) -> bool:
    return len(curve.steps) > 0 and math.isfinite(curve.final)


def _with_earlier(own: Sequence[Curve], earlier: Sequence[Curve]) -> list[Curve]:
    """Return a study's curves after as many of an earlier one's as there is room for, if those end where its own do."""
    room = MOST_CURVES - len(own)
    ends = [max((curve.steps[-1] for curve in curves), default=math.nan) for curves in (own, earlier)]
    is_alike = not own or abs(ends[1] / ends[0] - 1.0) <= SAME_LENGTH
    return [*(earlier[-room:] if is_alike and room > 0 else ()), *own]


def _steps_are_updates(study: optuna.Study) -> bool | None:
    """Return what the study's pruner was told of its steps; None where nobody said."""
    unit = getattr(getattr(study, "pruner", None), "unit", UNKNOWN_UNIT)  # a bracket of Hyperband's may hide it
    return None if unit == UNKNOWN_UNIT else unit == UPDATES


def _is_for_a_target(study: optuna.Study) -> bool:
    """Whether values are what it took to reach a target rather than the metric reported."""
    return is_ours(study) and read_info(study).objective.cost is not None


def _curve(trial: FrozenTrial, sign: float, batch_size: str, lr: str) -> Curve:
    steps, values = finite_reports(trial)
    b, x = (natural_log2(trial, name) for name in (batch_size, lr))
    final = sign * trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else math.nan
    return Curve.of(steps, sign * values, b=b, x=x, final=final)
