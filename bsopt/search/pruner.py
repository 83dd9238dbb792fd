"""When a trial should stop: converged, out of reach, diverged, or at its target.

    pruner = bsopt.PlateauPruner(patience=3)
    study = optuna.create_study(sampler=bsopt.ScalingSampler(), pruner=pruner)

    def objective(trial):
        for epoch in range(50):
            ...
            trial.report(val_loss, epoch)
            if (value := bsopt.conclude(trial)) is not None:
                return value
        return best_val_loss

`trial.should_prune()` works as with any pruner. `conclude` also ends a converged trial, as COMPLETE with its best
value. Optuna alone can't do that: of a pruned trial it keeps only the last value.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState
from scipy.special import stdtr

from bsopt.errors import ConfigError, nearest
from bsopt.laws.extrapolation import chance_of_reaching, extrapolate
from bsopt.laws.learning_curves import PredictedFinal
from bsopt.laws.plateau import RULES, flat_for
from bsopt.search.arguments import as_call, check_names
from bsopt.search.learning_curves import Curves
from bsopt.search.model import Prediction
from bsopt.search.pruning_so_far import tell_pruning
from bsopt.search.stopping_rules import Reports, divergence
from bsopt.storage.attributes import BATCH_SIZE, LR, read_decay_remaining, write_ending
from bsopt.trial.record import StopReason
from bsopt.trial.spec import StopDecision
from bsopt.units import format_chance, format_number

__all__ = ["PlateauPruner", "conclude"]

_BELIEF_WIDENING = 1.5  # the sampler's belief at a point is this much wider when a curve contradicts it
_SAME = 0.1  # share of the spread; final values that are closer could be two seeds of one configuration


class PlateauPruner(BasePruner):
    """Ends trials for which more training would change nothing, judged by the value at which they would end.

    Decided at each report, in this order:

    1. *diverged*: two reports in a row that aren't finite or are far worse than the trial's first.
    2. With `target`: *target_reached*, or hopeless when it can't be reached before the best time so far.
    3. *plateau*: no progress over the last `patience`. If the chance of ending better than the study's best
       is below `threshold` the trial is pruned, else it has *converged*. While the learning rate is still to decay
       (`decays_to_end`, or the trial's user attribute `lr_decay_remaining`) a plateau says nothing. Where it is known
       that it won't decay any more, the shape of the plateau may lower the chance.
    4. *hopeless*: still improving, but the chance is below `threshold`.

    The chance comes from `bsopt.laws.learning_curves`; if the study's sampler is a `ScalingSampler`, its belief about
    the trial's parameters counts too. Trials are compared at equal steps, so report samples or epochs, not
    updates; if the finished trials ended at equal step · batch size, steps count as updates and are
    converted. Report the current value, not the best so far. A report that isn't finite is left out unless two
    come in a row.

    A prediction that prunes too much would never be proved wrong. So nothing is pruned for its chance before
    `min_finished` trials have finished and the trial has made `min_reports` reports; one trial in `audit_every`,
    chosen by its number, is never pruned for its chance; and when the last three trials were all pruned at the first
    possible report, the next one isn't. The pruner keeps no state: every process decides the same from the same study.

    A study with several objectives has no single best value to compare with: only divergence ends a trial.

    The rule of Chang & Pathak 2020, no better validation loss over 100 epochs, is
    `PlateauPruner(patience=100, rule="keras", threshold=0.0)`.

    Args:
        patience: Distance in steps (samples in a bsopt study) without progress that makes a plateau; None
            for a tenth of the finished trials' last step, at least three reports.
        min_delta: The least improvement that counts, in value units (for "relative" a share of the best
            value, for "prechelt_gl" the loss α in percent).
        rule: "noise": `bsopt.laws.plateau.plateau_test`, which knows the curve's noise. "keras": no value better than
            the best by more than min_delta. "relative": the same with min_delta · |best|, as PyTorch's
            ReduceLROnPlateau. "prechelt_gl": generalisation loss above min_delta percent. "prechelt_up":
            UP_3, the value worse at the end of each third of `patience` than at the end of the one before.
        threshold: Chance below which a trial is out of reach; 0 never prunes for its chance.
        margin: The least improvement on the best that is worth a run, as a share of the distance between the
            best and the median of the finished trials.
        min_finished: How many trials must have finished before one is pruned for its chance.
        min_reports: How many reports a trial must have made before it is pruned for its chance.
        audit_every: One trial in this many is never pruned for its chance; 0 for none.
        target: The value at which a trial ends; None where trials go for the best value they can reach.
        decays_to_end: True: the learning rate decays until the last step, so nothing converges earlier. False: it
            doesn't. None: unknown; a plateau then ends a trial, but its chance rests on finished curves alone.
        wrapped_pruner: Another pruner, which is asked only once a trial no longer improves (as in PatientPruner).
        batch_size: Name of the batch size parameter.
        lr: Name of the learning rate parameter.
        unit: What steps are called in messages.
        unit_size: Steps per unit, for example samples per epoch with `unit="epochs"`.

    Raises:
        ConfigError: An argument outside its range.
    """

    def __init__(
        self,
        *,
        patience: float | None = None,
        min_delta: float = 0.0,
        rule: str = "noise",
        threshold: float = 0.05,
        margin: float = 0.02,
        min_finished: int = 3,
        min_reports: int = 3,
        audit_every: int = 8,
        target: float | None = None,
        decays_to_end: bool | None = None,
        wrapped_pruner: BasePruner | None = None,
        batch_size: str = BATCH_SIZE,
        lr: str = LR,
        unit: str = "steps",
        unit_size: float = 1.0,
    ) -> None:
        in_steps = "above 0, in the steps that trials report"
        _require(patience is None or (_is_finite(patience) and patience > 0), "patience", patience, in_steps)
        _require(_is_finite(min_delta) and min_delta >= 0, "min_delta", min_delta, "at least 0")
        _require(0.0 <= threshold < 1.0, "threshold", threshold, "in [0, 1)")
        _require(0.0 <= margin < 1.0, "margin", margin, "in [0, 1)")
        _require(min_finished >= 1, "min_finished", min_finished, "at least 1")
        _require(min_reports >= 1, "min_reports", min_reports, "at least 1")
        _require(audit_every >= 0 and audit_every != 1, "audit_every", audit_every, "0 or at least 2")
        _require(target is None or _is_finite(target), "target", target, "a finite number")
        _require(_is_finite(unit_size) and unit_size > 0, "unit_size", unit_size, "above 0")
        if rule not in RULES:
            raise ConfigError(f"rule must be one of {', '.join(RULES)}, got {rule!r}." + nearest(str(rule), RULES))
        if wrapped_pruner is not None and not isinstance(wrapped_pruner, BasePruner):
            raise ConfigError(f"wrapped_pruner must be an Optuna pruner, got {wrapped_pruner!r}.")
        check_names(batch_size=batch_size, lr=lr)
        self.patience, self.min_delta, self.rule, self.threshold = patience, min_delta, rule, threshold
        self.margin = margin
        self.min_finished, self.min_reports, self.audit_every = min_finished, min_reports, audit_every
        self.target, self.decays_to_end, self.wrapped_pruner = target, decays_to_end, wrapped_pruner
        self.batch_size, self.lr, self.unit, self.unit_size = batch_size, lr, unit, unit_size

    def __repr__(self) -> str:
        return as_call(self, {name: getattr(self, name) for name in inspect.signature(type(self)).parameters})

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial should end as PRUNED; False for a converged one, which `conclude` ends."""
        return self.decide(study, trial).outcome == "pruned"

    def explain(self, study: optuna.Study) -> str:
        """Return how many trials were ended early and, where none was pruned, why not and what would change that."""
        return tell_pruning(
            study,
            min_finished=self.min_finished,
            min_reports=self.min_reports,
            threshold=self.threshold,
            decays_to_end=self.decays_to_end,
        )

    def decide(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        *,
        decay_remaining: bool | None = None,
        spent: float | None = None,
    ) -> StopDecision:
        """Return whether a trial goes on or how it ends, and why.

        Args:
            study: The study, any storage.
            trial: The trial with its reports so far.
            decay_remaining: Whether its learning rate is still scheduled to decay; where None, the trial's user
                attribute `lr_decay_remaining` says, and without it `decays_to_end`.
            spent: With `target`, what the trial has cost so far, in the unit of the study's values, for example
                seconds. Where None, steps are compared instead.
        """
        reports = Reports.of(study, trial)
        if (reason := divergence(reports)) is not None:
            return StopDecision(StopReason.DIVERGED, reason, 0.0, reports.best)
        if len(study.directions) != 1:
            return StopDecision(None, "several objectives: no single best to be out of reach of")
        if not len(reports.steps):
            return StopDecision(None, "no report yet")
        trials = study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        if self.target is not None:
            return self._towards_target(reports, complete, spent)
        return self._towards_best(study, trial, reports, trials, complete, self._decays(trial, decay_remaining))

    def _decays(self, trial: FrozenTrial, decay_remaining: bool | None) -> bool | None:
        if decay_remaining is not None:
            return decay_remaining
        return read_decay_remaining(trial, default=self.decays_to_end)

    def _towards_best(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        reports: Reports,
        trials: Sequence[FrozenTrial],
        complete: Sequence[FrozenTrial],
        decays: bool | None,
    ) -> StopDecision:
        model = Curves.of(study, trials, batch_size=self.batch_size, lr=self.lr)
        patience, stuck_for = self._patience(trial, reports, model), None
        if patience is not None:
            stuck_for = flat_for(
                reports.steps, reports.values, patience=patience, rule=self.rule, min_delta=self.min_delta
            )
        plateaued_for = None if decays else stuck_for
        finals = [reports.sign * t.values[0] for t in complete if t.values and math.isfinite(t.values[0])]
        best = min(finals, default=math.inf)
        spread = float(np.median(finals)) - best if finals else 0.0
        chance = self._chance(study, trial, reports, model, best - self.margin * spread)
        if plateaued_for is not None and model is not None and decays is False:
            own = chance_of_reaching(
                best, reports.steps, reports.values, end=model.last_step(trial), resolution=_SAME * spread
            )
            chance = float(np.fmin(chance, own))
        may_prune = len(finals) >= self.min_finished and len(reports.steps) >= self.min_reports
        is_behind = may_prune and chance < self.threshold
        out_of_reach = is_behind and not self._is_exempt(trial, trials)
        verdict = f"the best is {format_number(reports.sign * best)}; chance of catching up {format_chance(chance)}"
        if plateaued_for is not None:
            words = f"plateaued at {format_number(reports.best)} for {self._distance(plateaued_for)}"
            if out_of_reach:
                return StopDecision(StopReason.PRUNED_PLATEAU, f"{words}; {verdict}", chance, reports.best)
            if is_behind:  # exempt, but out of reach and so not converged: it shows where such curves end
                return StopDecision(None, f"{words}; {verdict}; it runs on as a check", chance, reports.best)
            if self._wrapped_prunes(study, trial):
                return StopDecision(StopReason.PRUNED, f"{words}; {self._wrapped_name} ends it", chance, reports.best)
            tail = f"; {verdict}" if math.isfinite(best) and best < reports.sign * reports.best else "; the best so far"
            return StopDecision(StopReason.CONVERGED, words + tail, chance, reports.best)
        if out_of_reach:
            words = f"hopeless at {format_number(reports.best)}; {verdict}"
            return StopDecision(StopReason.PRUNED_HOPELESS, words, chance, reports.best)
        if stuck_for is not None and self._wrapped_prunes(study, trial):
            words = f"no progress for {self._distance(stuck_for)}; {self._wrapped_name} ends it"
            return StopDecision(StopReason.PRUNED, words, chance, reports.best)
        return StopDecision(None, f"at {format_number(reports.best)}; {verdict}", chance, reports.best)

    def _towards_target(self, reports: Reports, complete: Sequence[FrozenTrial], spent: float | None) -> StopDecision:
        assert self.target is not None
        goal, step = reports.sign * self.target, float(reports.steps[-1])
        words = f"the target {format_number(self.target)}"
        if reports.sign * reports.best <= goal:
            first = float(reports.steps[np.argmax(reports.values <= goal)])
            return StopDecision(
                StopReason.TARGET_REACHED, f"reached {words} at {self._distance(first)}", 1.0, reports.best
            )
        cost, best = (
            (step, _best_step(complete, reports.sign, goal)) if spent is None else (spent, _best_cost(complete))
        )
        if best is None or len(complete) < self.min_finished:
            return StopDecision(None, f"at {format_number(reports.best)} on the way to {words}", best=reports.best)
        what = self._distance(best) if spent is None else format_number(best)
        if cost >= best:
            reason = f"{words} was missed: {format_number(reports.best)} after the {what} of the best trial"
            return StopDecision(StopReason.PRUNED_HOPELESS, reason, 0.0, reports.best)
        end = step * best / cost if cost > 0 else math.inf
        found = extrapolate(reports.steps, reports.values, end=end) if math.isfinite(end) else None
        if found is None or found.status != "ok":
            return StopDecision(None, f"at {format_number(reports.best)} on the way to {words}", best=reports.best)
        chance = found.chance_below(goal)
        verdict = f"chance of {words} within the {what} of the best trial {format_chance(chance)}"
        if chance < self.threshold:
            reason = f"hopeless at {format_number(reports.best)}; {verdict}"
            return StopDecision(StopReason.PRUNED_HOPELESS, reason, chance, reports.best)
        return StopDecision(None, f"at {format_number(reports.best)}; {verdict}", chance, reports.best)

    def _patience(self, trial: FrozenTrial, reports: Reports, model: Curves | None) -> float | None:
        if self.patience is not None:
            return self.patience
        if model is None or len(reports.steps) < 4:
            return None
        return max(0.1 * model.last_step(trial), float(reports.steps[-1] - reports.steps[-4]))

    def _chance(
        self, study: optuna.Study, trial: FrozenTrial, reports: Reports, model: Curves | None, best: float
    ) -> float:
        """Probability that the trial's final value beats the study's best."""
        if reports.sign * reports.best < best:
            return 1.0
        if model is None:
            return math.nan
        predicted = model.predict(trial)
        if predicted is None:
            return math.nan
        belief = _belief(study, trial)
        if belief is None:
            return predicted.chance_of_beating(reports.sign * best)
        return _combined_chance(predicted, belief, reports.sign * best)

    def _is_exempt(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the trial is an audit, or the last three before it were all pruned at the first possible report."""
        if self.audit_every and _scattered(trial.number) % self.audit_every == 0:
            return True
        earlier = [t for t in trials if t.number < trial.number and t.state.is_finished()][-3:]
        return len(earlier) == 3 and all(
            t.state == TrialState.PRUNED and 0 < len(t.intermediate_values) <= self.min_reports for t in earlier
        )

    def _wrapped_prunes(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return self.wrapped_pruner is not None and self.wrapped_pruner.prune(study, trial)

    @property
    def _wrapped_name(self) -> str:
        return type(self.wrapped_pruner).__name__

    def _distance(self, steps: float) -> str:
        count = steps / self.unit_size
        name = self.unit[:-1] if count == 1 and self.unit.endswith("s") else self.unit
        return f"{count:.3g} {name}" if count < 1e4 else f"{count:.0f} {name}"


def conclude(trial: optuna.Trial) -> float | None:
    """End a trial from within its objective if there is nothing more to learn from it.

        if (value := bsopt.conclude(trial)) is not None:
            return value

    The reason is stored with the trial, where bsopt's report and dashboard look for it.

    Args:
        trial: The live trial, after `trial.report`.

    Returns:
        The trial's best value if it has converged or reached its target, which the objective then returns; None
        if the trial goes on. Where the study's values are times to a target, return that time instead.

    Raises:
        optuna.TrialPruned: The trial is out of reach of the best, or diverged.
    """
    study = trial.study
    if not isinstance(study.pruner, PlateauPruner):
        if trial.should_prune():
            raise optuna.TrialPruned(f"{type(study.pruner).__name__} ended the trial")
        return None
    frozen = study.get_trials(deepcopy=False)[trial.number]
    decision = study.pruner.decide(study, frozen)
    if not decision.is_stop:
        return None
    assert decision.stop_reason is not None
    write_ending(trial, decision.stop_reason, decision.message, value=decision.best)
    if decision.outcome == "pruned":
        raise optuna.TrialPruned(decision.message)
    return decision.best


@runtime_checkable
class _Predictor(Protocol):
    def predict(self, study: optuna.Study, params: dict[str, Any]) -> Prediction | None: ...


def _belief(study: optuna.Study, trial: FrozenTrial) -> Prediction | None:
    sampler = study.sampler
    return sampler.predict(study, trial.params) if isinstance(sampler, _Predictor) else None


def _combined_chance(predicted: PredictedFinal, belief: Prediction, best: float) -> float:
    """Chance of beating the best, from the product of the curve's and the sampler's belief.

    Its tails are a t distribution's, with the freedom of the curve's prediction, which may rest on few trials.
    """
    low, median, high, goal = belief.transform(
        [predicted.quantile(-1.0), predicted.median, predicted.quantile(1.0), best]
    )
    curve_sd = max(0.5 * abs(float(high - low)), 1e-6)
    belief_sd = max(_BELIEF_WIDENING * belief.sd, 1e-6)
    weights = np.array([curve_sd**-2, belief_sd**-2])
    centre = float(weights @ np.array([float(median), belief.mean]) / weights.sum())
    return float(stdtr(predicted.freedom, (float(goal) - centre) * math.sqrt(weights.sum())))


def _best_step(complete: Sequence[FrozenTrial], sign: float, goal: float) -> float | None:
    """The earliest step at which a finished trial had reached the goal."""
    reached = [step for t in complete for step, value in t.intermediate_values.items() if sign * value <= goal]
    return float(min(reached)) if reached else None


def _best_cost(complete: Sequence[FrozenTrial]) -> float | None:
    costs = [t.values[0] for t in complete if t.values and math.isfinite(t.values[0])]
    return min(costs, default=None)


def _scattered(number: int) -> int:
    """A fixed hash of a trial number: a sampler with a cycle can't fall in step with the audits (Knuth 1998, 6.4)."""
    return (number * 2654435761 % 2**32) >> 16


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"{name} must be {allowed}, got {value!r}.")
